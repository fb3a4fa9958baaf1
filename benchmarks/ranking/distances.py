"""What variants of the paper's distance (Eq. 11) are worth, on the same embeddings.

The references of a crystal are those of its chemical system and its subsystems, as in the paper.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import subsystems

Floats = NDArray[np.float64]

HULL_WIDTH = 0.05
"""eV/atom: a reference this far above the hull counts 1/e as much as one on it."""
FOLDS = 5
PENALTIES = np.logspace(-4, 2, 13)
HIGHEST = 0.5
"""eV/atom: beyond this, how far above the hull does not matter to the fit."""


@dataclass(frozen=True)
class References:
    """Reference crystals: embeddings (R, D), chemical systems (R), energies above hull (R,) in eV/atom."""

    embeddings: Floats
    systems: Sequence[str]
    e_above_hull: Floats

    def rows_by_system(self) -> dict[str, list[int]]:
        """Rows of each chemical system."""
        rows: dict[str, list[int]] = {}
        for row, system in enumerate(self.systems):
            rows.setdefault(system, []).append(row)
        return rows

    def mapped(self, transform: Callable[[Floats], Floats]) -> References:
        """The same in other coordinates."""
        return References(transform(self.embeddings), self.systems, self.e_above_hull)


Measure = Callable[[Floats, Floats, Floats], float]
"""A crystal's embedding (D,), its references' (n, D) and their energies above the hull (n,) → a distance."""


def mean_square(h: Floats, refs: Floats, above: Floats) -> float:
    """D_C, Eq. 11."""
    return float(_squares(h, refs).mean())


def nearest(h: Floats, refs: Floats, above: Floats) -> float:
    """The closest reference."""
    return float(_squares(h, refs).min())


def hull_weighted(h: Floats, refs: Floats, above: Floats) -> float:
    """Eq. 11 with references weighted by how close to the hull they are."""
    weights = np.exp(-np.maximum(above, 0.0) / HULL_WIDTH)
    return float(weights @ _squares(h, refs) / max(weights.sum(), 1e-300))


def spread(refs: Floats) -> float:
    """Mean square distance between two references; NaN for fewer than two."""
    n = len(refs)
    return float(2 * n / (n - 1) * refs.var(axis=0).sum()) if n > 1 else float("nan")


def score_by(measure: Measure, references: References, embeddings: Floats, systems: Sequence[str]) -> Floats:
    """A distance for every crystal (B,): inf where it has no reference."""
    rows = references.rows_by_system()
    scores = np.full(len(embeddings), np.inf)
    for i, (h, system) in enumerate(zip(embeddings, systems, strict=True)):
        chosen = _within(rows, system)
        if chosen:
            scores[i] = measure(h, references.embeddings[chosen], references.e_above_hull[chosen])
    return scores


def system_normalised(references: References) -> Measure:
    """Eq. 11 over how far the references are from each other; where there is one, the median over systems."""
    rows = references.rows_by_system()
    known = [spread(references.embeddings[_within(rows, s)]) for s in rows]
    typical = float(np.nanmedian(known)) if np.isfinite(known).any() else 1.0

    def measure(h: Floats, refs: Floats, above: Floats) -> float:
        own = spread(refs)
        return mean_square(h, refs, above) / max(own if np.isfinite(own) else typical, 1e-12)

    return measure


def standardiser(embeddings: Floats) -> Callable[[Floats], Floats]:
    """Zero mean and unit variance in each direction."""
    centre, scale = embeddings.mean(axis=0), embeddings.std(axis=0)
    scale = np.where(scale > 1e-9, scale, np.inf)
    return lambda x: (x - centre) / scale


def whitener(embeddings: Floats, *, floor: float = 1e-3) -> Callable[[Floats], Floats]:
    """Unit variance along every principal axis; below ``floor`` of the largest variance, less."""
    centre = embeddings.mean(axis=0)
    _, singular, axes = np.linalg.svd(embeddings - centre, full_matrices=False)
    variances = singular**2 / len(embeddings)
    scale = np.sqrt(np.maximum(variances, floor * variances.max(initial=1e-300)))
    return lambda x: (x - centre) @ axes.T / scale


# -- learned on the reference ----------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """A linear model of the energy above the hull from how an embedding differs from its references.

    ``error`` (mean absolute, eV/atom) is on chemical systems that were left out; ``of_the_mean`` is what
    guessing the mean costs on the same.
    """

    centre: Floats
    scale: Floats
    weights: Floats
    intercept: float
    error: float
    of_the_mean: float

    def measure(self, h: Floats, refs: Floats, above: Floats) -> float:
        """The predicted energy above the hull."""
        return float((features(h, refs, above) - self.centre) / self.scale @ self.weights + self.intercept)


def features(h: Floats, refs: Floats, above: Floats) -> Floats:
    """(D + 5,): the difference from the references' mean, and logarithms of the distances above."""
    squares = [mean_square(h, refs, above), nearest(h, refs, above), hull_weighted(h, refs, above)]
    own = spread(refs)
    squares.append(own if np.isfinite(own) else 0.0)
    return np.concatenate([h - refs.mean(axis=0), np.log(np.array(squares) + 1e-6), [np.log(len(refs))]])


def learn(references: References) -> Learned:
    """Ridge regression on the reference alone: each crystal against the others around it.

    The penalty is the one with the least error on chemical systems that the fit did not see. Raises
    ValueError where too few crystals have references.
    """
    rows = references.rows_by_system()
    inputs, targets, folds = [], [], []
    for i, system in enumerate(references.systems):
        others = [r for r in _within(rows, system) if r != i]
        if others and np.isfinite(references.e_above_hull[i]):
            h, refs = references.embeddings[i], references.embeddings[others]
            inputs.append(features(h, refs, references.e_above_hull[others]))
            targets.append(min(float(references.e_above_hull[i]), HIGHEST))
            folds.append(fold_of(system))
    if len(targets) < 2 * FOLDS or len(set(folds)) < 2:
        raise ValueError(f"{len(targets)} crystals of the reference are too few to learn from")
    x, y, fold = np.array(inputs), np.array(targets), np.array(folds)
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9, scale, np.inf)
    x = (x - centre) / scale
    errors = [_left_out_error(x, y, fold, penalty) for penalty in PENALTIES]
    weights, intercept = ridge(x, y, float(PENALTIES[int(np.argmin(errors))]))
    return Learned(centre, scale, weights, intercept, min(errors), _left_out_error(0 * x, y, fold, 1.0))


def ridge(x: Floats, y: Floats, penalty: float) -> tuple[Floats, float]:
    """Weights (F,) and intercept that minimise Σ (y − x·w − b)² / n + penalty ‖w‖²."""
    mean, middle = x.mean(axis=0), float(y.mean())
    centred = x - mean
    gram = centred.T @ centred / len(y) + penalty * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (y - middle) / len(y))
    return weights, middle - float(mean @ weights)


def fold_of(system: str) -> int:
    """One of :data:`FOLDS` parts, by a hash of the chemical system."""
    return int.from_bytes(hashlib.sha256(system.encode()).digest()[:8], "big") % FOLDS


def _left_out_error(x: Floats, y: Floats, fold: NDArray[np.int64], penalty: float) -> float:
    errors = []
    for part in np.unique(fold):
        weights, intercept = ridge(x[fold != part], y[fold != part], penalty)
        errors.append(np.abs(x[fold == part] @ weights + intercept - y[fold == part]))
    return float(np.concatenate(errors).mean())


def _within(rows: dict[str, list[int]], system: str) -> list[int]:
    return [r for s in subsystems(system) for r in rows.get(s, ())]


def _squares(h: Floats, refs: Floats) -> Floats:
    return np.asarray(((refs - h) ** 2).sum(axis=1))


# -- all of them -----------------------------------------------------------------------------------


def variant_scores(
    references: References, embeddings: Floats, systems: Sequence[str]
) -> tuple[dict[str, Floats], Learned]:
    """Scores (B,) of every variant, by its name; and the one that was learned."""
    learned = learn(references)
    plain: dict[str, Measure] = {
        "Eq. 11": mean_square,
        "nearest reference": nearest,
        "hull-weighted": hull_weighted,
        "system-normalised": system_normalised(references),
        "learned": learned.measure,
    }
    scores = {name: score_by(m, references, embeddings, systems) for name, m in plain.items()}
    for name, make in (("standardised", standardiser), ("whitened", whitener)):
        transform = make(references.embeddings)
        scores[name] = score_by(mean_square, references.mapped(transform), transform(embeddings), systems)
    return scores, learned
