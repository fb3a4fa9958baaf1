"""Rows of any source into one Parquet file: in the source's order, in row groups, in bounded memory.

A format is taken apart serially into chunks of text (cheap), and these are read into crystals by worker
processes (dear). The file's bytes do not depend on how many there are. Nothing is dropped silently: a row
that cannot be read is a row with its reason, and rows that are left out on purpose are counted in the file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.core.candidates import Status
from crysjepa.core.crystals import ARROW_SCHEMA
from crysjepa.io.assemble import STATE, joined, problems_of
from crysjepa.io.entry import Entry
from crysjepa.runtime.download import DatasetError
from crysjepa.runtime.files import as_metadata
from crysjepa.runtime.progress import Progress
from crysjepa.runtime.worker_pool import WorkerPool

CHUNK_ROWS = 4096
CHUNK_BYTES = 8_000_000
"""A chunk ends at whichever comes first; it is a row group of the file."""
_SMALL = 30_000_000
"""Bytes of a source below which starting workers takes longer than they save."""


@dataclass(frozen=True)
class Source:
    """A published file, ready to be read.

    ``columns`` are the Arrow types of what it has beyond crystals. ``chunks`` gives pieces with the position
    reached, in the unit of ``size``; ``read`` makes entries of a piece, in a worker: it must be importable.
    """

    columns: Mapping[str, pa.DataType]
    chunks: Callable[[], Iterator[tuple[Any, int]]]
    read: Callable[[Any], list[Entry]]
    size: int


@dataclass
class Imported:
    """How many rows a file has; how many of them failed, for each reason; how many were left out, and why."""

    rows: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def partial_of(path: Path) -> Path:
    """Where a file is written before it is whole."""
    return path.with_name(f".{path.name}.partial")


def schema_of(columns: Mapping[str, pa.DataType]) -> pa.Schema:
    """Columns of a candidate table with structures, and the source's own."""
    state = [(name, pa.string()) for name in STATE]
    return pa.schema([ARROW_SCHEMA.field(0), *state, *list(ARROW_SCHEMA)[1:], *columns.items()])


def import_rows(
    source: Source,
    out: Path,
    about: Mapping[str, Any],
    *,
    max_sites: int | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Write the rows of ``source`` to the Parquet file ``out``, all or nothing.

    What a killed import leaves is a hidden ``.partial`` file, which the next one starts anew.

    Parameters
    ----------
    about
        Kept, with the counts of rows, as JSON in the file's metadata key ``crysjepa``.
    max_sites
        Crystals with more sites are left out, and counted.
    processes
        Workers; by default one a core, and none for a small source.
    progress
        Called as ``progress(done, total)`` in the unit of the source's size.

    Raises
    ------
    DatasetError
        If a worker dies twice on the same rows, or the source turns out not to be what it should.
    """
    imported, ids = Imported(), _Ids()
    schema = schema_of(source.columns)
    work = partial(_read_chunk, source.read, schema, max_sites)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = partial_of(out)
    try:
        with open_writer(scratch, schema) as writer:
            for (table, left_out), done in _in_order(work, source, processes):
                reasons = [r for r in table["reason"].to_pylist() if r is not None]
                imported.rows += len(table)
                imported.failed.update(reasons)
                imported.left_out.update(left_out)
                writer.write_table(table.set_column(0, "id", ids.unique(table["id"].to_pylist())))
                if progress is not None:
                    progress(done, source.size)
            writer.add_key_value_metadata(as_metadata(described(about, imported)))
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)
    return imported


def open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer whose metadata may be added at the end: Arrow's copy of the schema would hide them."""
    return pq.ParquetWriter(path, schema, compression="zstd", store_schema=False)


def described(about: Mapping[str, Any], imported: Imported) -> dict[str, Any]:
    """``about``, with the counts; of the reasons for failure the fifty most frequent."""
    counts = {"failed": dict(imported.failed.most_common(50)), "left_out": dict(imported.left_out)}
    return {**about, "rows": imported.rows, "num_failed": imported.failed.total(), **counts}


def _in_order(work: Callable[[Any], Any], source: Source, processes: int | None) -> Iterator[tuple[Any, int]]:
    """What ``work`` makes of each chunk, in order, with no more chunks in memory than keep workers busy."""
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        processes = cores if source.size > _SMALL else 1
    if processes <= 1:
        for chunk, done in source.chunks():
            yield work(chunk), done
        return
    reached: dict[int, int] = {}
    found: dict[int, Any] = {}
    next_index = 0
    chunks = enumerate(source.chunks())
    with WorkerPool(_worker, (work,), processes) as pool:

        def submit(most: int) -> None:
            while len(reached) < most and (item := next(chunks, None)) is not None:
                number, (chunk, reach) = item
                reached[number] = reach
                pool.submit(number, chunk, tries=2)

        submit(2 * processes)
        for number, finished in pool.results():
            if finished.kind == "died":
                raise DatasetError(f"a worker's {finished.trouble}, twice on the same rows: out of memory?")
            if finished.kind != "done":
                raise DatasetError(f"rows could not be read: {finished.trouble}")
            found[number] = finished.value
            while next_index in found:
                yield found.pop(next_index), reached.pop(next_index)
                next_index += 1
            submit(2 * processes)


def _worker(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return work


def _read_chunk(
    read: Callable[[Any], list[Entry]], schema: pa.Schema, max_sites: int | None, chunk: Any
) -> tuple[pa.Table, dict[str, int]]:
    entries = read(chunk)
    small = [e for e in entries if max_sites is None or e.crystal is None or len(e.crystal[0]) <= max_sites]
    left_out = len(entries) - len(small)
    return to_arrow(small, schema), ({f"more than {max_sites} sites": left_out} if left_out else {})


def to_arrow(entries: Sequence[Entry], schema: pa.Schema) -> pa.Table:
    """A row an entry, as in a written candidate table: ``failed`` at ``read`` where there is no crystal.

    The checks are those of :func:`crysjepa.io.read_crystals`.
    """
    reasons = [e.reason or "no atom sites" for e in entries]
    sound = [i for i, e in enumerate(entries) if e.crystal is not None and len(e.crystal.atomic_numbers)]
    crystals = joined([("", c) for i in sound if (c := entries[i].crystal) is not None])
    problems = problems_of(crystals)
    for position, reason in problems.items():
        reasons[sound[position]] = reason
    kept = np.array([i for i in range(len(sound)) if i not in problems], dtype=np.int64)
    crystals = crystals[kept] if problems else crystals
    good = np.zeros(len(entries), dtype=bool)
    good[np.array(sound, dtype=np.int64)[kept]] = True
    sites = np.zeros(len(entries), dtype=np.int64)
    sites[good] = crystals.num_atoms
    failed = ~good
    columns = [
        pa.array([e.name for e in entries], type=pa.string()),
        pa.array(np.where(good, str(Status.OK), str(Status.FAILED)).tolist(), type=pa.string()),
        pa.array(["read" if f else None for f in failed], type=pa.string()),
        pa.array([r if f else None for r, f in zip(reasons, failed, strict=True)], type=pa.string()),
        _lists(crystals.atomic_numbers.astype(np.uint8), sites, failed),
        _lists(crystals.frac_coords.reshape(-1), 3 * sites, failed),
        _lists(crystals.lattices.reshape(-1), 9 * good, failed),
    ]
    for own in list(schema)[len(columns) :]:
        values = [e.extra.get(own.name) for e in entries]
        columns.append(pa.array(values, type=own.type, from_pandas=True))
    return pa.Table.from_arrays(columns, schema=schema)


def _lists(values: np.ndarray, lengths: np.ndarray, null: np.ndarray) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), mask=pa.array(null))


class _Ids:
    """Ids that no two rows share: a repeated one gets ``#2``, ``#3``, ... behind it."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def unique(self, names: list[str]) -> pa.Array:
        """The names of the next rows, told apart from all before."""
        return pa.array([self._one(name) for name in names], type=pa.string())

    def _one(self, name: str) -> str:
        if name not in self.seen:
            self.seen[name] = 1
            return name
        while True:
            self.seen[name] += 1
            if (candidate := f"{name}#{self.seen[name]}") not in self.seen:
                self.seen[candidate] = 1
                return candidate
