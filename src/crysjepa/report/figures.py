"""The report's figures, drawn from saved tables. Each function returns a matplotlib Figure of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crysjepa.energy.limits import within
from crysjepa.report.labels import place_labels
from crysjepa.report.rate_names import RATES
from crysjepa.report.results import Round, numbers, plain, rate_interval, real
from crysjepa.report.style import (
    HIGHLIGHT,
    INK,
    LINE,
    PAPER,
    ROUND_COLOURS,
    ROUND_MARKERS,
    in_house_style,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_NAME = 24
_MAX_VECTOR_POINTS = 1500  # more than this are drawn as an image inside the SVG
_FULL = 120.0
"""Where an axis of percent ends that goes to 100: a label beyond 100 has its place before that."""
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----")
_GREYS = ("#60666d", "#c3c7cc")


# -- rates ---------------------------------------------------------------------------------------


@in_house_style
def rates_figure(rounds: Sequence[Round]) -> Figure | None:
    """V, S, U, N beside S.U.N. and V.S.U.N. in percent, a marker a round, a line for the interval.

    None if no rate was measured.
    """
    if not any(_measured(part) for part in rounds):
        return None
    groups = (("valid", "stable", "unique", "novel"), ("sun", "vsun", "vsun_new_formula", "vsun_supported"))
    figure = new_figure(figsize=(9.2, 1.5 + 0.62 * max(4, 1 + len(rounds))))
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    for axes, keys in zip((left, right), groups, strict=True):
        _rate_rows(axes, keys, rounds)
    left.set_xlim(0, _FULL)
    left.set_xticks(range(0, 101, 20))
    left.set_title("Each criterion by itself")
    end = min(_FULL, _round_up(right.dataLim.xmax if np.isfinite(right.dataLim.xmax) else 1.0))
    right.set_xticks([t for t in right.get_xticks() if 0 <= t <= min(end, 100)])
    right.set_xlim(0, end)
    right.set_title("All together")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)))
    return figure


def _measured(part: Round) -> bool:
    return any(real(part.rates.get(key)) is not None for key in RATES)


def _rate_rows(axes: Axes, keys: Sequence[str], rounds: Sequence[Round]) -> None:
    shown = [(i, part) for i, part in enumerate(rounds) if _measured(part)]
    spread = 0.24 * min(len(shown) - 1, 2.6)
    for (i, part), offset in zip(shown, np.linspace(-spread / 2, spread / 2, len(shown)), strict=True):
        colour, marker = ROUND_COLOURS[i % 6], ROUND_MARKERS[i % 6]
        style: dict[str, Any] = {"color": colour, "markeredgecolor": INK, "markeredgewidth": 0.6, "zorder": 3}
        axes.plot([], [], marker=marker, ls="", markersize=7, label=plain(part.name, _MAX_NAME), **style)
        for row, key in enumerate(keys):
            value, interval = real(part.rates.get(key)), rate_interval(part, key)
            if value is None:
                continue
            end = 100 * value
            if interval is not None:
                end = max(end, 100 * interval[1])
                axes.plot([100 * v for v in interval], [row + offset] * 2, color=colour, lw=2.4, zorder=2)
            axes.plot(
                [100 * value], [row + offset], marker=marker, markersize=7, ls="", clip_on=False, **style
            )
            if len(shown) <= 4:
                axes.annotate(
                    f"{100 * value:.1f}",
                    (end, row + offset),
                    (7, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=9,
                )
    axes.set_yticks(range(len(keys)), [RATES[k] for k in keys])
    axes.set_ylim(len(keys) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, pad=9)
    axes.spines["left"].set_visible(False)
    for line in np.arange(0.5, len(keys) - 1):
        axes.axhline(line, color=LINE, lw=0.8)
    axes.grid(axis="x")
    axes.set_xlabel("% of all crystals of the round")


def _round_up(value: float) -> float:
    """An end for an axis from 0 that leaves room for a label beyond ``value``."""
    wanted = max(1.25 * value, 1.0)
    step = 10 ** np.floor(np.log10(wanted)) / 2
    return float(np.ceil(wanted / step) * step)


# -- energy above hull ---------------------------------------------------------------------------


@in_house_style
def hull_figure(frame: pd.DataFrame, rounds: Sequence[Round], threshold: float | None) -> Figure | None:
    """Histograms of e_above_hull in eV/atom, a panel a round; None if no energy is known.

    Bars are shares of all crystals of the round. What lies beyond the axis is counted in a last bar.
    """
    energies = numbers(frame, "e_above_hull")
    shown = [(i, part) for i, part in enumerate(rounds) if np.isfinite(energies[part.rows]).any()]
    if not shown:
        return None
    edges = _hull_bins(energies[np.isfinite(energies)], threshold)
    figure = new_figure(figsize=(9.2, 1.0 + 1.75 * len(shown)))
    panels = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (i, part) in zip(panels, shown, strict=True):
        values = energies[part.rows]
        known = np.clip(values[np.isfinite(values)], edges[0], np.nextafter(edges[-1], -np.inf))
        heights = 100 * np.histogram(known, edges)[0] / max(int(part.rows.sum()), 1)
        stable = within(edges[1:], threshold) if threshold is not None else np.ones(len(heights), dtype=bool)
        # Light bars are see-through, so that they suit a dark page; the grid must not show through them.
        axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=PAPER, linewidth=0)
        for mask, alpha in ((stable, 1.0), (~stable, 0.45)):
            axes.bar(
                edges[:-1][mask],
                heights[mask],
                np.diff(edges)[mask],
                align="edge",
                color=ROUND_COLOURS[i % 6],
                alpha=alpha,
                hatch=_HATCHES[i % 6],
                edgecolor=PAPER,
                linewidth=0.6,
            )
        axes.set_title(f"{plain(part.name, _MAX_NAME)}, {_share(values, threshold)}")
        axes.grid(axis="y")
        axes.set_ylabel("% of round")
        axes.margins(y=0.2)
        if (values[np.isfinite(values)] >= edges[-2]).any():
            axes.annotate(
                f"{edges[-2]:.3g} and more",
                (edges[-1], heights[-1]),
                (0, 3),
                textcoords="offset points",
                ha="right",
                fontsize=9,
            )
        if threshold is not None:
            axes.axvline(threshold, color=INK, lw=1.4, ls=(0, (5, 3)))
            axes.annotate(
                f"limit {threshold:g}",
                (threshold, 1),
                (5, -2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                va="top",
                fontsize=9,
            )
    panels[-1].set_xlim(edges[0], edges[-1])
    ticks = panels[-1].get_xticks()
    panels[-1].set_xticks([t for t in ticks if edges[0] - 1e-9 <= t <= edges[-2] + 1e-9])
    panels[-1].set_xlabel("energy above hull (eV/atom)")
    return figure


def _share(values: NDArray[np.float64], threshold: float | None) -> str:
    known = values[np.isfinite(values)]
    if threshold is None:
        return f"{len(known):,} of {len(values):,} with an energy"
    return f"{int(within(known, threshold).sum()):,} of {len(values):,} within the limit"


def _hull_bins(energies: NDArray[np.float64], threshold: float | None) -> NDArray[np.float64]:
    """Bins that have the threshold as an edge, from the lowest energy to nine tenths of all, at most 1 eV."""
    limit = threshold if threshold is not None and threshold > 0 else 0.1
    width = limit / 4
    low = max(float(energies.min()), -10 * limit)
    high = min(max(float(np.quantile(energies, 0.9)), 3 * limit), max(1.0, 3 * limit))
    first, last = min(np.floor(low / width + 1e-9), 0), np.ceil(high / width)
    while last - first > 60:
        width, first, last = 2 * width, np.floor(first / 2), np.ceil(last / 2)
    return np.arange(int(first), int(last) + 2, dtype=np.float64) * width


# -- the map -------------------------------------------------------------------------------------


@in_house_style
def map_figure(
    frame: pd.DataFrame, rounds: Sequence[Round], reference: pd.DataFrame | None, labels: dict[int, str]
) -> Figure | None:
    """The two-dimensional map of embeddings; None if no candidate has a place on it.

    Parameters
    ----------
    labels
        The text for each row of the short list; the first ones are written, all are marked.
    """
    x, y = numbers(frame, "map_x"), numbers(frame, "map_y")
    placed = np.isfinite(x) & np.isfinite(y)
    if not placed.any():
        return None
    figure = new_figure(figsize=(9.2, 6.6))
    axes = figure.subplots()
    if reference is not None and len(reference):
        _background(figure, axes, reference)
    for i, part in enumerate(rounds):
        rows = part.rows & placed
        axes.scatter(
            x[rows],
            y[rows],
            s=12,
            marker=ROUND_MARKERS[i % 6],
            color=ROUND_COLOURS[i % 6],
            edgecolor=PAPER,
            linewidth=0.3,
            alpha=0.8,
            zorder=2,
            rasterized=bool(placed.sum() > _MAX_VECTOR_POINTS),
            label=plain(part.name, _MAX_NAME),
        )
    listed = [row for row in labels if placed[row]]
    if listed:
        axes.scatter(
            x[listed],
            y[listed],
            s=130,
            marker="*",
            color=HIGHLIGHT,
            edgecolor=INK,
            linewidth=0.9,
            zorder=4,
            label="on the short list",
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("first direction of the map")
    axes.set_ylabel("second direction of the map")
    axes.margins(0.05)
    legend = figure.legend(loc="outside upper left", ncols=min(4, len(rounds) + 2))
    for handle in legend.legend_handles:
        handle.set_alpha(1)  # type: ignore[union-attr]
        handle.set_rasterized(False)  # type: ignore[union-attr]
    place_labels(figure, axes, [(x[r], y[r], labels[r]) for r in listed if labels[r]])
    return figure


def _background(figure: Figure, axes: Axes, reference: pd.DataFrame) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    energy = numbers(reference, "formation_energy_per_atom")
    common: dict[str, Any] = {"s": 7, "linewidth": 0, "zorder": 1, "rasterized": True}
    if np.isfinite(energy).sum() < 2:
        axes.scatter(reference["x"], reference["y"], color="#a3a8ae", label="known crystals", **common)
        return
    low, high = np.nanquantile(energy, [0.02, 0.98])
    order = np.argsort(-np.nan_to_num(energy, nan=np.inf), kind="stable")
    points = axes.scatter(
        reference["x"].to_numpy()[order],
        reference["y"].to_numpy()[order],
        c=np.nan_to_num(energy, nan=high)[order],
        cmap=LinearSegmentedColormap.from_list("greys", _GREYS),
        vmin=low,
        vmax=high,
        **common,
    )
    axes.scatter([], [], s=20, linewidth=0, color="#90969d", label="known crystals")
    bar = figure.colorbar(points, ax=axes, shrink=0.5, aspect=28, pad=0.01)
    bar.set_label("formation energy of known crystals (eV/atom)", fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9)
    assert bar.solids is not None
    bar.solids.set_rasterized(True)
