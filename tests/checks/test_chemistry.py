"""Charge balance, alloys, and which elements may share a site."""

from __future__ import annotations

import pytest
from pymatgen.core import Composition, Element

from crysjepa.checks.chemistry import Bonding, alike, bonding
from crysjepa.core.validity import Formula


def formula(text: str) -> Formula:
    counts = Composition(text).reduced_composition.items()
    return tuple(sorted((element.Z, int(n)) for element, n in counts))


def pairs(text: str) -> set[str]:
    return {"-".join(sorted(Element.from_Z(z).symbol for z in pair)) for pair in alike(formula(text))}


@pytest.mark.parametrize(
    "text", ["NaCl", "BaTiO3", "GaAs", "Mg2Si", "CaC2", "Fe3O4", "Pb3O4", "NaN3", "YBa2Cu3O7"]
)
def test_charge_balanced(text: str) -> None:
    assert bonding(formula(text)) is Bonding.CHARGE_BALANCED


@pytest.mark.parametrize("text", ["Cu3Au", "NiAl", "CsAu", "MgCu2", "TiNi", "Nb3Sn"])
def test_alloys(text: str) -> None:
    assert bonding(formula(text)) is Bonding.ALLOY


@pytest.mark.parametrize("text", ["Fe4N", "NaClBr2", "Na3Cl"])
def test_neither(text: str) -> None:
    assert bonding(formula(text)) is Bonding.NEITHER


def test_elements_are_their_own_kind() -> None:
    assert bonding(formula("Cu")) is bonding(formula("S8")) is Bonding.ELEMENT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NaKCl2", {"K-Na"}),
        ("Na2ClBr", {"Br-Cl"}),
        ("KRbClBr", {"K-Rb", "Br-Cl"}),
        ("MgNiO2", {"Mg-Ni"}),
        ("LaNdO3", {"La-Nd"}),
        ("CaNaF3", set()),  # alike but for the charge
        ("LiCsF2", set()),  # too unlike in size
        ("NaAgCl2", set()),  # of one charge, but not of one bond
        ("BaTiO3", set()),
        ("CuNi", {"Cu-Ni"}),
        ("CuAu", set()),
        ("CsAu", set()),
    ],
)
def test_alike(text: str, expected: set[str]) -> None:
    assert pairs(text) == expected
