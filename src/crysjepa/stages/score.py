"""Score: where each crystal stands by a ranker, before anything is relaxed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar

from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.support import HullSupport
from crysjepa.ranking.registry import Ranker
from crysjepa.ranking.rows import rank_shards, score_chunks
from crysjepa.stages.stage import Stage, Workspace


@dataclass(frozen=True, kw_only=True)
class Score(Stage):
    """Columns ``screen_score`` and ``screen_rank`` of rows that are ``ok``, as by ``crysjepa screen``.

    ``ranker`` makes the ranker, and is called only if there is something to score. ``support`` is told for a
    ranker by a hull: a score far below it is no promise then. Finished chunks are kept in a folder.
    """

    name: ClassVar[str] = "score"
    output: str = "scored.parquet"
    ranker: Callable[[], Ranker]
    support: HullSupport | None = None

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """The table with scores and ranks; one that cannot be scored has none, or the last ranks."""
        ranker, size = self.ranker(), len(table)
        chunks = (
            CandidateTable(table.frame.iloc[start : start + ranker.chunk_size].reset_index(drop=True))
            for start in range(0, size, ranker.chunk_size)
        )
        shards = work.folder / f"{PurePath(self.output).stem}.shards"
        paths = score_chunks(
            chunks, ranker, shards, num_rows=size, support=self.support, progress=work.progress(self.name)
        )
        rows = rank_shards(paths).to_pylist()
        ok = set(table.ok_ids)
        for column, kind in (("score", "Float64"), ("rank", "Int64")):
            values = {r["id"]: r[column] for r in rows if r["id"] in ok}
            table = table.with_column(f"screen_{column}", values, kind)
        return table
