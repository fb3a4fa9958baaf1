"""Prescreen: of what was generated, keep those that a ranker expects most of, before anything is relaxed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.validity import invalid_structures
from crysjepa.energy.support import HullSupport
from crysjepa.evaluation.grades import KnownFormulas
from crysjepa.properties.aims import Aims
from crysjepa.ranking.base import chances_of
from crysjepa.ranking.registry import Ranker, Score
from crysjepa.stages.choosing import narrowed, worth_relaxing
from crysjepa.stages.stage import Stage, Workspace


@dataclass(frozen=True, kw_only=True)
class Prescreen(Stage):
    """The ``num`` rows that are worth relaxing; ``drawn.parquet`` has all, and says why not the others.

    Without a ranker all rows stay. With ``aims`` properties of the crystals as drawn are weighed too.
    """

    name: ClassVar[str] = "prescreen"
    output: str = "screened.parquet"
    ranker: Ranker | None
    num: int
    by: str
    known: KnownFormulas | None = None
    support: HullSupport | None = None
    aims: Aims | None = None

    @property
    def also(self) -> tuple[str, ...]:
        """All rows, with scores."""
        return ("drawn.parquet",)

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """The rows to go on with."""
        kept, generated = table, table
        if self.ranker is not None:
            scores = self.ranker.score(table.crystals(table.ok_ids))
            weighed = table if self.aims is None else self._weighed(table, scores, self.aims)
            kept = worth_relaxing(weighed, scores, self.num, known=self.known, support=self.support)
            generated = narrowed(weighed, kept, scores, self.by)
        generated.write(work.folder / "drawn.parquet")
        return kept

    @staticmethod
    def _weighed(table: CandidateTable, scores: Mapping[str, Score], aims: Aims) -> CandidateTable:
        """The table with properties and merits of what has a score and a valid structure."""
        scored = {i: s.value for i, s in scores.items() if s.value is not None}
        bad = invalid_structures(table.crystals(list(scored)))
        ids = [i for i in scored if i not in bad]
        chances = chances_of(np.array([scored[i] for i in ids], dtype=float))
        return aims.judge(aims.measure(table, ids), dict(zip(ids, chances.tolist(), strict=True)))
