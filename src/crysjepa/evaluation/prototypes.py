"""Which of the unique and novel crystals have a prototype that no known crystal has."""

from __future__ import annotations

from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.columns import set_column
from crysjepa.matching.prototypes import PrototypeIndex, known_prototypes
from crysjepa.runtime.progress import StageProgress, of_stage

__all__ = ["PrototypeIndex", "mark_prototypes"]


def mark_prototypes(
    table: CandidateTable,
    known: PrototypeIndex,
    *,
    processes: int = 1,
    progress: StageProgress | None = None,
) -> CandidateTable:
    """Columns ``new_prototype``, ``prototype_of`` (a known crystal that matches with species ignored) and
    ``prototype_unknown`` (why it could not be told).

    Only crystals that are ``unique`` and ``novel`` are looked at: one that matches a known crystal has its
    prototype too. The others are null. Nothing is decided.
    """
    flags = zip(table.ids, table.column("unique"), table.column("novel"), strict=True)
    ids = [i for i, is_unique, is_novel in flags if is_unique and is_novel]
    found = known_prototypes(
        table.crystals(ids),
        known,
        processes=processes,
        progress=of_stage(progress, "prototypes"),
    )
    new = {i: match is None for i, match in found.matches.items()}
    table = set_column(table, "new_prototype", new, "boolean")
    table = set_column(table, "prototype_of", found.matches, "string")
    return set_column(table, "prototype_unknown", found.failures, "string")
