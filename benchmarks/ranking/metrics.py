"""What an order of crystals is worth: AUC, precision among the best, the share found, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from crysjepa.energy.limits import within

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

ROUNDS = 1000
"""Resamples behind an interval."""
BLOCK = 1_000_000
"""Weights that are looked at together: 8 MB."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Going down a ranking, once for each of K resamples: ``count`` (K, G + 1) crystals passed and ``hits``
    positives among them, from 0 to all of them.

    Each of the G steps is a group of equal scores. Within it the order is taken as random: every number (K,)
    is the mean over all orders.
    """

    count: Floats
    hits: Floats

    def auc(self) -> Floats:
        """Chance that a positive is ranked before a negative; NaN where there is none of either."""
        misses = self.count - self.hits
        pairs = self.hits[:, -1] * misses[:, -1]
        area = np.trapezoid(self.hits, misses, axis=1)
        return np.divide(area, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)

    def precision(self, share: float) -> Floats:
        """Share of positives among the best ``share`` of the crystals."""
        best = self._best(share)
        return self._hits_among(best) / best

    def found(self, share: float) -> Floats:
        """Share of the positives that is among the best ``share`` of the crystals; NaN without a positive."""
        wanted = self.hits[:, -1]
        hits = self._hits_among(self._best(share))
        return np.divide(hits, wanted, out=np.full(len(wanted), np.nan), where=wanted > 0)

    def roc(self) -> tuple[Floats, Floats]:
        """Shares of the negatives and of the positives passed; of the first resample."""
        hits, misses = self.hits[0], self.count[0] - self.hits[0]
        return misses / max(misses[-1], 1.0), hits / max(hits[-1], 1.0)

    def recall_curve(self) -> tuple[Floats, Floats]:
        """Shares of all crystals and of the positives passed; of the first resample."""
        return self.count[0] / self.count[0, -1], self.hits[0] / max(self.hits[0, -1], 1.0)

    def _best(self, share: float) -> Floats:
        return np.maximum(1.0, np.round(share * self.count[:, -1]))

    def _hits_among(self, best: Floats) -> Floats:
        """(K,) positives among the first ``best`` (K,): a straight line within a step."""
        stop = (self.count < best[:, None]).sum(axis=1)
        rows = np.arange(len(best))
        low, high = self.count[rows, stop - 1], self.count[rows, stop]
        part = (best - low) / (high - low)
        return (1 - part) * self.hits[rows, stop - 1] + part * self.hits[rows, stop]


class Ranked:
    """Crystals in the order of their scores (B,), lowest first; ``positive`` (B,) are those that are wanted.

    A crystal that was not scored has the score inf. Raises ValueError for NaN.
    """

    def __init__(self, scores: Floats, positive: Flags) -> None:
        if np.isnan(scores).any():
            raise ValueError("a score is NaN; a crystal that was not scored has the score inf")
        self._order = np.argsort(scores, kind="stable")
        ordered = scores[self._order]
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self._positive = positive[self._order].astype(float)

    def steps(self, weights: Floats | None = None) -> Steps:
        """``weights`` (K, B) say how often each resample drew each crystal; by default all once."""
        each = np.ones((1, len(self._order))) if weights is None else weights[:, self._order]
        return Steps(self._passed(each), self._passed(each * self._positive))

    def _passed(self, each: Floats) -> Floats:
        sums = np.add.reduceat(each, self._starts, axis=1)
        return np.concatenate([np.zeros((len(each), 1)), np.cumsum(sums, axis=1)], axis=1)


def number_of(share: float, total: float) -> int:
    """How many crystals the best ``share`` of them are: at least one."""
    return max(1, round(share * total))


def perfect_found(share: float, positive: Flags) -> float:
    """What a ranking that knows the outcome finds: NaN without a positive."""
    wanted = int(positive.sum())
    return min(1.0, number_of(share, len(positive)) / wanted) if wanted else float("nan")


def spearman(scores: Floats, truth: Floats) -> float:
    """Correlation of ranks; scores that are inf share the last. NaN where either is constant."""
    a, b = rankdata(scores), rankdata(truth)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap 95 % interval; None where there is nothing to compute it from."""

    value: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Bootstrap:
    """Numbers of several rankings of the same B crystals, over the same resamples of these crystals.

    Since the resamples are shared, the difference of two rankings has an interval of its own, which is
    narrower than the two intervals suggest.
    """

    def __init__(self, num_crystals: int, *, rounds: int = ROUNDS, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        draws = (rng.integers(num_crystals, size=num_crystals) for _ in range(rounds))
        weights = np.array([np.bincount(d, minlength=num_crystals) for d in draws], dtype=float)
        self._weights = np.array_split(weights, -(-weights.size // BLOCK))
        self._kept: dict[tuple[str, str], Floats] = {}

    def estimate(
        self, ranking: str, numbers: Callable[[Floats | None], Mapping[str, Floats]]
    ) -> dict[str, Estimate]:
        """``numbers(None)`` are the values (1,), ``numbers(weights)`` those of resamples (K,)."""
        values = [numbers(None), *(numbers(w) for w in self._weights)]
        found = {name: np.concatenate([v[name] for v in values]) for name in values[0]}
        self._kept |= {(ranking, name): array for name, array in found.items()}
        return {name: _estimate(array) for name, array in found.items()}

    def difference(self, first: str, second: str, name: str) -> Estimate:
        """Of two rankings' numbers that were estimated before."""
        return _estimate(self._kept[first, name] - self._kept[second, name])


def _estimate(values: Floats) -> Estimate:
    if not np.isfinite(values[0]):
        return Estimate(None, None, None)
    others = values[1:][np.isfinite(values[1:])]
    if not len(others):
        return Estimate(float(values[0]), None, None)
    low, high = np.quantile(others, [0.025, 0.975])
    return Estimate(float(values[0]), float(low), float(high))


def finite_or_none(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return float(value) if np.isfinite(value) else None


def judge_rankings(
    scores: Mapping[str, Floats],
    truth: Floats,
    *,
    limits: tuple[float, ...],
    shares: tuple[float, ...],
    rounds: int = ROUNDS,
) -> tuple[dict[str, dict[str, Any]], Bootstrap]:
    """Every ranking of the same crystals against ``truth`` (B,), energies above the hull in eV/atom.

    For each limit (stable at or below it): AUC; and among the best ``shares``, precision, enrichment over
    random, and the share found. NaN in ``truth`` (a crystal that could not be relaxed) is not stable, and
    left out of Spearman's correlation.
    """
    bootstrap = Bootstrap(len(truth), rounds=rounds)
    known = np.isfinite(truth)
    judged: dict[str, dict[str, Any]] = {}
    for name, values in scores.items():
        judged[name] = {
            "num_scored": int(np.isfinite(values).sum()),
            "spearman": finite_or_none(spearman(values[known], truth[known])),
        }
        ranked = {f"{limit:g}": Ranked(values, stable(truth, limit)) for limit in limits}
        estimates = bootstrap.estimate(name, partial(_numbers, ranked, shares))
        judged[name] |= {key: estimate.to_dict() for key, estimate in estimates.items()}
        for limit in limits:
            base = float(stable(truth, limit).mean())
            for share in shares:
                key = f"{limit:g}_best_{share:g}"
                precision = estimates[f"precision_{key}"].value
                judged[name][f"enrichment_{key}"] = (
                    precision / base if base and precision is not None else None
                )
    return judged, bootstrap


def _numbers(
    ranked: Mapping[str, Ranked], shares: tuple[float, ...], weights: Floats | None
) -> dict[str, Floats]:
    numbers = {}
    for limit, ranking in ranked.items():
        steps = ranking.steps(weights)
        numbers[f"auc_{limit}"] = steps.auc()
        for share in shares:
            numbers[f"precision_{limit}_best_{share:g}"] = steps.precision(share)
            numbers[f"found_{limit}_best_{share:g}"] = steps.found(share)
    return numbers


def stable(truth: Floats, limit: float) -> Flags:
    """At or below ``limit`` eV/atom above the hull; NaN is not."""
    return within(truth, limit)
