"""The page of ``timings.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TARGETS = {
    "ranking": "≥ 100 times",
    "ranking-singly": "≥ 12 times",
    "million": "≥ 8,000/s, ≤ 1,000 MB",
    "start": "≤ 1 s",
    "evaluation": "≥ 5 times",
    "relaxation": "≥ 3 times",
    "relaxation-quasi-newton": "≥ 3 times",
    "flow": "≥ 25/s",
    "fingerprints": "≥ 5 times",
}


def page(result: Mapping[str, Any]) -> str:
    """Two tables: ratios, and rooflines."""
    where = result["machine"]
    lines = [
        "`python benchmarks/timings.py --data FOLDER --out FOLDER`"
        + (" `--quick`" if result["quick"] else ""),
        "",
        f"{where['cpu']}, {where['cores']} cores, torch {result['versions'].get('torch', '?')}. Rates are of "
        "this machine; the ratios are what to compare.",
        "",
        "| what | n | crysjepa | peer | times the peer | target | |",
        "|---|---|---|---|---|---|---|",
        *(_row(name, row) for name, row in result["rows"].items()),
        "",
        "How near to what one thread can do (a matrix product of 2,000 by 2,000 in single precision):",
        "",
        "| what | million operations | milliseconds | GFLOP/s | of the matrix product |",
        "|---|---|---|---|---|",
        *(_roofline(row) for row in result["rooflines"].values()),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, row: Mapping[str, Any]) -> str:
    if "missing" in row:
        return f"| {row['what']} | | | | | {TARGETS[name]} | {row['missing']} |"
    none = row["theirs"] is None
    peer = "–" if none else f"{row['theirs']:.3g} ({row['peer']})"
    ratio = "–" if none else f"{row['ours'] / row['theirs']:.1f}"
    return (
        f"| {row['what']} | {row['num']} | {row['ours']:.4g} {row['unit']} | {peer} | {ratio} "
        f"| {TARGETS[name]} | {row.get('note', '')} |"
    )


def _roofline(row: Mapping[str, Any]) -> str:
    rate = row["flop"] / row["seconds"] / 1e9
    return (
        f"| {row['what']} | {row['flop'] / 1e6:.1f} | {1000 * row['seconds']:.2f} | {rate:.0f} "
        f"| {100 * rate / row['peak']:.0f} % of {row['peak']:.0f} |"
    )
