"""Columns that say whether a crystal is in a data set of millions, by the hashes which that publishes.

``published_match``: the id of a row with the crystal's hash; ``new_by_hash``: whether there is none;
``not_looked_up``: why neither is known. They decide nothing: novelty is StructureMatcher's.
"""

from __future__ import annotations

from pathlib import Path

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.columns import set_column
from crysjepa.matching.published import VERSION, check_fingerprints, look_up
from crysjepa.runtime.files import file_hash, file_metadata
from crysjepa.runtime.notes import note
from crysjepa.runtime.progress import StageProgress, of_stage

PUBLISHED = ("published_match", "new_by_hash", "not_looked_up")


def fingerprints_file(name_or_path: str) -> Path:
    """A data set of that name, fetched, or a file. Raises ValueError where it has no hashes."""
    path = Path(name_or_path)
    path = path if path.is_file() else datasets.fetch(name_or_path)
    check_fingerprints(path)
    return path


def fingerprints_id(name_or_path: str) -> str:
    """What decides the answers: the published files by their checksums, or else the file's own bytes."""
    path = fingerprints_file(name_or_path)
    sources = file_metadata(path).get("sources")
    return f"{sorted(sources.values()) if sources else file_hash(path)} {VERSION}"


def with_published(
    table: CandidateTable, name_or_path: str, *, processes: int = 1, progress: StageProgress | None = None
) -> CandidateTable:
    """Look up every crystal whose structure is valid.

    Raises ValueError as :func:`crysjepa.matching.published.look_up` does.
    """
    invalid = dict(zip(table.ids, table.column("invalid_structure"), strict=True))
    crystals = table.crystals()
    crystals = crystals.select([i for i in crystals.ids if invalid[i] is None])
    path = fingerprints_file(name_or_path)
    found = look_up(crystals, path, processes=processes, progress=of_stage(progress, "published hashes"))
    note(f"{path.name}: {found.reproduced} of {found.probed} of its rows have the hash here that they state")
    without = {i: "no valid structure" for i in table.ids if i not in set(crystals.ids)}
    table = set_column(table, "published_match", found.matches, "string")
    new = {i: match is None for i, match in found.matches.items()}
    table = set_column(table, "new_by_hash", new, "boolean")
    return set_column(table, "not_looked_up", without | found.failures, "string")
