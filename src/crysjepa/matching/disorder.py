"""Sameness where disorder is likely: elements that may share a site are one element.

A generator puts on each site an element of its own. Where two are alike, nature mixes them, and another
arrangement of the two, or their neat end members, is no other compound. MatterGen's matcher of disordered
structures [Zeni et al., Nature 639, 624 (2025)] takes two elements for alike if their radii differ by at most
30 % of the larger and their electronegativities by at most 1.0. That rule is taken here, with pymatgen's
atomic radii and Pauling's electronegativities. (:mod:`crysjepa.checks.orderings` asks more, and says what a
crystal is an ordering of.)

The elements of a crystal are parted into sets, each of which becomes its lightest element: one by one, by
rising atomic number, an element joins the first set all of which it is like. StructureMatcher then compares
the crystal with others, whose elements are merged alike:

- *duplicates* are sought among crystals of the very same elements;
- a *known* crystal may match whose elements are among the crystal's own, end members included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from crysjepa.core.crystals import Crystals
from crysjepa.matching.uniqueness import Matching, novel, unique
from crysjepa.runtime.progress import Progress

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher

RADII, ELECTRONEGATIVITIES = 0.3, 1.0
Elements = frozenset[int]


class DisorderIndex:
    """Known crystals by their elements. ``crystals`` are those it was made of."""

    def __init__(self, crystals: Crystals, *, matcher: StructureMatcher | None = None) -> None:
        self.crystals = crystals
        self.matcher = matcher
        self._rows = _by_elements(crystals)

    def within(self, elements: Elements) -> Crystals:
        """Those whose elements are all among these."""
        rows = sorted(row for own, rows in self._rows.items() if own <= elements for row in rows)
        return self.crystals[rows]


def unique_disordered(
    crystals: Crystals,
    *,
    matcher: StructureMatcher | None = None,
    ranks: Mapping[str, int] | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Matching:
    """The earlier crystal that each one duplicates once alike elements are merged, or None."""
    found = Matching()
    for elements, rows in _by_elements(crystals).items():
        part = merged(crystals[rows], elements)
        one = unique(part, matcher=matcher, ranks=ranks, processes=processes)
        _gather(found, one, len(crystals), progress)
    return found


def novel_disordered(
    crystals: Crystals,
    reference: Crystals | DisorderIndex,
    *,
    matcher: StructureMatcher | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Matching:
    """The known crystal that each one matches once alike elements are merged, or None."""
    known = reference if isinstance(reference, DisorderIndex) else DisorderIndex(reference, matcher=matcher)
    found = Matching()
    for elements, rows in _by_elements(crystals).items():
        part, others = merged(crystals[rows], elements), merged(known.within(elements), elements)
        one = novel(part, others, matcher=known.matcher, processes=processes)
        _gather(found, one, len(crystals), progress)
    return found


def merged(crystals: Crystals, elements: Elements) -> Crystals:
    """The crystals with every element as the lightest of its set, of the sets that ``elements`` fall into."""
    stands = np.arange(200)
    for one in sets_of(elements):
        stands[sorted(one)] = min(one)
    numbers = stands[crystals.atomic_numbers]
    return Crystals(numbers, crystals.frac_coords, crystals.lattices, crystals.num_atoms, crystals.ids)


@lru_cache(maxsize=100_000)
def sets_of(elements: Elements) -> tuple[Elements, ...]:
    """The sets of alike elements; each element is in one."""
    sets: list[set[int]] = []
    for number in sorted(elements):
        fit = next((s for s in sets if all(may_share_a_site(number, other) for other in s)), None)
        if fit is None:
            sets.append({number})
        else:
            fit.add(number)
    return tuple(frozenset(s) for s in sets)


@lru_cache(maxsize=10_000)
def may_share_a_site(one: int, other: int) -> bool:
    """Whether two elements are alike by MatterGen's rule; no where one has no known electronegativity."""
    from pymatgen.core import Element

    a, b = Element.from_Z(one), Element.from_Z(other)
    radii = [None if e.atomic_radius is None else float(e.atomic_radius) for e in (a, b)]
    if radii[0] is None or radii[1] is None or _unknown(a) or _unknown(b):
        return False
    near = abs(radii[0] - radii[1]) <= RADII * max(radii[0], radii[1])
    return bool(near and abs(float(a.X) - float(b.X)) <= ELECTRONEGATIVITIES)


def _unknown(element: object) -> bool:
    """pymatgen warns of an electronegativity that it does not know, and gives NaN."""
    return not np.isfinite(float(element.data.get("X") or np.nan))  # type: ignore[attr-defined]


def _by_elements(crystals: Crystals) -> dict[Elements, list[int]]:
    found: dict[Elements, list[int]] = defaultdict(list)
    starts, numbers = crystals.offsets.tolist(), crystals.atomic_numbers.tolist()
    for row, (start, length) in enumerate(zip(starts, crystals.num_atoms.tolist(), strict=False)):
        found[frozenset(numbers[start : start + length])].append(row)
    return found


def _gather(found: Matching, one: Matching, total: int, progress: Progress | None) -> None:
    found.matches.update(one.matches)
    found.failures.update(one.failures)
    if progress:
        progress(len(found.matches) + len(found.failures), total)
