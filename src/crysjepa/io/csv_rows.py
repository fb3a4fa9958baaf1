"""CSV files, a crystal a row: the column of structures is found by what it holds."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import Any, TextIO

from crysjepa.io.cells import MAX_CELL, choose_column, holds_structure
from crysjepa.io.cif.blocks import ReadError, brief
from crysjepa.io.entry import ID_COLUMNS, Entry
from crysjepa.io.json_files import entry_of_cell
from crysjepa.runtime.notes import note
from crysjepa.runtime.progress import Progress

_LOOKED_AT = 50
"""Rows that decide which column holds the structures."""

Row = dict[str, Any]


def read_csv(
    handle: TextIO, stem: str, progress: Progress | None = None, column: str | None = None
) -> list[Entry]:
    """An entry for each row of a CSV with a column of structures (:func:`choose_column`).

    Values are parted by commas, or by semicolons or tabs where the header has no comma. Other columns are
    kept, but for further columns of structures and pandas's ``Unnamed``.

    Raises
    ------
    ReadError
        If there is no such column, or several.
    """
    before = csv.field_size_limit(MAX_CELL)
    try:
        lines = _lines(handle)
        first = next(lines, "")
        parted = next((mark for mark in ",;\t" if mark in first), ",")
        rows = csv.reader(chain([first], lines), delimiter=parted)
        try:
            header = _distinct([name.strip() for name in next(rows, [])])
        except csv.Error as error:
            raise ReadError(f"unparsable header: {brief(error)}") from error
        if any(map(holds_structure, header)):
            raise ReadError("the first line holds a crystal, not the names of columns: write those above it")
        return _entries(_parsed(rows, header), header, stem, progress, column)
    finally:
        csv.field_size_limit(before)


def _lines(handle: TextIO) -> Iterator[str]:
    """Lines, none longer than a cell may be: the rest of a longer one is another line, and no row."""
    while line := handle.readline(2 * MAX_CELL):
        yield line.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _distinct(header: list[str]) -> list[str]:
    """Names of columns; a repeated one gets ``.1``, ``.2``, ... as in pandas."""
    return [f"{n}.{header[:i].count(n)}" if n in header[:i] else n for i, n in enumerate(header)]


def _entries(
    read: Iterator[Row | str], header: list[str], stem: str, progress: Progress | None, column: str | None
) -> list[Entry]:
    first = list(islice(read, _LOOKED_AT))
    if not first:
        note("the CSV has no rows below its header")
    looked = [row for row in first if isinstance(row, dict)]
    where, others = choose_column(header, looked, column)
    key = next((n for own in ID_COLUMNS for n in header if n.lower() == own and n != where), None)
    key = _named_rows(header[0], looked) if key is None else key
    dropped = {where, key, *others, ""}
    entries: list[Entry] = []
    for row in chain(first, read):
        numbered = f"{stem}-{len(entries)}"
        if isinstance(row, str):
            entries.append(Entry(numbered, None, row))
            continue
        name = "" if key is None else (row[key] or "").strip()
        extra = {k: v for k, v in row.items() if k not in dropped and not k.startswith("Unnamed")}
        entries.append(entry_of_cell(name, numbered, row[where], extra))
        if progress and len(entries) % 100 == 0:
            progress(len(entries), 0)
    return entries


def _named_rows(first: str, looked: Sequence[Row]) -> str | None:
    """The first column, where it is pandas's index: without a name, and with names rather than numbers."""
    names = [(row[first] or "").strip() for row in looked]
    is_index = (first == "" or first.startswith("Unnamed")) and len(set(names)) == len(names)
    return first if is_index and all(n and not n.isdecimal() for n in names) else None


def _parsed(rows: Iterator[list[str]], header: list[str]) -> Iterator[Row | str]:
    """Rows that are not blank; in place of one that is no CSV, the reason."""
    while True:
        try:
            values = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"unparsable row: {brief(error)}"
            continue
        if any(values[len(header) :]):  # a comma too many moves values to other columns
            yield f"the row has {len(values)} values under {len(header)} names"
        elif values:
            yield dict(zip_longest(header, values[: len(header)]))
