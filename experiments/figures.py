"""Figures of the experiments, from their saved results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from crysjepa.evaluate.rates import wilson_interval
from crysjepa.report.evaluation import save_figure
from crysjepa.report.style import ROUND_COLOURS, in_house_style


def draw_refinement(found: dict[str, Any], path: Path) -> None:
    """V.S.U.N. of every row with its interval; chosen and refined in colours of their own."""
    save_figure(refinement_figure(found["rows"]), path)


@in_house_style
def refinement_figure(rows: list[dict[str, Any]]) -> Figure:
    """Bars from the top in the order of the table."""
    figure = Figure(figsize=(6.4, 0.34 * len(rows) + 0.9), layout="constrained")
    panel = figure.subplots()
    for y, row in enumerate(rows):
        low, high = row["intervals"]["vsun"]
        kind = 1 if row["name"].startswith("chosen") else 2 if row["name"].startswith("refined") else 0
        value = 100 * row["vsun"]
        panel.barh(y, value, color=ROUND_COLOURS[kind % len(ROUND_COLOURS)], height=0.7)
        panel.errorbar(value, y, xerr=[[value - 100 * low], [100 * high - value]], color="0.2", capsize=2)
    panel.set_yticks(range(len(rows)), [row["name"] for row in rows])
    panel.invert_yaxis()
    panel.set_xlim(0, 100)
    panel.set_xlabel("V.S.U.N., % of all crystals")
    return figure


def draw_hits(rows: list[dict[str, Any]], path: Path) -> None:
    """What became of the crystals that each way relaxed."""
    save_figure(hits_figure(rows), path)


@in_house_style
def hits_figure(rows: list[dict[str, Any]]) -> Figure:
    """V.S.U.N. of each way, and within it those on or below the hull."""
    figure = Figure(figsize=(6.4, 0.42 * len(rows) + 1.1), layout="constrained")
    panel = figure.subplots()
    for y, row in enumerate(rows):
        panel.barh(y, 100 * row["vsun"], color=ROUND_COLOURS[0], alpha=0.35, height=0.7)
        panel.barh(y, 100 * row["vsun_at_0"], color=ROUND_COLOURS[0], height=0.7)
        ends = [100 * end for end in wilson_interval(row["hits"], row["num_crystals"])]
        value = 100 * row["vsun"]
        panel.errorbar(value, y, xerr=[[value - ends[0]], [ends[1] - value]], color="0.2", capsize=2)
    panel.set_yticks(range(len(rows)), [row["name"] for row in rows])
    panel.invert_yaxis()
    panel.set_xlim(0, 100)
    panel.set_xlabel(
        "valid, unique, novel, and stable: within 0.1 eV/atom of the hull (pale),\n"
        "on or below it (dark); % of the crystals relaxed"
    )
    return figure
