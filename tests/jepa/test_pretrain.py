import numpy as np
import pytest
import torch

from crysjepa.canonical import canonicalise
from crysjepa.jepa.model import PAPER, JepaConfig, Predictor
from crysjepa.jepa.pretrain import CrysJepa
from crysjepa.nn.checkpoint import CheckpointError
from crysjepa.nn.training import TrainSettings
from crysjepa.nn.transformer import TransformerConfig

SETTINGS = TrainSettings(
    steps=40, batch_size=7, warmup=3, learning_rate=3e-3, checkpoint_every=10, record_every=10
)
ENERGIES = np.array([-2.1, -2.2, -3.1, -3.0, -3.3, -2.0, -3.5])


@pytest.fixture
def canonical(salts):
    return canonicalise(salts)[0]


@pytest.fixture
def trained(canonical):
    config = JepaConfig(TransformerConfig(layers=1, width=32, heads=4))
    return CrysJepa.pretrain(canonical, ENERGIES, config, SETTINGS, seed=0)


def test_training_learns_to_find_the_target(trained):
    _, training = trained
    assert training.curve[-1]["loss"] < training.curve[0]["loss"]
    assert training.curve[-1]["top1"] > training.curve[0]["top1"]


def test_embeddings_do_not_depend_on_their_batch(trained, canonical):
    jepa, _ = trained
    together = jepa.embed(canonical)
    alone = np.concatenate([jepa.embed(c) for c in canonical])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(jepa.embed(canonical[::-1])[::-1], together, atol=1e-5)
    assert together.shape == (7, 32) and np.isfinite(together).all()
    assert jepa.embed(canonical[:0]).shape == (0, 32)


def test_file_round_trip(trained, canonical, tmp_path):
    jepa, _ = trained
    jepa.save(tmp_path / "j.safetensors")
    again = CrysJepa.load(tmp_path / "j.safetensors")
    np.testing.assert_array_equal(again.embed(canonical), jepa.embed(canonical))
    with pytest.raises(CheckpointError):
        CrysJepa.load(tmp_path / "none.safetensors")


def test_predictor_is_eq_8():
    torch.manual_seed(0)
    predictor = Predictor(8)
    h, t, r = torch.randn(4, 8), torch.rand(4, 3), torch.rand(4, 3)
    inner = h + torch.cat([t, r], dim=1) @ predictor.first.weight.T + predictor.first.bias
    expected = (inner * torch.sigmoid(inner)) @ predictor.second.weight.T + predictor.second.bias
    torch.testing.assert_close(predictor(h, t, r), expected)


def test_settings_of_the_paper():
    assert PAPER.transformer == TransformerConfig(layers=8, width=512, heads=16, dropout=0.0)
    assert PAPER.weighted and PAPER.fourier == 0
