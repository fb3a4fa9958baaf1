"""How far crystals are from a reference in Crys-JEPA's embedding: a Fréchet distance of its own name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals

Floats = NDArray[np.float64]
SEED = 0
"""Of the crystals of the reference that are compared with its others."""


def frechet_distance(one: Floats, other: Floats) -> float:
    """Squared Fréchet distance of two samples (N, D) and (M, D), taken for normally distributed.

    ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), with covariances over N − 1 (Dowson and Landau 1982; Heusel et al.
    2017). Neither the order of the rows nor that of the samples matters. Raises ValueError for fewer than
    two rows.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError("a covariance takes two crystals or more")
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (one, other))
    # (Σ₁Σ₂)^½ and (Σ₁^½ Σ₂ Σ₁^½)^½ have the same trace; the second is of a symmetric matrix, of any rank
    values, axes = np.linalg.eigh(first)
    root = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
    shared = np.linalg.eigvalsh(root @ second @ root)
    spread = np.trace(first) + np.trace(second) - 2 * np.sqrt(np.maximum(shared, 0)).sum()
    return float(max(((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum() + spread, 0.0))


def frechet_jepa(crystals: Crystals, reference: Crystals) -> dict[str, Any] | None:
    """:func:`frechet_distance` of embeddings by the Crys-JEPA that ships; None with fewer than two of either.

    With few crystals it comes out too large, for a covariance of few has few directions. What n alone does is
    in ``reference_itself``: as many crystals of the reference, at random, against its others.

    Returns
    -------
    dict
        ``distance``; ``crystals`` and ``reference_size``, those that could be embedded; ``reference_itself``,
        and ``reference_itself_crystals``, fewer where the reference has not twice as many (None below two).
    """
    from crysjepa.jepa.crys_jepa import CrysJepa  # torch is not for those who ask for no such distance
    from crysjepa.ranking.embedders import JepaEmbedder

    embedder = JepaEmbedder(CrysJepa.load())
    own, theirs = (embedder.embed(c).vectors.astype(np.float64) for c in (crystals, reference))
    if min(len(own), len(theirs)) < 2:
        return None
    num = min(len(own), len(theirs) // 2)
    order = np.random.default_rng(SEED).permutation(len(theirs))
    itself = frechet_distance(theirs[order[:num]], theirs[order[num:]]) if num > 1 else None
    return {
        "distance": frechet_distance(own, theirs),
        "crystals": len(own),
        "reference_size": len(theirs),
        "reference_itself": itself,
        "reference_itself_crystals": num if num > 1 else None,
    }
