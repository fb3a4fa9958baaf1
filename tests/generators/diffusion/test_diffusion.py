from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from crysjepa.core.canonical import canonicalise
from crysjepa.core.lattice import Scaler
from crysjepa.generators.diffusion.denoiser import Denoiser, Noisy
from crysjepa.generators.diffusion.generator import (
    PAPER,
    DiffusionConfig,
    DiffusionGenerator,
    DiffusionLoss,
)
from crysjepa.generators.diffusion.schedule import Schedule
from crysjepa.nn.batches import PackedCrystals
from crysjepa.nn.checkpoint import CheckpointError
from crysjepa.nn.training import TrainSettings
from crysjepa.nn.transformer import TransformerConfig

TINY = TransformerConfig(layers=1, width=32, heads=4)
SETTINGS = TrainSettings(
    steps=30, batch_size=7, warmup=3, learning_rate=3e-3, checkpoint_every=10, record_every=10
)


CONFIG = DiffusionConfig(TINY, timesteps=16)
MANY = 64
"""Of so few steps of training, few samples have a positive-definite lattice."""


@pytest.fixture
def canonical(salts):
    return canonicalise(salts)[0]


@pytest.fixture(params=["crystal", "site"])
def config(request):
    return replace(CONFIG, lattice_noise=request.param)


@pytest.fixture
def trained(canonical, config):
    return DiffusionGenerator.train(canonical, config, SETTINGS, seed=3)


def test_training_lowers_the_loss_and_sampling_gives_crystals(trained):
    generator, training = trained
    assert training.curve[-1]["loss"] < training.curve[0]["loss"]
    samples = generator.sample(20, seed=1, prefix="x")
    together = set(samples.crystals.ids) | set(samples.failures)
    assert together == {f"x-{i}" for i in range(20)}
    assert set(samples.crystals.num_atoms.tolist()) <= {2, 5}, "sizes come from the training set"
    assert (samples.crystals.frac_coords >= 0).all() and (samples.crystals.frac_coords < 1).all()
    assert set(samples.crystals.atomic_numbers.tolist()) <= set(range(1, 101))


def test_the_same_seed_gives_the_same_crystals(trained):
    generator, _ = trained
    first, again, other = (generator.sample(MANY, seed=s) for s in (1, 1, 2))
    assert len(first.crystals) > 0, "else there is nothing to compare"
    assert first.crystals.content_hash() == again.crystals.content_hash() and first.failures == again.failures
    assert first.crystals.content_hash() != other.crystals.content_hash()


def test_file_round_trip(trained, tmp_path):
    generator, _ = trained
    generator.save(tmp_path / "g.safetensors")
    loaded = DiffusionGenerator.load(tmp_path / "g.safetensors")
    assert (
        loaded.sample(MANY, seed=1).crystals.content_hash()
        == generator.sample(MANY, seed=1).crystals.content_hash()
    )
    assert loaded.config == generator.config and loaded.origin["steps"] == 30
    (tmp_path / "broken").write_bytes(b"")
    with pytest.raises(CheckpointError):
        DiffusionGenerator.load(tmp_path / "broken")


def test_finetuning_moves_towards_the_chosen_and_leaves_the_base_alone(trained, canonical):
    base, _ = trained
    before = base.sample(MANY, seed=1).crystals.content_hash()
    chosen = canonical.select(["SrTiO3"])
    tuned, training = base.finetune(chosen, SETTINGS, seed=0)
    assert base.sample(MANY, seed=1).crystals.content_hash() == before
    assert tuned.origin["finetuned_from"] == base.origin and training.step == 30
    batch = PackedCrystals(chosen).batch(np.zeros(64, dtype=np.int64))

    def loss(generator):
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            return float(
                DiffusionLoss(generator.config, generator.scaler)(generator.denoiser, batch, noise)["loss"]
            )

    assert loss(tuned) < loss(base)


def test_the_loss_of_a_perfect_guess_is_zero(canonical, config):
    """Eq. 18 against a network that is told the noise."""
    packed, scaler = PackedCrystals(canonical), Scaler((0.0,) * 6, (1.0,) * 6)
    batch = packed.batch(np.arange(7))
    loss = DiffusionLoss(config, scaler)
    clean, schedule = loss.encode(batch), Schedule.cosine(16)

    def oracle(x, t, mask):
        signal, level = (v[:, None, None] for v in schedule.levels(t))
        lattice = clean.lattice[:, None].expand(-1, mask.shape[1], -1)  # Eq. 3: the same on every atom
        found = (
            x.lattice.reshape(lattice.shape[0], -1, 6) - signal * lattice[:, : x.lattice[0].numel() // 6]
        ) / level
        return Noisy(
            (x.coords - signal * clean.coords) / level,
            (x.types - signal * clean.types) / level,
            found.reshape(x.lattice.shape),
        )

    assert float(loss(oracle, batch, torch.Generator().manual_seed(0))["loss"]) == pytest.approx(0, abs=1e-6)


def test_the_denoiser_follows_the_order_of_sites_and_ignores_padding():
    torch.manual_seed(0)
    network = Denoiser(TINY).eval()
    x = Noisy(torch.randn(1, 4, 3), torch.randn(1, 4, 100), torch.randn(1, 6))
    t, order = torch.tensor([3]), torch.tensor([2, 0, 3, 1])
    plain = network(x, t, torch.ones(1, 4, dtype=torch.bool))
    turned = network(
        Noisy(x.coords[:, order], x.types[:, order], x.lattice), t, torch.ones(1, 4, dtype=torch.bool)
    )
    torch.testing.assert_close(turned.coords, plain.coords[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(turned.lattice, plain.lattice, atol=1e-5, rtol=1e-4)
    more = Noisy(
        *(torch.cat([v, torch.randn(1, 2, v.shape[2])], dim=1) for v in (x.coords, x.types)), x.lattice
    )
    padded = network(more, t, torch.arange(6)[None] < 4)
    torch.testing.assert_close(padded.types[:, :4], plain.types, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded.lattice, plain.lattice, atol=1e-5, rtol=1e-4)


def test_where_each_site_has_noise_of_its_own_each_has_a_guess():
    torch.manual_seed(0)
    network, mask = Denoiser(TINY).eval(), torch.arange(4)[None] < 3
    x = Noisy(torch.randn(1, 4, 3), torch.randn(1, 4, 100), torch.randn(1, 4, 6))
    found = network(x, torch.tensor([3]), mask).lattice
    assert found.shape == (1, 4, 6) and not torch.allclose(found[0, 0], found[0, 1])
    other = Noisy(x.coords, x.types, x.lattice.clone())
    other.lattice[0, 3] += 5.0  # padding
    torch.testing.assert_close(network(other, torch.tensor([3]), mask).lattice[:, :3], found[:, :3])


def test_a_file_of_before_has_noise_of_the_crystal():
    values = {"denoiser": asdict(TINY), "timesteps": 16}
    assert DiffusionConfig.from_dict(values) == CONFIG and CONFIG.lattice_noise == "crystal"
    assert DiffusionConfig.from_dict({**values, "lattice_noise": "site"}).lattice_noise == "site"


def test_settings_of_the_paper():
    assert PAPER.timesteps == 256
    assert (PAPER.denoiser.layers, PAPER.denoiser.width) == (12, 1024)
    assert (PAPER.denoiser.heads, PAPER.denoiser.dropout) == (8, 0.01)
