"""Prototypes of one stoichiometry, filled in every order."""

from __future__ import annotations

import pytest

from conftest import make_salts
from crysjepa.closed_hull.of_formula import fillings_of
from crysjepa.closed_hull.prototypes import Prototypes
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.validity import reduced_formulas
from crysjepa.generators.substitution.parents import Parents

OXYGEN, NA, CL, TI, RB, BA = 8, 11, 17, 22, 37, 56


@pytest.fixture(scope="module")
def prototypes() -> Prototypes:
    return Prototypes.of(Parents.of(CandidateTable.from_crystals(make_salts()), "salts"))


def test_every_order_of_elements_that_gives_the_formula(prototypes):
    found = fillings_of(prototypes, {OXYGEN: 3, TI: 1, BA: 1})
    assert [prototypes.crystals.ids[f.parent] for f in found] == ["SrTiO3", "SrTiO3"]
    assert found[0].cost < found[1].cost, "Ba for Sr is likelier than Ti for Sr and Ba for Ti"
    assert reduced_formulas(prototypes.crystals_of(found)) == [((OXYGEN, 3), (TI, 1), (BA, 1))] * 2
    assert {e for f in found for e in [f.elements]} == {f.elements for f in found}
    assert len({f.elements for f in found}) == 2


def test_parents_are_the_likeliest_and_as_many_as_asked_for(prototypes):
    for variants in (1, 2, 100):
        found = fillings_of(prototypes, {RB: 1, CL: 1}, variants=variants)
        assert len(found) == min(2 * variants, 12)  # six rock salts, in two orders
        assert [f.cost for f in found] == sorted(f.cost for f in found)
    best = fillings_of(prototypes, {RB: 1, CL: 1})[0]
    assert prototypes.crystals.ids[best.parent] == "KCl"


def test_a_known_crystal_of_the_formula_costs_nothing(prototypes):
    known = [f for f in fillings_of(prototypes, {NA: 1, CL: 1}) if f.cost == 0]
    assert [prototypes.crystals.ids[f.parent] for f in known] == ["NaCl"]
    crystal = prototypes.crystals_of(known)
    assert crystal.lattices == pytest.approx(prototypes.crystals.select(["NaCl"]).lattices)


def test_another_stoichiometry_has_none(prototypes):
    assert fillings_of(prototypes, {OXYGEN: 1, NA: 2}) == []
    assert fillings_of(prototypes, {z: 1 for z in range(3, 10)}) == []
    assert fillings_of(prototypes, {NA: 1}) == []
