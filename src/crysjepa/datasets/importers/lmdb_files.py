"""MatterGen's reference: an LMDB in gzip, whose values are pickled dictionaries of computed entries.

Its keys are ``{chemical system}.{reduced formula}.{n}``, beside a few for its index
(https://github.com/microsoft/mattergen, mattergen/evaluation/reference/reference_dataset_serializer.py).
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from crysjepa.datasets.importers.json_files import ENTRY_COLUMNS
from crysjepa.datasets.importers.parquet import CHUNK_BYTES, CHUNK_ROWS, Source, partial_of
from crysjepa.datasets.importers.safe_pickle import UnsafePickle, read_pickle
from crysjepa.io.cif.blocks import brief
from crysjepa.io.entry import Entry
from crysjepa.io.structures import read_entry
from crysjepa.runtime.download import DatasetError

Record = tuple[str, bytes]


def lmdb_source(path: Path, folder: Path) -> Source:
    """Entries of an LMDB in gzip, unpacked into ``folder`` while they are read (an LMDB is read at random).

    Raises
    ------
    DatasetError
        If the package lmdb is missing.
    """
    try:
        import lmdb  # noqa: F401
    except ImportError as error:
        raise DatasetError('this needs the package lmdb: pip install "crysjepa[data]"') from error
    return Source(ENTRY_COLUMNS, partial(_chunks, path, folder), _read, path.stat().st_size)


def _chunks(path: Path, folder: Path) -> Iterator[tuple[list[Record], int]]:
    import lmdb

    unpacked = partial_of(folder / path.name.removesuffix(".gz"))
    size = path.stat().st_size
    try:
        with gzip.open(path) as packed, unpacked.open("wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
        with lmdb.open(str(unpacked), subdir=False, readonly=True, lock=False, readahead=False) as env:
            total = max(1, env.stat()["entries"])
            for chunk, seen in _records(env):
                yield chunk, size * seen // total
    except (lmdb.Error, zlib.error, EOFError, OSError) as error:
        raise DatasetError(f"{path.name} is damaged, or no LMDB in gzip: {brief(error)}") from error
    finally:
        unpacked.unlink(missing_ok=True)


def _records(env: Any) -> Iterator[tuple[list[Record], int]]:
    chunk: list[Record] = []
    size, seen = 0, 0
    with env.begin() as transaction:
        for seen, (key, value) in enumerate(transaction.cursor(), start=1):
            name = key.decode("utf-8", errors="replace")
            if not name.rsplit(".", 1)[-1].isdigit():
                continue  # the index: names of systems and formulas, and how many entries each has
            chunk.append((name, bytes(value)))
            size += len(value)
            if size >= CHUNK_BYTES or len(chunk) == CHUNK_ROWS:
                yield chunk, seen
                chunk, size = [], 0
    if chunk:
        yield chunk, seen


def _read(chunk: list[Record]) -> list[Entry]:
    entries = []
    for name, value in chunk:
        try:
            data = read_pickle(value)
        except UnsafePickle as error:
            entries.append(Entry(name, None, str(error)))
            continue
        entries.append(
            read_entry(name, data) if isinstance(data, dict) else Entry(name, None, "not a dictionary")
        )
    return entries
