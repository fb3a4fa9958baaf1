"""Which crystals are the same: uniqueness and novelty (paper, appendix D.2).

Every function takes :class:`~crysjepa.core.crystals.Crystals` and answers by id; none raises for a bad
crystal, and no answer depends on the order of the rows. The verdicts are those of pymatgen's
StructureMatcher; :mod:`crysjepa.matching.structure_matcher` says why they come sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crysjepa.core.crystals import Crystals
from crysjepa.matching.reduction import Reduced
from crysjepa.matching.structure_matcher import FormulaIndex, default_matcher, expected_warnings, natural_key
from crysjepa.runtime.processes import in_processes
from crysjepa.runtime.progress import Progress

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher

__all__ = ["FormulaIndex", "Matching", "default_matcher", "natural_key", "novel", "unique"]


@dataclass(frozen=True)
class Matching:
    """Which crystal each one matches, or None, by id; and why some could not be compared.

    An id is in ``matches`` or in ``failures``, never in both.
    """

    matches: dict[str, str | None] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def unique(
    crystals: Crystals,
    *,
    matcher: StructureMatcher | None = None,
    ranks: Mapping[str, int] | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Matching:
    """The earlier crystal that each one duplicates, or None.

    One greedy pass in the natural order of the ids (c-2 before c-10), by ``ranks`` first (0 where an id has
    none): a crystal is compared with those
    already found unique, because the matcher is not transitive. ``matcher`` is pymatgen's StructureMatcher
    with its default tolerances unless another is given. Crystals of one formula stay in one of
    ``processes``, and the answer does not depend on how many there are.
    """
    index = FormulaIndex(crystals, matcher=matcher)
    alone = {crystals.ids[rows[0]]: None for rows in index.buckets() if len(rows) == 1}
    ranks = ranks or {}
    shared = [
        sorted(rows, key=lambda row: ranks.get(crystals.ids[row], 0))
        for rows in index.buckets()
        if len(rows) > 1
    ]
    tasks = [(crystals[rows], index.matcher) for rows in shared]
    found = _gathered(_unique_in_bucket, tasks, processes, len(alone), len(crystals), progress)
    return _ordered(Matching({**alone, **found.matches}, found.failures), crystals)


def novel(
    crystals: Crystals,
    reference: Crystals | FormulaIndex,
    *,
    matcher: StructureMatcher | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Matching:
    """The reference crystal that each one matches, or None if it is novel.

    The match is the first in the natural order of the reference's ids. ``reference`` may be a
    :class:`FormulaIndex`, which then brings its own ``matcher``, and keeps what it reduces unless that is
    done in other ``processes``.
    """
    known = reference if isinstance(reference, FormulaIndex) else FormulaIndex(reference, matcher=matcher)
    index = FormulaIndex(crystals, matcher=known.matcher)
    unheard = {crystals.ids[r]: None for rows in index.buckets() if not known.rows(index.formulas[rows[0]])
               for r in rows}  # fmt: skip
    shared = [rows for rows in index.buckets() if known.rows(index.formulas[rows[0]])]
    if processes > 1:
        parts = [(crystals[rows], known.part(index.formulas[rows[0]])) for rows in shared]
    else:
        parts = [(crystals[rows], known) for rows in shared]
    found = _gathered(_novel_in_bucket, parts, processes, len(unheard), len(crystals), progress)
    return _ordered(Matching({**unheard, **found.matches}, found.failures), crystals)


def _unique_in_bucket(crystals: Crystals, matcher: StructureMatcher) -> Matching:
    """Crystals of one formula, in the order in which they are compared."""
    index = FormulaIndex(crystals, matcher=matcher)
    result, kept = Matching(), list[int]()
    with expected_warnings():
        for row, id_ in enumerate(crystals.ids):
            structure = index.reduced(row)
            if isinstance(structure, str):
                result.failures[id_] = structure
                continue
            match, failure = index.first_match(structure, kept)
            if failure:
                result.failures[id_] = failure
                continue
            result.matches[id_] = match
            if match is None:
                kept.append(row)
    return result


def _novel_in_bucket(crystals: Crystals, known: FormulaIndex) -> Matching:
    """Crystals of one formula."""
    index = FormulaIndex(crystals, matcher=known.matcher)
    rows, result = known.rows(index.formulas[0]), Matching()
    with expected_warnings():
        for row, id_ in enumerate(crystals.ids):
            structure = index.reduced(row)
            if isinstance(structure, Reduced):
                match, failure = known.first_match(structure, rows)
            else:
                match, failure = None, structure
            if failure:
                result.failures[id_] = failure
            else:
                result.matches[id_] = match
    return result


def _gathered(
    work: Callable[..., Matching],
    tasks: Sequence[tuple[Any, ...]],
    processes: int,
    before: int,
    total: int,
    progress: Progress | None,
) -> Matching:
    result, done = Matching(), before
    if progress and total:
        progress(done, total)
    for found in in_processes(work, tasks, processes):
        result.matches.update(found.matches)
        result.failures.update(found.failures)
        done += len(found.matches) + len(found.failures)
        if progress:
            progress(done, total)
    return result


def _ordered(found: Matching, crystals: Crystals) -> Matching:
    return Matching(_in_order(found.matches, crystals), _in_order(found.failures, crystals))


def _in_order(values: Mapping[str, Any], crystals: Crystals) -> dict[str, Any]:
    return {i: values[i] for i in crystals.ids if i in values}
