"""Relax: positions and cells, with a force field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.stages.stage import Stage, Workspace


@dataclass(frozen=True, kw_only=True)
class Relax(Stage):
    """Every row that is still ``ok``, relaxed as the evaluator's protocol has it.

    Finished chunks are kept in the folder ``shards``, so that a run that was stopped goes on there.
    """

    name: ClassVar[str] = "relax"
    output: str = "relaxed.parquet"
    evaluator: Evaluator
    shards: str = "relax"

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """The table with relaxed structures and energies; what could not be relaxed has failed."""
        return self.evaluator.relax(table, work.folder / self.shards, work.staged())
