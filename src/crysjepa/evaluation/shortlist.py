"""How a short list held up: the verdicts it was printed with, against those of another judgement."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr

from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.grades import Grade
from crysjepa.evaluation.rates import wilson_interval

_FEWEST = 3
"""Crystals that a rank correlation needs to say anything."""


def shortlist_again(before: CandidateTable, after: CandidateTable) -> dict[str, Any] | None:
    """What became of the short list of a run, now that it was judged anew; None if there was none.

    Returns
    -------
    dict
        ``num``; ``stable``, ``new_formula``, ``vsun`` and ``vsun_new_formula``, shares of the list by the new
        judgement, with Wilson ``intervals``; ``control``, the same shares of all crystals that were relaxed;
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
            found["spearman"] = float(spearmanr(old[both], new[both]).statistic)
    return found


def _shares(table: CandidateTable, ids: list[str]) -> tuple[dict[str, float], dict[str, list[float]]]:
    def flags(column: str) -> list[bool]:
        return [bool(v) for v in table.column(column, ids)] if column in table else [False] * len(ids)

    grade = table.column("novelty_grade", ids) if "novelty_grade" in table else [None] * len(ids)
    new = [g == Grade.NEW_FORMULA for g in grade]
    vsun = [all(v) for v in zip(*(flags(c) for c in ("valid", "stable", "unique", "novel")), strict=True)]
    hits = {
        "stable": flags("stable"),
        "new_formula": new,
        "vsun": vsun,
        "vsun_new_formula": [a and b for a, b in zip(vsun, new, strict=True)],
    }
    return (
        {name: sum(values) / len(ids) for name, values in hits.items()},
        {name: wilson_interval(sum(values), len(ids)) for name, values in hits.items()},
    )


def _numbers(table: CandidateTable, ids: list[str]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in table.column("e_above_hull", ids)], dtype=float)
