"""The reliability diagram of the chances: how many of those given such a chance DFT confirmed."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crysjepa.report.results import numbers, plain
from crysjepa.report.style import MUTED, ROUND_COLOURS, ROUND_MARKERS, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@lru_cache(maxsize=1)
def curves() -> dict[str, list[dict[str, Any]]]:
    """Bins of the shipped model's reliability for ``p_stable``, by the judges as ``p_from`` names them.

    Each has ``num`` crystals, their ``mean_chance`` and how many are ``within`` the limit by DFT; see
    ``benchmarks/fit_probability.py``.
    """
    text = (resources.files("crysjepa.weights") / "p_stable.json").read_text(encoding="utf-8")
    found = json.loads(text)["card"]["reliability"]["curves"]
    return {", ".join(c["judges"]): c["bins"] for c in found if c["target"] == "p_stable"}


@in_house_style
def reliability_figure(frame: pd.DataFrame) -> Figure | None:
    """A curve for each set of judges that gave a chance here, and below it the chances; None without one."""
    chances = numbers(frame, "p_stable")
    if "p_from" not in frame or not np.isfinite(chances).any():
        return None
    by = np.array([plain(value).partition(";")[0] for value in frame["p_from"]])
    shown = [judges for judges in curves() if (np.isfinite(chances) & (by == judges)).any()]
    if not shown:
        return None
    from scipy.stats import binomtest

    figure = new_figure(figsize=(5.6, 5.4))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=":")
    edges = np.linspace(0, 1, 21)
    for i, judges in enumerate(shown):
        bins = curves()[judges]
        x = np.array([b["mean_chance"] for b in bins])
        y = np.array([b["within"] / b["num"] for b in bins])
        ends = [binomtest(b["within"], b["num"]).proportion_ci(method="wilson") for b in bins]
        errors = np.abs(np.array([[e.low, e.high] for e in ends]).T - y)
        colour = ROUND_COLOURS[i % 6]
        upper.errorbar(
            x, y, yerr=errors, color=colour, marker=ROUND_MARKERS[i % 6], markersize=5, lw=1.4, capsize=2,
            label=f"by {judges}",
        )  # fmt: skip
        own = chances[np.isfinite(chances) & (by == judges)]
        lower.hist(own, edges, color=colour, alpha=0.7)
    upper.set_ylabel("share that DFT confirms")
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    upper.grid()
    lower.set_xlabel("chance that DFT agrees")
    lower.set_ylabel("crystals here")
    lower.yaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside upper left", ncols=len(shown))
    return figure
