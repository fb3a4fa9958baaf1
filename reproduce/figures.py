"""Figures, from their saved results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from crysjepa.evaluation.rates import wilson_interval
from crysjepa.report.rate_bars import THIN, whiskers
from crysjepa.report.style import ROUND_COLOURS, in_house_style, save_figure


def draw_hits(rows: list[dict[str, Any]], path: Path) -> None:
    """What became of the crystals that each way relaxed."""
    save_figure(hits_figure(rows), path)


@in_house_style
def hits_figure(rows: list[dict[str, Any]]) -> Figure:
    """V.S.U.N. with a new formula of each way, and within it the hits."""
    figure = Figure(figsize=(6.4, 0.42 * len(rows) + 1.1), layout="constrained")
    panel = figure.subplots()
    for y, row in enumerate(rows):
        new, hits = (row[name] / row["num_crystals"] for name in ("vsun_new_formula", "hits"))
        panel.barh(y, 100 * new, color=ROUND_COLOURS[0], alpha=0.35, height=0.7)
        panel.barh(y, 100 * hits, color=ROUND_COLOURS[0], height=0.7)
        interval = wilson_interval(row["hits"], row["num_crystals"])
        panel.errorbar(100 * hits, y, xerr=whiskers([hits], [interval]), **THIN)
    panel.set_yticks(range(len(rows)), [row["name"] for row in rows])
    panel.invert_yaxis()
    panel.set_xlim(0, 100)
    panel.set_xlabel(
        "V.S.U.N. with a new formula by the known hull (pale), and of these on the closed\n"
        "hull by two judges (dark); % of the crystals relaxed"
    )
    return figure


def draw_trends(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Rates along a distance, and stability against novelty, before and after refinement."""
    save_figure(trends_figure(found), path)


@in_house_style
def trends_figure(found: dict[str, dict[str, Any]]) -> Figure:
    """(a) cumulative rates over percentiles of the distance; (b) the same crystals in the plane."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    trends, plane = figure.subplots(1, 2)
    styles = {"stable": ("S", "-"), "novel": ("N", ":"), "vsun": ("V.S.U.N.", "--")}
    for colour, (name, curves) in zip(ROUND_COLOURS, found.items(), strict=False):
        for rate, (label, style) in styles.items():
            values = [100 * v for v in curves["rates"][rate]]
            trends.plot(curves["percentiles"], values, style, color=colour, label=f"{label} {name}")
        novel, stable = ([100 * v for v in curves["rates"][rate]] for rate in ("novel", "stable"))
        plane.plot(novel, stable, "o-", color=colour, markersize=3, label=name)
    trends.set_xlabel("crystals nearest to known ones, %")
    trends.set_ylabel("% of these crystals")
    trends.set_ylim(0, 103)
    trends.legend(ncols=2, fontsize="small")
    plane.set_xlabel("novel, %")
    plane.set_ylabel("stable, %")
    plane.legend()
    return figure


def draw_sweep(rows: list[dict[str, Any]], path: Path) -> None:
    """V.S.U.N. after refinement against how many were chosen, and how many were drawn (Fig. 7)."""
    save_figure(sweep_figure(rows), path)


@in_house_style
def sweep_figure(rows: list[dict[str, Any]]) -> Figure:
    """A panel for each of k and 𝒩; a line joins the arms that differ in nothing else."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (field, other, label) in zip(
        panels,
        (("select", "of {pool}", "chosen and learnt from, k"), ("pool", "{select} chosen", "drawn, N")),
        strict=True,
    ):
        lines = sweep_lines(rows, field)
        for number, line in enumerate(lines):
            colour = ROUND_COLOURS[number % len(ROUND_COLOURS)]
            rates = [row["vsun"] for row in line]
            panel.errorbar(
                [row["arm"][field] for row in line], [100 * rate for rate in rates],
                yerr=whiskers(rates, [row["intervals"]["vsun"] for row in line]),
                fmt="o-", color=colour, capsize=2,
                label=("{ranker}, " + other + ", {steps} steps").format(**line[0]["arm"]),
            )  # fmt: skip
        panel.set_xscale("log")
        numbers = sorted({row["arm"][field] for line in lines for row in line})
        panel.set_xticks(numbers, [str(number) for number in numbers])
        panel.set_xticks([], minor=True)
        panel.set_xlabel(label)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize="small")
    panels[0].set_ylabel("V.S.U.N. of the refined flow, %")
    return figure


def sweep_lines(rows: list[dict[str, Any]], field: str) -> list[list[dict[str, Any]]]:
    """Rows of generators refined in one round that differ in nothing but a field, in its order."""
    groups: dict[tuple[Any, ...], dict[Any, dict[str, Any]]] = {}
    for row in rows:
        if row["name"].startswith("refined") and row["arm"]["rounds"] == 1:
            rest = {k: v for k, v in row["arm"].items() if k not in (field, "label", "choice")}
            groups.setdefault(tuple(sorted(rest.items())), {})[row["arm"][field]] = row
    return [[group[v] for v in sorted(group)] for group in groups.values() if len(group) > 1]
