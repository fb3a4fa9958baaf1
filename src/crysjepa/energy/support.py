"""How much a hull knows where it is asked: what an energy above hull is worth.

A hull that lacks a competing compound puts a crystal too low, by electronvolts at times. No hull says what it
lacks, but another data set may: LeMat-Bulk (the Materials Project, Alexandria and OQMD) tells how many
compounds are on its hull in each chemical system. A system in which it has some and this hull has none is a
*gap*.

How the verdicts were drawn: a third of the chemical systems was taken out of the bundled hull, and crystals
were judged with and without (``docs/evaluate.md`` has the numbers).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import combinations

from crysjepa.core.chemical_systems import atomic_numbers, element_symbols
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import lemat_systems

FEW_ENTRIES = 3
"""With one gap and fewer hull entries than this, a hull is blind."""
TOO_LOW = -0.1
"""eV/atom. Compounds that DFT has found since lie hundredths below the hull of their day. What lies further
below lacks a competitor, or has a wrong energy."""
TOO_LOW_SAYS = "{:.2f} eV/atom below the hull: a competing compound is missing there, or the energy is wrong"

_LISTED = 8
"""Elements up to which all subsystems are gone through."""

System = tuple[int, ...]
"""A chemical system as atomic numbers in rising order."""


class Support(StrEnum):
    """What a hull's answer is worth in a chemical system."""

    SUPPORTED = "supported"
    THIN = "thin"
    BLIND = "blind"


SUPPORT_SAYS = (
    "Supported: wherever LeMat-Bulk has a compound on its hull, in the crystal's chemical system or a part "
    "of it, this hull has one too. Thin: one such place is empty here, or no compound is known anywhere. "
    "Blind: more are, or one with fewer than three compounds."
)
"""What the verdicts mean, for people."""
ORDER: Mapping[str | None, int] = {Support.SUPPORTED: 0, Support.THIN: 1, Support.BLIND: 2, None: 3}
"""The most trustworthy first."""


@dataclass(frozen=True)
class SystemSupport:
    """A hull's knowledge of one chemical system and its subsystems of two or more elements.

    ``entries`` and ``elsewhere`` count, by subsystem, the hull's compounds and those on LeMat-Bulk's hull; a
    subsystem of which neither has any is not in them.
    """

    system: System
    entries: Mapping[System, int]
    elsewhere: Mapping[System, int]

    @property
    def num_entries(self) -> int:
        """The hull's compounds in the system and its subsystems."""
        return sum(self.entries.values())

    @cached_property
    def gaps(self) -> list[System]:
        """Subsystems of which the hull has nothing and LeMat-Bulk has a compound on its hull."""
        return [s for s, n in self.entries.items() if not n and self.elsewhere[s]]

    @property
    def verdict(self) -> Support:
        """``supported``: no gap. ``blind``: two gaps or more, or one and fewer than three entries.

        ``thin``: one gap, or no compound known anywhere. An element, where the hull is 0 by definition, is
        supported.
        """
        gaps, entries = len(self.gaps), self.num_entries
        if len(self.system) < 2:
            return Support.SUPPORTED
        if gaps > 1 or (gaps == 1 and entries < FEW_ENTRIES):
            return Support.BLIND
        if gaps or not entries:
            return Support.THIN
        return Support.SUPPORTED

    def __str__(self) -> str:
        """``F-Hf: 0 here, 1 in LeMat-Bulk; ...``, the gaps first."""
        gaps = set(self.gaps)
        order = sorted(self.entries, key=lambda s: (s not in gaps, len(s), s))
        parts = [f"{name_of(s)}: {self.entries[s]} here, {self.elsewhere[s]} in LeMat-Bulk" for s in order]
        return "; ".join(parts)


class HullSupport:
    """Counts a hull's compounds by chemical system once, and tells its support in any."""

    def __init__(self, hull: Hull, elsewhere: Mapping[System, int] | None = None) -> None:
        numbers = atomic_numbers()
        systems = (tuple(sorted(numbers[e] for e, _ in c if e in numbers)) for c in hull.compounds)
        self._entries = Counter(systems)
        self._elsewhere = lemat_systems() if elsewhere is None else elsewhere

    def of(self, system: System) -> SystemSupport:
        """Of the chemical system with these atomic numbers."""
        inside = [s for s in self._subsystems(system) if s in self._entries or s in self._elsewhere]
        return SystemSupport(
            system,
            {s: self._entries.get(s, 0) for s in inside},
            {s: self._elsewhere.get(s, 0) for s in inside},
        )

    def _subsystems(self, system: System) -> Iterable[System]:
        """Those of two or more elements; of many elements, only those that one of both has at all."""
        if len(system) <= _LISTED:
            return (s for size in range(2, len(system) + 1) for s in combinations(system, size))
        wanted, every = set(system), self._entries.keys() | self._elsewhere.keys()
        return sorted((s for s in every if len(s) > 1 and wanted.issuperset(s)), key=lambda s: (len(s), s))


def systems_of(formulas: Iterable[Sequence[tuple[int, int]]]) -> list[System]:
    """Chemical systems of reduced formulas."""
    return [tuple(z for z, _ in formula) for formula in formulas]


def name_of(system: System) -> str:
    """``"Li-O"`` of (3, 8)."""
    symbols = element_symbols()
    return "-".join(sorted(symbols[z] for z in system))


def warning(e_above_hull: float | None) -> str | None:
    """What to beware of in an energy above hull, or None."""
    return None if e_above_hull is None or e_above_hull >= TOO_LOW else TOO_LOW_SAYS.format(-e_above_hull)
