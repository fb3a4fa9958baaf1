"""Known prototypes, filled with other elements."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.spacegroup import crystal
from pymatgen.analysis.structure_matcher import StructureMatcher

from crysjepa.closed_hull.prototypes import Prototypes, subsystems_of
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.generators.substitution.parents import Parents

NACL, KCL = (11, 17), (17, 19)


@pytest.fixture(scope="module")
def parents() -> Parents:
    atoms = [
        bulk("NaCl", "rocksalt", a=5.64),
        bulk("KCl", "rocksalt", a=6.29, cubic=True),
        bulk("CsCl", "cesiumchloride", a=4.12),
        crystal(["Ca", "F"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=225, cellpar=[5.46] * 3 + [90] * 3),
    ]
    table = CandidateTable.from_crystals(Crystals.from_atoms(atoms, ["NaCl", "KCl", "CsCl", "CaF2"]))
    return Parents.of(table, "salts")


@pytest.fixture(scope="module")
def prototypes(parents) -> Prototypes:
    return Prototypes.of(parents)


def test_same_orbits_are_one_prototype(prototypes):
    key = dict(zip(prototypes.crystals.ids, prototypes.keys.tolist(), strict=True))
    assert key["NaCl"] == key["KCl"]
    assert len({key["NaCl"], key["CsCl"], key["CaF2"]}) == 3
    assert prototypes.crystals.num_atoms.tolist() == [2, 2, 2, 3], "primitive cells"


def test_each_prototype_and_order_once_from_the_likeliest_parent(prototypes):
    fillings = prototypes.fillings((11, 35), 100)  # NaBr
    kinds = [(prototypes.keys[f.parent], f.elements) for f in fillings]
    assert len(set(kinds)) == len(kinds)
    assert [f.cost for f in fillings] == sorted(f.cost for f in fillings)
    best = fillings[0]
    assert prototypes.crystals.ids[best.parent] == "NaCl", "only one element to be swapped"
    assert prototypes.fillings((11, 35), 1) == fillings[:1]


def test_filled_crystals_have_the_prototype_and_the_formula(prototypes):
    fillings = prototypes.fillings((9, 20), 100) + prototypes.fillings((12, 17), 100)
    crystals = prototypes.crystals_of(fillings)
    assert len(set(crystals.ids)) == len(crystals) == len(fillings)
    matcher = StructureMatcher()
    for new, filling in zip(crystals.to_structures(), fillings, strict=True):
        old = prototypes.crystals[filling.parent].to_structures()[0]
        assert matcher.fit_anonymous(new, old)
        assert {e.Z for e in new.composition.elements} == set(filling.elements)


def test_a_known_crystal_is_not_made_once_more_of_another_parent(prototypes):
    """Rock salt of Na and Cl, in either order, is NaCl, also where KCl lends the geometry."""
    rock_salt = dict(zip(prototypes.crystals.ids, prototypes.keys.tolist(), strict=True))["NaCl"]
    assert rock_salt not in [prototypes.keys[f.parent] for f in prototypes.fillings(NACL, 100)]
    hidden = prototypes.fillings(NACL, 100, frozenset({NACL}))
    assert rock_salt in [prototypes.keys[f.parent] for f in hidden], "unless it is hidden"
    fluorite = prototypes.crystals_of(prototypes.fillings((9, 20), 100))
    assert "CaF2" not in fluorite.reduced_formulas()


def test_many_elements_and_unknown_ones(prototypes):
    assert prototypes.fillings((1, 3, 9, 11, 17, 19), 10) == []
    assert prototypes.fillings((11, 110), 10) == []
    parts = list(subsystems_of((1, 3, 9, 11, 17, 19)))
    assert {len(p) for p in parts} == {2, 3} and len(parts) == 15 + 20


def test_hidden_systems_lend_no_parents(prototypes):
    seen = {prototypes.crystals.ids[f.parent] for f in prototypes.fillings((11, 35), 100)}
    hidden = frozenset({NACL, KCL})
    left = {prototypes.crystals.ids[f.parent] for f in prototypes.fillings((11, 35), 100, hidden)}
    assert "NaCl" in seen and left <= {"CsCl", "CaF2"}


def test_the_cache_gives_the_same_and_survives_damage(parents, prototypes, tmp_path):
    Prototypes.of(parents, cache=tmp_path)
    again = Prototypes.of(parents, cache=tmp_path)
    assert again.slots == prototypes.slots
    assert np.array_equal(again.keys, prototypes.keys)
    assert again.crystals.content_hash() == prototypes.crystals.content_hash()
    (file,) = tmp_path.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:100])
    assert Prototypes.of(parents, cache=tmp_path).slots == prototypes.slots


def test_no_parent_of_as_many_elements(prototypes):
    assert prototypes.fillings((3, 8, 26), 10) == []
    assert len(prototypes.crystals_of([])) == 0


def test_subsystems_in_order():
    assert list(subsystems_of((8, 3, 26))) == [(3, 8), (3, 26), (8, 26), (3, 8, 26)]
