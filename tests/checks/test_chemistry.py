"""Charge balance, alloys, and which elements may share a site."""

from __future__ import annotations

import pytest
from pymatgen.core import Composition, Element

from crysjepa.checks.chemistry import Bonding, alike, balance, bonding
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


@pytest.mark.parametrize(
    ("text", "states", "unusual"),
    [
        ("NaCl", "Na 1+, Cl 1−", None),
        ("Li5ZnS6", "Li 1+, Zn 2+, S 1.17−", "S 1.17−"),  # only with sulphur bonded to sulphur
        ("FeS2", "Fe 2+, S 1−", "S 1−"),
        ("Fe3O4", "Fe 2.67+, O 2−", None),
        ("Cu2O", "Cu 1+, O 2−", None),  # which pymatgen's common states lack
        ("Mg2Si", "Mg 2+, Si 4−", None),  # rare in the ICSD
        ("AgCl2", "Ag 2+, Cl 1−", "Ag 2+"),
        ("YBa2Cu3O7", "Ba 2+, Y 3+, Cu 2.33+, O 2−", "Cu 2.33+"),
        ("CuFeS2", "Fe 3+, Cu 1+, S 2− or Fe 2+, Cu 2+, S 2−", None),
        ("TiNi", None, None),
        ("NaClBr2", None, None),
    ],
)
def test_oxidation_states(text: str, states: str | None, unusual: str | None) -> None:
    found = balance(formula(text))
    assert found.text == states and found.unusual_text == unusual


@pytest.mark.parametrize("text", ["LiFePO4", "CuFeS2", "NiAs", "Ti4O7", "Li5ZnS6", "NaN3", "FeMnO3"])
def test_charges_sum_to_zero_and_usual_sets_come_first(text: str) -> None:
    sets = balance(formula(text)).sets
    assert sets
    for states in sets:
        assert sum(states[z] * n for z, n in formula(text)) == pytest.approx(0, abs=1e-9)
