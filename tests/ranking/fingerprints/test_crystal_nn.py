"""Fingerprints of sites in the quick way, beside matminer's featurizer called site by site."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, PeriodicSite, Structure

from crysjepa.core.crystals import Crystals
from crysjepa.ranking.fingerprints import ranker
from crysjepa.ranking.fingerprints.cache import fingerprints
from crysjepa.ranking.fingerprints.ranker import COMPOSITION, STRUCTURE, Fingerprints

pytest.importorskip("matminer")
pytestmark = pytest.mark.filterwarnings("ignore")  # CrystalNN's and matminer's own


@pytest.fixture(scope="module")
def quick() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from crysjepa.ranking.fingerprints.crystal_nn import SiteFingerprints

        return SiteFingerprints()


@pytest.fixture(scope="module")
def matminers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from matminer.featurizers.site import CrystalNNFingerprint

        return CrystalNNFingerprint.from_preset("ops")


@pytest.fixture
def made_anew() -> Iterator[None]:
    """The featurizers are made in the test, and made again after it."""
    ranker.featurizers.cache_clear()
    yield
    ranker.featurizers.cache_clear()


def one_by_one(featurizer: Any, structure: Structure) -> np.ndarray:
    return np.array([featurizer.featurize(structure, i) for i in range(len(structure))])


def without_symmetry(seed: int) -> Structure:
    """One to four sites of one to three elements at some distance, 7 to 25 Å³ for each, in a skewed cell."""
    rng = np.random.default_rng(seed)
    count = seed % 4 + 1
    elements = rng.choice(["Li", "O", "Fe", "Cl", "Cs", "Si", "Ag"], count)
    lattice = Lattice.from_parameters(*rng.uniform(0.8, 1.3, 3), *rng.uniform(65, 115, 3))
    lattice = lattice.scale(count * rng.uniform(7, 25))
    for _ in range(1000):
        structure = Structure(lattice, elements, rng.uniform(0, 1, (count, 3)))
        if structure.is_valid(tol=1.2):
            break
    return structure


def test_real_crystals_are_as_matminer_has_them(salts: Crystals, quick: Any, matminers: Any) -> None:
    for structure in salts.to_structures():
        found = quick(structure)
        assert found.shape == (len(structure), STRUCTURE)
        assert np.array_equal(found, one_by_one(matminers, structure)), structure.formula


@pytest.mark.parametrize("seed", range(20))
def test_crystals_without_symmetry_are_as_matminer_has_them(seed: int, quick: Any, matminers: Any) -> None:
    structure = without_symmetry(seed)
    assert np.array_equal(quick(structure), one_by_one(matminers, structure))


ODD = {
    "two sites in one place": (np.eye(3) * 4, ["Na", "Cl"], [[0, 0, 0], [0, 0, 0]]),
    "two sites all but in one place": (np.eye(3) * 4, ["Na", "Cl"], [[0, 0, 0], [1e-7, 0, 0]]),
    "neighbours beyond the first radius": (np.eye(3) * 20, ["Na", "Cl"], [[0, 0, 0], [0.1, 0, 0]]),
    "a chain": (np.diag([2.0, 16, 16]), ["C"], [[0, 0, 0]]),
    "angles of 135°, where values jump": (np.eye(3) * 2.8, ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "no electronegativity": (np.eye(3) * 4, ["Ar", "Ne"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_crystals_are_as_matminer_has_them(name: str, quick: Any, matminers: Any) -> None:
    structure = Structure(*ODD[name])
    assert np.array_equal(quick(structure), one_by_one(matminers, structure), equal_nan=True)


@pytest.mark.parametrize("number", range(1, 25))
def test_shared_passes_are_matminers_single_ones(number: int, quick: Any, matminers: Any) -> None:
    """Whatever the neighbours: random ones, and a cube's, at 45°, 90°, 135° and 180° to each other."""
    from crysjepa.ranking.fingerprints.crystal_nn import PlacedSite
    from crysjepa.ranking.fingerprints.order_parameters import Vector

    rng = np.random.default_rng(number)
    cube = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if x or y or z])
    around = [rng.normal(0, 2, (number, 3)), rng.permutation(cube)[:number] * 2.0, cube[:number] * 2.0]
    for coords in (np.vstack([np.zeros(3), points]) for points in around):
        sites = [PeriodicSite("Fe", p, Lattice.cubic(20), coords_are_cartesian=True) for p in coords]
        neighbours = list(range(1, len(sites)))
        wanted = []
        for operator in matminers.ops[number]:
            if operator == "wt":
                wanted.append(0.25)
            else:
                (value,) = operator.get_order_parameters(sites, 0, indices_neighs=neighbours)
                wanted.append(0.25 * (value or 0))
        placed = [PlacedSite(Vector(site.coords)) for site in sites]
        assert quick.parts[number](0.25, placed) == wanted
        assert quick.parts[number](0, []) == [0] * len(wanted)


def test_the_order_of_sites_and_the_origin_do_not_matter(salts: Crystals) -> None:
    perovskite = salts.select(["SrTiO3"])
    order = np.array([3, 0, 4, 2, 1])
    moved = Crystals(perovskite.atomic_numbers[order], perovskite.frac_coords[order] + [0.1, 0.2, 0.7],
                     perovskite.lattices, perovskite.num_atoms, ("moved",))  # fmt: skip
    (one,), (two,) = (Fingerprints().embed(c).vectors for c in (perovskite, moved))
    assert two == pytest.approx(one, abs=1e-6)


def test_a_crystal_that_crystalnn_cannot_do_has_a_reason_and_costs_no_other() -> None:
    """A coordinate that is not a number, an element without a radius, and one that can be done."""
    coords = np.array([[0, 0, 0], [np.nan, 0.5, 0.5], [0, 0, 0], [0, 0, 0], [0.5, 0.5, 0.5]])
    cells = np.tile(np.eye(3) * 4.1, (3, 1, 1))
    bad = Crystals(np.array([11, 17, 118, 55, 17]), coords, cells, np.array([2, 1, 2]), ("nan", "Og", "CsCl"))
    found = Fingerprints().embed(bad)
    assert found.rows.tolist() == [2] and list(found.failures) == [0, 1]
    assert all(reason.startswith("no fingerprint (") for reason in found.failures.values())


@pytest.mark.slow
def test_one_that_takes_too_long_has_a_reason_and_leaves_nothing_behind(
    salts: Crystals, tmp_path: Path
) -> None:
    """A layer of atoms so thin that tens of thousands of its images are within CrystalNN's radius."""
    cells = np.diag([3.0, 3.0, 0.01])[None]
    thin = Crystals(np.array([11, 17]), np.array([[0, 0, 0], [0.5] * 3]), cells, np.array([2]), ("thin",))
    before = Fingerprints().embed(salts).vectors  # what is read once is not what takes long
    found = fingerprints(Fingerprints(), thin, tmp_path, seconds=0.1)
    assert found.failures == {0: "no fingerprint within 0.1 s"}
    assert found.vectors.shape == (0, STRUCTURE + COMPOSITION)
    assert np.array_equal(Fingerprints().embed(salts).vectors, before)


def test_the_libraries_are_left_as_they_are(quick: Any) -> None:
    from pymatgen.analysis.local_env import CrystalNN, LocalStructOrderParams, VoronoiNN

    looked_up = CrystalNN.get_nn_data.__globals__
    assert looked_up["np"] is np and looked_up["VoronoiNN"] is VoronoiNN
    assert LocalStructOrderParams.get_order_parameters.__globals__["np"] is np


@pytest.mark.parametrize("change", ["other numbers", "does not work"])
def test_where_the_quick_way_fails_the_plain_one_is_taken(
    change: str, salts: Crystals, monkeypatch: pytest.MonkeyPatch, made_anew: None
) -> None:
    from crysjepa.ranking.fingerprints import crystal_nn

    before = Fingerprints().embed(salts[:2]).vectors
    ranker.featurizers.cache_clear()
    plain = crystal_nn.SitePart.__call__

    def changed(self: Any, weight: float, sites: Any) -> list[float]:
        if change == "does not work":
            raise AttributeError("renamed")
        return [1.001 * value for value in plain(self, weight, sites)]

    monkeypatch.setattr(crystal_nn.SitePart, "__call__", changed)
    with pytest.warns(UserWarning, match="three times as long"):
        after = Fingerprints().embed(salts[:2]).vectors
    assert np.array_equal(before, after)
