import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crysjepa.canonical import canonicalise
from crysjepa.jepa.model import Encoder, JepaConfig
from crysjepa.jepa.pretrain import CrysJepa
from crysjepa.nn.transformer import TransformerConfig
from crysjepa.screen.reference import ReferenceIndex, subsystems

ELEMENTS = ["Cl", "K", "Li", "Na", "O"]


def test_subsystems_are_the_power_set():
    assert set(subsystems("A-B-C")) == {"A", "B", "C", "A-B", "A-C", "B-C", "A-B-C"}
    assert list(subsystems("Na-Cl", 1)) == ["Cl", "Na"]


@given(seed=st.integers(0, 2**32 - 1))
def test_closed_form_equals_eq_11_written_out(seed):
    rng = np.random.default_rng(seed)
    systems = ["-".join(sorted(rng.choice(ELEMENTS, rng.integers(1, 4), replace=False))) for _ in range(30)]
    embeddings = rng.normal(3, 1, (30, 8)).astype(np.float32)
    index = ReferenceIndex(tuple(f"r{i}" for i in range(30)), tuple(systems), embeddings, "key")
    h = rng.normal(size=8).astype(np.float32)
    inside = [e for e, s in zip(embeddings, systems, strict=True) if set(s.split("-")) <= {"K", "Li", "O"}]
    found = index.distance(h, "K-Li-O")
    assert found.num_references == len(inside)
    if inside:
        plain = np.mean([((h.astype(float) - r.astype(float)) ** 2).sum() for r in inside])
        assert found.value == pytest.approx(plain, rel=1e-9)
    else:
        assert found.value is None


def test_a_copy_of_the_only_reference_is_at_distance_zero():
    r = np.full((1, 4), 1234.5, dtype=np.float32)
    index = ReferenceIndex(("r",), ("Na",), r, "key")
    assert index.distance(r[0], "Na").value == pytest.approx(0, abs=1e-6)
    assert index.distance(r[0], "Na").value >= 0


def test_nearest_looks_in_the_own_system_first():
    embeddings = np.array([[0.0], [5.0], [1.0]], dtype=np.float32)
    index = ReferenceIndex(("element", "far", "other"), ("Na", "Cl-Na", "K"), embeddings, "key")
    near = index.nearest(np.zeros(1, dtype=np.float32), "Cl-Na")
    assert near is not None and (near.id, near.distance) == ("far", 5.0)
    alone = index.nearest(np.zeros(1, dtype=np.float32), "Na-O")
    assert alone is not None and alone.id == "element"
    assert index.nearest(np.zeros(1, dtype=np.float32), "O") is None


def test_an_index_is_kept_for_its_model_and_data(salts, tmp_path):
    torch.manual_seed(0)
    config = JepaConfig(TransformerConfig(layers=1, width=16, heads=2))
    first, second = CrysJepa(Encoder(config)), CrysJepa(Encoder(config))
    crystals, _ = canonicalise(salts)
    cache = tmp_path / "index"
    built = ReferenceIndex.build(first, crystals, cache=cache)
    written = cache.read_bytes()
    again = ReferenceIndex.build(first, crystals, cache=cache)
    assert cache.read_bytes() == written and again.ids == built.ids
    np.testing.assert_array_equal(again.embeddings, built.embeddings)
    other = ReferenceIndex.build(second, crystals, cache=cache)
    assert other.key != built.key and not np.array_equal(other.embeddings, built.embeddings)
    with pytest.raises(ValueError, match="no crystals"):
        ReferenceIndex.build(first, crystals[:0])
