"""Readers of text: CIF, POSCAR, extended XYZ, CSV. Each gives entries: a crystal, or the reason for none."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TextIO

import numpy as np

from crysjepa._cif import (
    MAX_CRYSTAL_BYTES,
    MAX_SITES,
    RawCrystal,
    ReadError,
    brief,
    read_block,
    read_only_block,
    split_blocks,
)

Progress = Callable[[int, int], None]


class Entry(NamedTuple):
    """One crystal as its source has it, or the ``reason`` for none; and the source's other values."""

    name: str
    crystal: RawCrystal | None
    reason: str = ""
    extra: Mapping[str, Any] = {}


def attempt(name: str, read: Callable[[], RawCrystal], extra: Mapping[str, Any] | None = None) -> Entry:
    """What ``read`` returns, or the reason why it cannot."""
    try:
        return Entry(name, read(), extra=extra or {})
    except ReadError as error:
        return Entry(name, None, str(error), extra or {})


def decode(data: bytes) -> str:
    """Text of a file of unknown encoding; a byte that is not UTF-8 becomes U+FFFD."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


# -- text: CIF, POSCAR, extended XYZ ---------------------------------------------------------------


def read_cif(text: str, stem: str) -> list[Entry]:
    """An entry for each data block; named by the blocks where those names are unique, else numbered."""
    blocks = split_blocks(text)
    if len(blocks) == 1:
        return [attempt(stem, lambda: read_block(blocks[0][1]))]
    named = [name for name, _ in blocks]
    if not all(named) or len(set(named)) < len(named):
        named = [str(i) for i in range(len(blocks))]
    return [
        attempt(f"{stem}-{name}", lambda block=block: read_block(block))  # type: ignore[misc]
        for name, (_, block) in zip(named, blocks, strict=True)
    ]


def read_poscar(text: str, stem: str) -> list[Entry]:
    """The one entry of a POSCAR or CONTCAR."""
    return [attempt(stem, lambda: _poscar(text))]


def _poscar(text: str) -> RawCrystal:
    from pymatgen.core import Element, Species
    from pymatgen.io.vasp import Poscar

    for line in text.splitlines()[5:7]:
        counts = line.split()
        if counts and all(c.isdigit() and len(c) < 16 for c in counts) and sum(map(int, counts)) > MAX_SITES:
            raise ReadError(f"{sum(map(int, counts))} sites (limit {MAX_SITES})")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            poscar = Poscar.from_str(text, read_velocities=False)
        except Exception as error:  # a parser of free text raises anything; the reason is kept
            raise ReadError(f"unparsable POSCAR: {brief(error)}") from error
    if not poscar.true_names:
        raise ReadError("the POSCAR names no elements (VASP 4 format)")
    structure = poscar.structure
    for site in structure:
        if not isinstance(site.specie, Element | Species):
            raise ReadError(f"{site.species_string!r} is not an element")
    numbers = np.array([site.specie.Z for site in structure], dtype=np.int64)
    return RawCrystal(numbers, np.array(structure.frac_coords), np.array(structure.lattice.matrix))


def read_xyz(text: str, stem: str) -> list[Entry]:
    """An entry for each frame of an extended XYZ file. A bad frame does not lose those after it."""
    frames = list(_frames(text.splitlines()))
    entries = []
    for i, (lines, problem) in enumerate(frames):
        name = stem if len(frames) == 1 else f"{stem}-{i}"
        entries.append(Entry(name, None, problem) if problem else _xyz_entry(name, lines))
    return entries


def _frames(lines: list[str]) -> Iterator[tuple[list[str], str]]:
    """Lines of each frame, and what is wrong with its extent. After a bad frame, look for the next header."""

    def starts(i: int) -> bool:
        return lines[i].strip().isdigit() and i + 1 < len(lines) and "lattice" in lines[i + 1].lower()

    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        count = lines[at].strip()
        size = int(count) if count.isdigit() and len(count) < 16 else None
        end = (
            next((i for i in range(at + 1, min(at + 2 + size, len(lines))) if starts(i)), None)
            if size is not None
            else -1
        )
        if size is None:
            problem = f"expected the number of atoms, found {count[:40]!r}"
        elif end is not None or at + 2 + size > len(lines):
            problem = f"the frame ends before its {size} atoms"
        else:
            yield lines[at : at + 2 + size], ""
            at += 2 + size
            continue
        following = next((i for i in range(at + 1, len(lines)) if starts(i)), len(lines))
        yield lines[at:following], problem
        at = following


def _xyz_entry(name: str, lines: list[str]) -> Entry:
    from ase.io import read

    if int(lines[0]) > MAX_SITES:
        return Entry(name, None, f"{lines[0].strip()} sites (limit {MAX_SITES})")
    if int(lines[0]) == 0:
        return Entry(name, None, "no atom sites")
    # ASE does not know deuterium and tritium by name
    body = [re.sub(r"^(\s*)[DT](?=\s)", r"\1H", line) for line in lines[2:]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            atoms: Any = read(io.StringIO("\n".join([lines[0], lines[1], *body]) + "\n"), format="extxyz")
        except Exception as error:  # noqa: BLE001 - a parser of free text raises anything; the reason is kept
            what = f"{error.args[0]!r} is not an element" if isinstance(error, KeyError) else brief(error)
            return Entry(name, None, f"unparsable frame: {what}")
    energy = {} if atoms.calc is None else {"energy": atoms.calc.results.get("energy")}
    scalars = {
        k: v
        for k, v in {**atoms.info, **energy}.items()
        if isinstance(v, str | bool | int | float | np.generic)
    }
    if not atoms.cell.array.any():
        return Entry(name, None, "no unit cell", scalars)
    if not atoms.pbc.all():
        return Entry(name, None, "not periodic in all three directions", scalars)
    cell, positions = atoms.cell.array, atoms.positions
    if not np.isfinite(cell).all() or not np.isfinite(positions).all():
        return Entry(name, None, "a coordinate or the lattice is not finite", scalars)
    if abs(np.linalg.det(cell)) < 1e-12:
        return Entry(name, None, "singular cell (volume 0)", scalars)
    return Entry(name, RawCrystal(atoms.numbers, np.linalg.solve(cell.T, positions.T).T, cell), extra=scalars)


# -- CSV ----------------------------------------------------------------------------------------------


def read_csv(handle: TextIO, stem: str, progress: Progress | None = None) -> list[Entry]:
    """An entry for each row of a CSV with a ``cif`` column. Other columns are kept, save further CIFs.

    Raises
    ------
    ReadError
        If there is no column ``cif``.
    """
    before = csv.field_size_limit(2 * MAX_CRYSTAL_BYTES)
    entries: list[Entry] = []
    try:
        rows = csv.DictReader(handle)
        header = list(rows.fieldnames or [])
        if "cif" not in header:
            raise ReadError(f"no column cif in the CSV (it has {', '.join(header)[:200]})")
        key = next((name for name in ("material_id", "id") if name in header), None)
        while True:
            numbered = f"{stem}-{len(entries)}"
            try:
                row = next(rows)
            except StopIteration:
                return entries
            except csv.Error as error:
                entries.append(Entry(numbered, None, f"unparsable row: {brief(error)}"))
                continue
            name = (row[key] or "").strip() if key else ""
            extra = {k: v for k, v in row.items() if k and k != key and not k.startswith(("cif", "Unnamed"))}
            text = row["cif"] or ""
            entries.append(attempt(name or numbered, lambda text=text: _csv_cif(text), extra))  # type: ignore[misc]
            if progress and len(entries) % 100 == 0:
                progress(len(entries), 0)
    finally:
        csv.field_size_limit(before)


def _csv_cif(text: str) -> RawCrystal:
    if not text.strip():
        raise ReadError("the row has no CIF")
    return read_only_block(text)
