"""The last look before the short list: the closed hull, further judges, and lower polymorphs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysjepa.candidates import CandidateTable, Status
from crysjepa.compete.closed import with_closed_hull
from crysjepa.evaluate.judge import Judge
from crysjepa.evaluate.known import Known, Report
from crysjepa.evaluate.presets import Trust
from crysjepa.evaluate.trust import Closing, close_hull, with_trust, worth_a_bet
from crysjepa.jepa.pretrain import CrysJepa

STAGE = "closed hull"


@dataclass(frozen=True)
class LastLook:
    """The table to choose from, the competitors, and what ``metrics.json`` says."""

    table: CandidateTable
    competitors: CandidateTable | None
    told: dict[str, Any]


def last_look(
    table: CandidateTable,
    judge: Judge,
    known: Known,
    trust: Trust,
    *,
    model: CrysJepa,
    work: Path,
    progress: Report | None = None,
) -> LastLook:
    """:func:`~crysjepa.evaluate.trust.with_trust` for the most promising crystals of a run.

    Where the search found a lower polymorph of one of them, it is judged like the others and takes its place:
    the crystal is rejected, and says by whom; the polymorph is a new row with ``in_place_of`` and no round.
    Rates count what was drawn, so it is in none.
    """
    ids, closing = worth_a_bet(table, trust), None
    if trust.close is not None:
        closing = close_hull(table, ids, judge, trust.close, model=model, work=work, progress=progress)
        table, more = _with_polymorphs(
            with_closed_hull(table, ids, closing.closed, closing.competitors), closing, judge
        )
        ids = [*ids, *more]
    trusted = with_trust(table, ids, judge, known, trust, closing=closing, work=work, progress=progress)
    limit = judge.protocol.e_above_hull_max
    found = trusted.table
    if "stable_closed" in found:
        verdicts = (found.column(c) for c in ("stable_closed", "e_above_closed_hull"))
        unstable = {
            i: f"unstable: {above:.3f} eV/atom above the closed hull, more than {limit:g}"
            for i, stable, above in zip(found.ids, *verdicts, strict=True)
            if stable is False
        }
        found = found.decide(STAGE, unstable, Status.REJECTED)
    return LastLook(found, None if closing is None else closing.competitors, trusted.told)


def _with_polymorphs(
    table: CandidateTable, closing: Closing, judge: Judge
) -> tuple[CandidateTable, list[str]]:
    """The table with lower polymorphs in place of what they are lower than, and their ids."""
    rivals, there = closing.competitors, set(table.ids)
    found = {i: p for i, p in zip(table.ids, table.column("lower_polymorph"), strict=True) if p is not None}
    lower = {i: f"{p} is lower: another structure of this formula" for i, p in found.items()}
    table = table.decide(STAGE, lower, Status.REJECTED)
    new = sorted({p for p in found.values() if p not in there})
    if not new:
        return table, []
    rows = CandidateTable(rivals.frame[rivals.frame["id"].isin(new)].reset_index(drop=True))
    rows = rows.with_column("converged", dict.fromkeys(rows.ids, True), "boolean")
    judged = judge.judge(rows)
    first = {p: i for i, p in reversed(found.items())}
    judged = judged.with_column("in_place_of", {p: first[p] for p in new}, "string")
    return CandidateTable.concatenate([table, judged]), new
