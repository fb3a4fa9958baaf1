"""Figures of an embedding: its variance spectrum, what its distances say, and the paper's maps.

Each function takes what ``crysjepa diagnose`` saved and returns a matplotlib Figure of its own, or None where
there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crysjepa.report.results import numbers, plain
from crysjepa.report.style import INK, MUTED, PAPER, ROUND_COLOURS, ROUND_MARKERS, in_house_style, new_figure
from crysjepa.report.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENERGY_COLOURS = ("#a50026", "#de3f2e", "#f57f4b", "#fdb863", "#f2d43d")
"""Fig. 3: five equal groups, from red for the lowest formation energies to yellow for the highest."""

_MAX_VECTOR_POINTS = 1500
_SLICES = 12
_DPI = 160  # of the points that are drawn as an image


@in_house_style
def spectrum_figure(spread: Mapping[str, Any]) -> Figure | None:
    """Shares of the variance by direction on a logarithmic axis, and how many directions that amounts to."""
    shares = np.array(spread["variance_shares"], dtype=float)
    if not shares.sum() > 0:
        return None
    figure = new_figure(figsize=(9.2, 3.4))
    left, right = figure.subplots(1, 2, sharex=True)
    place = np.arange(1, len(shares) + 1)
    seen = shares > 1e-12
    left.plot(place[seen], 100 * shares[seen], color=ROUND_COLOURS[0], marker="o", markersize=2.5, lw=1.2)
    left.set_yscale("log")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("")
    left.set_title("Share of the variance in each direction")
    left.set_ylabel("%")
    right.plot(place, 100 * np.cumsum(shares), color=ROUND_COLOURS[0], lw=1.8)
    even = 100 * place / len(shares)
    right.plot(place, even, color=MUTED, lw=1, ls=(0, (1, 2)), label="if all directions shared it alike")
    right.set_title("Share of the variance in the first directions")
    right.set_ylim(0, 103)
    for value, name, dashes in (
        (spread["effective_rank"], "effective rank", (5, 3)),
        (spread["participation_ratio"], "participation ratio", (2, 2)),
    ):
        for axes in (left, right):
            axes.axvline(value, color=INK, lw=1.2, ls=(0, dashes), label=f"{name} {value:.1f}")
    right.legend(loc="lower right", fontsize=9)
    for axes in (left, right):
        axes.set_xlabel(f"direction, of {len(shares)}")
        axes.grid(axis="y")
    return figure


@in_house_style
def distance_figure(agreement: Sequence[Mapping[str, Any]], typical_distance: float) -> Figure | None:
    """Distance between embeddings against |ΔE|: medians and the middle four fifths, a panel a scope."""
    shown = [a for a in agreement if a["bins"] and typical_distance > 0]
    if not shown:
        return None
    figure = new_figure(figsize=(9.2, 3.3))
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, part, colour in zip(panels, shown, ROUND_COLOURS, strict=False):
        bins = part["bins"]
        middle = [(b["low"] + b["high"]) / 2 for b in bins]
        low, median, high = (
            [b[f"distance_{q}"] / typical_distance for b in bins]
            for q in ("10_percent", "median", "90_percent")
        )
        if len(bins) > 1:
            axes.fill_between(middle, low, high, color=colour, alpha=0.22, linewidth=0)
        else:
            axes.plot(middle * 2, low + high, color=colour, lw=2.4)
        axes.plot(middle, median, color=colour, marker="o", markersize=4, lw=1.6)
        found = "none" if part["spearman"] is None else number(part["spearman"], 2)
        scope = plain(part["scope"])
        title = f"{scope[:1].upper()}{scope[1:]}\nSpearman {found}, {part['num_pairs']:,} pairs"
        axes.set_title(title)
        axes.set_xlabel("|ΔE| (eV/atom)")
        axes.set_xlim(left=0)
        axes.grid(axis="y")
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("distance / typical distance")
    return figure


@in_house_style
def crystal_figure(frame: pd.DataFrame) -> Figure | None:
    """Fig. 3, 8(a) and 9: crystals on the map, in five equal groups by formation energy."""
    energies = numbers(frame, "formation_energy_per_atom")
    groups = [(rows, label, ENERGY_COLOURS[i]) for i, (rows, label) in enumerate(_fifths(energies))]
    unknown = np.flatnonzero(~np.isfinite(energies))
    if len(unknown):
        groups.append((unknown, "no formation energy known", "#90969d"))
    return _map(frame, groups, "formation energy (eV/atom)")


@in_house_style
def atom_figure(frame: pd.DataFrame) -> Figure | None:
    """Fig. 8(b): atoms of the most frequent elements on the map, coloured by element, most frequent first."""
    elements = frame["element"].to_numpy(dtype=str)
    names, counts = np.unique(elements, return_counts=True)
    order = names[np.lexsort((names, -counts))]
    groups = [
        (np.flatnonzero(elements == name), f"{plain(name)}, {int((elements == name).sum()):,} atoms", colour)
        for name, colour in zip(order, ROUND_COLOURS, strict=False)
    ]
    return _map(frame, groups, "element")


def _fifths(energies: NDArray[np.float64]) -> list[tuple[NDArray[np.int64], str]]:
    """Rows of five groups of as many crystals each, lowest energies first, and each group's range."""
    known = np.flatnonzero(np.isfinite(energies))
    order = known[np.argsort(energies[known], kind="stable")]
    parts = [rows for rows in np.array_split(order, len(ENERGY_COLOURS)) if len(rows)]
    return [(p, f"{number(energies[p[0]], 2)} to {number(energies[p[-1]], 2)}") for p in parts]


def _map(
    frame: pd.DataFrame, groups: Sequence[tuple[NDArray[np.int64], str, str]], title: str
) -> Figure | None:
    if not len(frame):
        return None
    x, y = numbers(frame, "x"), numbers(frame, "y")
    figure = new_figure(figsize=(9.2, 6.2), dpi=_DPI)
    axes: Axes = figure.subplots()
    style: dict[str, Any] = {
        "s": float(np.clip(24_000 / len(frame), 5, 30)),
        "edgecolor": PAPER,
        "linewidth": 0.15,
        "rasterized": len(frame) > _MAX_VECTOR_POINTS,
    }
    for piece in range(_SLICES):  # a slice of each group in turn, so that no group hides another
        for k, (rows, _, colour) in enumerate(groups):
            some = rows[piece::_SLICES]
            axes.scatter(x[some], y[some], color=colour, marker=ROUND_MARKERS[k], **style)
    for k, (_, label, colour) in enumerate(groups):
        axes.plot([], [], ls="", marker=ROUND_MARKERS[k], color=colour, markersize=6, label=label)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("UMAP 1")
    axes.set_ylabel("UMAP 2")
    axes.set_aspect("equal", adjustable="datalim")
    figure.legend(loc="outside right upper", title=title, alignment="left")
    return figure
