"""The control: a ranker that knows nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from crysjepa.core.crystals import Crystals
from crysjepa.ranking.base import Score
from crysjepa.ranking.context import RankerContext


def random(context: RankerContext) -> Random:
    """Chance, by the context's seed."""
    return Random(context.seed)


@dataclass(frozen=True)
class Random:
    """A number that depends on the seed and the id alone."""

    seed: int = 0
    name: str = "random"
    notes: tuple[str, ...] = ()
    chunk_size: int = 20_000

    @property
    def key(self) -> str:
        """The seed."""
        return str(self.seed)

    def score(self, crystals: Crystals) -> dict[str, Score]:
        """Uniform in [0, 1)."""
        return {i: Score(_uniform(f"{self.seed}:{i}")) for i in crystals.ids}


def _uniform(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
