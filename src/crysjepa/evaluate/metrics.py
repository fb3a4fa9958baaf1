"""V, S, U, N, S.U.N. and V.S.U.N.: judging, rates and hulls under one name."""

from __future__ import annotations

from crysjepa.evaluate.hulls import load_hull, scale_of
from crysjepa.evaluate.judging import Rules, evaluate_table
from crysjepa.evaluate.rates import METRICS, batch_metrics, bootstrap_intervals, crystal_metrics

__all__ = [
    "METRICS",
    "Rules",
    "batch_metrics",
    "bootstrap_intervals",
    "crystal_metrics",
    "evaluate_table",
    "load_hull",
    "scale_of",
]
