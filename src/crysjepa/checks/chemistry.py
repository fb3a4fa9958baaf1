"""What holds a crystal together, by its formula, and which of its elements are alike enough to share a site.

Two species may share a site, and in nature mostly do so at random, where they are of one size and of one mind
about electrons. The rules are old:

- ions: the same charge, radii that differ by at most a quarter of the larger, electronegativities by at most
  0.6 [Goldschmidt, Naturwissenschaften 14, 477 (1926): freely to 15 %, within limits to 30 %; for the second
  Ringwood, Geochim. Cosmochim. Acta 7, 189 (1955)];
- metals in an alloy: radii that differ by at most 15 %, electronegativities by at most 0.4 [Hume-Rothery;
  Darken and Gurry, Physical Chemistry of Metals (1953)].

MatterGen's matcher of disordered structures [Zeni et al., Nature 639, 624 (2025)] has one rule for both, 30 %
and 1.0, and asks for no charges.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from itertools import combinations

from crysjepa.core.validity import Formula
from crysjepa.generators.substitution.element_similarity import nonmetals, oxidation_states

ION_RADII, ION_ELECTRONEGATIVITIES = 0.25, 0.6
METAL_RADII, METAL_ELECTRONEGATIVITIES = 0.15, 0.4
_MIXED_SITES, _MIXED_ELEMENTS = 24, 4
"""Formulas up to this size are tried with several charges of one element; the number of ways explodes."""


class Bonding(StrEnum):
    """What a formula says of bonding.

    ``element``: one element. ``charge-balanced``: oxidation states sum to zero, cations are less
    electronegative than anions, and the anions are nonmetals or metalloids. ``alloy``: not so, and all
    elements are metals or metalloids. ``neither``: not so, and there is a nonmetal.
    """

    ELEMENT = "element"
    CHARGE_BALANCED = "charge-balanced"
    ALLOY = "alloy"
    NEITHER = "neither"


@lru_cache(maxsize=100_000)
def bonding(formula: Formula) -> Bonding:
    """Charge-balanced, an alloy, or neither.

    One oxidation state for each element is tried first
    (:func:`crysjepa.generators.substitution.element_similarity.oxidation_states`), then several, as in
    Fe₃O₄, for formulas of at most 24 sites and four elements (pymatgen's ``Composition.oxi_state_guesses``).
    """
    if len(formula) == 1:
        return Bonding.ELEMENT
    states = oxidation_states(formula)
    if states is not None and all(_may_be_anion(z) for z, state in states.items() if state < 0):
        return Bonding.CHARGE_BALANCED
    if any(nonmetals()[z] for z, _ in formula):
        return Bonding.CHARGE_BALANCED if _mixed_valence(formula) else Bonding.NEITHER
    return Bonding.ALLOY


def _may_be_anion(number: int) -> bool:
    from pymatgen.core import Element

    return bool(nonmetals()[number] or Element.from_Z(number).is_metalloid)


def _mixed_valence(formula: Formula) -> bool:
    """Whether charges sum to zero once sites of one element may differ in charge, as in Fe₃O₄ and azides.

    The likeliest guess in which no cation is more electronegative than an anion counts.
    """
    from pymatgen.core import Composition, Element

    if len(formula) > _MIXED_ELEMENTS or sum(n for _, n in formula) > _MIXED_SITES:
        return False
    composition = Composition({Element.from_Z(z): n for z, n in formula})
    for guess in composition.oxi_state_guesses():
        signed = [(state, Element(symbol)) for symbol, state in guess.items()]
        cations = [e for state, e in signed if state > 0]
        anions = [e for state, e in signed if state < 0]
        if cations and anions and max(e.X for e in cations) <= min(e.X for e in anions):
            return all(_may_be_anion(e.Z) for e in anions)
    return False


def alike(formula: Formula) -> set[tuple[int, int]]:
    """Pairs of elements (atomic numbers, the smaller first) of a formula that may share a site."""
    states = oxidation_states(formula)
    if states is not None and not all(_may_be_anion(z) for z, state in states.items() if state < 0):
        states = None
    return {
        (a, b)
        for a, b in combinations(sorted(z for z, _ in formula), 2)
        if (_alike_ions(a, b, states[a], states[b]) if states is not None else _alike_atoms(a, b))
    }


@lru_cache(maxsize=10_000)
def _alike_ions(a: int, b: int, charge_a: int, charge_b: int) -> bool:
    if charge_a != charge_b:
        return False
    one, other = _ionic_radius(a, charge_a), _ionic_radius(b, charge_b)
    if one is None or other is None:
        one, other = _atomic_radius(a), _atomic_radius(b)
    return _near(one, other, ION_RADII) and _apart(a, b) <= ION_ELECTRONEGATIVITIES


@lru_cache(maxsize=10_000)
def _alike_atoms(a: int, b: int) -> bool:
    if nonmetals()[a] != nonmetals()[b]:
        return False
    near = _near(_atomic_radius(a), _atomic_radius(b), METAL_RADII)
    return near and _apart(a, b) <= METAL_ELECTRONEGATIVITIES


def _near(one: float, other: float, share: float) -> bool:
    return abs(one - other) <= share * max(one, other) + 1e-9


def _apart(a: int, b: int) -> float:
    from pymatgen.core import Element

    return abs(float(Element.from_Z(a).X) - float(Element.from_Z(b).X)) - 1e-9


def _ionic_radius(number: int, charge: int) -> float | None:
    """Å, Shannon's, as pymatgen has it for the charge."""
    from pymatgen.core import Element

    found = Element.from_Z(number).ionic_radii.get(charge)
    return None if found is None else float(found)


def _atomic_radius(number: int) -> float:
    """Å, Slater's."""
    from pymatgen.core import Element

    return float(Element.from_Z(number).atomic_radius or 1.5)
