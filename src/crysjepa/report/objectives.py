"""What was asked for beyond stability: rates, the front in figures, and values of each crystal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crysjepa.properties.aims import by_judge
from crysjepa.report.results import Results, Round, numbers, plain, real, truths
from crysjepa.report.style import (
    HIGHLIGHT,
    INK,
    MUTED,
    ROUND_COLOURS,
    ROUND_MARKERS,
    in_house_style,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATES = {
    "meets_targets": "meet the targets",
    "stable_and_meets": "and are stable",
    "vsun_and_meets": "and are V.S.U.N.",
}
_LOWEST, _HIGHEST = -0.15, 0.6
"""eV/atom above hull that the figures show; what lies beyond stands at the edge."""


@dataclass(frozen=True)
class Aim:
    """An objective, as ``metrics.json`` tells of it."""

    text: str
    column: str
    name: str
    unit: str
    upward: bool
    target: float | None
    about: str


@dataclass(frozen=True)
class Row:
    """Rates of some crystals: shares of 1 with intervals, "" where there are none."""

    name: str
    num: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """A property of a crystal, and what further judges say of it."""

    name: str
    value: float | None
    error: float | None
    unit: str
    judges: tuple[tuple[str, float | None], ...]


def aims_of(results: Results) -> list[Aim]:
    """The objectives of a run, none where there were none."""
    listed = results.metrics.get("objectives")
    return [_aim(one) for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []


def _aim(one: Mapping[str, Any]) -> Aim:
    return Aim(
        text=plain(one.get("objective"), 80),
        column=plain(one.get("column"), 80),
        name=plain(one.get("property"), 80),
        unit=plain(one.get("unit"), 20),
        upward=plain(one.get("sense")) in ("max", ">="),
        target=real(one.get("target")),
        about=f"{plain(one.get('description'), 300)}; {plain(one.get('source'), 400)}",
    )


def rows_of(rounds: Sequence[Round]) -> list[Row]:
    """Rates of each round, of its control, and of the generator that learnt at random."""
    found = []
    for part in rounds:
        control, learnt = part.rates.get("control"), part.rates.get("learnt_at_random")
        kinds = {
            f"{part.name}, chosen": part.rates,
            f"{part.name}, at random of what was drawn": control,
            f"{part.name}, by a generator that learnt at random": learnt,
        }
        for name, rates in kinds.items():
            aimed = rates.get("aimed") if isinstance(rates, Mapping) else None
            if isinstance(aimed, Mapping):
                found.append(
                    Row(name, int(real(aimed.get("num")) or 0), tuple(_cell(aimed, k) for k in RATES))
                )
    return found


def _cell(aimed: Mapping[str, Any], key: str) -> str:
    value, intervals = real(aimed.get(key)), aimed.get("intervals")
    interval = intervals.get(key) if isinstance(intervals, Mapping) else None
    ends = [real(end) for end in interval] if isinstance(interval, list | tuple) else []
    if value is None or len(ends) != 2 or ends[0] is None or ends[1] is None:
        return "–"
    return f"{100 * value:.1f} ({100 * ends[0]:.0f}–{100 * ends[1]:.0f})"


def values_of(results: Results, aims: Sequence[Aim], row: int) -> tuple[Value, ...]:
    """Each property of a crystal once."""
    record, found = results.record(row), {}
    for aim in aims:
        judges = tuple(
            (name, real(record[column]))
            for name, _ in results.judges
            if (column := by_judge(aim.column, name)) in results.frame
        )
        found[aim.column] = Value(
            aim.name, real(record.get(aim.column)), real(record.get(f"{aim.column}_error")), aim.unit, judges
        )
    return tuple(found.values())


@in_house_style
def front_figure(results: Results, aims: Sequence[Aim], listed: Sequence[int]) -> Figure | None:
    """A panel for each property: it against the energy above the hull, the closed one where it was closed.

    None where no crystal has both.
    """
    frame = results.frame
    above = _above(frame)
    shown = {a.column: a for a in aims if np.isfinite(above + numbers(frame, a.column)).any()}
    if not shown:
        return None
    wide = min(len(shown), 2)
    tall = -(-len(shown) // wide)
    figure = new_figure(figsize=(9.2, 0.9 + 3.3 * tall))
    panels = figure.subplots(tall, wide, squeeze=False).ravel()
    x = np.clip(above, _LOWEST, _HIGHEST)
    for axes, aim in zip(panels, shown.values(), strict=False):
        same = [a for a in aims if a.column == aim.column]
        _panel(axes, x, numbers(frame, aim.column), results, same, listed)
    for axes in panels[len(shown) :]:
        axes.remove()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)))
    return figure


def _panel(
    axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], results: Results, aims: Sequence[Aim],
    listed: Sequence[int],
) -> None:  # fmt: skip
    there = np.isfinite(x) & np.isfinite(y)
    for i, part in enumerate(results.rounds):
        rows = part.rows & there
        axes.scatter(
            x[rows], y[rows], s=14, marker=ROUND_MARKERS[i % 6], color=ROUND_COLOURS[i % 6], alpha=0.6,
            linewidth=0, zorder=2, label=plain(part.name, 24), rasterized=bool(rows.sum() > 1500),
        )  # fmt: skip
    on = truths(results.frame, "on_front").fillna(False).to_numpy(dtype=bool) & there
    axes.scatter(x[on], y[on], s=46, facecolor="none", edgecolor=INK, linewidth=1.0, zorder=3, label="front")
    stars = [row for row in listed if there[row]]
    axes.scatter(
        x[stars], y[stars], s=120, marker="*", color=HIGHLIGHT, edgecolor=INK, linewidth=0.7, zorder=4,
        label="on the short list",
    )  # fmt: skip
    for aim in aims:
        if aim.target is not None:
            axes.axhline(aim.target, color=MUTED, lw=1.2, ls="--", zorder=1)
    if results.threshold is not None:
        axes.axvline(results.threshold, color=MUTED, lw=1.2, ls="--", zorder=1)
    axes.set_xlim(_LOWEST - 0.02, _HIGHEST + 0.02)
    axes.set_xlabel("energy above hull (eV/atom)")
    unit = f" ({aims[0].unit})" if aims[0].unit else ""
    axes.set_ylabel(f"{aims[0].name.replace('_', ' ')}{unit}")
    axes.grid(axis="both")


def _above(frame: pd.DataFrame) -> NDArray[np.float64]:
    closed, known = numbers(frame, "e_above_closed_hull"), numbers(frame, "e_above_hull")
    return np.where(np.isfinite(closed), closed, known)
