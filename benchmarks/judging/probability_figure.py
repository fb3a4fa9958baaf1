"""Reliability diagrams: of crystals that were given a chance, how many are within the limit by DFT."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from crysjepa.evaluation.probability import LIMITS
from crysjepa.evaluation.rates import wilson_interval
from crysjepa.report.style import INK, MUTED, ROUND_COLOURS, ROUND_MARKERS, in_house_style
from judging.probability_rows import name_of, reliability

SAYS = {"p_stable": "at most 0.1 eV/atom above the hull", "p_on_hull": "on the hull or below"}
SHOWN = ("chgnet", "chgnet + sevennet-l3i5")


@in_house_style
def draw(rows: pd.DataFrame, path: Path) -> None:
    """Write a figure of ``rows`` with ``label`` (eV/atom) and columns ``TARGET by JUDGES``, as SVG."""
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 4.1), sharey=True)
    found = {(r["target"], name_of(r["judges"])): r["bins"] for r in reliability(rows)}
    for ax, target in zip(axes, LIMITS, strict=True):
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":")
        for number, judges in enumerate(SHOWN):
            bins = found[target, judges]
            x = np.array([b["mean_chance"] for b in bins])
            y = np.array([b["within"] / b["num"] for b in bins])
            ends = np.array([wilson_interval(b["within"], b["num"]) for b in bins]).T
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
