"""Reliability diagrams: of crystals that were given a chance, how many are within the limit by DFT."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from crysjepa.energy.limits import within
from crysjepa.evaluation.probability import LIMITS
from crysjepa.evaluation.rates import wilson_interval
from crysjepa.report.style import INK, MUTED, ROUND_COLOURS, ROUND_MARKERS, in_house_style

BINS = 10
SAYS = {"p_stable": "at most 0.1 eV/atom above the hull", "p_on_hull": "on the hull or below"}
SHOWN = ("chgnet", "chgnet + sevennet-l3i5")


@in_house_style
def draw(rows: pd.DataFrame, path: Path) -> None:
    """Write a figure of ``rows`` with ``label`` (eV/atom) and columns ``TARGET by JUDGES``, as SVG."""
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 4.1), sharey=True)
    for ax, (target, limit) in zip(axes, LIMITS.items(), strict=True):
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":")
        for number, judges in enumerate(SHOWN):
            chances = rows[f"{target} by {judges}"].to_numpy(dtype=float)
            there = np.isfinite(chances)
            chances, hits = chances[there], within(rows["label"].to_numpy(dtype=float)[there], limit)
            bins = np.array_split(np.argsort(chances, kind="stable"), BINS)
            x = np.array([chances[b].mean() for b in bins])
            y = np.array([hits[b].mean() for b in bins])
            ends = np.array([wilson_interval(int(hits[b].sum()), len(b)) for b in bins]).T
            ax.errorbar(
                x, y, yerr=np.abs(ends - y), color=ROUND_COLOURS[number], marker=ROUND_MARKERS[number],
                markersize=4.5, linewidth=1.2, elinewidth=0.8, capsize=2, label=judges,
            )  # fmt: skip
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel=f"chance ({target})", title=SAYS[target])
    axes[0].set_ylabel("share by DFT")
    axes[0].legend(loc="upper left", labelcolor=INK)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
