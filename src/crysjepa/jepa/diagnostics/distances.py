"""How embeddings fill their space, and whether the distances between them say anything about energies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

Floats = NDArray[np.float64]

NUM_PAIRS = 200_000
"""Pairs of crystals that are looked at, at most, for each question."""
FEWEST_PAIRS = 10
BAND = 0.1
"""eV/atom; width of the windows in which energies count as close: the usual limit above the hull."""
SAME = 1e-6
"""Embeddings that differ by less than this share of their length differ by rounding."""

_CHUNK = 16_384
_NUM_BINS = 12


# -- the embedding by itself -----------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """How embeddings fill their D dimensions.

    ``variance_shares`` (D,) are the covariance's eigenvalues over their sum, largest first (zeros if all
    embeddings are the same). Distances are Euclidean, between two crystals; ``typical_distance`` is the
    median.
    """

    num_crystals: int
    width: int
    effective_rank: float
    participation_ratio: float
    directions_for_90_percent: int
    typical_distance: float
    distance_5_percent: float
    distance_95_percent: float
    typical_length: float
    mean_cosine: float
    collapsed_to_a_point: bool
    variance_shares: list[float] = field(repr=False)


def variance_spectrum(embeddings: Floats) -> Floats:
    """Eigenvalues (D,) of the covariance of embeddings (B, D), largest first."""
    centred = embeddings - embeddings.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False) ** 2 / max(1, len(embeddings) - 1)
    return np.pad(values, (0, embeddings.shape[1] - len(values)))


def effective_rank(variances: Floats) -> float:
    """exp(−Σ p log p) with p = variances over their sum [Roy and Vetterli, EUSIPCO 2007].

    Between 1 (one direction has it all, or nothing varies) and the number of variances (all are equal).
    """
    if not variances.sum() > 0:
        return 1.0
    p = variances / variances.sum()
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def participation_ratio(variances: Floats) -> float:
    """(Σ λ)² / Σ λ²: as the effective rank, but directions of little variance count less."""
    return float(variances.sum() ** 2 / (variances**2).sum()) if variances.sum() > 0 else 1.0


def measure_spread(embeddings: Floats, *, seed: int = 0) -> Spread:
    """How embeddings (B, D) fill their space. Raises ValueError for fewer than two."""
    if len(embeddings) < 2:
        raise ValueError(f"{len(embeddings)} embedded crystals are too few to diagnose: it takes 2")
    i, j = sample_pairs(np.zeros(len(embeddings), dtype=np.int64), seed=seed)
    gaps = pair_distances(embeddings, i, j)
    lengths = np.linalg.norm(embeddings, axis=1)
    units = embeddings / np.maximum(lengths, 1e-30)[:, None]
    typical_length, typical = float(np.median(lengths)), float(np.median(gaps))
    largest = float(np.abs(embeddings - embeddings.mean(axis=0)).max())
    point = largest <= SAME * float(np.abs(embeddings).max())
    # The spectrum of rounding is flat and would look like the best of all.
    variances = variance_spectrum(embeddings) * (not point)
    shares = variances / max(float(variances.sum()), 1e-300)
    return Spread(
        num_crystals=len(embeddings),
        width=embeddings.shape[1],
        effective_rank=effective_rank(variances),
        participation_ratio=participation_ratio(variances),
        directions_for_90_percent=1 if point else int(np.searchsorted(np.cumsum(shares), 0.9) + 1),
        typical_distance=typical,
        distance_5_percent=float(np.quantile(gaps, 0.05)),
        distance_95_percent=float(np.quantile(gaps, 0.95)),
        typical_length=typical_length,
        mean_cosine=float(np.einsum("bd,bd->b", units[i], units[j]).mean()),
        collapsed_to_a_point=point,
        variance_shares=shares.tolist(),
    )


def sample_pairs(
    groups: NDArray[np.int64], most: int = NUM_PAIRS, *, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (P,), (P,) of pairs that share a group: all of them, or about ``most`` drawn uniformly."""
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    pairs = sizes * (sizes - 1) // 2
    ends = np.cumsum(pairs)
    total = int(ends[-1]) if len(ends) else 0
    if total <= most:
        flat = np.arange(total)
    else:
        flat = np.unique(np.random.default_rng(seed).integers(total, size=most))
    group = np.searchsorted(ends, flat, side="right")
    k = flat - (ends - pairs)[group]
    # k = j (j − 1) / 2 + i counts the pairs i < j of a group; the root may be off by rounding
    j = ((1 + np.sqrt(1 + 8.0 * k)) / 2).astype(np.int64)
    j -= j * (j - 1) // 2 > k
    j += j * (j + 1) // 2 <= k
    i = k - j * (j - 1) // 2
    return order[starts[group] + i], order[starts[group] + j]


def pair_distances(embeddings: Floats, i: NDArray[np.int64], j: NDArray[np.int64]) -> Floats:
    """‖h_i − h_j‖ of the pairs: (P,)."""
    parts = [slice(s, s + _CHUNK) for s in range(0, len(i), _CHUNK)]
    gaps = [np.linalg.norm(embeddings[i[p]] - embeddings[j[p]], axis=1) for p in parts]
    return np.concatenate(gaps) if gaps else np.zeros(0)


# -- distances and energies ------------------------------------------------------------------------


@dataclass(frozen=True)
class Bin:
    """Pairs whose |ΔE| is between ``low`` and ``high`` eV/atom, and quantiles of their distances."""

    low: float
    high: float
    num_pairs: int
    distance_10_percent: float
    distance_median: float
    distance_90_percent: float


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlation of embedding distance with |ΔE_f|, over the pairs of ``scope``.

    ``median_of_groups`` is the median over the groups (chemical systems, energy bands) that have at least
    :data:`FEWEST_PAIRS` pairs of their own; ``reason`` says why a number is missing.
    """

    scope: str
    spearman: float | None
    num_pairs: int
    median_of_groups: float | None = None
    num_groups: int | None = None
    reason: str | None = None
    bins: list[Bin] = field(default_factory=list, repr=False)


def measure_agreement(
    embeddings: Floats, systems: Sequence[str], energies: Floats, *, seed: int = 0
) -> list[Agreement]:
    """Over all pairs; over those of one chemical system; over those of one window of :data:`BAND` eV/atom.

    The last asks what ranking needs: whether of two crystals of like energy the nearer is the more alike.
    Energies (B,) in eV/atom are finite.
    """
    numbered = {s: k for k, s in enumerate(sorted(set(systems)))}
    scopes = {
        "all pairs": np.zeros(len(energies), dtype=np.int64),
        "pairs of one chemical system": np.array([numbered[s] for s in systems], dtype=np.int64),
        f"pairs within {BAND:g} eV/atom": np.floor(energies / BAND).astype(np.int64),
    }
    return [
        _agreement(name, embeddings, energies, groups, seed=seed, single=k == 0)
        for k, (name, groups) in enumerate(scopes.items())
    ]


def _agreement(
    scope: str, embeddings: Floats, energies: Floats, groups: NDArray[np.int64], *, seed: int, single: bool
) -> Agreement:
    i, j = sample_pairs(groups, seed=seed)
    gaps, differences = pair_distances(embeddings, i, j), np.abs(energies[i] - energies[j])
    length = float(np.abs(embeddings).max(initial=0.0))
    overall, reason = _spearman(gaps, differences, length)
    if single:
        return Agreement(scope, overall, len(i), reason=reason, bins=_bins(gaps, differences))
    order = np.argsort(groups[i], kind="stable")
    cuts = np.flatnonzero(np.diff(groups[i][order])) + 1
    each = [_spearman(gaps[rows], differences[rows], length)[0] for rows in np.split(order, cuts)]
    found = [v for v in each if v is not None]
    middle = float(np.median(found)) if found else None
    return Agreement(scope, overall, len(i), middle, len(found), reason, _bins(gaps, differences))


def _spearman(gaps: Floats, differences: Floats, length: float) -> tuple[float | None, str | None]:
    """The correlation, or None and why there is none."""
    if len(gaps) < FEWEST_PAIRS:
        return None, f"{len(gaps)} pairs are too few: it takes {FEWEST_PAIRS}"
    if np.ptp(gaps) <= SAME * length:
        return None, "all distances are the same"
    if np.ptp(differences) == 0:
        return None, "all energy differences are the same"
    return float(spearmanr(gaps, differences).statistic), None


def _bins(gaps: Floats, differences: Floats) -> list[Bin]:
    """Bins of as many pairs each, in the order of |ΔE|."""
    if len(gaps) < FEWEST_PAIRS:
        return []
    order = np.argsort(differences, kind="stable")
    out = []
    for rows in np.array_split(order, min(_NUM_BINS, len(order) // FEWEST_PAIRS)):
        low, middle, high = (float(q) for q in np.quantile(gaps[rows], [0.1, 0.5, 0.9]))
        first, last = float(differences[rows[0]]), float(differences[rows[-1]])
        out.append(Bin(first, last, len(rows), low, middle, high))
    return out
