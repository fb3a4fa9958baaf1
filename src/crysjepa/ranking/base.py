"""What a ranker is: crystals in, a score with its support for each out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from crysjepa.core.crystals import Crystals

STABLE = 0.1
"""eV/atom above the hull, at most."""
ERROR = 0.06
"""eV/atom: with this as the standard error of ``jepa-hull``'s scores, their chances are the likeliest on the
4,897 crystals of WBM that it can score (Brier score 0.099; mean absolute error 0.053 eV/atom)."""


@dataclass(frozen=True)
class Score:
    """Lower is better; None means that it could not be scored, and ``reason`` why (ranked last).

    Attributes
    ----------
    value
        In the ranker's own unit: eV/atom above the hull, or a distance.
    num_references
        Known crystals in the chemical system and its subsystems; None where the ranker looks at none.
    support_distance
        How far the crystal's embedding is from the nearest of them (‖h − r‖); None where there is none, or
        where the ranker has no embedding.
    """

    value: float | None
    num_references: int | None = None
    support_distance: float | None = None
    reason: str | None = None


class Ranker(Protocol):
    """Something that orders crystals from the most to the least promising.

    ``name`` is what it is registered under. ``key`` is a hash of everything that its scores depend on beside
    the crystal: model, reference, hull, seed. ``notes`` are what a reader of its scores should know.
    ``chunk_size`` is how many crystals make a piece of work that is worth keeping when a run is stopped.
    """

    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def chunk_size(self) -> int: ...

    def score(self, crystals: Crystals) -> dict[str, Score]:
        """A score for every crystal, by id, in their order; never raises for a crystal.

        Crystals should be valid (:func:`crysjepa.core.validity.structure_validity`); they need not be
        canonical.
        """
        ...


def chances_of(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The chance that a crystal is at most :data:`STABLE` above the hull, of scores in eV/atom above it.

    A score further below the hull than :data:`STABLE` says no more than that.
    """
    return np.asarray(ndtr((STABLE - np.maximum(scores, -STABLE)) / ERROR))


def ranks(scores: Mapping[str, Score]) -> dict[str, int]:
    """Rank 1 for the lowest score, ties by id; crystals without a score come last, in the order of ids."""
    order = sorted(scores, key=lambda i: (scores[i].value is None, scores[i].value or 0.0, i))
    return {id_: rank for rank, id_ in enumerate(order, start=1)}
