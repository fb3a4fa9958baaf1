"""Crystals of a source in chunks: a Parquet file of any length is never in memory as a whole.

Every row has the id, the state and the reason that :func:`crysjepa.io.read_crystals` would give it; of the
source's other columns nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import ARROW_SCHEMA
from crysjepa.data.bundle import NAME
from crysjepa.io.arrow_rows import id_texts
from crysjepa.io.assemble import STATE, unique_names
from crysjepa.io.cif.blocks import ReadError, brief
from crysjepa.io.parquet_files import from_arrow


@dataclass(frozen=True)
class Chunks:
    """The rows of a source, ``len`` of them, to be read a chunk at a time."""

    num_rows: int
    _read: Callable[[int], Iterator[CandidateTable]]

    def __len__(self) -> int:
        return self.num_rows

    def of(self, size: int) -> Iterator[CandidateTable]:
        """All rows in their order, ``size`` in each table but the last.

        Raises ReadError where a Parquet file turns out to be damaged, or to hold no crystals.
        """
        return self._read(size)


def open_chunks(name_or_path: str | Path) -> Chunks:
    """The crystals of a data set's name or a path; other formats than Parquet are read whole.

    Raises DatasetError or ReadError as :func:`crysjepa.datasets.load` does.
    """
    path = Path(name_or_path)
    if not path.exists() or str(name_or_path) == NAME:
        path = datasets.fetch(str(name_or_path))
    if path.is_file() and path.suffix.lower() == ".parquet" and path.stat().st_size:
        return _parquet(path)
    return _sliced(datasets.load(name_or_path))


def _sliced(table: CandidateTable) -> Chunks:
    def read(size: int) -> Iterator[CandidateTable]:
        for start in range(0, len(table), size):
            yield CandidateTable(table.frame.iloc[start : start + size].reset_index(drop=True))

    return Chunks(len(table), read)


def _parquet(path: Path) -> Chunks:
    try:
        schema = pq.read_schema(path)
        columns = [n for n in (*ARROW_SCHEMA.names, *STATE) if n in schema.names]
        if len(columns) < len(ARROW_SCHEMA.names) or len(set(schema.names)) < len(schema.names):
            return _sliced(datasets.load(path))  # which says what is wrong with it
        ids = _unique_ids(pq.read_table(path, columns=["id"], partitioning=None)["id"])
    except (pa.ArrowException, OSError) as error:
        raise ReadError(f"{path.name}: not a Parquet file, or a truncated one: {brief(error)}") from error

    def read(size: int) -> Iterator[CandidateTable]:
        done = 0
        # Mapped: a row group's pages need not be in memory all at once.
        with pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
            batches = file.iter_batches(size, columns=columns)
            while (table := _next(batches, ids.slice(done), path)) is not None:
                yield table
                done += len(table)

    return Chunks(len(ids), read)


def _next(batches: Iterator[pa.RecordBatch], ids: pa.ChunkedArray, path: Path) -> CandidateTable | None:
    """The next batch, under the ids that belong to it; None at the end."""
    try:
        if (batch := next(batches, None)) is None:
            return None
        table = pa.Table.from_batches([batch])
        own = ids.slice(0, len(table))
        return from_arrow(table.set_column(table.column_names.index("id"), "id", own))
    except ReadError as error:
        raise ReadError(f"{path.name}: {error}") from error
    except (pa.ArrowException, OSError) as error:
        raise ReadError(f"{path.name}: damaged, {len(ids)} rows before its end: {brief(error)}") from error


def _unique_ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids of all rows as the reader of whole files gives them: none empty, none twice."""
    ids = id_texts(column)
    empty = pc.fill_null(pc.equal(ids, ""), True)
    if not pc.any(empty).as_py() and pc.count_distinct(ids).as_py() == len(ids):
        return ids
    names = [name or f"row-{row}" for row, name in enumerate(ids.to_pylist())]
    return pa.chunked_array([pa.array(unique_names(names), type=pa.string())])
