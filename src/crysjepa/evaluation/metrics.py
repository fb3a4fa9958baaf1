"""V, S, U, N, S.U.N. and V.S.U.N.: judging, rates and hulls under one name."""

from __future__ import annotations

from crysjepa.energy.load_hull import load_hull, scale_of
from crysjepa.evaluation.criteria import Rules, evaluate_table
from crysjepa.evaluation.rates import METRICS, batch_metrics, bootstrap_intervals, crystal_metrics

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
