"""Evaluate: valid, stable, unique, novel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.stages.stage import Stage, Workspace


@dataclass(frozen=True, kw_only=True)
class Evaluate(Stage):
    """Every criterion of the evaluator's protocol as a column, and the decisions that follow.

    With ``with_metadata`` the file says where its energies are from.
    """

    name: ClassVar[str] = "evaluate"
    output: str = "evaluated.parquet"
    evaluator: Evaluator
    with_metadata: bool = False

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """The table with verdicts."""
        return self.evaluator.evaluate(table, work.staged())

    def about(self) -> Mapping[str, Any] | None:
        """Where the energies are from."""
        return self.evaluator.energies() if self.with_metadata else None
