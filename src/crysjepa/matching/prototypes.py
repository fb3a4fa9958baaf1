"""Known prototypes: crystals that match when species are ignored (StructureMatcher.fit_anonymous).

What rules a comparison out is what :mod:`crysjepa.matching.structure_matcher` says of sites and lengths:
neither has to do with species. Known crystals whose cell has the most similar shape are tried first, since a
single match settles the question.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import Formula, reduced_formulas
from crysjepa.matching.reduction import Reduced
from crysjepa.matching.structure_matcher import FormulaIndex, expected_warnings, natural_key
from crysjepa.matching.uniqueness import Matching
from crysjepa.runtime.processes import in_processes
from crysjepa.runtime.progress import Progress


class PrototypeIndex:
    """Known crystals by anonymous formula, such as ABC3; reduced by the ``index`` that they come from."""

    def __init__(self, index: FormulaIndex) -> None:
        self.index = index
        self.rows: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, formula in enumerate(index.formulas):
            self.rows[anonymous(formula)].append(row)

    def part(self, formula: tuple[int, ...]) -> PrototypeIndex:
        """The crystals of one anonymous formula."""
        return PrototypeIndex(self.index.part_of(self.rows.get(formula, [])))

    def first_match(self, crystal: Reduced, rows: list[int]) -> tuple[str | None, str | None]:
        """The id of a known crystal of the same prototype, and why a comparison failed if there is none."""
        near, failure = [], None
        for row in rows:
            if self.index.ruled_out(row, crystal):
                continue
            other = self.index.reduced(row)
            if isinstance(other, str):
                failure = failure or other
            elif self.index.may_fit(other, crystal):
                near.append((_unlike(other, crystal), natural_key(self.index.crystals.ids[row]), row, other))
        for _, _, row, other in sorted(near, key=lambda entry: entry[:2]):
            match, why = self.index.fits(row, other, crystal, anonymous=True)
            if match:
                return self.index.crystals.ids[row], None
            failure = failure or why
        return None, failure


def known_prototypes(
    crystals: Crystals, known: PrototypeIndex, *, processes: int = 1, progress: Progress | None = None
) -> Matching:
    """A known crystal of the same prototype for each, or None where the prototype is new.

    Which one is named depends on the crystals and their ids, not on the order of rows: the first that
    matches, beginning with the one whose cell has the most similar lengths at equal volume.
    """
    formulas = [anonymous(f) for f in reduced_formulas(crystals)]
    buckets: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, formula in enumerate(formulas):
        buckets[formula].append(row)
    result, done = Matching(), 0
    order = list(buckets)
    tasks = [(crystals[buckets[f]], known.part(f) if processes > 1 else known) for f in order]
    for found in in_processes(_in_bucket, tasks, processes):
        result.matches.update(found.matches)
        result.failures.update(found.failures)
        done += len(found.matches) + len(found.failures)
        if progress:
            progress(done, len(crystals))
    return result


def anonymous(formula: Formula) -> tuple[int, ...]:
    """The counts of a reduced formula, smallest first."""
    return tuple(sorted(count for _, count in formula))


def _in_bucket(crystals: Crystals, known: PrototypeIndex) -> Matching:
    own = FormulaIndex(crystals, matcher=known.index.matcher)
    rows, result = known.rows.get(anonymous(own.formulas[0]), []), Matching()
    with expected_warnings():
        for row, id_ in enumerate(crystals.ids):
            crystal = own.reduced(row) if rows else None
            if isinstance(crystal, str):
                result.failures[id_] = crystal
                continue
            match, failure = (None, None) if crystal is None else known.first_match(crystal, rows)
            if failure:
                result.failures[id_] = failure
            else:
                result.matches[id_] = match
    return result


def _unlike(one: Reduced, other: Reduced) -> float:
    ratio = (other.volume / one.volume) ** (1 / 3)
    return float(np.abs(np.log(one.lengths * ratio / other.lengths)).sum())
