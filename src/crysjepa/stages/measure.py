"""Measure: properties of relaxed crystals, and how well they meet what is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.evaluation.probability import with_probability
from crysjepa.properties.aims import Aims
from crysjepa.ranking.base import chances_of
from crysjepa.stages.stage import Stage, Workspace


@dataclass(frozen=True, kw_only=True)
class Measure(Stage):
    """Columns of :mod:`crysjepa.properties.aims` of every judged crystal with a valid structure.

    The chance of stability is that by the first judge alone; the closed hull and others come later. What
    takes seconds a crystal is calculated of stable ones. ``metadata`` is what the file says of itself.
    """

    name: ClassVar[str] = "measure"
    output: str = "measured.parquet"
    aims: Aims
    metadata: Mapping[str, Any] | None = None

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """The table with values and merits."""
        aims = replace(self.aims, how=replace(self.aims.how, progress=work.staged()))
        rows = list(zip(*(table.column(c) for c in ("id", "status", "valid", "stable")), strict=True))
        ids = [i for i, status, valid, _ in rows if valid and status != Status.FAILED]
        stable = {i for i, _, _, is_stable in rows if is_stable}
        return aims.judge(aims.measure(table, ids, stable), first_chances(table, aims.how.force_field))

    def about(self) -> Mapping[str, Any] | None:
        """What was given."""
        return self.metadata


def first_chances(table: CandidateTable, force_field: str) -> dict[str, float | None]:
    """The chance of stability by the first judge alone, by id; None where there is no energy.

    A force field that no probability was fitted for has that of :func:`crysjepa.ranking.base.chances_of`.
    """
    fitted = with_probability(table, first=force_field).column("p_stable")
    if "e_above_hull" not in table:
        return dict(zip(table.ids, fitted, strict=True))
    above = np.array([np.nan if e is None else e for e in table.column("e_above_hull")], dtype=float)
    other = chances_of(above).tolist()
    return {
        i: p if p is not None else (o if np.isfinite(o) else None)
        for i, p, o in zip(table.ids, fitted, other, strict=True)
    }
