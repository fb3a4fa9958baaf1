"""Prescreen: of what was generated, keep those that a ranker expects most of, before anything is relaxed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.support import HullSupport
from crysjepa.evaluation.grades import KnownFormulas
from crysjepa.ranking.registry import Ranker
from crysjepa.stages.choosing import narrowed, worth_relaxing
from crysjepa.stages.stage import Stage, Workspace


@dataclass(frozen=True, kw_only=True)
class Prescreen(Stage):
    """The ``num`` rows that are worth relaxing; ``drawn.parquet`` has all, and says why not the others.

    Without a ranker all rows stay.
    """

    name: ClassVar[str] = "prescreen"
    output: str = "screened.parquet"
    ranker: Ranker | None
    num: int
    by: str
    known: KnownFormulas | None = None
    support: HullSupport | None = None

    @property
    def also(self) -> tuple[str, ...]:
        """All rows, with scores."""
        return ("drawn.parquet",)

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """The rows to go on with."""
        kept, generated = table, table
        if self.ranker is not None:
            scores = self.ranker.score(table.crystals(table.ok_ids))
            kept = worth_relaxing(table, scores, self.num, known=self.known, support=self.support)
            generated = narrowed(table, kept, scores, self.by)
        generated.write(work.folder / "drawn.parquet")
        return kept
