"""The verb that embeds crystals: ``embed``."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Unpack

import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.datasets.chunks import open_chunks
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.ranking.shards import chunk_files
from crysjepa.runtime.execution import Execution, RunOptions
from crysjepa.runtime.files import as_metadata, replacing
from crysjepa.workflows.inputs import Source, beside, sound
from crysjepa.workflows.output import Output
from crysjepa.workflows.screen import Screened

EMBEDDED_AT_ONCE = 2048


def embed(
    source: Source,
    out: Source,
    *,
    jepa: Source | None = None,
    **how: Unpack[RunOptions],
) -> Screened:
    """Embed crystals: ``id``, ``embedding`` (null where there is none), ``status`` and ``reason``.

    A run that was interrupted goes on from ``OUT.shards``.
    """
    run, place = Execution(**how), Output(out, only="embeddings are no structures")
    read = {"input": source, "jepa": jepa}
    if (before := place.found("embed", {}, read, overwrite=run.overwrite)) is not None:
        return Screened(place.path, before["rows"], _states_in(place.path))
    chunks = open_chunks(source)
    embedder = JepaEmbedder(CrysJepa.load(jepa), run.found_device)
    kind = pa.list_(pa.float32(), embedder.model.width)
    columns = [("id", pa.string()), ("embedding", kind), ("status", pa.string()), ("reason", pa.string())]
    kept, schema = pa.schema([*columns, ("stage", pa.string())]), pa.schema(columns)

    def embedded(table: CandidateTable) -> pa.Table:
        found = sound(table)
        done, ids = embedder.embed(found.crystals), found.crystals.ids
        failures = {ids[row]: reason for row, reason in done.failures.items()}
        decided = found.table.decide("embed", failures, Status.FAILED)
        vectors = {ids[row]: v for row, v in zip(done.rows.tolist(), done.vectors, strict=True)}
        column = pa.array([vectors.get(i) for i in decided.ids], type=kind)
        rows = decided.to_arrow().select(["id", "status", "reason", "stage"])
        return rows.add_column(1, "embedding", column).cast(kept)

    shards = beside(out, ".shards")
    paths = chunk_files(
        chunks.of(EMBEDDED_AT_ONCE), embedded, shards, key=embedder.content_hash, schema=kept,
        num_rows=len(chunks), progress=run.stage("embed"),
    )  # fmt: skip
    states: Counter[str] = Counter()

    def parts() -> Iterator[pa.Table]:
        for path in paths:
            rows = pq.read_table(path, schema=kept)
            of = zip(rows["status"].to_pylist(), rows["stage"].to_pylist(), strict=True)
            states.update(f"{status}: {stage}" if stage else status for status, stage in of)
            yield rows.select(schema.names)

    about = as_metadata({"made": place.made, "rows": len(chunks)})
    _write_parts(parts(), schema.with_metadata(about), place.path)
    shutil.rmtree(shards, ignore_errors=True)
    return Screened(place.path, len(chunks), dict(states))


def _states_in(path: Path) -> dict[str, int]:
    column = pq.read_table(path, columns=["status"])["status"]
    return {c["values"]: c["counts"] for c in column.value_counts().to_pylist()}


def _write_parts(parts: Iterator[pa.Table], schema: pa.Schema, out: Path) -> None:
    """Write Parquet a part at a time, so that ``out`` either holds all of it or is untouched."""
    with replacing(out) as partial, pq.ParquetWriter(partial, schema) as writer:
        for part in parts:
            writer.write_table(part.cast(schema))
