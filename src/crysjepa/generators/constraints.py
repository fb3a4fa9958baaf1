"""Which crystals are wanted: constraints that every generator's crystals obey.

Light, so that the command line can look at constraints before anything is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.formula_patterns import FormulaPattern
from crysjepa.core.space_group_names import parse_space_groups, spelled
from crysjepa.generators.constraint_text import SYMBOLS, elements_of, one_of, units_of

if TYPE_CHECKING:
    from crysjepa.core.crystals import Crystals
    from crysjepa.core.validity import Formula

NOBLE_GASES = frozenset({2, 10, 18, 36, 54, 86})
RADIOACTIVE = frozenset({43, 61, *range(84, 119)})
"""Elements without a stable isotope, but bismuth, which lives 10⁹ times as long as the universe."""
EXCLUDED_BY_DEFAULT = NOBLE_GASES | RADIOACTIVE
SYMPREC = 0.1
"""Å; within which moyo finds the space group of a crystal as it was drawn. `evaluate` takes as much."""
_EVERY = frozenset(SYMBOLS)


class ConstraintOptions(TypedDict, total=False):
    """Constraints as text and numbers: what :meth:`Constraints.parse` takes."""

    elements: str | None
    exclude_elements: str | None
    chemical_system: str | None
    contains: str | None
    contains_any: str | None
    formula: str | None
    formula_units: str | int | None
    space_group: str | int | None
    max_sites: int | None
    max_elements: int | None
    distinct: bool


class ConstraintError(ValueError):
    """Raised for constraints that contradict one another, or that nothing obeys."""


@dataclass(frozen=True)
class Constraints:
    """What crystals may be made of, and how large they may be; by default only the excluded elements count.

    Parameters
    ----------
    only
        Atomic numbers: no other element may be in a crystal.
    excluded
        Atomic numbers that may not.
    system
        A crystal has exactly these elements, no fewer and no more.
    max_sites
        Sites of the cell, at most.
    distinct
        No two crystals have the same reduced formula.
    formula
        What the reduced formula is, exactly or but for the elements.
    formula_units
        Of ``formula``, in the cell: the fewest and the most.
    space_groups
        Numbers, one of which moyo finds for the crystal as it was drawn, within :data:`SYMPREC`.
    max_elements
        Different elements, at most.
    any_of
        Atomic numbers, of which a crystal has at least one.
    all_of
        Atomic numbers, of which a crystal has each, and others too.

    Raises
    ------
    ConstraintError
        For a contradiction (:func:`crysjepa.generators.contradictions.contradiction`).
    """

    only: frozenset[int] | None = None
    excluded: frozenset[int] = EXCLUDED_BY_DEFAULT
    system: frozenset[int] | None = None
    max_sites: int | None = None
    distinct: bool = False
    formula: FormulaPattern | None = None
    formula_units: tuple[int, int] | None = None
    space_groups: frozenset[int] | None = None
    max_elements: int | None = None
    any_of: frozenset[int] | None = None
    all_of: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        from crysjepa.generators.contradictions import contradiction

        if (reason := contradiction(self)) is not None:
            raise ConstraintError(reason)

    @classmethod
    def parse(cls, **asked: Unpack[ConstraintOptions]) -> Constraints:
        """From text such as ``elements="Li,Mg,O"`` and ``chemical_system="Li-O"``.

        An element named in ``elements``, ``chemical_system``, ``contains`` or an exact ``formula`` is wanted,
        so the default exclusion of radioactive elements and noble gases does not hold for it;
        ``exclude_elements="none"`` lifts it altogether, and other names there are excluded beside it.
        ``formula`` is read by :meth:`FormulaPattern.parse`, ``space_group`` by :func:`parse_space_groups`;
        ``formula_units`` are ``"4"`` or ``"1-4"``; in ``contains_any`` the word ``anions`` stands for
        :data:`~crysjepa.generators.constraint_text.ANIONS`. Raises ConstraintError for what is none of these.
        """
        known = ConstraintOptions.__annotations__
        if strange := asked.keys() - known.keys():
            raise TypeError(f"no constraint {', '.join(sorted(strange))}: there are {', '.join(known)}")
        exclude, group = asked.get("exclude_elements"), asked.get("space_group")
        none = exclude is not None and exclude.strip().lower() == "none"
        default = frozenset() if none else EXCLUDED_BY_DEFAULT
        try:
            only, system = elements_of(asked.get("elements")), elements_of(asked.get("chemical_system"))
            named = frozenset() if none else elements_of(exclude) or frozenset()
            any_of = one_of(asked.get("contains_any"))
            all_of = elements_of(asked.get("contains")) or frozenset()
            formula = None if (text := asked.get("formula")) is None else FormulaPattern.parse(text)
            groups = None if group is None else parse_space_groups(group)
            units = units_of(asked.get("formula_units"), formula)
        except ValueError as error:
            raise ConstraintError(str(error)) from error
        of_formula = frozenset() if formula is None else frozenset(formula.elements or ())
        wanted = (only or frozenset()) | (system or frozenset()) | all_of | of_formula
        if both := wanted & named:
            raise ConstraintError(
                f"{names(both)} cannot be in --exclude-elements and in --elements, --chemical-system, "
                "--contains or --formula"
            )
        return cls(
            only, (default - wanted) | named, system, asked.get("max_sites"), asked.get("distinct") or False,
            formula, units, groups, asked.get("max_elements"), any_of, all_of,
        )  # fmt: skip

    @property
    def required(self) -> frozenset[int] | None:
        """Atomic numbers of the elements that each crystal has, and no other; None where that is open."""
        if self.formula is not None and self.formula.elements is not None:
            return frozenset(self.formula.elements)
        return self.system

    @property
    def named(self) -> bool:
        """Whether the elements, all or some, are told by name."""
        return self.only is not None or self.required is not None

    @property
    def allowed(self) -> frozenset[int]:
        """Atomic numbers that a crystal may hold."""
        found = _EVERY - self.excluded
        for chosen in (self.only, self.system, self.required):
            found = found if chosen is None else found & chosen
        return found

    def has_one(self, elements: Collection[int]) -> bool:
        """Whether one of ``any_of`` is among these atomic numbers; True where none is asked for."""
        return self.any_of is None or not self.any_of.isdisjoint(elements)

    @property
    def fewest_elements(self) -> int:
        """Different elements that a crystal has at least, formulas apart."""
        told = len(self.all_of) + (not self.has_one(self.all_of))
        return max(1, told, len(self.system or ()))

    def allows_sites(self, num_sites: int) -> bool:
        """Whether a cell may have so many sites: no more than it may, and whole formula units."""
        if self.max_sites is not None and num_sites > self.max_sites:
            return False
        if self.formula is None:
            return True
        units, rest = divmod(num_sites, self.formula.num_atoms)
        fewest, most = self.formula_units or (1, units)
        return not rest and fewest <= units <= most

    def broken(self, crystals: Crystals) -> dict[str, str]:
        """The crystals that do not obey, each with the first reason: ``{id: reason}``."""
        sites_allowed = np.isin(crystals.atomic_numbers, list(self.allowed))
        formulas = self._formulas(crystals)
        reasons: dict[str, str] = {}
        for row, id_ in enumerate(crystals.ids):
            span = slice(crystals.offsets[row], crystals.offsets[row + 1])
            held = frozenset(crystals.atomic_numbers[span].tolist())
            if not sites_allowed[span].all():
                default = held - self.allowed <= EXCLUDED_BY_DEFAULT & self.excluded
                reasons[id_] = "radioactive or noble-gas element" if default else "element not allowed"
            elif self.system is not None and not self.system <= held:
                reasons[id_] = "other chemical system"
            elif not self.all_of <= held:
                reasons[id_] = "without an element that is wanted"
            elif not self.has_one(held):
                reasons[id_] = "none of the elements of which one is wanted"
            elif self.max_elements is not None and len(held) > self.max_elements:
                reasons[id_] = f"more than {self.max_elements} elements"
            elif self.formula is not None and not self.formula.fits(formulas[row]):
                reasons[id_] = "other formula"
            elif self.max_sites is not None and crystals.num_atoms[row] > self.max_sites:
                reasons[id_] = f"more than {self.max_sites} sites"
            elif not self.allows_sites(int(crystals.num_atoms[row])):
                reasons[id_] = "other number of formula units"
        return reasons | self._of_other_groups(crystals, besides=reasons)

    def _formulas(self, crystals: Crystals) -> Sequence[Formula]:
        from crysjepa.core.validity import reduced_formulas

        return reduced_formulas(crystals) if self.formula is not None else ()

    def _of_other_groups(self, crystals: Crystals, besides: Collection[str]) -> dict[str, str]:
        if self.space_groups is None:
            return {}
        from crysjepa.core.symmetry import space_groups

        judged = crystals.select([i for i in crystals.ids if i not in besides])
        found = space_groups(judged, SYMPREC)
        reasons = {True: "other space group", False: "no space group can be found"}
        return {i: reasons[i in found] for i in judged.ids if found.get(i) not in self.space_groups}

    def repeated(self, crystals: Crystals, taken: set[str], besides: Collection[str] = ()) -> dict[str, str]:
        """If they are to be ``distinct``, those whose reduced formula is ``taken`` or that of an earlier one.

        The formulas of the others are taken from then on; crystals ``besides`` do not count.
        """
        if not self.distinct:
            return {}
        reasons: dict[str, str] = {}
        for id_, formula in zip(crystals.ids, crystals.reduced_formulas(), strict=True):
            if id_ in besides:
                continue
            if formula in taken:
                reasons[id_] = "formula that was drawn before"
            taken.add(formula)
        return reasons

    def describe(self) -> list[str]:
        """What is asked for, a sentence each; constraints that differ are described otherwise."""
        parts = []
        if self.only is not None:
            parts.append(f"only the elements {names(self.only)}")
        if self.system is not None:
            parts.append(f"exactly the elements {names(self.system)}")
        if self.all_of:
            parts.append(f"all of the elements {names(self.all_of)}, and others too")
        if self.any_of is not None:
            parts.append(f"at least one of the elements {names(self.any_of)}")
        if self.formula is not None:
            any_ = "" if self.formula.elements else ", each letter for another element"
            parts.append(f"the formula {self.formula.name}{any_}")
        if self.formula_units is not None:
            fewest, most = self.formula_units
            parts.append(f"{fewest} to {most} formula units in the cell" if fewest < most else
                         f"{fewest} formula unit{'s' * (fewest > 1)} in the cell")  # fmt: skip
        if self.space_groups is not None:
            parts.append(f"the space group {spelled(self.space_groups)}, within {SYMPREC} Å as drawn")
        if self.max_elements is not None:
            parts.append(f"at most {self.max_elements} elements")
        if self.max_sites is not None:
            parts.append(f"at most {self.max_sites} sites in the cell")
        if self.distinct:
            parts.append("no formula twice")
        return parts + self._excluded_said()

    def _excluded_said(self) -> list[str]:
        parts = []
        by_default, named = self.excluded & EXCLUDED_BY_DEFAULT, self.excluded - EXCLUDED_BY_DEFAULT
        if by_default == EXCLUDED_BY_DEFAULT and not self.named:
            parts.append("no radioactive elements and no noble gases (the default)")
        elif by_default and not self.named:
            parts.append(f"without {names(by_default)}")
        elif not by_default:
            parts.append("radioactive elements and noble gases allowed")
        if named:
            parts.append(f"without {names(named)}")
        return parts


def symbols(numbers: Iterable[int]) -> list[str]:
    """The elements' symbols, in the order of their atomic numbers."""
    return [SYMBOLS[z] for z in sorted(numbers)]


def names(numbers: Iterable[int]) -> str:
    """The same, with commas."""
    return ", ".join(symbols(numbers))


def element_shares(crystals: Crystals) -> NDArray[np.float64]:
    """(119,) share of crystals that hold the element of each atomic number."""
    from crysjepa.core.chemical_systems import element_fractions

    return (element_fractions(crystals) > 0).mean(axis=0) if len(crystals) else np.zeros(119)
