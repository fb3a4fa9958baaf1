import numpy as np
import pytest
import torch

from crysjepa.core.crystals import Crystals
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.network import Jepa, JepaConfig
from crysjepa.nn.transformer import TransformerConfig
from crysjepa.ranking.embedders import JepaEmbedder


def sheared(crystals):
    """The same crystals in cells that no one would choose."""
    change = np.array([[1, 0, 0], [13, 1, 0], [-9, 21, 1]])
    cells = change @ crystals.lattices
    coords = crystals.frac_coords @ np.linalg.inv(change)
    return Crystals(crystals.atomic_numbers, coords, cells, crystals.num_atoms, crystals.ids)


def misfits():
    """A cell with 200,000 images in reach, and an element beyond the model's."""
    cells = np.stack([0.2 * np.eye(3), 4 * np.eye(3)])
    return Crystals(np.array([3, 110]), np.zeros((2, 3)), cells, np.array([1, 1]), ("speck", "heavy"))


@pytest.fixture
def embedder(tiny):
    return JepaEmbedder(CrysJepa.load(tiny.jepa))


def test_misfits_cost_no_other(embedder, salts):
    together = Crystals.concatenate([salts[:3], misfits(), salts[3:]])
    found = embedder.embed(together)
    alone = embedder.embed(salts)
    assert found.rows.tolist() == [0, 1, 2, 5, 6, 7, 8] and list(found.failures) == [3, 4]
    np.testing.assert_allclose(found.vectors, alone.vectors, atol=1e-5)
    assert "too small" in found.failures[3] and "110" in found.failures[4]


def test_what_the_model_itself_refuses_costs_no_other(tiny, salts, monkeypatch):
    """The glance at the cells may miss one by rounding: then the model's own word counts."""
    from crysjepa.ranking import embedders

    monkeypatch.setattr(embedders, "SKEWED", np.inf)
    found = JepaEmbedder(CrysJepa.load(tiny.jepa)).embed(Crystals.concatenate([misfits()[:1], salts]))
    assert found.rows.tolist() == list(range(1, 8)) and "too small" in found.failures[0]


def test_a_sheared_cell_is_the_same_crystal(embedder, salts):
    found = embedder.embed(sheared(salts))
    assert not found.failures
    np.testing.assert_allclose(found.vectors, embedder.embed(salts).vectors, atol=1e-3)


def test_other_models_see_canonical_crystals(salts):
    torch.manual_seed(0)
    paper = JepaEmbedder(CrysJepa(Jepa(JepaConfig(TransformerConfig(layers=1, width=16, heads=2)))))
    assert not paper.model.invariant
    found = paper.embed(Crystals.concatenate([misfits()[1:2], sheared(salts)]))
    assert found.rows.tolist() == list(range(1, 8)) and "110" in found.failures[0]
    np.testing.assert_allclose(found.vectors, paper.embed(salts).vectors, atol=1e-3)


def test_none_and_equal_names(embedder, salts):
    assert embedder.embed(salts[:0]).vectors.shape == (0, embedder.model.width)
    twins = salts[:2].with_ids(["same", "same"])
    assert embedder.embed(twins).vectors.shape == (2, embedder.model.width)
