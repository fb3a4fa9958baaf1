"""Rank: a score for each crystal, the nearest known one, and its embedding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.embeddings import embedding_table
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.ranking.jepa import HullEnergy, MeanDistance
from crysjepa.ranking.reference_index import ReferenceIndex
from crysjepa.ranking.registry import Ranker
from crysjepa.ranking.selection import with_nearest
from crysjepa.runtime.files import write_parquet
from crysjepa.stages.stage import Stage, Workspace


@dataclass(frozen=True)
class Means:
    """What ranking takes: a ranker, the embedding, and the known crystals, embedded."""

    ranker: Ranker
    jepa: CrysJepa
    index: ReferenceIndex
    reference: Crystals
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Rank(Stage):
    """Columns ``score``, ``num_references``, ``support_distance``, ``score_reason`` and ``nearest_known``…

    Valid crystals are ranked. ``select`` names those that the generator is to learn from, in the column
    ``selected``. Embeddings go to ``embeddings.parquet``.
    """

    name: ClassVar[str] = "rank"
    output: str = "judged.parquet"
    means: Callable[[], Means]
    select: Callable[[CandidateTable], list[str]]

    @property
    def also(self) -> tuple[str, ...]:
        """The embeddings."""
        return ("embeddings.parquet",)

    def run(self, table: CandidateTable, work: Workspace) -> CandidateTable:
        """The table with scores; a crystal that cannot be embedded has failed."""
        means = self.means()
        sound = [i for i, v in zip(table.ids, table.column("valid"), strict=True) if v]
        crystals = table.crystals(sound)
        embedded = JepaEmbedder(means.jepa, means.device).embed(crystals, work.progress("embed"))
        failures = {crystals.ids[row]: reason for row, reason in embedded.failures.items()}
        table = table.decide("embed", failures, Status.FAILED)
        ranker = means.ranker
        if isinstance(ranker, HullEnergy | MeanDistance) and isinstance(ranker.embedder, JepaEmbedder):
            scores = ranker.score_embedded(crystals, embedded)
        else:
            scores = ranker.score(crystals)
        columns = (
            ("score", "value", "Float64"), ("num_references", "num_references", "Int64"),
            ("support_distance", "support_distance", "Float64"),
        )  # fmt: skip
        for column, field, dtype in columns:
            table = table.with_column(column, {i: getattr(s, field) for i, s in scores.items()}, dtype)
        reasons = {i: s.reason for i, s in scores.items() if s.reason}
        table = table.with_column("score_reason", reasons, "string")
        kept, embeddings = crystals[embedded.rows], embedded.vectors
        table = with_nearest(table, kept, embeddings, means.index, means.reference)
        write_parquet(embedding_table(kept.ids, embeddings), work.folder / "embeddings.parquet")
        chosen = set(self.select(table))
        return table.with_column("selected", {i: i in chosen for i in table.ids}, "boolean")
