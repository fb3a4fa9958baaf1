"""The numbers of Matbench Discovery (Riebesell et al., Nat. Mach. Intell. 7, 836, 2025), with intervals.

A crystal is stable at 0 eV/atom above the hull or below, in truth and in prediction; one without a prediction
counts as predicted unstable, and is left out of the errors. So that board defines it
(``matbench_discovery/metrics/discovery.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from ranking.metrics import Bootstrap, Estimate

Floats = NDArray[np.float64]

PREVALENCE = 33_374 / 215_488
"""Share of stable crystals among the board's unique prototypes: TP + FN of every model there, of all."""
NUMBERS = ("F1", "DAF", "precision", "recall", "FPR", "accuracy", "MAE", "RMSE", "R2")
"""``recall`` is the true positive rate too."""


def board_numbers(
    predicted: Floats, truth: Floats, prevalence: float | None = None, weights: Floats | None = None
) -> dict[str, Floats]:
    """:data:`NUMBERS`, each (K,), of predictions (B,) against the truth (B,), eV/atom above the hull.

    Parameters
    ----------
    prevalence
        Weigh stable and unstable crystals so that this share of all is stable. Recall and FPR stay as they
        are; precision, F1, DAF, accuracy and the errors do not.
    weights
        (K, B), how often each resample drew each crystal; by default every crystal once.

    NaN where a number is not defined (precision without a predicted stable crystal).
    """
    weights = np.ones((1, len(truth))) if weights is None else weights
    actual, said = truth <= 0, predicted <= 0  # NaN is neither
    if prevalence is not None:
        share = weights @ actual / weights.sum(axis=1)
        with np.errstate(divide="ignore"):
            up, down = prevalence / share, (1 - prevalence) / (1 - share)
        weights = weights * np.where(actual[None, :], up[:, None], down[:, None])
    total = weights.sum(axis=1)
    tp, fp = weights @ (actual & said), weights @ (~actual & said)
    positive = weights @ actual
    there = np.isfinite(predicted)
    error, kept = (predicted - truth)[there], weights[:, there]
    known = kept.sum(axis=1)
    square = kept @ error**2 / known
    mean = kept @ truth[there] / known
    variance = kept @ truth[there] ** 2 / known - mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = tp / (tp + fp)
        return {
            "F1": 2 * tp / (tp + fp + positive),
            "DAF": precision * total / positive,
            "precision": precision,
            "recall": tp / positive,
            "FPR": fp / (total - positive),
            "accuracy": (tp + total - positive - fp) / total,
            "MAE": kept @ np.abs(error) / known,
            "RMSE": np.sqrt(square),
            "R2": 1 - square / variance,
        }


def judged_by_board(
    predictions: Mapping[str, Floats], truth: Floats, prevalence: float | None, *, rounds: int = 1000
) -> dict[str, dict[str, Estimate]]:
    """The board's numbers of several predictions of the same crystals, over the same resamples of them."""
    bootstrap = Bootstrap(len(truth), rounds=rounds)
    return {
        name: bootstrap.estimate(name, partial(board_numbers, values, truth, prevalence))
        for name, values in predictions.items()
    }


def cascade(first: Floats, second: Floats, share: float) -> Floats:
    """Predictions (B,) in which ``second`` takes the place of ``first`` for the undecided ``share``.

    Undecided are the crystals that ``first`` puts nearest to the hull, above or below: those with the
    smallest magnitude. A crystal without a first prediction is the least decided. Where ``second`` has none,
    the first stays.
    """
    away = np.where(np.isfinite(first), np.abs(first), -1.0)
    chosen = np.argsort(away, kind="stable")[: round(share * len(first))]
    found = first.copy()
    found[chosen] = np.where(np.isfinite(second[chosen]), second[chosen], first[chosen])
    return found


def halves(chemical_systems: Sequence[str]) -> NDArray[np.bool_]:
    """(B,) which half each crystal is in: whole chemical systems, by a hash of their names."""
    return np.array([sha256(s.encode()).digest()[0] % 2 == 0 for s in chemical_systems])


def with_threshold_of_the_other_half(
    predicted: Floats, truth: Floats, half: NDArray[np.bool_], prevalence: float | None
) -> tuple[Floats, tuple[float, float]]:
    """Predictions (B,), moved so that 0 is the best threshold (F1) of the *other* half; both thresholds."""
    moved, thresholds = predicted.copy(), []
    for part in (half, ~half):
        other = ~part
        steps = np.unique(np.nanquantile(predicted[other], np.linspace(0.01, 0.99, 393)))
        scores = [
            board_numbers(predicted[other] - t, truth[other], prevalence)["F1"][0] for t in steps.tolist()
        ]
        best = float(steps[int(np.nanargmax(scores))])
        moved[part] -= best
        thresholds.append(best)
    return moved, (thresholds[0], thresholds[1])
