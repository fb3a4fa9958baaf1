"""Objectives in the loop: what of them is known of a run, and the last look at them."""

from __future__ import annotations

from typing import Any

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.evaluation.columns import set_column
from crysjepa.evaluation.rates import wilson_interval
from crysjepa.properties.aims import NOT_STABLE, REASON, Aims, by_judge
from crysjepa.stages.measure import first_chances


def judged_again(table: CandidateTable, aims: Aims, judges: tuple[str, ...]) -> CandidateTable:
    """The table after the hull was closed: merits by the chances that there are now.

    Rows that are new, polymorphs in place of others, are measured. Of what was looked into, ``judges`` say
    theirs of what a force field calculates, in columns ``PROPERTY_JUDGE``; the least favourable value counts.
    """
    first = aims.properties[0].column
    states = zip(table.ids, table.column(first), table.column(REASON), strict=True)
    new = {i for i, value, reason in states if value is None and reason is None} & set(table.ok_ids)
    if new:
        rows = table.only(new)
        measured = aims.measure(rows, rows.ids)
        for name, dtype in aims.columns.items():
            values = dict(zip(measured.ids, measured.column(name), strict=True))
            table = table.with_column(name, values, dtype)
    looked = dict(zip(table.ids, table.column("p_stable"), strict=True)) if "p_stable" in table else {}
    seen = [i for i in table.ok_ids if looked.get(i) is not None]
    for judge in judges:
        theirs = aims.by(judge)
        if not theirs.objectives:
            continue
        rows = table.only(seen)
        measured = theirs.measure(rows, seen)
        for one in theirs.properties:
            values = dict(zip(measured.ids, measured.column(one.column), strict=True))
            table = set_column(table, by_judge(one.column, judge), values, "Float64")
        table = _with_reasons(table, measured, judge)
    before = first_chances(table, aims.how.force_field)
    chances = {i: p if (p := looked.get(i)) is not None else before[i] for i in table.ids}
    return aims.judge(table, chances, judges if seen else (), seen)


def _with_reasons(table: CandidateTable, measured: CandidateTable, judge: str) -> CandidateTable:
    """The table with what kept a further judge from a value."""
    own = dict(zip(table.ids, table.column(REASON), strict=True))
    theirs = dict(zip(measured.ids, measured.column(REASON), strict=True))
    more = {
        i: "; ".join(filter(None, (own[i], f"{judge}: {reason}"))) for i, reason in theirs.items() if reason
    }
    return table.with_column(REASON, more, "string")


def aimed_rates(table: CandidateTable) -> dict[str, Any] | None:
    """Shares of all rows of a judged table that meet the targets, alone and with more; None without targets.

    Returns
    -------
    dict
        ``num``; ``meets_targets`` (None where only stable ones were measured); ``stable_and_meets``;
        ``vsun_and_meets``; and their Wilson ``intervals``.
    """
    if "meets_targets" not in table or all(m is None for m in table.column("meets_targets")):
        return None
    columns = (table.column(c) for c in ("meets_targets", "stable", "status"))
    rows = [(bool(m), bool(s), status == Status.OK) for m, s, status in zip(*columns, strict=True)]
    counts = {
        "meets_targets": sum(m for m, _, _ in rows),
        "stable_and_meets": sum(m and s for m, s, _ in rows),
        "vsun_and_meets": sum(m and ok for m, _, ok in rows),
    }
    num = len(rows)
    found: dict[str, Any] = {name: count / num for name, count in counts.items()}
    intervals: dict[str, Any] = {name: wilson_interval(count, num) for name, count in counts.items()}
    if any(NOT_STABLE in (reason or "") for reason in table.column(REASON)):  # of the others nobody knows
        found["meets_targets"] = intervals["meets_targets"] = None
    return {"num": num, **found, "intervals": intervals}
