import copy
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from conftest import make_salts
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import composition_validity
from crysjepa.generators.constraints import ConstraintError, Constraints
from crysjepa.generators.flow.formula_rules import MOST, formula_keys
from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.generators.flow.network import MASKED, Guess
from crysjepa.generators.flow.orbit_batches import PackedOrbits
from crysjepa.generators.flow.orbits import settle
from crysjepa.generators.flow.paths import (
    Flow,
    FlowConfig,
    FlowLoss,
    Start,
    arrange,
    compose,
    draw_noise,
)
from crysjepa.generators.flow.sampling import TRIES
from crysjepa.generators.registry import make_generator
from crysjepa.generators.sampling import draw
from crysjepa.jepa.invariant import InvariantConfig, InvariantEncoder
from crysjepa.nn.checkpoint import CheckpointError
from crysjepa.nn.geometry import orbit_features, pair_features
from crysjepa.nn.training import TrainSettings

TINY = InvariantConfig(layers=2, width=24, channels=6, degrees=(12, 8, 6, 4), hidden=24)
SETTINGS = TrainSettings(
    steps=60, batch_size=7, warmup=3, learning_rate=3e-3, checkpoint_every=20, record_every=20
)


def low_symmetry(num_sites=6, seed=0):
    """A crystal without symmetry."""
    rng = np.random.default_rng(seed)
    lattice = 5 * np.eye(3) + rng.normal(size=(3, 3))
    numbers = rng.integers(1, 90, size=num_sites)
    return Crystals(numbers, rng.random((num_sites, 3)), lattice[None], np.array([num_sites]), ("odd",))


@pytest.fixture
def packed(salts):
    return PackedOrbits([*(settle(s) for s in salts), settle(low_symmetry()), settle(low_symmetry(3, 1))])


@pytest.fixture
def batch(packed):
    return packed.batch(np.arange(len(packed)))


@pytest.fixture
def flow():
    torch.manual_seed(0)
    return Flow(FlowConfig(TINY), torch.full((119,), 2.5)).eval()


@pytest.fixture(scope="module")
def trained():
    return FlowGenerator.train(make_salts(), FlowConfig(TINY), SETTINGS, seed=3)


def test_features_of_orbits_are_sums_of_features_of_sites(batch):
    coords, lattices = batch.sites(batch.free_coords), batch.lattices(batch.strain)
    real = torch.arange(coords.shape[1]) < batch.num_sites[:, None]
    by_site = pair_features(coords, lattices, real)
    by_orbit = orbit_features(coords, lattices, batch.owner, batch.num_sites, batch.mask.shape[1])
    for b in range(len(batch)):
        owner = batch.owner[b, : batch.num_sites[b]]
        first = [int((owner == r).nonzero()[0]) for r in range(int(batch.num_orbits[b]))]
        for plain, summed in zip(by_site, by_orbit, strict=True):
            rows = plain[b].view(coords.shape[1], -1, coords.shape[1])[first][..., : len(owner)]
            wanted = torch.zeros(*rows.shape[:2], len(first)).index_add_(2, owner, rows)
            found = summed[b].view(int(batch.num_orbits.max()), -1, summed.shape[2])
            torch.testing.assert_close(found[: len(first), :, : len(first)], wanted, atol=2e-4, rtol=1e-4)


def test_the_velocity_turns_with_the_crystal_and_ignores_its_origin(flow):
    crystal = low_symmetry()
    plain = PackedOrbits([settle(crystal, plain=True)]).batch([0])
    t, shape = torch.tensor([0.4]), torch.zeros(1, 6)

    def guess(batch, moved, strain):
        return flow.network(batch, batch.atomic_numbers, moved, strain, shape, t)

    before = guess(plain, plain.free_coords, plain.strain)
    shifted = guess(plain, plain.free_coords + torch.tensor([0.3, 0.7, 0.1]), plain.strain)
    torch.testing.assert_close(shifted.sites, before.sites, atol=1e-4, rtol=1e-3)
    turn = torch.tensor(Rotation.random(random_state=0).as_matrix()).float()
    lattices = plain.lattices(plain.strain)
    turned = type(plain)(**{**vars(plain), "reference": lattices @ turn})
    still = type(plain)(**{**vars(plain), "reference": lattices})
    zero = torch.zeros(1, 6)
    first, second = guess(still, plain.free_coords, zero), guess(turned, plain.free_coords, zero)
    torch.testing.assert_close(second.sites, first.sites @ turn, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(second.types, first.types, atol=1e-4, rtol=1e-3)
    strains = torch.einsum("bs,sij->bij", first.strain, flow.network.basis)
    expected = torch.einsum("sij,bij->bs", flow.network.basis, turn.T @ strains @ turn)
    torch.testing.assert_close(second.strain, expected, atol=1e-4, rtol=1e-3)


def test_the_velocity_keeps_the_symmetry(flow, batch):
    """What the network says of a representative lies within the site's freedom, without being told to."""
    t, shape = torch.full((len(batch),), 0.4), draw_noise(batch, torch.Generator().manual_seed(1)).shape
    strain = flow.centre(batch, batch.atomic_numbers) + flow.spread * shape
    guess = flow.network(batch, batch.atomic_numbers, batch.free_coords, strain, shape, t)
    steps = guess.sites @ torch.linalg.inv(batch.lattices(strain))
    kept = torch.einsum("brij,brjk,brk->bri", batch.free, batch.inverse, steps)
    torch.testing.assert_close(kept, steps, atol=1e-4, rtol=1e-3)
    assert float(guess.sites[6].detach().abs().max()) < 1e-4, "no site of a perovskite can move"


def test_padding_and_the_order_of_orbits_do_not_matter(flow, packed):
    row = 7  # the larger of the crystals without symmetry, beside smaller ones
    t, shape = torch.full((3,), 0.4), torch.zeros(3, 6)
    together = packed.batch([0, row, 8])
    alone = packed.batch([row])
    wide = flow(together, together.atomic_numbers, together.free_coords, shape, t)
    narrow = flow(alone, alone.atomic_numbers, alone.free_coords, shape[:1], t[:1])
    torch.testing.assert_close(wide.sites[1:2], narrow.sites, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(wide.strain[1:2], narrow.strain, atol=1e-4, rtol=1e-3)
    order = np.array([3, 0, 5, 1, 4, 2])
    crystal = low_symmetry()
    mixed = type(crystal)(
        crystal.atomic_numbers[order], crystal.frac_coords[order], crystal.lattices, crystal.num_atoms, ("m",)
    )
    other = PackedOrbits([settle(mixed, plain=True)]).batch([0])
    plain = PackedOrbits([settle(crystal, plain=True)]).batch([0])
    first = flow(plain, plain.atomic_numbers, plain.free_coords, shape[:1], t[:1])
    second = flow(other, other.atomic_numbers, other.free_coords, shape[:1], t[:1])
    torch.testing.assert_close(second.types, first.types[:, order], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(second.sites, first.sites[:, order], atol=1e-4, rtol=1e-3)


class Oracle:
    """Knows the crystals of a batch: says the velocity that leads to them, and their elements."""

    def __init__(self, flow, drifts=True):
        self.flow, self.drifts = flow, drifts
        self.spread, self.config = flow.spread, flow.config

    def centre(self, batch, numbers):
        return self.flow.centre(batch, numbers)

    def __call__(self, batch, numbers, free_coords, shape, t):
        lattices = batch.lattices(self.centre(batch, numbers) + self.spread * shape)
        late = t.clamp(min=1e-6)[:, None, None]
        moves = free_coords - batch.free_coords
        moves = (moves - torch.round(moves)) / late
        steps = torch.einsum("brij,brj->bri", batch.free, moves)
        steps = (steps - self.drifts * batch.mean_over_sites(steps)[:, None]) @ lattices
        length = (torch.linalg.det(lattices).abs() / batch.num_sites) ** (1 / 3)
        right = (batch.strain - self.centre(batch, batch.atomic_numbers)) / self.spread
        types = 100.0 * torch.nn.functional.one_hot((batch.atomic_numbers - 1).clamp(min=0), 100)
        return Guess(types, steps / length[:, None, None], (shape - right) / late[:, 0])


def test_the_loss_of_the_truth_is_zero(flow, batch):
    for seed in range(3):
        losses = FlowLoss(flow.config)(Oracle(flow), batch, torch.Generator().manual_seed(seed))
        assert float(losses["types"]) < 1e-5
        assert float(losses["sites"]) < 1e-5 and float(losses["lattice"]) < 1e-5


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("steps", [1, 8])
def test_following_the_truth_ends_at_the_crystal(flow, batch, steps, again):
    """Straight paths: one step of Euler's is enough (up to a translation, where that changes nothing)."""
    noise = torch.Generator().manual_seed(0)
    start = draw_noise(batch, noise)
    # With fresh noise the crystal wanders, and the oracle would lose count of the lattice vectors.
    oracle, times = Oracle(flow, drifts=not again), torch.linspace(1, 0, steps + 1)
    numbers = compose(oracle, batch, start, torch.ones(100, dtype=torch.bool), 1.0, noise)
    assert torch.equal(numbers, batch.atomic_numbers)
    start = Start(batch.free_coords + 0.4 * (start.free_coords - 0.5), start.shape)  # nearest image: no wrap
    end = arrange(oracle, batch, numbers, start, times, noise if again else None)
    shape = (batch.strain - flow.centre(batch, numbers)) / flow.spread
    torch.testing.assert_close(end.shape, shape, atol=1e-4, rtol=1e-3)
    apart = torch.einsum("brij,brj->bri", batch.free, end.free_coords - batch.free_coords)
    apart = apart - batch.mean_over_sites(apart)[:, None]
    assert float((apart * batch.mask[..., None]).abs().max()) < 1e-4


def test_the_volume_at_the_centre_is_that_of_the_elements(flow, batch):
    strain = flow.centre(batch, batch.atomic_numbers)
    volumes = torch.linalg.det(batch.lattices(strain)).abs() / batch.num_sites
    torch.testing.assert_close(volumes, torch.full_like(volumes, 2.5**3), atol=1e-2, rtol=1e-4)
    hidden = torch.where(batch.mask, MASKED, 0)
    torch.testing.assert_close(flow.centre(batch, hidden), strain)


def test_the_loss_is_the_same_where_training_is_in_half_precision(flow, batch):
    plain = FlowLoss(flow.config)(flow, batch, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = FlowLoss(flow.config)(flow, batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixed, plain)


@pytest.mark.parametrize("astray", [60.0, -60.0, float("nan")])
def test_a_crystal_that_goes_astray_costs_itself_alone(trained, astray):
    """Here all do; none may raise, and each has its reason."""
    generator, _ = trained
    lost = FlowGenerator(
        copy.deepcopy(generator.flow), generator.templates, generator.element_shares, steps=6
    )
    with torch.no_grad():
        lost.flow.network.of_cell.bias[0] = astray
    samples = lost.sample(4, seed=1)
    assert len(samples.crystals) + len(samples.failures) == 4
    assert all("went astray" in reason for reason in samples.failures.values())
    assert len(samples.failures) == 4 or np.isfinite(astray)


def test_training_lowers_the_loss_and_sampling_gives_crystals(trained):
    generator, training = trained
    assert training.curve[-1]["loss"] < training.curve[0]["loss"]
    samples = generator.sample(20, seed=1, prefix="x")
    assert {*samples.crystals.ids, *samples.failures} == {f"x-{i}" for i in range(20)}
    assert set(samples.crystals.num_atoms.tolist()) <= {2, 5}, "templates come from the training set"
    assert (samples.crystals.frac_coords >= 0).all() and (samples.crystals.frac_coords < 1).all()
    again, other = generator.sample(20, seed=1, prefix="x"), generator.sample(20, seed=2, prefix="x")
    assert samples.crystals.content_hash() == again.crystals.content_hash()
    assert samples.crystals.content_hash() != other.crystals.content_hash()


def test_what_is_unwanted_is_chosen_again_and_counted(trained):
    """Of crystals of several sizes, some are composed again: padding must not matter."""
    generator, _ = trained

    def sampled(**options):
        parts = (generator.flow, generator.templates, generator.element_shares, generator.known)
        made = FlowGenerator(*parts, **{"balanced": False, "novel": False, "steps": 4, **options})
        return made, made.sample(60, seed=2)

    def share(samples, wanted):
        return np.mean([wanted(c) for c in samples.crystals])

    def invalid(crystal):
        return any(r is not None for r in composition_validity(crystal).values())

    def known(crystal):
        return crystal.reduced_formulas()[0] in make_salts().reduced_formulas()

    _, loose = sampled()
    strict, balanced = sampled(balanced=True)
    _, novel = sampled(novel=True)
    assert loose.counts.drawn == 60
    assert share(balanced, invalid) < share(loose, invalid) and share(novel, known) < share(loose, known)
    for samples, reason in (
        (balanced, "composition not charge-balanced"),
        (novel, "formula of a training crystal"),
    ):
        assert samples.counts.drawn - 60 == samples.counts.rejected[reason] > 0
    assert draw(strict, 60, seed=2).counts.rejected.keys() >= {"composition not charge-balanced"}


def test_where_a_template_has_nothing_new_another_is_tried(trained):
    """One template in seven is of five sites; with all that the other can make known, four are tried."""
    generator, _ = trained
    known = [((z, 1), (y, 1)) for y in range(1, 101) for z in range(1, y)]
    known += [((z, 1),) for z in range(1, 101)]
    parts = (generator.flow, generator.templates, generator.element_shares)
    free = FlowGenerator(*parts, balanced=False, steps=2).sample(60, seed=3)
    samples = FlowGenerator(*parts, formula_keys(known), balanced=False, steps=2).sample(60, seed=3)
    assert samples.crystals.ids == free.crystals.ids and len(free.crystals) == 60
    large, before = (np.mean(s.crystals.num_atoms == 5) for s in (samples, free))
    assert before < 0.2 < 0.3 < large
    assert samples.counts.rejected["formula of a training crystal"] == samples.counts.drawn - 60 >= sum(TRIES)


def test_elements_and_sizes_are_never_drawn_where_they_may_not_be(trained):
    generator, _ = trained
    wanted = Constraints.parse(elements="Li,O,F", max_sites=2)
    samples = draw(generator, 30, wanted, seed=5)
    assert len(samples.crystals) == 30 and "element not allowed" not in samples.counts.rejected
    assert set(samples.crystals.atomic_numbers.tolist()) <= {3, 8, 9}
    system = draw(generator, 10, Constraints.parse(chemical_system="Li-O"), seed=5)
    assert set(system.crystals.chemical_systems()) == {"Li-O"}
    with pytest.raises(ConstraintError, match="no template of 2"):
        generator.within(Constraints.parse(max_sites=1))


@pytest.mark.parametrize(
    "asked, sites",
    [
        ({"formula": "MgO"}, {2}),
        ({"formula": "ABX3"}, {5}),
        ({"formula": "KMgF3", "space_group": "cubic"}, {5}),
        ({"formula": "ABX3", "chemical_system": "Sr-Ti-O"}, {5}),
        ({"formula": "AX", "elements": "Li,Na,F,Cl", "space_group": "Fm-3m"}, {2}),
        ({"max_elements": 1}, {2, 5}),
        ({"chemical_system": "Li-O"}, {2, 5}),
    ],
)
def test_elements_are_shared_out_so_that_the_formula_comes_out(trained, asked, sites):
    """Nothing is drawn and thrown away for its elements or its formula: they come out in one go."""
    generator, _ = trained
    constraints = Constraints.parse(**asked)
    samples = draw(generator, 20, constraints, seed=5)
    assert len(samples.crystals) >= 15 and not constraints.broken(samples.crystals)
    assert set(samples.crystals.num_atoms.tolist()) <= sites
    wasted = samples.counts.rejected.keys()
    assert not wasted & {"other formula", "other chemical system", "element not allowed"}
    if len(constraints.allowed) <= MOST:
        assert not wasted & {"formula of a training crystal", "composition not charge-balanced"}
    assert not any(reason.startswith("more than") for reason in wasted)


@pytest.mark.parametrize(
    "asked, says",
    [
        ({"formula": "Li3PO4"}, "no template of 2 has the formula Li3PO4"),
        ({"formula": "ABX3", "formula_units": "2"}, "no template of 2 has the formula ABX3"),
        ({"space_group": "P-1"}, "no template of 2 has the space group 2"),
        ({"formula": "ABX3", "space_group": "Fm-3m"}, "no template of 2"),
        ({"formula": "LrO"}, "knows the first 100 elements"),
        ({"formula": "AX", "elements": "Lr,O", "exclude_elements": "none"}, "knows the first 100 elements"),
    ],
)
def test_what_no_template_can_be_is_refused_before_any_work(trained, asked, says):
    generator, _ = trained
    with pytest.raises(ConstraintError, match=says):
        generator.within(Constraints.parse(**asked))


def test_file_round_trip(trained, tmp_path):
    generator, _ = trained
    path = tmp_path / "g.safetensors"
    generator.save(path)
    loaded = make_generator(path)
    assert isinstance(loaded, FlowGenerator) and loaded.flow.config == generator.flow.config
    assert (
        loaded.sample(6, seed=4).crystals.content_hash()
        == generator.sample(6, seed=4).crystals.content_hash()
    )
    assert loaded.origin["steps"] == 60
    np.testing.assert_array_equal(loaded.element_shares, generator.element_shares)
    assert loaded.known == generator.known and len(loaded.known) == 7
    (tmp_path / "broken.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError):
        make_generator(tmp_path / "broken.safetensors")


def test_finetuning_moves_towards_the_chosen_and_leaves_the_base_alone(trained, salts):
    base, _ = trained
    before = base.sample(6, seed=4).crystals.content_hash()
    tuned, training = base.finetune(salts.select(["SrTiO3"]), SETTINGS, seed=0)
    assert base.sample(6, seed=4).crystals.content_hash() == before
    assert tuned.origin["finetuned_from"] == base.origin and training.step == 60
    assert tuned.templates.weights.sum() == pytest.approx(1) and tuned.known == base.known
    perovskites = [int((g.sample(60, seed=1).crystals.num_atoms == 5).sum()) for g in (base, tuned)]
    assert perovskites[1] > perovskites[0] + 10


def test_it_can_start_from_an_encoder_of_crystals(batch):
    encoder = InvariantEncoder(InvariantConfig(**{**asdict(TINY), "layers": 1}))
    flow = Flow(FlowConfig(TINY), torch.full((119,), 2.5))
    fresh = flow.network.layers[1].first.weight.clone()
    flow.network.start_from(encoder)
    torch.testing.assert_close(flow.network.layers[0].first.weight, encoder.layers[0].first.weight)
    torch.testing.assert_close(flow.network.layers[1].first.weight, fresh)
    torch.testing.assert_close(flow.network.element.weight[:101], encoder.element.weight)
    with pytest.raises(ValueError, match="cannot start from"):
        flow.network.start_from(InvariantEncoder(InvariantConfig(layers=1, width=8, channels=2)))


def test_without_symmetry_it_trains_as_well(salts):
    generator, training = FlowGenerator.train(salts, FlowConfig(TINY, symmetric=False), SETTINGS, seed=3)
    assert training.curve[-1]["loss"] < training.curve[0]["loss"]
    assert set(generator.templates.space_groups.tolist()) == {1}
    assert len(generator.sample(5, seed=0).crystals) == 5
