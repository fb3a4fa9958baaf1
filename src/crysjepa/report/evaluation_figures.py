"""Figures of evaluated crystals: the novelty–stability plane, energies, the trade-off along a distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.report.labels import place_labels
from crysjepa.report.rate_names import RATE_LETTERS
from crysjepa.report.results import plain
from crysjepa.report.style import INK, LINE, ROUND_COLOURS, ROUND_MARKERS, in_house_style, new_figure
from crysjepa.report.wording import Along

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_NAME = 28
Interval = tuple[float, float]


@dataclass(frozen=True)
class Point:
    """A set of crystals on the novelty–stability plane, with intervals; all fractions."""

    name: str
    novel: float
    stable: float
    novel_interval: Interval | None = None
    stable_interval: Interval | None = None


@in_house_style
def plane_figure(points: Sequence[Point]) -> Figure | None:
    """Stability against novelty in percent (Fig. 1a, 5b), a marker a set, lines for the intervals.

    None without a point.
    """
    if not points:
        return None
    figure = new_figure(figsize=(7.2, 5.4))
    axes = figure.subplots()
    for i, point in enumerate(points):
        colour = ROUND_COLOURS[i % 6]
        x, y = 100 * point.novel, 100 * point.stable
        if point.novel_interval:
            axes.plot([100 * v for v in point.novel_interval], [y, y], color=colour, lw=1.6, zorder=2)
        if point.stable_interval:
            axes.plot([x, x], [100 * v for v in point.stable_interval], color=colour, lw=1.6, zorder=2)
        axes.plot(
            [x], [y], ls="", marker=ROUND_MARKERS[(i // 6 + i) % 6], markersize=8, color=colour,
            markeredgecolor=INK, markeredgewidth=0.6, zorder=3,
        )  # fmt: skip
    axes.set_xlabel("novel, % of all crystals")
    axes.set_ylabel("stable, % of all crystals")
    axes.grid()
    axes.margins(0.16)
    place_labels(figure, axes, [(100 * p.novel, 100 * p.stable, plain(p.name, _MAX_NAME)) for p in points])
    return figure


@in_house_style
def energies_figure(
    sets: Mapping[str, NDArray[np.float64]], threshold: float | None, *, highest: float = 1.0
) -> Figure | None:
    """Distributions of e_above_hull in eV/atom (Fig. 4), as shares of all crystals of a set, a line a set.

    ``sets`` holds a value for each crystal, NaN where there is none. Energies beyond ``highest`` are counted
    in the last bin. None if no energy is known.
    """
    shown = {name: values for name, values in sets.items() if np.isfinite(values).any()}
    if not shown:
        return None
    lowest = min(float(np.nanmin(v)) for v in shown.values())
    edges = np.arange(np.floor(min(max(lowest, -0.5), 0.0) / 0.025), round(highest / 0.025) + 1) * 0.025
    figure = new_figure(figsize=(8.4, 4.2))
    axes = figure.subplots()
    for i, (name, values) in enumerate(shown.items()):
        known = np.clip(values[np.isfinite(values)], edges[0], edges[-1] - 1e-9)
        heights = 100 * np.histogram(known, edges)[0] / len(values)
        axes.stairs(heights, edges, color=ROUND_COLOURS[i % 6], lw=1.6,
                    ls=("-", "--", ":", "-.")[i % 4], label=plain(name, _MAX_NAME))  # fmt: skip
    if threshold is not None:
        axes.axvline(threshold, color=INK, lw=1.2, ls=(0, (5, 3)))
    axes.set_xlabel(f"energy above hull (eV/atom; {highest:g} and more in the last bin)")
    axes.set_ylabel("% of all crystals")
    axes.grid(axis="y")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0)
    axes.legend()
    return figure


@in_house_style
def tradeoff_figure(curves: Mapping[str, Any], along: Along) -> Figure | None:
    """Cumulative rates in percent over percentiles of a distance (Fig. 1b, 5a), or of another column.

    ``curves`` has ``percentiles`` and, for each rate that there is, ``rates[name]`` as fractions and
    ``intervals[name]`` as pairs. None without a rate.
    """
    shown = [name for name in ("stable", "novel", "sun", "vsun") if curves["rates"].get(name)]
    if not shown:
        return None
    figure = new_figure(figsize=(7.6, 4.6))
    axes = figure.subplots()
    x = curves["percentiles"]
    for i, name in enumerate(shown):
        y = [100 * v for v in curves["rates"][name]]
        band = np.array(curves["intervals"][name]) * 100
        colour = ROUND_COLOURS[i % 6]
        axes.fill_between(x, band[:, 0], band[:, 1], color=colour, alpha=0.18, linewidth=0)
        axes.plot(
            x, y, color=colour, lw=1.8, marker=ROUND_MARKERS[i % 6], markersize=4.5, label=RATE_LETTERS[name]
        )
    axes.set_xlabel(f"crystals {along.those_first}, % of those that have one")
    axes.set_ylabel("% of these crystals")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 1.04 * max(axes.dataLim.ymax, 1.0))
    axes.grid(color=LINE)
    figure.legend(loc="outside upper left", ncols=len(shown))  # inside it would lie on curves near 100 %
    return figure
