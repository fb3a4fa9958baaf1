"""Keep: of a table, what a function picks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from crysjepa.core.candidates import CandidateTable
from crysjepa.stages.stage import Stage, Workspace


@dataclass(frozen=True, kw_only=True)
class Keep(Stage):
    """What ``pick`` leaves of the table: some at random, or the best by a score."""

    name: ClassVar[str] = "keep"
    pick: Callable[[CandidateTable], CandidateTable]

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """The rows that were picked."""
        return self.pick(table)
