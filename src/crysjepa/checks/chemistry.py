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

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import combinations

from crysjepa.core.validity import Formula
from crysjepa.generators.substitution.element_similarity import (
    balancing_states,
    common_states,
    nonmetals,
    oxidation_states,
)

ION_RADII, ION_ELECTRONEGATIVITIES = 0.25, 0.6
METAL_RADII, METAL_ELECTRONEGATIVITIES = 0.15, 0.4
MOST_SETS = 3
"""Sets of oxidation states that are told of a formula."""
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


@dataclass(frozen=True)
class Balance:
    """How oxidation states balance a formula.

    ``sets`` are the ways, that of the commonest states first: states by atomic number, where an element is in
    several states their mean. ``unusual`` are the elements of the first that are in no common state.
    """

    sets: tuple[dict[int, float], ...] = ()
    unusual: tuple[int, ...] = ()

    @property
    def text(self) -> str | None:
        """Such as ``Li 1+, Zn 2+, S 2−``, further sets after `` or ``; None where nothing balances."""
        return " or ".join(map(_text, self.sets)) or None

    @property
    def unusual_text(self) -> str | None:
        """The same of those of the first set that are unusual; None where none is."""
        return _text({z: self.sets[0][z] for z in self.unusual}) if self.unusual else None


@lru_cache(maxsize=100_000)
def bonding(formula: Formula) -> Bonding:
    """Charge-balanced (:func:`balance`), an alloy, or neither."""
    if len(formula) == 1:
        return Bonding.ELEMENT
    if balance(formula).sets:
        return Bonding.CHARGE_BALANCED
    return Bonding.NEITHER if any(nonmetals()[z] for z, _ in formula) else Bonding.ALLOY


@lru_cache(maxsize=100_000)
def balance(formula: Formula) -> Balance:
    """The oxidation states with which charges sum to 0, anions being nonmetals or metalloids.

    One state for each element (:func:`crysjepa.generators.substitution.element_similarity.balancing_states`),
    at most :data:`MOST_SETS` such sets. Where none has common states alone, mixed valence as in Fe₃O₄ is
    tried too, for formulas with a nonmetal of at most 24 sites and four elements (pymatgen's
    ``Composition.oxi_state_guesses``).

    A state is common that pymatgen's ``Element.common_oxidation_states`` has (which lacks Cu⁺, V³⁺ and Mn³⁺),
    or that the element has in a tenth of its occurrences in the ICSD or more (``Composition.oxi_prob``, where
    silicates outnumber Si⁴⁻); a mean, where it lies between two such states of one sign. Sets with fewer
    elements in unusual states come first, then what is more frequent in the ICSD.
    """
    found = [
        (len(_unusual(states)), -likely, dict[int, float](states))
        for likely, states in balancing_states(formula)
        if all(_may_be_anion(z) for z, state in states.items() if state < 0)
    ]
    best = min((unusual for unusual, *_ in found), default=None)
    if best != 0 and any(nonmetals()[z] for z, _ in formula):
        mixed = _mixed_valence(formula)
        if mixed is not None and (best is None or len(_unusual(mixed)) < best):
            found.append((len(_unusual(mixed)), 0.0, mixed))
    found.sort(key=lambda one: one[:2])
    sets = tuple(states for *_, states in found[:MOST_SETS])
    return Balance(sets, _unusual(sets[0]) if sets else ())


def _unusual(states: Mapping[int, float]) -> tuple[int, ...]:
    return tuple(z for z, state in states.items() if not _is_common(z, state))


def _is_common(number: int, state: float) -> bool:
    from pymatgen.core import Element

    listed = Element.from_Z(number).common_oxidation_states
    common = [s for s in (*listed, *common_states(number)) if s * state > 0]
    exact = any(abs(s - state) < 1e-6 for s in common)
    return exact or (not float(state).is_integer() and bool(common) and min(common) < state < max(common))


def _text(states: Mapping[int, float]) -> str:
    from pymatgen.core import Element

    elements = sorted((Element.from_Z(z) for z in states), key=lambda e: (e.X, e.Z))
    signed = ((e.symbol, states[e.Z]) for e in elements)
    return ", ".join(f"{symbol} {abs(s):.3g}{'+' if s > 0 else '−'}" for symbol, s in signed)


def _may_be_anion(number: int) -> bool:
    from pymatgen.core import Element

    return bool(nonmetals()[number] or Element.from_Z(number).is_metalloid)


def _mixed_valence(formula: Formula) -> dict[int, float] | None:
    """Mean states whose charges sum to 0 once sites of one element may differ, as in Fe₃O₄ and azides.

    The likeliest guess in which no cation is more electronegative than an anion counts; None where that has
    anions that are metals.
    """
    from pymatgen.core import Composition, Element

    if len(formula) > _MIXED_ELEMENTS or sum(n for _, n in formula) > _MIXED_SITES:
        return None
    composition = Composition({Element.from_Z(z): n for z, n in formula})
    for guess in composition.oxi_state_guesses():
        signed = [(state, Element(symbol)) for symbol, state in guess.items()]
        cations = [e for state, e in signed if state > 0]
        anions = [e for state, e in signed if state < 0]
        if cations and anions and max(e.X for e in cations) <= min(e.X for e in anions):
            return {e.Z: s for s, e in signed} if all(_may_be_anion(e.Z) for e in anions) else None
    return None


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
