"""Work on a source a chunk at a time, each chunk's rows in a file of their own.

A finished chunk is a file (a shard) named by a hash of all that it depends on, so that a run that was stopped
goes on where it stood and ends in the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.core.candidates import CandidateTable
from crysjepa.runtime.files import write_parquet
from crysjepa.runtime.parts import PartDone, part_in
from crysjepa.runtime.progress import Progress


def chunk_files(
    chunks: Iterable[CandidateTable],
    work: Callable[[CandidateTable], pa.Table],
    shards: Path,
    *,
    key: str,
    schema: pa.Schema,
    num_rows: int = 0,
    progress: Progress | None = None,
) -> list[Path]:
    """Do the work on every chunk into a file of ``shards``, but for those there; the files in their order.

    Parameters
    ----------
    work
        A chunk's rows, of this ``schema``.
    key
        All that they depend on beside the chunk.

    Raises
    ------
    PartDone
        Where the chunks are shared out (:mod:`crysjepa.runtime.parts`), once this part's are done. One after
        the other goes to one part after the other.
    """
    paths: list[Path] = []
    done, total, part = 0, 0, part_in(shards)
    for number, table in enumerate(chunks):
        total += 1
        if part is not None and number % part.of != part.number - 1:
            continue
        what = "\0".join([key, table.content_hash(), *schema.names])
        name = f"chunk-{number:06d}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.parquet"
        paths.append(shards / name)
        if read_shard(paths[-1], schema) is None:
            write_parquet(work(table), paths[-1])
        done += len(table)
        if progress is not None:
            progress(done, num_rows if part is None else -(-num_rows // part.of))
    if part is not None:
        raise PartDone(paths, total)
    return paths


def read_shard(path: Path, schema: pa.Schema) -> pa.Table | None:
    """A finished chunk; None when there is no such file, or none that can be read."""
    try:
        return pq.read_table(path, schema=schema, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return None
