"""Fingerprints of appendix D.4: their scaling without matminer, and the real ones where it is installed."""

import builtins
import importlib.util

import numpy as np
import pytest

from crysjepa.core.crystals import Crystals
from crysjepa.ranking.fingerprints.ranker import COMPOSITION, STRUCTURE, Scaling
from crysjepa.ranking.registry import RankerContext, make_ranker

matminer = pytest.mark.skipif(
    importlib.util.find_spec("matminer") is None, reason="matminer is not installed"
)


def test_each_part_counts_the_same_and_constant_values_do_nothing():
    rng = np.random.default_rng(0)
    raw = rng.normal(3, rng.uniform(0.1, 100, STRUCTURE + COMPOSITION), (50, STRUCTURE + COMPOSITION))
    raw[:, -1] = 7
    scaled = Scaling.of(raw.astype(np.float32))(raw.astype(np.float32))
    assert scaled.shape == raw.shape and np.isfinite(scaled).all() and (scaled[:, -1] == 0).all()
    assert np.abs(scaled.mean(axis=0)).max() < 1e-3
    parts = [(scaled[:, p] ** 2).sum(axis=1).max() for p in (slice(0, STRUCTURE), slice(STRUCTURE, None))]
    assert parts == pytest.approx([1, 1], rel=1e-4)
    spread = scaled[:, STRUCTURE:-1].std(axis=0)
    assert spread == pytest.approx(np.full(COMPOSITION - 1, spread[0]), rel=1e-3), "Magpie's are standardised"
    ratio = scaled[:, :STRUCTURE].std(axis=0) / raw[:, :STRUCTURE].std(axis=0)
    assert ratio == pytest.approx(np.full(STRUCTURE, ratio[0]), rel=1e-3), "CrystalNN's are not"


def test_without_matminer_the_extra_is_named(salts, monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("matminer"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"crysjepa\[fingerprints\]"):
        make_ranker("fingerprint", RankerContext(salts))


@matminer
@pytest.mark.filterwarnings("ignore")  # matminer's and CrystalNN's own, where the test calls them itself
def test_the_distance_is_that_of_the_parts(salts, tmp_path):
    from matminer.featurizers.composition import ElementProperty
    from matminer.featurizers.site import CrystalNNFingerprint

    ranker = make_ranker("fingerprint", RankerContext(salts, index=tmp_path / "index.arrow"))
    turned = salts.with_ids([f"{i}-moved" for i in salts.ids])
    turned.frac_coords[:] += 0.3
    strange = Crystals(np.array([26]), np.zeros((1, 3)), 2.8 * np.eye(3)[None], np.array([1]), ("Fe",))
    scores = ranker.score(Crystals.concatenate([turned, strange]))
    assert scores["NaCl-moved"].value == pytest.approx(0, abs=1e-6) and scores["Fe"].value is None
    assert scores["NaCl-moved"].support_distance == pytest.approx(0, abs=1e-3)
    both = salts.select(["KCl", "KBr"]).to_structures()
    site, magpie = CrystalNNFingerprint.from_preset("ops"), ElementProperty.from_preset("magpie")
    structure = [np.mean([site.featurize(s, i) for i in range(len(s))], axis=0) for s in both]
    composition = [np.array(magpie.featurize(s.composition)) for s in both]
    assert [len(structure[0]), len(composition[0])] == [STRUCTURE, COMPOSITION]
    vectors = ranker.embedder.embed(salts.select(["KCl", "KBr"])).vectors
    divisor = ranker.embedder.scaling.divisor
    wanted = (((structure[0] - structure[1]) / divisor[:STRUCTURE]) ** 2).sum()
    wanted += (((composition[0] - composition[1]) / divisor[STRUCTURE:]) ** 2).sum()
    assert ((vectors[0] - vectors[1]) ** 2).sum() == pytest.approx(wanted, rel=1e-3)
