"""What can be read out of embeddings: formation energies on chemical systems that the read-out never saw.

A number of its own says little, so the same crystals are also judged by the mean of the known energies and by
a linear model of composition alone: an embedding that does no better than the latter knows of no structure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import element_fractions
from crysjepa.core.crystals import Crystals

FEWEST_KNOWN, FEWEST_HELD_OUT = 10, 5
"""Crystals without which an error means nothing."""
HELD_OUT_SHARE = 0.2
"""Of the chemical systems, where the data have no split of their own."""
NEIGHBOURS = 5

_RIDGE = np.logspace(-6, 2, 17)
_CHUNK = 1024

Floats = NDArray[np.float64]
Kind = Literal["baseline", "embedding", "model"]


@dataclass(frozen=True)
class Readout:
    """Mean absolute error in eV/atom (with its standard error) and mean error of one way to tell energies."""

    name: str
    kind: Kind
    mae: float
    standard_error: float
    mean_error: float


@dataclass(frozen=True)
class HoldOut:
    """Which crystals are held out, and how that was decided.

    ``known`` and ``held_out`` are (B,) and never both True; ``set_aside`` counts those that are neither
    though their energy is known. ``reason`` says why there is nothing to measure, where that is so.
    """

    known: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    how: str
    set_aside: int
    reason: str | None = None


def hold_out_systems(
    systems: Sequence[str], energies: Floats, splits: Sequence[str | None] | None = None
) -> HoldOut:
    """Hold out whole chemical systems: by ``splits`` (train, val, test) if that will do, else by a hash.

    Crystals of the split ``test`` whose chemical system is also among the others are set aside, for the many
    data sets whose split goes by crystals. Energies that are NaN are in neither part.
    """
    by_hash = np.array([_uniform(s) < HELD_OUT_SHARE for s in systems], dtype=bool)
    has_energy = np.isfinite(energies)
    how = f"by a hash, {100 * HELD_OUT_SHARE:.0f} % of the chemical systems (the data have no split)"
    if splits is not None:
        part = np.array([str(s or "").lower() for s in splits])
        names = np.asarray(systems)
        elsewhere = set(names[np.isin(part, ["train", "val"])])
        clean = (part == "test") & has_energy & np.array([s not in elsewhere for s in systems], dtype=bool)
        train = (part == "train") & has_energy
        if clean.sum() >= FEWEST_HELD_OUT and train.sum() >= FEWEST_KNOWN:
            how = "split test against split train, without chemical systems that stand on both sides"
            return HoldOut(train, clean, how, int((has_energy & ~train & ~clean).sum()))
        how = how.replace(
            "the data have no split", f"{clean.sum()} of split test are in systems of their own"
        )
    known, held_out = has_energy & ~by_hash, has_energy & by_hash
    reason = None
    if known.sum() < FEWEST_KNOWN or held_out.sum() < FEWEST_HELD_OUT:
        reason = (
            f"{known.sum()} crystals to learn from and {held_out.sum()} held out are too few: "
            f"it takes {FEWEST_KNOWN} and {FEWEST_HELD_OUT}"
        )
    return HoldOut(known, held_out, how, 0, reason)


def compare_readouts(
    embeddings: Floats, crystals: Crystals, energies: Floats, parts: HoldOut, own: Floats | None = None
) -> list[Readout]:
    """Errors on the held-out crystals, baselines first; ``own`` (B,) are the model's own energies, if any."""
    known, held_out = parts.known, parts.held_out
    y, truth = energies[known], energies[held_out]
    near = nearest_rows(embeddings[held_out], embeddings[known], NEIGHBOURS)
    fractions = element_fractions(crystals)
    guesses: list[tuple[str, Kind, Floats]] = [
        ("mean of the known energies", "baseline", np.full(len(truth), y.mean())),
        ("composition, linear", "baseline", ridge(fractions[known], y, fractions[held_out])),
        ("embedding, nearest neighbour", "embedding", y[near[:, 0]]),
        (f"embedding, {near.shape[1]} nearest neighbours", "embedding", y[near].mean(axis=1)),
        ("embedding, linear", "embedding", ridge(embeddings[known], y, embeddings[held_out])),
    ]
    if own is not None:
        guesses.append(("the model's own read-out", "model", own[held_out]))
    return [_readout(name, kind, guess - truth) for name, kind, guess in guesses]


def _readout(name: str, kind: Kind, errors: Floats) -> Readout:
    size = np.abs(errors)
    spread = float(size.std(ddof=1) / np.sqrt(len(size)))
    return Readout(name, kind, float(size.mean()), spread, float(errors.mean()))


def ridge(inputs: Floats, targets: Floats, queries: Floats) -> Floats:
    """Ridge regression with an intercept on standardised inputs (n, D), (n,) → values (m,) at queries (m, D).

    The penalty is the one with the least generalised cross-validation error [Golub, Heath and Wahba,
    Technometrics 21, 215 (1979)] on the inputs alone; columns that do not vary are left out.
    """
    centre, scale = inputs.mean(axis=0), inputs.std(axis=0)
    vary = scale > 1e-9 * (np.abs(centre) + scale.max(initial=0.0) + 1e-30)
    if not vary.any():
        return np.full(len(queries), targets.mean())
    x = (inputs[:, vary] - centre[vary]) / scale[vary]
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    mean = targets.mean()
    along = u.T @ (targets - mean)
    count = len(targets)
    best: tuple[float, Floats] | None = None
    for penalty in _RIDGE * count:
        kept = s**2 / (s**2 + penalty)
        left = targets - mean - u @ (kept * along)
        freedom = max(count - 1 - kept.sum(), 1e-9)
        error = float(count * (left @ left) / freedom**2)
        if best is None or error < best[0]:
            best = error, vt.T @ (s / (s**2 + penalty) * along)
    assert best is not None
    return mean + (queries[:, vary] - centre[vary]) / scale[vary] @ best[1]


def nearest_rows(queries: Floats, points: Floats, count: int) -> NDArray[np.int64]:
    """Rows of the ``count`` (or all, if fewer) nearest points (n, D) of each query (m, D), nearest first."""
    count = min(count, len(points))
    squares = (points**2).sum(axis=1)
    found = []
    for start in range(0, len(queries), _CHUNK):
        part = queries[start : start + _CHUNK]
        gaps = squares - 2 * part @ points.T  # ‖query‖² orders nothing
        rows = np.argpartition(gaps, count - 1, axis=1)[:, :count]
        found.append(np.take_along_axis(rows, np.take_along_axis(gaps, rows, 1).argsort(axis=1), 1))
    return np.concatenate(found) if found else np.zeros((0, count), dtype=np.int64)


def _uniform(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
