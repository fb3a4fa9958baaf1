"""Bars of V.S.U.N. with their intervals, a set of crystals each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysjepa.report.style import ROUND_COLOURS, in_house_style, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THIN: dict[str, Any] = {"color": "0.2", "capsize": 2}
"""Of the bars of intervals."""


def whiskers(rates: Sequence[float], intervals: Sequence[Sequence[float]]) -> list[list[float]]:
    """Lengths in percent of the bars of intervals, below the rates and above: what matplotlib wants."""
    pairs = list(zip(rates, intervals, strict=True))
    # rounding may put a rate of 0 or 1 beyond its interval's end
    return [[100 * abs(rate - ends[side]) for rate, ends in pairs] for side in (0, 1)]


def draw_rates(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """V.S.U.N. of every row with its interval; chosen and refined in colours of their own."""
    save_figure(rates_figure(rows), path)


@in_house_style
def rates_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Bars from the top in the order of the table."""
    figure = new_figure(figsize=(6.4, 0.34 * len(rows) + 0.9))
    panel = figure.subplots()
    for y, row in enumerate(rows):
        kind = 1 if row["name"].startswith("chosen") else 2 if row["name"].startswith("refined") else 0
        value = 100 * row["vsun"]
        panel.barh(y, value, color=ROUND_COLOURS[kind % len(ROUND_COLOURS)], height=0.7)
        panel.errorbar(value, y, xerr=whiskers([row["vsun"]], [row["intervals"]["vsun"]]), **THIN)
    panel.set_yticks(range(len(rows)), [row["name"] for row in rows])
    panel.invert_yaxis()
    panel.set_xlim(0, 100)
    panel.set_xlabel("V.S.U.N., % of all crystals")
    return figure
