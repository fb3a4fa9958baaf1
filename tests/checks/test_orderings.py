"""Ordered versions of solid solutions, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from crysjepa.checks.orderings import KnownOrderings, mergings
from crysjepa.core.crystals import Crystals


def layered(one: str, other: str, anion: str, a: float) -> Atoms:
    """Rocksalt, its cations in layers of one and the other (CuAu's ordering, 4 sites)."""
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 0.5]]
    return Atoms(
        [one, other, anion, anion], scaled_positions=places, cell=[a / 2**0.5, a / 2**0.5, a], pbc=True
    )


def crystals(**atoms: Atoms) -> Crystals:
    return Crystals.from_atoms(list(atoms.values()), list(atoms))


def ends(structure: str = "rocksalt") -> dict[str, Atoms]:
    return {"nacl": bulk("NaCl", structure, a=5.64), "kcl": bulk("KCl", structure, a=6.29)}


CANDIDATE = crystals(x=layered("Na", "K", "Cl", 5.97))


def test_an_ordering_of_a_solid_solution_is_told() -> None:
    found = KnownOrderings(crystals(**ends(), mgo=bulk("MgO", "rocksalt", a=4.2))).ordered_version(CANDIDATE)
    assert found is not None
    assert found.of == ("kcl", "nacl") and found.merged == "K|Na"


def test_the_description_changes_nothing() -> None:
    known = KnownOrderings(crystals(**ends()))
    (atoms,) = CANDIDATE.to_atoms()
    atoms = atoms * (1, 2, 1)
    atoms.rotate(50, (1, 0, 2), rotate_cell=True)
    atoms.rattle(0.03, seed=0)
    atoms = atoms[np.random.default_rng(0).permutation(len(atoms))]
    assert known.ordered_version(crystals(x=atoms)) == known.ordered_version(CANDIDATE)


def test_one_end_is_not_enough() -> None:
    assert KnownOrderings(crystals(nacl=ends()["nacl"])).ordered_version(CANDIDATE) is None


def test_ends_of_another_structure_are_none() -> None:
    known = crystals(nacl=ends()["nacl"], kcl=bulk("KCl", "cesiumchloride", a=3.7))
    assert KnownOrderings(known).ordered_version(CANDIDATE) is None


def test_unlike_species_are_never_merged() -> None:
    known = crystals(nacl=ends()["nacl"], agcl=bulk("AgCl", "rocksalt", a=5.55))
    assert KnownOrderings(known).ordered_version(crystals(x=layered("Na", "Ag", "Cl", 5.6))) is None


def test_a_crystal_is_no_version_of_itself() -> None:
    assert KnownOrderings(crystals(itself=layered("Na", "K", "Cl", 5.97))).ordered_version(CANDIDATE) is None


def test_another_ordering_of_the_formula_counts() -> None:
    layers = bulk("NaCl", "rocksalt", a=5.97) * (1, 1, 2)  # along [111]: CuPt's ordering
    layers.symbols[next(a.index for a in layers if a.symbol == "Na")] = "K"
    found = KnownOrderings(crystals(cupt=layers)).ordered_version(CANDIDATE)
    assert found is not None and found.of == ("cupt",)


def test_sites_of_their_own_make_a_compound() -> None:
    # in CaF₂'s structure the two are on different orbits, whatever is merged
    def fluorite(metal: str, other: str) -> Atoms:
        atoms = bulk("CaF2", "fluorite", a=6.6)
        atoms.set_chemical_symbols([metal, other, other])
        return atoms

    known = crystals(cu=fluorite("Cu", "Cu"), ni=fluorite("Ni", "Ni"))
    assert KnownOrderings(known).ordered_version(crystals(x=fluorite("Ni", "Cu"))) is None


def test_alloys_need_both_ends() -> None:
    # Cu₃Ni in Cu₃Au's structure
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.symbols[0] = "Ni"
    candidate = crystals(x=atoms)
    copper, nickel = bulk("Cu", "fcc", a=3.6), bulk("Ni", "fcc", a=3.5)
    found = KnownOrderings(crystals(cu=copper, ni=nickel)).ordered_version(candidate)
    assert found is not None and found.of == ("cu", "ni")
    other = bulk("Cu", "fcc", a=3.55, cubic=True)
    other.symbols[[0, 1]] = "Ni"
    assert KnownOrderings(crystals(cuni=other)).ordered_version(candidate) is None


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (set(), 0),
        ({(1, 2)}, 1),
        ({(1, 2), (2, 3)}, 2),  # 1 and 3 are unlike: all three never merge
        ({(1, 2), (2, 3), (1, 3)}, 4),
        ({(1, 2), (3, 4)}, 3),
    ],
)
def test_ways_to_merge(pairs: set[tuple[int, int]], expected: int) -> None:
    found = mergings([1, 2, 3, 4], pairs)
    assert len(found) == expected
    assert [len(sets) for sets in found] == sorted((len(sets) for sets in found), reverse=True)
