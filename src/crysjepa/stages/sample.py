"""Sample: some rows at random, to compare with those that a ranker chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from crysjepa.core.candidates import CandidateTable
from crysjepa.stages.stage import Stage, Workspace


@dataclass(frozen=True, kw_only=True)
class Sample(Stage):
    """``num`` rows at random, in their order."""

    name: ClassVar[str] = "sample"
    num: int
    seed: tuple[int, ...]

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """The rows that were drawn."""
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(table))[: self.num])
        return CandidateTable(table.frame.iloc[rows].reset_index(drop=True))
