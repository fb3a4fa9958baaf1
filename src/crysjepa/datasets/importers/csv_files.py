"""CSV files with a column ``cif``, loose or in a zip: MP-20 (CDVAE) and Alex-MP-20 (MatterGen).

Columns after their publishers: https://github.com/txie-93/cdvae (data/mp_20) and
https://github.com/microsoft/mattergen (data-release/alex-mp, the properties in its README). Each file is a
split, which its name gives; other members of a zip are not part of the data set.
"""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import pyarrow as pa

from crysjepa.datasets.importers.parquet import CHUNK_ROWS, Source
from crysjepa.io.cif.blocks import MAX_CRYSTAL_BYTES, RawCrystal, ReadError, brief, read_only_block
from crysjepa.io.entry import Entry, attempt
from crysjepa.io.structures import finite
from crysjepa.runtime.download import DatasetError

SPLITS = ("train", "val", "test")
_RENAMED = {"energy_above_hull": "e_above_hull"}
_NUMBERS = (
    "formation_energy_per_atom", "e_above_hull", "band_gap", "dft_band_gap", "dft_bulk_modulus",
    "ml_bulk_modulus", "dft_mag_density", "hhi_score",
)  # fmt: skip
_COUNTS = ("spacegroup.number", "num_sites")
_Rows = tuple[str, int, list[list[str]], dict[int, str]]
"""Split, number of the first row, rows, and what is wrong with rows that are no CSV."""


def csv_source(paths: Sequence[Path]) -> Source:
    """The rows of CSV files, or of those in a zip, with a column ``split``.

    Raises
    ------
    DatasetError
        If there is no such file, it is damaged, or it has no column ``cif``, or others than the first.
    """
    with _opened(paths) as files:
        headers = {name: next(csv.reader(handle), []) for name, handle, _ in files}
        size = sum(length for _, _, length in files)
    if not headers:
        raise DatasetError(f"{paths[0].name} has no {', '.join(f'{s}.csv' for s in SPLITS)} in it")
    if len({tuple(h) for h in headers.values()}) > 1:
        raise DatasetError(f"{', '.join(headers)} have different columns: {list(headers.values())}")
    header = next(iter(headers.values()))
    if "cif" not in header:
        raise DatasetError(f"no column cif in the CSV (it has {', '.join(header)[:200]})")
    key = next((c for c in ("material_id", "id") if c in header), None)
    own = [c for c in header if c and c != key and not c.startswith(("cif", "Unnamed")) and c != "split"]
    columns = {"split": pa.string()} | {_RENAMED.get(c, c): _type(_RENAMED.get(c, c)) for c in own}
    return Source(columns, partial(_chunks, tuple(paths)), partial(_read, tuple(header), key), size)


def _type(column: str) -> pa.DataType:
    return pa.float64() if column in _NUMBERS else pa.int64() if column in _COUNTS else pa.string()


@contextmanager
def _opened(paths: Sequence[Path]) -> Iterator[list[tuple[str, io.TextIOWrapper, int]]]:
    """Name, text and length in bytes of every CSV file of a split, in the order of :data:`SPLITS`."""
    found: dict[str, tuple[str, io.TextIOWrapper, int]] = {}
    with ExitStack() as stack:
        for path in paths:
            _add(path, found, stack)
        order = sorted(found, key=lambda s: (SPLITS.index(s) if s in SPLITS else len(SPLITS), s))
        try:
            yield [found[split] for split in order]
        except (zipfile.BadZipFile, zlib.error, csv.Error, EOFError, OSError) as error:
            raise DatasetError(f"{paths[0].name} is damaged: {brief(error)}") from error


def _add(path: Path, found: dict[str, tuple[str, io.TextIOWrapper, int]], stack: ExitStack) -> None:
    if path.suffix != ".zip":
        text = stack.enter_context(_text(path.open("rb")))
        found[path.stem] = (path.name, text, path.stat().st_size)
        return
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
        for member in archive.infolist():
            name = PurePosixPath(member.filename)
            if name.suffix == ".csv" and name.stem in SPLITS and "__MACOSX" not in name.parts:
                text = stack.enter_context(_text(archive.open(member)))
                found[name.stem] = (name.name, text, member.file_size)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DatasetError(f"{path.name} is not a zip file that can be read: {brief(error)}") from error


def _text(handle: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(handle, encoding="utf-8-sig", errors="replace", newline="")


def _chunks(paths: Sequence[Path]) -> Iterator[tuple[_Rows, int]]:
    before = csv.field_size_limit(2 * MAX_CRYSTAL_BYTES)
    try:
        with _opened(paths) as files:
            done = 0
            for name, handle, size in files:
                for chunk in _chunks_of(PurePosixPath(name).stem, handle):
                    yield chunk, done + min(cast(IO[bytes], handle.buffer).tell(), size)
                done += size
    finally:
        csv.field_size_limit(before)


def _chunks_of(split: str, handle: io.TextIOWrapper) -> Iterator[_Rows]:
    lines = csv.reader(handle)
    next(lines, None)
    rows: list[list[str]] = []
    bad: dict[int, str] = {}
    first = 0
    while True:
        try:
            row = next(lines)
        except StopIteration:
            break
        except csv.Error as error:
            bad[len(rows)] = f"unparsable row: {brief(error)}"
            row = []
        if row or len(rows) in bad:
            rows.append(row)
        if len(rows) == CHUNK_ROWS:
            yield split, first, rows, bad
            first, rows, bad = first + len(rows), [], {}
    if rows:
        yield split, first, rows, bad


def _read(header: tuple[str, ...], key: str | None, chunk: _Rows) -> list[Entry]:
    split, first, rows, bad = chunk
    entries = []
    for number, values in enumerate(rows):
        name = f"{split}-{first + number}"
        if len(values) != len(header):
            reason = bad.get(number, f"the row has {len(values)} values under {len(header)} names")
            entries.append(Entry(name, None, reason, {"split": split}))
            continue
        row = dict(zip(header, values, strict=True))
        extra: dict[str, Any] = {_RENAMED.get(k, k): v for k, v in row.items()}
        extra |= {c: finite(extra[c]) for c in _NUMBERS if c in extra}
        extra |= {c: _count(extra[c]) for c in _COUNTS if c in extra}
        name = (row[key].strip() if key else "") or name
        known = {k: None if v == "" else v for k, v in extra.items()} | {"split": split}
        entries.append(attempt(name, partial(_crystal, row["cif"]), known))
    return entries


def _count(value: str) -> int | None:
    number = finite(value)
    return int(number) if number is not None and number == int(number) else None


def _crystal(text: str) -> RawCrystal:
    if not text.strip():
        raise ReadError("the row has no CIF")
    return read_only_block(text)
