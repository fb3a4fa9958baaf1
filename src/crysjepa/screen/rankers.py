"""Rankers: what ``screen --by NAME`` can rank crystals by, behind one interface."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crysjepa.crystals import Crystals
from crysjepa.jepa.pretrain import CrysJepa
from crysjepa.screen.reference import ReferenceIndex


@dataclass(frozen=True)
class Score:
    """Lower is better; None means that it could not be scored, and ``reason`` why (ranked last)."""

    value: float | None
    num_references: int | None = None
    reason: str | None = None


class Ranker(Protocol):
    """Something that orders canonical crystals from the most to the least promising."""

    def score(self, crystals: Crystals) -> dict[str, Score]:
        """A score for every crystal, by id."""
        ...


@dataclass(frozen=True)
class JepaDistance:
    """The paper's D_C (Eq. 11) over the embeddings of a reference."""

    model: CrysJepa
    index: ReferenceIndex
    device: str = "cpu"
    progress: Callable[[int, int], None] | None = None

    def score(self, crystals: Crystals) -> dict[str, Score]:
        """D_C of each crystal; without any reference in its chemical system there is no score."""
        embeddings = self.model.embed(crystals, device=self.device, progress=self.progress)
        return self.score_embeddings(crystals, embeddings)

    def score_embeddings(self, crystals: Crystals, embeddings: NDArray[np.float32]) -> dict[str, Score]:
        """The same, from embeddings (B, D) that are already there."""
        scores = {}
        for id_, system, h in zip(crystals.ids, crystals.chemical_systems(), embeddings, strict=True):
            found = self.index.distance(h, system)
            reason = None if found.num_references else f"no reference crystal in {system} or its subsystems"
            scores[id_] = Score(found.value, found.num_references, reason)
        return scores


@dataclass(frozen=True)
class Random:
    """The control: a number that depends on the seed and the id alone."""

    seed: int = 0

    def score(self, crystals: Crystals) -> dict[str, Score]:
        """Uniform in [0, 1)."""
        return {i: Score(_uniform(f"{self.seed}:{i}")) for i in crystals.ids}


RANKERS = ("jepa-distance", "random")
"""Names that ``screen --by`` takes."""


def ranks(scores: Mapping[str, Score]) -> dict[str, int]:
    """Rank 1 for the lowest score, ties by id; crystals without a score come last, in the order of ids."""
    order = sorted(scores, key=lambda i: (scores[i].value is None, scores[i].value or 0.0, i))
    return {id_: rank for rank, id_ in enumerate(order, start=1)}


def _uniform(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
