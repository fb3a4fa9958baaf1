"""Very large JSON files of two levels, cut into members without ever being parsed as a whole.

MPtrj (https://figshare.com/articles/dataset/23713842) is ``{mp_id: {frame_id: {"structure": ..., ...}}}``.
Matbench Discovery's computed structure entries are a pandas frame, ``{"material_id": {"0": "mp-1", ...},
"entry": {"0": {...}, ...}}`` (https://github.com/janosh/matbench-discovery, data/mp/build_phase_diagram.py).
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from crysjepa.datasets.importers.parquet import CHUNK_BYTES, CHUNK_ROWS, Source
from crysjepa.io.cif.blocks import MAX_CRYSTAL_BYTES, ReadError, brief
from crysjepa.io.entry import Entry, attempt
from crysjepa.io.structures import finite, read_entry, read_structure
from crysjepa.runtime.download import DatasetError

BLOCK = 4_000_000
"""Bytes looked at at once."""
_DEPTH = np.zeros(256, dtype=np.int8)
_DEPTH[[ord(c) for c in "{["]] = 1
_DEPTH[[ord(c) for c in "}]"]] = -1
_SPECIAL = _DEPTH != 0
_SPECIAL[[ord(c) for c in '",']] = True
_QUOTE, _COMMA, _OPEN, _CLOSE = (ord(c) for c in '",{}')

Member = tuple[str, bytes]
"""The outer key, and the text ``"inner key": value``."""

ENTRY_COLUMNS = {"composition": pa.string(), "energy_per_atom": pa.float64()}
MPTRJ_COLUMNS = {
    "material_id": pa.string(),
    "formation_energy_per_atom": pa.float64(),
    "energy_per_atom": pa.float64(),
}


def mptrj_source(path: Path) -> Source:
    """Frames of MPtrj, by frame id, with the formation energy that the file gives (``ef_per_atom``)."""
    return Source(MPTRJ_COLUMNS, partial(_chunks, path, None), _read_frames, path.stat().st_size)


def entries_source(path: Path) -> Source:
    """Computed structure entries with corrected energies; formation energies are yet to be formed."""
    return Source(ENTRY_COLUMNS, partial(_chunks, path, "entry"), _read_entries, path.stat().st_size)


# -- in the workers ------------------------------------------------------------------------------------


def _read_frames(chunk: list[Member]) -> list[Entry]:
    entries = []
    for material, text in chunk:
        name, frame = _member(text)
        if not isinstance(frame, dict):
            entries.append(Entry(name or material, None, frame, {"material_id": material}))
            continue
        extra = {
            "material_id": material,
            "formation_energy_per_atom": finite(frame.get("ef_per_atom")),
            "energy_per_atom": finite(frame.get("energy_per_atom")),
        }
        entries.append(attempt(name, partial(read_structure, frame.get("structure")), extra))  # type: ignore[arg-type]
    return entries


def _read_entries(chunk: list[Member]) -> list[Entry]:
    entries = []
    for _, text in chunk:
        name, entry = _member(text)
        name = f"entry-{name}"
        entries.append(read_entry(name, entry) if isinstance(entry, dict) else Entry(name, None, entry))
    return entries


def _member(text: bytes) -> tuple[str, dict[str, Any] | str]:
    """Inner key and value; in place of a value that cannot be read, the reason."""
    try:
        ((key, value),) = json.loads(b"{" + text + b"}").items()
    except (ValueError, RecursionError) as error:
        return "", f"unparsable JSON: {brief(error)}"
    return key, value if isinstance(value, dict) else f"a {type(value).__name__} in place of an object"


# -- cutting -------------------------------------------------------------------------------------------


def _chunks(path: Path, wanted: str | None) -> Iterator[tuple[list[Member], int]]:
    """Members under the outer key ``wanted``, or under all of them."""
    chunk: list[Member] = []
    size = 0
    with path.open("rb") as raw:
        handle: Any = gzip.open(raw) if path.suffix == ".gz" else raw  # noqa: SIM115 - closed with raw
        try:
            for outer, text in members(handle):
                if wanted is not None and outer != wanted:
                    continue
                chunk.append((outer, text))
                size += len(text)
                if size >= CHUNK_BYTES or len(chunk) == CHUNK_ROWS:
                    yield chunk, raw.tell()
                    chunk, size = [], 0
        except (ReadError, zlib.error, EOFError, OSError) as error:
            raise DatasetError(f"{path.name} is damaged, or not what it should be: {brief(error)}") from error
        if chunk:
            yield chunk, raw.tell()


def members(handle: BinaryIO, block_size: int = BLOCK) -> Iterator[Member]:
    """Every member of every object in an object of objects, in order; memory holds a block and a member.

    Raises
    ------
    ReadError
        If the text is something else, is cut off, or has a member of more than 20 MB.
    """
    outer, rest, depth, open_string = "", b"", 0, False
    while block := handle.read(block_size):
        while block.endswith(b"\\") and (more := handle.read(1)):  # keep an escaped quote with its backslash
            block += more
        text, start = rest + block, 0
        cuts, depth, open_string = _cuts(block, depth, open_string)
        for position, character, level in cuts:
            end = len(rest) + position
            piece, start = text[start:end].strip(), end + 1
            if level == 2 and piece and character != _OPEN:  # a comma, or the brace after the last member
                yield outer, piece
            elif character == _OPEN and level == 1:
                outer = _outer_key(piece)
            elif piece:
                raise ReadError(f"not an object of objects: {piece[:60]!r}")
        rest = text[start:]
        if len(rest) > MAX_CRYSTAL_BYTES:
            raise ReadError(f"a member of more than {MAX_CRYSTAL_BYTES / 1e6:.0f} MB")
    if depth or open_string or rest.strip():
        raise ReadError("the file ends before its last object does")


def _outer_key(piece: bytes) -> str:
    try:
        return str(json.loads(piece.removesuffix(b":")))
    except ValueError as error:
        raise ReadError(f"not an object of objects: {piece[:60]!r}") from error


def _cuts(block: bytes, depth: int, open_string: bool) -> tuple[list[tuple[int, int, int]], int, bool]:
    """Where members begin and end: (position, character, depth before it); and the state after the block.

    Brackets and commas in strings do not count; a byte is in one if the quotes before it are odd in number.
    """
    data = np.frombuffer(block, dtype=np.uint8)
    places = np.flatnonzero(_SPECIAL[data])
    marks = data[places]
    quotes = marks == _QUOTE
    for run in re.finditer(rb'\\+"', block):  # an odd number of backslashes escapes the quote behind them
        if (run.end() - run.start()) % 2 == 0:
            quotes[np.searchsorted(places, run.end() - 1)] = False
    parity = np.cumsum(quotes, dtype=np.int32) + open_string
    steps = np.where(parity & 1, 0, _DEPTH[marks])
    after = np.cumsum(steps, dtype=np.int32) + depth
    before = after - steps
    opening = (marks == _OPEN) & (before < 2)
    cut = (steps < 0) & (marks == _CLOSE) | (parity & 1 == 0) & ((marks == _COMMA) | opening)
    chosen = np.flatnonzero(cut & (before <= 2))
    found = list(zip(places[chosen].tolist(), marks[chosen].tolist(), before[chosen].tolist(), strict=True))
    if len(places):
        depth, open_string = int(after[-1]), bool(parity[-1] & 1)
    return found, depth, open_string
