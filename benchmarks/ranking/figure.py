"""The benchmark's one figure, from what ``screening.json`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crysjepa.report.style import INK, MUTED, ROUND_COLOURS, ROUND_MARKERS, in_house_style

STYLES = {
    "jepa-relaxed": (ROUND_COLOURS[0], ROUND_MARKERS[0]),
    "jepa-hull": (ROUND_COLOURS[4], ROUND_MARKERS[1]),
    "jepa-distance": (ROUND_COLOURS[2], ROUND_MARKERS[2]),
    "chgnet": (ROUND_COLOURS[5], ROUND_MARKERS[3]),
    "sevennet": (ROUND_COLOURS[3], ROUND_MARKERS[4]),
    "composition": (ROUND_COLOURS[1], ROUND_MARKERS[5]),
    "fingerprint": (INK, "X"),
    "random": (MUTED, "."),
}
"""A colour and a marker for each ranker, the same in all panels."""
OTHER = (MUTED, "*")
LIMIT = "0.1"


@in_house_style
def draw_figure(results: Mapping[str, Any]) -> Figure:
    """Three panels: how well, how well for how much time, and before relaxation."""
    figure = Figure(figsize=(13.2, 4.4), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    _roc_panel(first, results["wbm"])
    _speed_panel(second, results)
    _relaxation_panel(third, results["relaxed"])
    handles, labels = [], []
    for panel in (first, second, third):
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


@in_house_style
def _roc_panel(panel: Axes, judged: Mapping[str, Any]) -> None:
    for name, curves in judged["curves"].items():
        _line(panel, name, curves["roc"])
    panel.set(
        title=f"(a) {judged['num']:,} WBM crystals, stable: ≤ {LIMIT} eV/atom (DFT)",
        xlabel="share of the unstable ranked so far",
        ylabel="share of the stable found",
    )
    _unit_axes(panel)


def _speed_panel(panel: Axes, results: Mapping[str, Any]) -> None:
    rows = dict(results["wbm"]["rows"])
    if results["wbm_subset"] is not None:  # the slow have no other AUC
        rows = results["wbm_subset"]["rows"] | rows
    for name, times in results["timing"]["summary"].items():
        auc = rows.get(name, {}).get(f"auc_{LIMIT}")
        if auc is None or auc["value"] is None or name == "random":
            continue
        colour, marker = STYLES.get(name, OTHER)
        whiskers = [[auc["value"] - auc["low"]], [auc["high"] - auc["value"]]]
        panel.errorbar(
            10_000 / times["batched"]["seconds"],
            auc["value"],
            yerr=whiskers,
            color=colour,
            marker=marker,
            markersize=7,
            capsize=3,
            linestyle="none",
        )
    own = results["timing"]["summary"]["chgnet-own"]["batched"]["seconds"]
    panel.axvline(10_000 / own, color=MUTED, linewidth=1, linestyle=":")
    panel.annotate(
        "CHGNet's own call",
        (10_000 / own, 0.02),
        xycoords=("data", "axes fraction"),
        rotation=90,
        ha="right",
        color=MUTED,
        fontsize=9,
    )
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")  # the house style has no mathematics in its text
    panel.set(
        title="(b) how well for how much time",
        xlabel=f"crystals a second, batched (CPU threads: {results['timing']['machine']['torch_threads']})",
        ylabel=f"AUC at {LIMIT} eV/atom (95 % interval)",
    )
    panel.grid(True)


def _relaxation_panel(panel: Axes, relaxed: Mapping[str, Any]) -> None:
    name = "DiffCSP" if "DiffCSP" in relaxed["sets"] else next(iter(relaxed["sets"]), None)
    if name is None:
        panel.set(title="(c) before relaxation")
        panel.text(0.5, 0.5, "no labels yet", ha="center", transform=panel.transAxes, color=MUTED)
        panel.set_axis_off()
        return
    judged = relaxed["sets"][name]
    for ranker, curves in judged["curves"].items():
        _line(panel, ranker, curves["recall"])
    base = judged["base"][LIMIT]
    panel.plot([0, base, 1], [0, 1, 1], color=MUTED, linewidth=1, linestyle="--", label="perfect")
    panel.set(
        title=f"(c) {judged['num']:,} of {name}, scored before relaxation",
        xlabel="share relaxed, best-ranked first",
        ylabel=f"share found of those stable after it (≤ {LIMIT})",
    )
    _unit_axes(panel)


def _line(panel: Axes, name: str, values: list[float]) -> None:
    colour, marker = STYLES.get(name, OTHER)
    x = [i / (len(values) - 1) for i in range(len(values))]
    style = ":" if name == "random" else "-"
    panel.plot(
        x,
        values,
        color=colour,
        linestyle=style,
        linewidth=1.5,
        marker=marker,
        markevery=(len(values) // 10, len(values) // 5),
        markersize=5,
        label=name,
    )


def _unit_axes(panel: Axes) -> None:
    panel.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    panel.grid(True)
