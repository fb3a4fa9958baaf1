"""Diagnostics of embeddings: mathematics against oracles, and collapses that must not go unseen."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pymatgen.analysis.structure_matcher import StructureMatcher
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from crysjepa import datasets
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.diagnostics import distances, equivalent_cells, maps
from crysjepa.jepa.diagnostics.distances import (
    effective_rank,
    measure_agreement,
    measure_spread,
    participation_ratio,
    sample_pairs,
    variance_spectrum,
)
from crysjepa.jepa.diagnostics.equivalent_cells import (
    CHANGES,
    TOLERANCE,
    Dependence,
    embed_each,
    measure_dependence,
    random_rotation,
    random_unimodular,
)
from crysjepa.jepa.diagnostics.measures import diagnose_model, representation_findings
from crysjepa.jepa.diagnostics.readouts import compare_readouts, hold_out_systems, nearest_rows, ridge
from crysjepa.jepa.invariant import InvariantConfig
from crysjepa.jepa.network import JepaConfig
from crysjepa.nn.training import TrainSettings
from crysjepa.nn.transformer import TransformerConfig

RNG = np.random.default_rng(7)
INVARIANT = JepaConfig(
    InvariantConfig(layers=1, width=32, channels=8, degrees=(16, 8, 8, 8), hidden=32), "energy"
)
PAPERS = JepaConfig(TransformerConfig(layers=1, width=32, heads=4))

Known = tuple[Crystals, NDArray[np.float64]]


@pytest.fixture(scope="module")
def known() -> Known:
    """Eighty real crystals of at most eight sites, canonical, and their formation energies."""
    table = datasets.load("flla")
    energies = dict(zip(table.ids, table.column("formation_energy_per_atom"), strict=True))
    crystals = table.crystals(table.ok_ids)
    small = np.flatnonzero(crystals.num_atoms <= 8)[:400:5]
    crystals, failures = canonicalise(crystals[small])
    assert not failures and len(crystals) == 80
    return crystals, np.array([energies[i] for i in crystals.ids], dtype=float)


@pytest.fixture(scope="module")
def model(known: Known) -> Callable[[JepaConfig], CrysJepa]:
    """Trained for twenty steps, once for each configuration."""
    made: dict[str, CrysJepa] = {}

    def train(config: JepaConfig) -> CrysJepa:
        key = str(config)
        if key not in made:
            made[key] = CrysJepa.pretrain(
                *known, config, TrainSettings(steps=20, batch_size=32), scale="materials_project"
            )[0]
        return made[key]

    return train


# -- the space -------------------------------------------------------------------------------------


def test_ranks_of_known_spectra():
    assert effective_rank(np.full(7, 3.0)) == pytest.approx(7)
    assert participation_ratio(np.full(7, 3.0)) == pytest.approx(7)
    halves = np.array([2.0, 1.0, 1.0, 0.0])  # shares 1/2, 1/4, 1/4: entropy 3/2 ln 2
    assert effective_rank(halves) == pytest.approx(2**1.5)
    assert participation_ratio(halves) == pytest.approx(8 / 3)
    assert effective_rank(np.array([5.0, 0, 0])) == participation_ratio(np.array([5.0, 0, 0])) == 1
    assert effective_rank(np.zeros(3)) == participation_ratio(np.zeros(3)) == 1


@pytest.mark.parametrize("count", [5, 200])
def test_spectrum_is_that_of_the_covariance(count):
    x = RNG.normal(size=(count, 9)) @ RNG.normal(size=(9, 9)) + 50
    expected = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    np.testing.assert_allclose(variance_spectrum(x), expected, atol=1e-8 * expected[0])


def test_spread_of_an_isotropic_cloud():
    spread = measure_spread(RNG.normal(size=(4000, 16)))
    assert 15.9 < spread.effective_rank <= 16 and 15.8 < spread.participation_ratio <= 16
    assert spread.typical_distance == pytest.approx(np.sqrt(32), rel=0.05)
    assert abs(spread.mean_cosine) < 0.02 and not spread.collapsed_to_a_point
    assert spread.distance_5_percent < spread.typical_distance < spread.distance_95_percent
    assert sum(spread.variance_shares) == pytest.approx(1) and spread.directions_for_90_percent == 15


def test_a_point_is_a_point_though_rounding_is_isotropic():
    point = np.full((300, 16), 3.0) + 1e-8 * RNG.normal(size=(300, 16))
    assert effective_rank(variance_spectrum(point)) > 10, "what would be reported without a look at the scale"
    spread = measure_spread(point)
    assert spread.collapsed_to_a_point and spread.effective_rank == 1 == spread.participation_ratio
    with pytest.raises(ValueError, match="too few"):
        measure_spread(point[:1])


# -- pairs -----------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), max_size=14))
def test_all_pairs_of_every_group_once(groups):
    i, j = sample_pairs(np.array(groups, dtype=np.int64))
    found = sorted(tuple(sorted(p)) for p in zip(i.tolist(), j.tolist(), strict=True))
    rows = range(len(groups))
    assert found == [(a, b) for a, b in itertools.combinations(rows, 2) if groups[a] == groups[b]]


def test_sampled_pairs_are_of_their_groups_and_uniform():
    groups = np.array([0] * 300 + [1] * 100 + [2])
    i, j = sample_pairs(groups, 20_000, seed=3)
    assert (groups[i] == groups[j]).all() and (i != j).all() and 15_000 < len(i) <= 20_000
    share = (groups[i] == 0).mean()
    assert share == pytest.approx(44_850 / (44_850 + 4_950), abs=0.02)
    again = sample_pairs(groups, 20_000, seed=3)
    assert np.array_equal(i, again[0]) and np.array_equal(j, again[1])
    assert not np.array_equal(i, sample_pairs(groups, 20_000, seed=4)[0])


def test_distances_that_are_energies_agree_perfectly():
    energies = RNG.uniform(-4, 1, 120)
    systems = [f"A-{k % 7}" for k in range(120)]
    embeddings = np.outer(energies, [3.0, 0, -4.0]) + 2
    for part in measure_agreement(embeddings, systems, energies):
        assert part.spearman == pytest.approx(1, abs=1e-6) and part.reason is None, part.scope
        assert sum(b.num_pairs for b in part.bins) == part.num_pairs
        middle = [b.distance_median for b in part.bins]
        assert middle == sorted(middle)
        if part.num_groups:
            assert part.median_of_groups == pytest.approx(1, abs=1e-6)


def test_agreement_is_scipys_over_the_pairs_of_each_scope():
    energies, embeddings = RNG.normal(size=60), RNG.normal(size=(60, 4))
    systems = [str(k % 3) for k in range(60)]
    everything, system, band = measure_agreement(embeddings, systems, energies)
    pairs = list(itertools.combinations(range(60), 2))
    for part, chosen in (
        (everything, pairs),
        (system, [p for p in pairs if systems[p[0]] == systems[p[1]]]),
        (band, [p for p in pairs if energies[p[0]] // distances.BAND == energies[p[1]] // distances.BAND]),
    ):
        gaps = [np.linalg.norm(embeddings[a] - embeddings[b]) for a, b in chosen]
        differences = [abs(energies[a] - energies[b]) for a, b in chosen]
        assert part.num_pairs == len(chosen)
        assert part.spearman == pytest.approx(spearmanr(gaps, differences).statistic)
    assert system.num_groups == 3


def test_no_correlation_where_there_is_none_to_have():
    energies = np.linspace(-1, 0, 30)
    constant = measure_agreement(np.ones((30, 4)), ["A"] * 30, energies)[0]
    assert constant.spearman is None and "distances are the same" in (constant.reason or "")
    few = measure_agreement(RNG.normal(size=(30, 4)), [str(k) for k in range(30)], energies)[1]
    assert few.spearman is None and few.num_pairs == 0 and "too few" in (few.reason or "")


# -- read-outs -------------------------------------------------------------------------------------


def test_ridge_finds_a_linear_law_and_ignores_noise():
    x, weights = RNG.normal(size=(300, 6)) * [1, 10, 0.1, 1, 1, 0] + 5, RNG.normal(size=6)
    np.testing.assert_allclose(
        ridge(x[:200], x[:200] @ weights - 2, x[200:]), x[200:] @ weights - 2, atol=1e-3
    )
    noise, y = RNG.normal(size=(150, 100)), RNG.normal(size=150)
    by_noise = np.abs(ridge(noise[:100], y[:100], noise[100:]) - y[100:]).mean()
    assert by_noise < 1.2 * np.abs(y[100:] - y[:100].mean()).mean()
    np.testing.assert_allclose(ridge(np.ones((5, 2)), np.arange(5.0), np.ones((3, 2))), 2.0)


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(0, 2000))
def test_nearest_rows_are_the_nearest(count, queries):
    rng = np.random.default_rng(queries)
    points, asked = rng.normal(size=(40, 5)), rng.normal(size=(queries, 5))
    expected = cdist(asked, points).argsort(axis=1)[:, :count] if queries else np.zeros((0, count))
    np.testing.assert_array_equal(nearest_rows(asked, points, count), expected)


def test_chemical_systems_are_held_out_whole():
    systems = [f"A-{k // 3}" for k in range(300)]
    energies = np.where(np.arange(300) % 10 == 0, np.nan, 0.0)
    parts = hold_out_systems(systems, energies)
    sides = [
        {s for s, inside in zip(systems, m, strict=True) if inside} for m in (parts.known, parts.held_out)
    ]
    assert not sides[0] & sides[1] and parts.reason is None and "hash" in parts.how
    assert parts.known.sum() + parts.held_out.sum() == 270 and 20 < parts.held_out.sum() < 100
    shuffled = hold_out_systems(systems[::-1], energies[::-1])
    np.testing.assert_array_equal(shuffled.held_out[::-1], parts.held_out)
    assert hold_out_systems(["A"] * 50, np.zeros(50)).reason is not None


def test_a_split_is_used_but_for_systems_on_both_sides():
    systems = ["A"] * 20 + ["B"] * 10 + ["A"] * 4 + ["C"] * 6
    splits: list[str | None] = ["train"] * 20 + ["val"] * 9 + [None] + ["test"] * 10
    parts = hold_out_systems(systems, np.zeros(40), splits)
    assert parts.known.tolist() == [True] * 20 + [False] * 20
    assert parts.held_out.tolist() == [False] * 34 + [True] * 6
    assert parts.set_aside == 14 and "split test" in parts.how
    leaky = hold_out_systems(["A", "B"] * 50, np.zeros(100), ["train"] * 50 + ["test"] * 50)
    assert "hash" in leaky.how and "0 of split test" in leaky.how


def test_readouts_against_their_oracles(known):
    crystals, energies = known
    parts = hold_out_systems(crystals.chemical_systems(), energies)
    assert parts.reason is None
    truth, learnt = energies[parts.held_out], energies[parts.known]
    embeddings = np.outer(energies, [1.0, -2.0])
    found = {r.name: r for r in compare_readouts(embeddings, crystals, energies, parts, energies + 0.25)}
    assert found["mean of the known energies"].mae == pytest.approx(np.abs(truth - learnt.mean()).mean())
    nearest = np.abs(truth[:, None] - learnt[None]).min(axis=1)
    assert found["embedding, nearest neighbour"].mae == pytest.approx(nearest.mean())
    assert found["embedding, linear"].mae < 1e-4
    own = found["the model's own read-out"]
    assert own.mae == pytest.approx(0.25) and own.mean_error == pytest.approx(0.25)
    assert own.standard_error == pytest.approx(0, abs=1e-12)
    assert 0 < found["composition, linear"].mae < found["mean of the known energies"].mae


# -- other words -----------------------------------------------------------------------------------


@given(st.integers(0, 10_000))
def test_rotations_are_proper_and_cells_unimodular(seed):
    rng = np.random.default_rng(seed)
    turn, m = random_rotation(rng), random_unimodular(rng)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1) and np.linalg.det(m) == pytest.approx(1)
    assert np.array_equal(m, np.rint(m)) and not np.array_equal(m, np.eye(3))


@pytest.mark.parametrize("change", CHANGES)
def test_other_words_are_of_the_same_crystal(salts, change):
    told = equivalent_cells.redescribe(salts, change)
    assert told.ids == salts.ids and (told.frac_coords >= 0).all() and (told.frac_coords < 1).all()
    matcher = StructureMatcher(ltol=1e-4, stol=1e-4, angle_tol=1e-3, scale=False)
    for new, old in zip(told.to_structures(), salts.to_structures(), strict=True):
        assert matcher.fit(new, old)
    factor = 2 if change == "2x supercell" else 1
    np.testing.assert_allclose(told.volumes, factor * salts.volumes)
    np.testing.assert_array_equal(told.num_atoms, factor * salts.num_atoms)
    assert any(
        a.frac_coords.shape != b.frac_coords.shape
        or not np.allclose(a.frac_coords, b.frac_coords)
        or not np.allclose(a.lattices, b.lattices)
        for a, b in zip(told, salts, strict=True)
    )
    backwards = equivalent_cells.redescribe(salts[::-1], change)[::-1]
    np.testing.assert_array_equal(backwards.frac_coords, told.frac_coords)


def test_an_invariant_model_does_not_move(known, model):
    crystals, _ = known
    found = measure_dependence(model(INVARIANT), crystals, measure_spread(
        model(INVARIANT).embed(crystals).astype(float)).typical_distance)  # fmt: skip
    assert [(d.change, d.canonical) for d in found] == [(c, False) for c in CHANGES]
    for part in found:
        assert part.largest is not None and part.largest < TOLERANCE, part
        assert part.num_crystals == 80 and not part.failures
    assert not representation_findings(found, invariant=True)
    broken = Dependence("origin", False, 80, 1e-9, 2 * TOLERANCE, {})
    assert "origin" in representation_findings([broken], invariant=True)[0].text


def test_the_papers_encoder_moves_as_it_is(known, model):
    crystals, _ = known
    found = {(d.change, d.canonical): d for d in measure_dependence(model(PAPERS), crystals, 1.0)}
    assert set(found) == set(itertools.product(CHANGES, (False, True)))
    assert all(d.num_crystals == 80 for d in found.values())
    before = model(PAPERS).embed(crystals)
    twins = equivalent_cells.redescribe(crystals, "another cell")
    moved = np.linalg.norm(model(PAPERS).embed(twins) - before, axis=1)
    cell = found["another cell", False]
    assert cell.median == pytest.approx(np.median(moved)) and cell.largest == pytest.approx(moved.max())
    after = found["another cell", True].median
    assert cell.median is not None and after is not None and after < 0.1 * cell.median
    assert representation_findings([Dependence("origin", True, 80, 0.0, 0.5, {})], invariant=False)
    assert not representation_findings([Dependence("origin", False, 80, 0.0, 0.5, {})], invariant=False)


def test_one_bad_crystal_costs_no_other(known, model):
    crystals, _ = known
    jepa = model(INVARIANT)
    heavy = Crystals(np.array([110]), np.zeros((1, 3)), 4 * np.eye(3)[None], np.array([1]), ("heavy",))
    tiny = Crystals(np.array([3]), np.zeros((1, 3)), 0.01 * np.eye(3)[None], np.array([1]), ("tiny",))
    mixed = Crystals.concatenate([crystals[:3], heavy, tiny, crystals[3:6]])
    kept, embeddings, failures = embed_each(jepa, mixed)
    assert kept.ids == crystals.ids[:6] and set(failures) == {"heavy", "tiny"}
    assert "110" in failures["heavy"] and "images" in failures["tiny"]
    np.testing.assert_allclose(embeddings, jepa.embed(crystals[:6]), atol=1e-5)


# -- all of it -------------------------------------------------------------------------------------


def flattened(jepa: CrysJepa, keep: int) -> CrysJepa:
    """The same encoder, with all but ``keep`` directions of its embedding cut off."""
    import copy

    model = copy.deepcopy(jepa.model)
    forward, width = model.encoder.forward, jepa.width

    def flat(*args):
        crystal, atoms = forward(*args)
        mask = (np.arange(width) < keep).astype(np.float32)
        return crystal * crystal.new_tensor(mask) + (keep == 0), atoms

    model.encoder.forward = flat
    return CrysJepa(model, jepa.origin)


def test_a_sound_model(known, model):
    crystals, energies = known
    seen: list[str] = []
    found = diagnose_model(model(INVARIANT), crystals, energies, progress=lambda s, d, n: seen.append(s))
    assert not found.collapsed and found.spread.num_crystals == 80 and not found.failures
    assert found.agreement[0].scope == "all pairs" and len(found.agreement) == 3
    assert [r.kind for r in found.readouts] == ["baseline"] * 2 + ["embedding"] * 3 + ["model"]
    assert {"embed", "redescribe"} <= set(seen)
    again = diagnose_model(model(INVARIANT), crystals, energies)
    assert again.to_dict() == found.to_dict()


@pytest.mark.parametrize("keep, says", [(0, "to a point"), (1, "to a line")])
def test_a_collapse_is_called_out(known, model, keep, says):
    crystals, energies = known
    found = diagnose_model(flattened(model(INVARIANT), keep), crystals, energies)
    assert found.collapsed and says in found.findings[0].text
    assert found.spread.effective_rank == pytest.approx(1)
    if keep == 0:
        assert "dependence on representation" in found.skipped and not found.dependence
        assert found.agreement[0].spearman is None
        assert any("baseline" in f.text for f in found.findings), "a constant cannot beat the mean"


def test_without_energies_the_rest_is_still_there(known, model):
    found = diagnose_model(model(PAPERS), known[0], None)
    assert found.spread.effective_rank > 1 and found.dependence
    assert not found.agreement and not found.readouts and found.held_out is None
    assert "0 of 80" in found.skipped["energy read-out"]
    some = np.where(np.arange(80) < 12, known[1], np.nan)
    few = diagnose_model(model(PAPERS), known[0], some)
    assert few.agreement and not few.readouts and "too few" in few.skipped["energy read-out"]


# -- maps ------------------------------------------------------------------------------------------


def test_without_umap_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(maps.UmapMissing, match=r'pip install "crysjepa\[umap\]"'):
        maps.umap_plane(RNG.normal(size=(30, 4)))


@pytest.mark.slow
@pytest.mark.timeout(1800)  # UMAP is compiled at its first call
def test_maps_are_reproducible_and_keep_neighbours(known, model):
    pytest.importorskip("umap")
    two = np.concatenate([RNG.normal(size=(40, 6)), RNG.normal(size=(40, 6)) + 40])
    plane = maps.umap_plane(two, seed=1)
    assert plane.shape == (80, 2) and np.isfinite(plane).all()
    np.testing.assert_array_equal(plane, maps.umap_plane(two, seed=1))
    near = cdist(plane, plane) + 1e9 * np.eye(80)
    assert ((near.argmin(axis=1) < 40) == (np.arange(80) < 40)).mean() > 0.95
    for bad, says in ((two[:8], "too few"), (np.ones((40, 3)), "the same")):
        with pytest.raises(ValueError, match=says):
            maps.umap_plane(bad)
    crystals, _ = known
    atoms = maps.atom_map(model(INVARIANT), crystals)
    numbers, counts = np.unique(crystals.atomic_numbers, return_counts=True)
    assert len(atoms) == sum(sorted(counts)[-4:]) and len(numbers) > 4
    assert atoms["element"].nunique() == 4
    for row in atoms.head(20).itertuples():
        site = crystals.select([row.id]).to_structures()[0][row.site]
        assert site.specie.symbol == row.element
