"""Crystals reduced on arrays, and what rules a comparison out: pymatgen is the oracle."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.matching import reduction
from crysjepa.matching.prototypes import PrototypeIndex, known_prototypes
from crysjepa.matching.reduction import Reduced, reduce_crystal
from crysjepa.matching.structure_matcher import FormulaIndex

ELEMENTS = (3, 8, 26)


def crystal(lattice: object, frac: object, numbers: list[int], id_: str) -> Crystals:
    coords = np.asarray(frac, dtype=float)
    return Crystals(numbers, coords, np.asarray(lattice, dtype=float), [len(coords)], (id_,))


def oracle(structure: Structure) -> Structure:
    """pymatgen's own reduction."""
    return StructureMatcher._get_reduced_structure(structure, True, True)


def assert_same(ours: Reduced | str, theirs: Structure) -> None:
    assert isinstance(ours, Reduced)
    assert ours.atomic_numbers.tolist() == [site.specie.Z for site in theirs]
    assert np.abs(ours.matrix - theirs.lattice.matrix).max() < 1e-9
    gaps = ours.frac_coords - theirs.frac_coords
    assert np.abs(gaps - np.round(gaps)).max() < 1e-9, "0 and 1 are the same place"


@pytest.fixture(scope="module")
def bundled() -> Crystals:
    table = datasets.load("flla")
    return table.crystals(table.ok_ids)[::80]


def test_real_crystals_are_reduced_as_pymatgen_does(bundled: Crystals) -> None:
    sizes = []
    for one, structure in zip(bundled, bundled.to_structures(), strict=True):
        theirs = oracle(structure)
        assert_same(reduce_crystal(one, primitive=True, ltol=0.2), theirs)
        sizes.append(len(structure) / len(theirs))
    assert len(sizes) > 40


@pytest.mark.parametrize("scaling", [[2, 1, 1], [1, 2, 2], [3, 1, 1], [[1, 1, 0], [1, -1, 0], [0, 0, 2]]])
def test_supercells_are_made_small_as_pymatgen_does(bundled: Crystals, scaling: object) -> None:
    rng = np.random.default_rng(0)
    small = [s for s in bundled.to_structures() if len(s) <= 4][:6]
    shrunk = []
    for number, structure in enumerate(small):
        large = structure.make_supercell(scaling, in_place=False)
        moved = Structure(
            large.lattice, large.species, large.frac_coords + rng.normal(size=(len(large), 3)) * 0.004
        )
        (one,) = Crystals.from_structures([moved], [f"c-{number}"])
        ours, theirs = reduce_crystal(one, primitive=True, ltol=0.2), oracle(moved)
        assert_same(ours, theirs)
        shrunk.append(len(ours) < len(large))
    assert any(shrunk)


def test_only_niggli_without_primitive(bundled: Crystals) -> None:
    structure = bundled.to_structures()[0].make_supercell([2, 1, 1], in_place=False)
    (one,) = Crystals.from_structures([structure], ["c"])
    assert_same(
        reduce_crystal(one, primitive=False, ltol=0.2),
        StructureMatcher._get_reduced_structure(structure, False, True),
    )


def test_a_sheared_cell_is_brought_into_reach_first() -> None:
    """pymatgen would look through some 10⁸ points for this description of rock salt."""
    plain = crystal(5.6 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17], "plain")
    shear = np.array([[1, 0, 0], [5000, 1, 0], [3000, 7000, 1]])
    sheared = crystal(
        shear @ plain.lattices[0], plain.frac_coords @ np.linalg.inv(shear), [11, 17], "sheared"
    )
    index = FormulaIndex(plain)
    other = reduce_crystal(sheared, primitive=True, ltol=0.2)
    assert isinstance(other, Reduced)
    assert index.first_match(other, [0]) == ("plain", None)


def test_large_cells_are_made_smaller_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supercell of 108 formula units: the exact one is made primitive, the jittered one gets a reason."""
    monkeypatch.setattr(reduction, "MAX_SUPERCELLS", 1000)
    axis = np.arange(6) / 6
    cubes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    species = [11 if round(6 * p.sum()) % 2 else 17 for p in cubes]
    exact = crystal(17.0 * np.eye(3), cubes, species, "exact")
    reduced = reduce_crystal(exact, primitive=True, ltol=0.2)
    assert isinstance(reduced, Reduced) and len(reduced) == 2
    moved = cubes + np.random.default_rng(0).normal(scale=0.03, size=cubes.shape)
    jittered = crystal(17.0 * np.eye(3), moved, species, "jittered")
    assert "too large to be compared (216 sites)" in str(reduce_crystal(jittered, primitive=True, ltol=0.2))


# -- ruling out ------------------------------------------------------------------------------

cells = st.lists(st.floats(-2, 2), min_size=9, max_size=9).map(lambda v: np.array(v).reshape(3, 3))
stretches = st.lists(st.floats(0.6, 1.6), min_size=3, max_size=3)
numbers = st.lists(st.sampled_from(ELEMENTS), min_size=2, max_size=4)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cells, stretches, numbers, st.integers(0, 2**31), st.booleans(), st.booleans())
def test_what_is_ruled_out_does_not_match(
    noise: np.ndarray, stretch: list[float], species: list[int], seed: int, doubled: bool, anonymous: bool
) -> None:
    """Where crysjepa says no without asking, pymatgen says no too."""
    rng = np.random.default_rng(seed)
    lattice = 4 * np.eye(3) + noise
    assume(abs(np.linalg.det(lattice)) > 8)
    frac = rng.uniform(size=(len(species), 3))
    first = crystal(lattice, frac, species, "first")
    second = crystal(
        lattice * np.array(stretch)[:, None], frac + rng.normal(size=frac.shape) * 0.02, species, "s"
    )
    if doubled:
        (second,) = Crystals.from_structures(
            [second.to_structures()[0].make_supercell([1, 1, 2], in_place=False)], ["s"]
        )
    index = FormulaIndex(first)
    reduced = reduce_crystal(second, primitive=True, ltol=0.2)
    assert isinstance(reduced, Reduced)
    early = index.ruled_out(0, reduced)
    known = index.reduced(0)
    assert isinstance(known, Reduced)
    matcher = StructureMatcher()
    fit = matcher.fit_anonymous if anonymous else matcher.fit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdict = bool(fit(first.to_structures()[0], second.to_structures()[0]))
    if early or not index.may_fit(known, reduced):
        assert not verdict
    if not anonymous:
        assert (index.first_match(reduced, [0])[0] == "first") == verdict


def test_long_cells_are_ruled_out_and_near_ones_are_not() -> None:
    """The rule does something: one axis 1.5 times as long, at equal volume, is beyond ltol 0.2."""
    cube = crystal(4 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17], "cube")
    for factor, out in ((1.05, False), (2.0, True)):
        long = crystal(4 * np.diag([1, 1, factor]), cube.frac_coords, [11, 17], "long")
        index = FormulaIndex(long)
        reduced = reduce_crystal(cube, primitive=True, ltol=0.2)
        assert isinstance(reduced, Reduced)
        assert index.ruled_out(0, reduced) is out
        assert StructureMatcher().fit(long.to_structures()[0], cube.to_structures()[0]) is not out


# -- prototypes ------------------------------------------------------------------------------


def test_a_prototype_is_known_whatever_its_species() -> None:
    caesium_chloride = [[0, 0, 0], [0.5, 0.5, 0.5]]
    known = Crystals.concatenate(
        [
            crystal(4.1 * np.eye(3), caesium_chloride, [55, 17], "CsCl"),
            crystal(4.2 * np.eye(3), caesium_chloride, [55, 35], "CsBr"),
        ]
    )
    fcc = 2.8 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    asked = Crystals.concatenate(
        [
            crystal(3.8 * np.eye(3), caesium_chloride, [47, 12], "AgMg"),
            crystal(fcc, caesium_chloride, [11, 17], "NaCl"),
            crystal(5 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]], [8, 8, 22], "TiO2"),
        ]
    )
    for order in ([0, 1], [1, 0]):
        found = known_prototypes(asked, PrototypeIndex(FormulaIndex(known[order])))
        assert found.failures == {}
        assert found.matches["AgMg"] in ("CsCl", "CsBr")
        assert found.matches["NaCl"] is None, "rock salt is another prototype"
        assert found.matches["TiO2"] is None, "nothing of that formula is known"
    for id_, expected in (("AgMg", True), ("NaCl", False)):
        structure, other = asked.select([id_]).to_structures()[0], known.to_structures()[0]
        assert StructureMatcher().fit_anonymous(other, structure) is expected
