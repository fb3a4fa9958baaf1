from typing import get_args

import numpy as np
import pytest
import torch

from conftest import TINY_INVARIANT, make_salts
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.jepa import crys_jepa
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.invariant import InvariantConfig
from crysjepa.jepa.network import (
    PAPER,
    SMALL,
    Jepa,
    JepaConfig,
    Objective,
    Predictor,
    RelaxationPredictor,
)
from crysjepa.nn.checkpoint import CheckpointError
from crysjepa.nn.training import TrainSettings
from crysjepa.nn.transformer import TransformerConfig

SETTINGS = TrainSettings(
    steps=40, batch_size=7, warmup=3, learning_rate=3e-3, checkpoint_every=10, record_every=10
)
ENERGIES = np.array([-2.1, -2.2, -3.1, -3.0, -3.3, -2.0, -3.5])
NETWORKS = {"transformer": TransformerConfig(layers=1, width=32, heads=4), "invariant": TINY_INVARIANT}


@pytest.fixture
def canonical(salts):
    return canonicalise(salts)[0]


@pytest.fixture
def trained(canonical):
    return CrysJepa.pretrain(canonical, ENERGIES, JepaConfig(NETWORKS["transformer"]), SETTINGS, seed=0)


def fresh(network, objective="energy", seed=0):
    torch.manual_seed(seed)
    return CrysJepa(Jepa(JepaConfig(NETWORKS[network], objective)), {"scale": "materials_project"})


def many():
    """Sixty crystals of one to eleven sites, in no order."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 12, 60)
    return Crystals(
        rng.integers(1, 101, counts.sum()),
        rng.random((counts.sum(), 3)),
        np.stack([np.cbrt(15 * n) * (np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3))) for n in counts]),
        counts,
        [f"x{i}" for i in range(60)],
    )


@pytest.mark.slow
def test_training_learns_to_find_the_target(trained):
    _, training = trained
    assert training.curve[-1]["loss"] < training.curve[0]["loss"]
    assert training.curve[-1]["top1"] > training.curve[0]["top1"]


@pytest.mark.parametrize("network", NETWORKS)
def test_embeddings_do_not_depend_on_their_batch(network, monkeypatch):
    jepa, crystals = fresh(network), many()
    together = jepa.embed(crystals)
    assert together.shape == (60, 32) and np.isfinite(together).all()
    near = 1e-5 * np.linalg.norm(together, axis=1).mean()
    alone = np.concatenate([jepa.embed(c) for c in crystals])
    np.testing.assert_allclose(together, alone, atol=near)
    order = np.random.default_rng(1).permutation(60)
    np.testing.assert_allclose(jepa.embed(crystals[order]), together[order], atol=near)
    monkeypatch.setattr(crys_jepa, "MAX_PAIRS", 50)
    np.testing.assert_allclose(jepa.embed(crystals), together, atol=near)
    assert jepa.embed(crystals[:0]).shape == (0, 32)


@pytest.mark.parametrize("network", NETWORKS)
def test_atoms_have_embeddings_in_the_order_of_the_sites(network):
    jepa, crystals = fresh(network), many()
    atoms = jepa.embed_atoms(crystals)
    assert atoms.shape == (crystals.num_atoms.sum(), 32)
    near = 1e-5 * np.linalg.norm(atoms, axis=1).mean()
    alone = np.concatenate([jepa.embed_atoms(c) for c in crystals])
    np.testing.assert_allclose(atoms, alone, atol=near)
    assert jepa.embed_atoms(crystals[:0]).shape == (0, 32)
    if network == "invariant":
        means = np.add.reduceat(atoms, crystals.offsets[:-1]) / crystals.num_atoms[:, None]
        np.testing.assert_allclose(means, jepa.embed(crystals), atol=near)
        energies = jepa.energies(atoms)
        assert energies.shape == (crystals.num_atoms.sum(),)
        by_crystal = np.add.reduceat(energies, crystals.offsets[:-1]) / crystals.num_atoms
        np.testing.assert_allclose(by_crystal, jepa.energies(jepa.embed(crystals)), atol=1e-5)


def test_progress_counts_every_crystal():
    told = []
    fresh("invariant").embed(many(), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (60, 60) and [d for d, _ in told] == sorted({d for d, _ in told})


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("objective", get_args(Objective))
def test_file_round_trip(network, objective, canonical, tmp_path):
    jepa = fresh(network, objective)
    jepa.save(tmp_path / "j.safetensors")
    again = CrysJepa.load(tmp_path / "j.safetensors")
    np.testing.assert_array_equal(again.embed(canonical), jepa.embed(canonical))
    assert again.model.config == jepa.model.config and again.content_hash == jepa.content_hash
    assert again.scale == "materials_project" and again.invariant == (network == "invariant")
    assert again.has_energies == (objective == "energy")
    if again.has_energies:
        h = jepa.embed(canonical)
        np.testing.assert_array_equal(again.energies(h), jepa.energies(h))
        assert again.energies(h).dtype == np.float64


def test_half_precision_on_disk(canonical, tmp_path):
    jepa = fresh("invariant")
    jepa.save(tmp_path / "j.safetensors", dtype=torch.bfloat16, card={"note": "small"})
    again = CrysJepa.load(tmp_path / "j.safetensors")
    assert again.content_hash != jepa.content_hash
    near = 0.01 * np.linalg.norm(jepa.embed(canonical), axis=1).mean()
    np.testing.assert_allclose(again.embed(canonical), jepa.embed(canonical), atol=near)


def test_files_of_something_else_are_refused(tmp_path):
    with pytest.raises(CheckpointError):
        CrysJepa.load(tmp_path / "none.safetensors")
    jepa = fresh("invariant")
    smaller = JepaConfig(InvariantConfig(layers=1, width=32, channels=8, degrees=(16, 8, 8, 4), hidden=32))
    jepa.model.config = smaller  # a header that contradicts the weights
    jepa.save(tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError, match="another version"):
        CrysJepa.load(tmp_path / "wrong.safetensors")


def test_energies_need_a_read_out():
    h = np.zeros((3, 32), dtype=np.float32)
    for objective in ("info-nce", "info-nce-unweighted", "sigreg"):
        jepa = fresh("invariant", objective)
        assert not jepa.has_energies
        for relaxed in (False, True):
            with pytest.raises(ValueError, match=f"no energy read-out: its objective is {objective}"):
                jepa.energies(h, relaxed=relaxed)
    with pytest.raises(ValueError, match="only a model with an invariant encoder"):
        fresh("transformer").energies(h, relaxed=True)
    assert fresh("transformer").energies(h).shape == (3,)
    assert fresh("invariant").energies(h[:0], relaxed=True).shape == (0,)


def test_the_content_hash_tells_weights_and_configurations_apart():
    plain = fresh("invariant").content_hash
    assert plain == fresh("invariant").content_hash
    other = fresh("invariant")
    with torch.no_grad():
        other.model.encoder.layers[0].send.weight[0, 0] += 1e-6
    warmer = fresh("invariant")
    warmer.model.config = JepaConfig(TINY_INVARIANT, "energy", temperature=0.2)
    hashes = {plain, other.content_hash, warmer.content_hash, fresh("invariant", seed=1).content_hash}
    assert len(hashes) == 4


@pytest.mark.parametrize("network", NETWORKS)
def test_configurations_survive_json(network):
    for objective in get_args(Objective):
        config = JepaConfig(NETWORKS[network], objective, temperature=0.2, fourier=1, lattice_scale=4.0)
        assert JepaConfig.from_dict(config.to_dict()) == config
    for config in (PAPER, SMALL):
        assert JepaConfig.from_dict(config.to_dict()) == config


class Killed(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [4, 13])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_killed_training_ends_in_the_same_weights(network, killed_at, tmp_path):
    """Bit for bit, with every loss of the energy objective in play."""
    salts = canonicalise(make_salts())[0]
    crystals = Crystals.concatenate([salts, salts.with_ids([f"{i}-2" for i in salts.ids])])
    energies = np.tile(ENERGIES, 2)
    known = TrainSettings(
        steps=18, batch_size=14, warmup=3, learning_rate=3e-3, checkpoint_every=6, record_every=3
    )

    def train(**options):
        return CrysJepa.pretrain(
            crystals,
            energies,
            JepaConfig(NETWORKS[network], "energy"),
            known,
            relaxed_energies=np.where(np.arange(14) < 7, energies, energies - 0.2),
            site_energies=np.where(np.arange(34) % 2, -2.0, np.nan),
            seed=5,
            **options,
        )

    def kill(done, total):
        if done == killed_at:
            raise Killed

    whole, training = train()
    assert {"context", "contrast"} <= set(training.curve[0])
    with pytest.raises(Killed):
        train(state=tmp_path / "state", progress=kill)
    resumed, continued = train(state=tmp_path / "state")
    assert resumed.content_hash == whole.content_hash
    assert continued.curve == training.curve and resumed.origin == whole.origin
    assert whole.origin["steps"] == 18 and whole.origin["num_crystals"] == 14 and whole.scale == "unknown"


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_training_can_go_on_from_a_model(network, canonical):
    start, config = fresh(network), JepaConfig(NETWORKS[network], "energy")
    none = TrainSettings(steps=0, batch_size=7)
    same, _ = CrysJepa.pretrain(canonical, ENERGIES, config, none, seed=3, init=start)
    assert same.content_hash == start.content_hash and same.origin["init"] == start.origin
    before = start.content_hash
    on, _ = CrysJepa.pretrain(canonical, ENERGIES, config, SETTINGS, seed=3, init=start)
    assert on.content_hash != before == CrysJepa(start.model).content_hash, "the first one is left as it was"
    with pytest.raises(ValueError, match="another network or objective"):
        CrysJepa.pretrain(canonical, ENERGIES, JepaConfig(NETWORKS[network]), SETTINGS, init=start)


def test_predictor_is_eq_8():
    torch.manual_seed(0)
    predictor = Predictor(8)
    h, t, r = torch.randn(4, 8), torch.rand(4, 3), torch.rand(4, 3)
    inner = h + torch.cat([t, r], dim=1) @ predictor.first.weight.T + predictor.first.bias
    expected = (inner * torch.sigmoid(inner)) @ predictor.second.weight.T + predictor.second.bias
    torch.testing.assert_close(predictor(h, t, r), expected)


def test_at_first_a_crystal_relaxes_to_itself():
    h = torch.randn(4, 8)
    assert torch.equal(RelaxationPredictor(8)(h), h)


def test_settings_of_the_paper():
    assert PAPER.network == TransformerConfig(layers=8, width=512, heads=16, dropout=0.0)
    assert PAPER.objective == "info-nce" and PAPER.fourier == 0 and not PAPER.invariant
    assert PAPER.width == 512 and SMALL.invariant and SMALL.objective == "energy"
