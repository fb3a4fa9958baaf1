"""Which crystals are wanted: constraints that every generator's crystals obey."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import atomic_numbers, element_fractions, element_symbols
from crysjepa.core.crystals import Crystals

NOBLE_GASES = frozenset({2, 10, 18, 36, 54, 86})
RADIOACTIVE = frozenset({43, 61, *range(84, 119)})
"""Elements without a stable isotope, but bismuth, which lives 10⁹ times as long as the universe."""
EXCLUDED_BY_DEFAULT = NOBLE_GASES | RADIOACTIVE
_EVERY = frozenset(range(1, 119))


class ConstraintOptions(TypedDict, total=False):
    """Constraints as text and numbers: what :meth:`Constraints.parse` takes."""

    elements: str | None
    exclude_elements: str | None
    chemical_system: str | None
    max_sites: int | None
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

    Raises
    ------
    ConstraintError
        If no element is left, an element of ``system`` may not be used, or ``max_sites`` < 1.
    """

    only: frozenset[int] | None = None
    excluded: frozenset[int] = EXCLUDED_BY_DEFAULT
    system: frozenset[int] | None = None
    max_sites: int | None = None
    distinct: bool = False

    def __post_init__(self) -> None:
        if not self.allowed:
            raise ConstraintError("the constraints leave no element that a crystal may hold")
        missing = sorted((self.system or frozenset()) - self.allowed)
        if missing:
            raise ConstraintError(
                f"the chemical system {_names(self.system or ())} needs {_names(missing)}, "
                "which the other constraints exclude"
            )
        if self.max_sites is not None and self.max_sites < 1:
            raise ConstraintError(f"--max-sites is {self.max_sites}: a crystal has at least one site")
        if self.system and self.max_sites is not None and self.max_sites < len(self.system):
            raise ConstraintError(f"{len(self.system)} elements do not fit on {self.max_sites} sites")

    @classmethod
    def parse(
        cls,
        elements: str | None = None,
        exclude_elements: str | None = None,
        chemical_system: str | None = None,
        max_sites: int | None = None,
        distinct: bool = False,
    ) -> Constraints:
        """From text such as ``"Li,Mg,O"`` and ``"Li-O"``.

        An element named in ``elements`` or ``chemical_system`` is wanted, so the default exclusion of
        radioactive elements and noble gases does not hold for it; ``exclude_elements="none"`` lifts it
        altogether, and other names there are excluded beside it. Raises ConstraintError for what is no
        element.
        """
        only = _numbers(elements) if elements is not None else None
        system = _numbers(chemical_system) if chemical_system is not None else None
        none = exclude_elements is not None and exclude_elements.strip().lower() == "none"
        default = frozenset() if none else EXCLUDED_BY_DEFAULT
        named = frozenset() if none or exclude_elements is None else _numbers(exclude_elements)
        wanted = (only or frozenset()) | (system or frozenset())
        return cls(only, (default - wanted) | named, system, max_sites, distinct)

    @property
    def allowed(self) -> frozenset[int]:
        """Atomic numbers that a crystal may hold."""
        found = _EVERY - self.excluded
        for chosen in (self.only, self.system):
            found = found if chosen is None else found & chosen
        return found

    def broken(self, crystals: Crystals) -> dict[str, str]:
        """The crystals that do not obey, each with the first reason: ``{id: reason}``."""
        sites_allowed = np.isin(crystals.atomic_numbers, list(self.allowed))
        reasons: dict[str, str] = {}
        for row, id_ in enumerate(crystals.ids):
            span = slice(crystals.offsets[row], crystals.offsets[row + 1])
            if not sites_allowed[span].all():
                beyond = frozenset(crystals.atomic_numbers[span].tolist()) - self.allowed
                default = beyond <= EXCLUDED_BY_DEFAULT & self.excluded
                reasons[id_] = "radioactive or noble-gas element" if default else "element not allowed"
            elif self.system is not None and not self.system <= set(crystals.atomic_numbers[span].tolist()):
                reasons[id_] = "other chemical system"
            elif self.max_sites is not None and crystals.num_atoms[row] > self.max_sites:
                reasons[id_] = f"more than {self.max_sites} sites"
        return reasons

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
        """What is asked for, a sentence each."""
        parts = []
        if self.only is not None:
            parts.append(f"only the elements {_names(self.only)}")
        if self.system is not None:
            parts.append(f"exactly the elements {_names(self.system)}")
        if self.max_sites is not None:
            parts.append(f"at most {self.max_sites} sites in the cell")
        if self.distinct:
            parts.append("no formula twice")
        by_default, named = self.excluded & EXCLUDED_BY_DEFAULT, self.excluded - EXCLUDED_BY_DEFAULT
        open_to_all = self.only is None and self.system is None
        if by_default == EXCLUDED_BY_DEFAULT and open_to_all:
            parts.append("no radioactive elements and no noble gases (the default)")
        elif by_default and open_to_all:
            parts.append(f"without {_names(by_default)}")
        elif not by_default:
            parts.append("radioactive elements and noble gases allowed")
        if named:
            parts.append(f"without {_names(named)}")
        return parts


def symbols(numbers: Iterable[int]) -> list[str]:
    """The elements' symbols, in the order of their atomic numbers."""
    names = element_symbols()
    return [names[z] for z in sorted(numbers)]


def _names(numbers: Iterable[int]) -> str:
    return ", ".join(symbols(numbers))


def _numbers(text: str) -> frozenset[int]:
    """Atomic numbers of symbols parted by commas, hyphens or blanks."""
    names = text.replace(",", " ").replace("-", " ").split()
    unknown = [n for n in names if n not in atomic_numbers()]
    if unknown or not names:
        parts = f"{unknown[0]!r} is no element" if unknown else f"{text!r} names no element"
        raise ConstraintError(f"{parts}: give symbols such as Li,Mg,O")
    return frozenset(atomic_numbers()[n] for n in names)


def element_shares(crystals: Crystals) -> NDArray[np.float64]:
    """(119,) share of crystals that hold the element of each atomic number."""
    return (element_fractions(crystals) > 0).mean(axis=0) if len(crystals) else np.zeros(119)
