"""Formulas that are asked for: read as pymatgen and ASE read them, and in one way only."""

import pytest
from ase.formula import Formula
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Element

from crysjepa.core.formula_patterns import LETTERS, FormulaPattern

compositions = st.dictionaries(
    st.integers(1, 103).map(lambda z: Element.from_Z(z).symbol), st.integers(1, 12), min_size=1, max_size=6
).map(Formula.from_dict)


def numbers(formula):
    return tuple(sorted((Element(s).Z, n) for s, n in formula.count().items()))


@given(compositions)
def test_exact_formulas_are_ases_reduced_ones(formula):
    reduced, factor = formula.reduce()
    found = FormulaPattern.parse(str(formula))
    assert found.exact == numbers(reduced) and found.factor == factor
    assert found.fits(found.exact) and not found.fits(((1, 1), (2, 77)))
    assert FormulaPattern.parse(found.name) == found


@pytest.mark.parametrize(
    "text", ["Ca3(PO4)2", "Mg(AlO2)2", "(NH4)2(SO4)", "Al2(SO4)3", "K(C(O2)2)3", "LiLi2"]
)
def test_groups_in_parentheses_are_multiplied_as_by_ase(text):
    counts = Formula(text).count()
    assert dict(FormulaPattern.parse(text).exact) == {
        Element(s).Z: n // FormulaPattern.parse(text).factor for s, n in counts.items()
    }


def test_subscripts_are_numbers():
    assert FormulaPattern.parse("LiMnPO₄") == FormulaPattern.parse("LiMnPO4")


@given(compositions.filter(lambda f: len(f.count()) <= 5))
def test_an_anonymous_formula_fits_what_ase_calls_by_it(formula):
    letters, reduced, _ = formula.stoichiometry()
    pattern = FormulaPattern.parse(str(letters))
    assert pattern.elements is None and pattern.exact is None
    assert pattern.fits(numbers(reduced))
    assert pattern.num_elements == len(reduced.count()) and pattern.num_atoms == len(reduced)
    assert not pattern.fits((*numbers(reduced), (118, 1)))


@pytest.mark.parametrize(
    "text, counts",
    [("ABX3", (1, 1, 3)), ("MX2", (1, 2)), ("A2B2X8", (1, 1, 4)), ("AB2C4", (1, 2, 4)), ("ABA", (1, 2))],
)
def test_letters_stand_for_any_elements(text, counts):
    assert FormulaPattern.parse(text).counts == counts


@pytest.mark.parametrize("text", ["BC", "B4C", "C", "BN", "CO", "Co", "KCN"])
def test_symbols_of_elements_alone_are_elements(text):
    assert FormulaPattern.parse(text).exact == numbers(Formula(text).reduce()[0])


@pytest.mark.parametrize(
    "text, says",
    [
        ("ABO3", r"letters for any element \(A\) and elements \(O\)"),
        ("LiX", r"letters for any element \(X\) and elements \(Li\)"),
        ("BX3", "may be boron or any element"),
        ("ACX3", "may be carbon or any element"),
        ("MC", "may be carbon"),
        ("LiQ2", "'Q' in the formula LiQ2 is no element"),
        ("Xx2", "'Xx'"),
        ("", "is no formula"),
        ("LiMnPO4·H2O", "is no formula"),
        ("2H2O", "is no formula"),
        ("Li0", "of 1 to"),
        ("Li(", "is no formula"),
        ("()2", "is no formula"),
        ("Li0.5O", "is no formula"),
        ("Li99999", "of 1 to"),
        ("lio2", "is no formula"),
    ],
)
def test_what_is_no_formula_or_could_be_two_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        FormulaPattern.parse(text)


def test_deuterium_is_a_letter():
    assert FormulaPattern.parse("DX2").elements is None and "D" in LETTERS
