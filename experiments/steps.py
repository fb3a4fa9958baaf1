"""What the experiments share: files in, files out, and how a rate is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crysjepa.candidates import CandidateTable


def keep_ok(judged: Path, out: Path) -> None:
    """The crystals that an evaluation let pass; judged as drawn, these are the valid, unique and novel."""
    table = CandidateTable.read(judged / "crystals.parquet")
    CandidateTable.from_crystals(table.crystals(table.ok_ids)).write(out)


def keep_best(candidates: Path, ranked: Path, num: int, out: Path) -> None:
    """The first ``num`` of a ranking."""
    rows = pq.read_table(ranked, columns=["id", "rank"]).to_pylist()
    best = sorted((r["rank"], r["id"]) for r in rows if r["rank"] is not None)[:num]
    table = CandidateTable.read(candidates)
    CandidateTable.from_crystals(table.crystals([id_ for _, id_ in best])).write(out)


def percent(row: dict[str, Any], name: str) -> str:
    """A rate with its interval."""
    if row.get(name) is None:
        return "–"
    low, high = row["intervals"][name]
    return f"{100 * row[name]:.1f} ({100 * low:.0f}–{100 * high:.0f})"
