"""What competes with crystals and what several judges say of them, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from crysjepa.report.cards import phases
from crysjepa.report.embedding import Table
from crysjepa.report.results import plain, real
from crysjepa.report.wording import number, percent

_MAX_LOOKED = 50


def judged_tables(
    frame: pd.DataFrame, trust: Mapping[str, Any] | None, file: str, judge: str = ""
) -> list[Table]:
    """The crystals that were looked into, the likeliest first.

    ``file`` has all of them; ``judge`` is the first one's name, whose energies stand before the others'.
    """
    if not trust or "p_stable" not in frame:
        return []
    judges = [(plain(j.get("name"), 40), plain(j.get("column"), 80)) for j in trust.get("judges") or []]
    judges = [(name, column) for name, column in judges if column in frame]
    closed = "e_above_closed_hull" in frame
    looked = frame[frame["p_stable"].notna()].sort_values(["p_stable", "id"], ascending=[False, True])
    rows = []
    for _, record in looked.iloc[:_MAX_LOOKED].iterrows():
        cells = [
            plain(record["id"], 60),
            plain(record.get("formula"), 60),
            number(real(record["e_above_hull"])),
        ]
        if closed:
            cells.append(number(real(record["e_above_closed_hull"])))
        cells += [number(real(record[column])) for _, column in judges]
        if judges:
            agree = {"True": "yes", "False": "no"}.get(str(record.get("judges_agree")), "–")
            cells += [number(real(record.get("judge_spread"))), agree]
        cells += [percent(real(record["p_stable"])), percent(real(record.get("p_on_hull")))]
        rows.append((*cells, phases(plain(record.get("decomposes_to"), 4000))))
    by = f", {judge}" if judge and judges else ""
    columns = ("id", "formula", f"above the hull{by}", *((f"above the closed hull{by}",) if closed else ()))
    columns += (*(name for name, _ in judges), *(("spread", "agree") if judges else ()))
    expected = trust.get("expected") or {}
    note = (
        f"eV/atom; chances are by DFT: p_stable at most 0.1 eV/atom above the hull, p_on_hull on it. "
        f"Of these {expected.get('num', 0)}, {number(real(expected.get('expected')), 1)} are expected to be "
        f"at most 0.1 eV/atom above it (95 %: "
        f"{expected.get('low')} to {expected.get('high')}). A star marks hypothetical phases. All are in "
        f"{file}, the competitors in competitors.parquet."
    )
    heads = (*columns, "p_stable: ≤ 0.1 eV/atom", "p_on_hull", "would decompose into")
    return [Table("Competitors, judges and chances", heads, rows, note)]
