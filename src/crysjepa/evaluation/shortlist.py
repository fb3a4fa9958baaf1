"""How a short list held up: the verdicts it was printed with, against those of another judgement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.grades import Grade
from crysjepa.evaluation.rates import crystal_metrics, wilson_interval

_FEWEST = 3
"""Crystals that a rank correlation needs to say anything."""


def shortlist_again(before: CandidateTable, after: CandidateTable) -> dict[str, Any] | None:
    """What became of the short list of a run, now that it was judged anew; None if there was none.

    Returns
    -------
    dict
        ``num``; ``stable``, ``new_formula``, ``vsun`` and ``vsun_new_formula``, shares of the list by the new
        judgement, None for what was not judged, with Wilson ``intervals``; ``control``, the same shares of
        all crystals that were relaxed;
        ``spearman`` between the energies above hull before and now (None for fewer than three), and their
        ``median_shift`` in eV/atom.
    """
    if "shortlist_rank" not in before:
        return None
    listed = [i for i, r in zip(before.ids, before.column("shortlist_rank"), strict=True) if r is not None]
    if not listed:
        return None
    shares, intervals = _shares(after, listed)
    control, _ = _shares(after, after.ids)
    found: dict[str, Any] = {"num": len(listed), **shares, "intervals": intervals, "control": control}
    found |= {"spearman": None, "median_shift": None}
    if "e_above_hull" in before and "e_above_hull" in after:
        old, new = (_numbers(t, listed) for t in (before, after))
        both = np.isfinite(old) & np.isfinite(new)
        if both.sum():
            found["median_shift"] = float(np.median(new[both] - old[both]))
        if both.sum() >= _FEWEST and np.ptp(old[both]) and np.ptp(new[both]):
            from scipy.stats import spearmanr  # with scipy.stats: a third of a second

            found["spearman"] = float(spearmanr(old[both], new[both]).statistic)
    return found


def _shares(
    table: CandidateTable, ids: Sequence[str]
) -> tuple[dict[str, float | None], dict[str, list[float] | None]]:
    """Shares of some rows and their intervals; None for what was not judged."""
    rates = crystal_metrics(table.only(ids))
    grades = rates["novelty_grades"]
    new = None if grades is None else grades.get(Grade.NEW_FORMULA, 0)
    shares = {"stable": rates["stable"], "new_formula": None if new is None else new / len(ids)}
    shares |= {name: rates[name] for name in ("vsun", "vsun_new_formula")}
    intervals = {name: rates["intervals"][name] for name in shares if name != "new_formula"}
    return shares, intervals | {"new_formula": None if new is None else wilson_interval(new, len(ids))}


def _numbers(table: CandidateTable, ids: list[str]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in table.column("e_above_hull", ids)], dtype=float)
