"""By what crystals are compared, by name: the one place where that is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crysjepa.core.crystals import Crystals
from crysjepa.matching.disorder import DisorderIndex, novel_disordered, unique_disordered
from crysjepa.matching.pdd import MAX_DISTANCE, PddIndex, novel_by_pdd, unique_by_pdd
from crysjepa.matching.structure_hash import (
    BONDED_GRAPH,
    ORBITS,
    HashIndex,
    novel_by_hash,
    unique_by_hash,
)
from crysjepa.matching.uniqueness import FormulaIndex, Matching, novel, unique
from crysjepa.runtime.progress import Progress

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher

STRUCTURE_MATCHER, PDD, DISORDERED = "structure-matcher", "pdd", "disordered"
Index = FormulaIndex | HashIndex | PddIndex | DisorderIndex


@dataclass(frozen=True)
class MatchingKind:
    """A way to compare crystals. ``version`` changes when the same crystals could get another verdict."""

    version: int
    description: str

    def __str__(self) -> str:
        return f"{self.description} (version {self.version})"


MATCHINGS: Mapping[str, MatchingKind] = {
    STRUCTURE_MATCHER: MatchingKind(1, "pymatgen StructureMatcher"),
    ORBITS: MatchingKind(1, "hash of formula, space group and orbits, not a StructureMatcher"),
    BONDED_GRAPH: MatchingKind(1, "hash of formula, space group and bonded graph, not a StructureMatcher"),
    PDD: MatchingKind(1, f"distance of PDDs up to {MAX_DISTANCE:g} Å, not a StructureMatcher"),
    DISORDERED: MatchingKind(1, "pymatgen StructureMatcher once alike elements are merged"),
}


def index_by(kind: str, crystals: Crystals, *, matcher: StructureMatcher | None = None) -> Index:
    """Known crystals, to be compared with by a kind of matching. Raises ValueError for an unknown one."""
    if kind not in MATCHINGS:
        raise ValueError(f"no matching {kind!r}: choose from {', '.join(MATCHINGS)}")
    if kind == PDD:
        return PddIndex(crystals)
    if kind == DISORDERED:
        return DisorderIndex(crystals, matcher=matcher)
    if kind == STRUCTURE_MATCHER:
        return FormulaIndex(crystals, matcher=matcher)
    return HashIndex(crystals, kind=kind)


def unique_by(
    kind: str,
    crystals: Crystals,
    *,
    matcher: StructureMatcher | None = None,
    ranks: Mapping[str, int] | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Matching:
    """The earlier crystal that each one duplicates, or None; see :func:`crysjepa.matching.uniqueness.unique`.

    Raises ValueError for an unknown kind, ImportError where it needs an extra.
    """
    if kind == PDD:
        return unique_by_pdd(crystals, ranks=ranks, processes=processes, progress=progress)
    if kind in (STRUCTURE_MATCHER, DISORDERED):
        by = unique if kind == STRUCTURE_MATCHER else unique_disordered
        return by(crystals, matcher=matcher, ranks=ranks, processes=processes, progress=progress)
    return unique_by_hash(crystals, kind=kind, ranks=ranks, processes=processes, progress=progress)


def novel_by(
    kind: str,
    crystals: Crystals,
    reference: Crystals | Index,
    *,
    matcher: StructureMatcher | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Matching:
    """The known crystal that each one matches, or None; see :func:`crysjepa.matching.uniqueness.novel`.

    An index brings its own kind and matcher. Raises as :func:`unique_by` does.
    """
    known = index_by(kind, reference, matcher=matcher) if isinstance(reference, Crystals) else reference
    if isinstance(known, PddIndex):
        return novel_by_pdd(crystals, known, processes=processes, progress=progress)
    if isinstance(known, HashIndex):
        return novel_by_hash(crystals, known, processes=processes, progress=progress)
    if isinstance(known, DisorderIndex):
        return novel_disordered(crystals, known, processes=processes, progress=progress)
    return novel(crystals, known, processes=processes, progress=progress)
