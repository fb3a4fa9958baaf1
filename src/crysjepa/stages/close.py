"""The last look before the short list: the closed hull, further judges, and lower polymorphs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysjepa.closed_hull.judged import with_closed_hull
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.evaluation.protocol import Trust
from crysjepa.evaluation.reference import Known
from crysjepa.evaluation.trust import Closing, close_hull, not_closable, promising_ids, with_trust
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.matching.uniqueness import novel
from crysjepa.runtime.progress import StageProgress

STAGE = "closed hull"


@dataclass(frozen=True)
class LastLook:
    """The table to choose from, the competitors, and what ``metrics.json`` says."""

    table: CandidateTable
    competitors: CandidateTable | None
    metrics: dict[str, Any]


def last_look(
    table: CandidateTable,
    evaluator: Evaluator,
    known: Known,
    trust: Trust,
    *,
    model: CrysJepa,
    work: Path,
    aimed: bool = False,
    progress: StageProgress | None = None,
) -> LastLook:
    """:func:`~crysjepa.evaluation.trust.with_trust` for the most promising crystals of a run.

    Where the search found a lower polymorph of one of them that is novel, it takes its place: the crystal is
    rejected, and says by whom; the polymorph is a new row with ``in_place_of`` and no round. Rates count what
    was drawn, so it is in none. A hull that cannot be closed is no failure: ``closed_hull_note`` says why.
    """
    ids, closing, metrics = promising_ids(table, trust, aimed=aimed), None, dict[str, Any]()
    if trust.close is not None and (reason := not_closable(evaluator.hull, model)):
        metrics["closed_hull_note"] = f"the hull was not closed: {reason}"
    elif trust.close is not None:
        closing = close_hull(table, ids, evaluator, trust.close, model=model, work=work, progress=progress)
        compared = with_closed_hull(table, ids, closing.closed, closing.competitors)
        table, ids = _with_polymorphs(compared, ids, closing, evaluator)
    trusted = with_trust(table, ids, evaluator, known, trust, closing=closing, work=work, progress=progress)
    limit = evaluator.protocol.e_above_hull_max
    found = trusted.table
    if "stable_closed" in found:
        verdicts = (found.column(c) for c in ("stable_closed", "e_above_closed_hull"))
        unstable = {
            i: f"unstable: {above:.3f} eV/atom above the closed hull, more than {limit:g}"
            for i, stable, above in zip(found.ids, *verdicts, strict=True)
            if stable is False
        }
        found = found.decide(STAGE, unstable, Status.REJECTED)
    return LastLook(found, None if closing is None else closing.competitors, {**trusted.metrics, **metrics})


def _with_polymorphs(
    table: CandidateTable, ids: list[str], closing: Closing, evaluator: Evaluator
) -> tuple[CandidateTable, list[str]]:
    """The table with lower polymorphs in place of what they are lower than, and what is to be looked into.

    A polymorph must itself be valid, stable and novel, and no crystal that is on the table already; otherwise
    the crystal keeps its place, and ``lower_polymorph`` says what is lower.
    """
    lower = zip(table.ids, table.column("lower_polymorph"), strict=True)
    wanted = {i: p for i, p in lower if p is not None and i in set(table.ok_ids)}
    rivals = closing.competitors
    new = sorted({p for p in wanted.values() if p in set(rivals.ids)})
    judged, same = _judged(rivals, new, table, evaluator)
    replaced = {i: same.get(p, p) for i, p in wanted.items()}
    good = {*table.ok_ids, *(() if judged is None else judged.ok_ids)}
    replaced = {i: p for i, p in replaced.items() if p in good and p != i}
    reasons = {i: f"{p} is lower: another structure of this formula" for i, p in replaced.items()}
    table = table.decide(STAGE, reasons, Status.REJECTED)
    added = sorted({p for p in replaced.values() if judged is not None and p in judged.ids})
    if judged is not None and added:
        first = {p: i for i, p in reversed(replaced.items())}
        rows = judged.only(added)
        rows = rows.with_column("in_place_of", {p: first[p] for p in added}, "string")
        table = CandidateTable.concatenate([table, rows])
    return table, list(dict.fromkeys([*ids, *replaced.values()]))


def _judged(
    rivals: CandidateTable, new: list[str], table: CandidateTable, evaluator: Evaluator
) -> tuple[CandidateTable | None, dict[str, str]]:
    """Competitors judged like the crystals of the run, and which of these they are, where they are one."""
    if not new:
        return None, {}
    rows = rivals.only(new)
    judged = evaluator.evaluate(rows)
    there = novel(judged.crystals(judged.ok_ids), table.crystals(table.ok_ids))
    return judged, {p: i for p, i in there.matches.items() if i is not None}
