"""ASE's trajectories (``.traj``) and databases (``.db``), looked into rather than decoded.

ASE's own readers make arrays of any size that a file declares, and make a database of an empty file. The
layouts are those of ``ase.io.ulm`` (https://ase-lib.org/ase/io/ulm.html) and ``ase.db.sqlite``.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.moments import checked
from crysjepa.io.arrow_rows import elements
from crysjepa.io.cif.blocks import MAX_CRYSTAL_BYTES, MAX_SITES, ReadError, brief
from crysjepa.io.entry import Entry, own_name, reason_of
from crysjepa.io.extxyz import crystal_of, left_out, scalars

_MAX_FRAMES = 50_000_000
_NOT_READ = ("data", "forces", "stress", "dipole", "momenta", "charges", "initial_charges")
"""Columns of a database with values that a table of crystals does not hold."""
_EMPTY = (None, "", b"", "{}", b"{}", "null")
_DTYPES = ("float64", "float32", "int64", "int32", "int16", "int8", "uint8", "bool")


# -- trajectories --------------------------------------------------------------------------------------


def read_traj(path: Path, stem: str) -> list[Entry]:
    """An entry for each frame of an ASE trajectory; its energy is kept.

    Raises
    ------
    ReadError
        If the file is no trajectory, or its header is damaged.
    """
    with path.open("rb") as handle:
        size = path.stat().st_size
        if handle.read(8) not in (b"- of Ulm", b"AFFormat"):
            raise ReadError("not a trajectory of ASE")
        tag = handle.read(16).rstrip()
        _, count, at = struct.unpack("<3q", handle.read(24).ljust(24, b"\0"))
        if tag != b"ASE-Trajectory" or not 0 <= count <= _MAX_FRAMES or not 0 <= at <= size - 8 * count:
            raise ReadError("not a trajectory of ASE, or a damaged one")
        handle.seek(at)
        offsets = struct.unpack(f"<{count}q", handle.read(8 * count))
        entries: list[Entry] = []
        shared: dict[str, Any] = {}
        for i, offset in enumerate(offsets):
            name = stem if count == 1 else f"{stem}-{i}"
            try:
                frame = _frame(handle, offset, size)
                if "numbers" in frame:
                    shared = {k: frame[k] for k in ("numbers", "pbc") if k in frame}
                entries.append(_traj_entry(name, shared | frame))
            except BaseException as error:  # noqa: BLE001 - one frame never ends the others
                entries.append(Entry(name, None, reason_of(error)))
    return entries


def _frame(handle: IO[bytes], offset: int, size: int) -> dict[str, Any]:
    """The values of a frame; arrays are of what stands in the file, and of no other size."""
    if not 0 <= offset <= size - 8:
        raise ReadError("the frame lies beyond the end of the file")
    handle.seek(offset)
    (length,) = struct.unpack("<q", handle.read(8))
    if not 0 <= length <= min(MAX_CRYSTAL_BYTES, size - offset):
        raise ReadError("the frame lies beyond the end of the file")
    data = json.loads(handle.read(length))
    little = data.pop("_little_endian", True)
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and "ndarray" in value:
            if key in ("numbers.", "positions.", "cell.", "pbc.", "magmoms."):
                found[key[:-1]] = _array(handle, value["ndarray"], little, size)
        elif key.endswith("."):
            found[key[:-1]] = value
        else:
            found[key] = value
    calculated = found.get("calculator")
    stored_with = [*data.items(), *(calculated.items() if isinstance(calculated, Mapping) else ())]
    carried = ("numbers.", "positions.", "cell.", "pbc.", "magmoms.")
    found["lost"] = tuple(
        key.rstrip(".")
        for key, value in stored_with
        if isinstance(value, Mapping) and "ndarray" in value and key not in carried
    )
    if isinstance(calculated, Mapping) and isinstance(stored := calculated.get("magmoms."), Mapping):
        found["calculated_magmoms"] = _array(handle, stored["ndarray"], little, size)
    return found


def _array(handle: IO[bytes], declared: list[Any], little: bool, size: int) -> NDArray[Any]:
    shape, dtype, offset = declared
    if dtype not in _DTYPES or any(not isinstance(n, int) or n < 0 for n in shape):
        raise ReadError(f"an array of type {dtype} and shape {shape}")
    number = 1
    for n in shape:
        number *= n
    kind = np.dtype(dtype).newbyteorder("<" if little else ">")
    if number > 3 * MAX_SITES:
        raise ReadError(f"{shape[0]} sites (limit {MAX_SITES})")
    if not 0 <= offset <= size - number * kind.itemsize:
        raise ReadError("an array lies beyond the end of the file")
    handle.seek(offset)
    return np.frombuffer(handle.read(number * kind.itemsize), kind).reshape(shape)


def _traj_entry(name: str, frame: dict[str, Any]) -> Entry:
    info = frame.get("info") if isinstance(frame.get("info"), Mapping) else {}
    calculator = frame.get("calculator") if isinstance(frame.get("calculator"), Mapping) else {}
    info = dict(info or {}) | {k: v for k, v in (calculator or {}).items() if k == "energy"}
    entry = _of_arrays(
        own_name(info) or name,
        frame["numbers"],
        frame["positions"],
        frame["cell"],
        frame.get("pbc", True),
        info,
        frame.get("calculated_magmoms", frame.get("magmoms")),
    )
    return entry._replace(lost=(*entry.lost, *frame.get("lost", ())))


def _of_arrays(
    name: str, numbers: Any, positions: Any, cell: Any, pbc: Any, info: dict[str, Any], magmoms: Any = None
) -> Entry:
    from ase import Atoms

    whole = elements(np.asarray(numbers, dtype=float))
    atoms = Atoms(numbers=whole, positions=np.array(positions, float), cell=cell, pbc=pbc, info=info)
    extra = {k: v for k, v in scalars(atoms).items() if k not in ("id", "material_id")}
    try:
        crystal = crystal_of(atoms)._replace(magmoms=checked(magmoms, len(atoms)))
        return Entry(name, crystal, extra=extra, lost=left_out(atoms))
    except ReadError as error:
        return Entry(name, None, str(error), extra)


# -- databases -----------------------------------------------------------------------------------------


def read_db(path: Path, stem: str) -> list[Entry]:
    """An entry for each row of an ASE database in SQLite; energies and key-value pairs are kept.

    The file is opened to be read only, and of its tables ``systems`` alone.

    Raises
    ------
    ReadError
        If the file is no such database.
    """
    waiting = path.with_name(f"{path.name}-wal")
    if waiting.exists() and waiting.stat().st_size:
        raise ReadError(
            f"rows may stand in {waiting.name}, not yet in the database: let the program that writes it end, "
            f"or run sqlite3 {path.name} 'PRAGMA wal_checkpoint(TRUNCATE)'"
        )
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CRYSTAL_BYTES)
            db.execute("PRAGMA trusted_schema = OFF")
            db.execute("PRAGMA cell_size_check = ON")
            kind = db.execute("SELECT type FROM sqlite_master WHERE name = 'systems'").fetchone()
            if kind != ("table",):
                raise ReadError("not a database of ASE (no table systems)")
            there = [row[1] for row in db.execute("PRAGMA table_info(systems)")]
            unread = [name for name in _NOT_READ if name in there]
            rows = db.execute(
                "SELECT id, numbers, positions, cell, pbc, energy, key_value_pairs, "
                f"coalesce(magmoms, initial_magmoms){''.join(f', {name}' for name in unread)} "
                "FROM systems ORDER BY id"
            )
            return [_db_entry(f"{stem}-{row[0]}", row[:8], dict(zip(unread, row[8:], strict=True)))
                    for row in rows]  # fmt: skip
    except (sqlite3.Error, OverflowError) as error:
        raise ReadError(f"not a database of ASE, or a damaged one: {brief(error)}") from error


def _db_entry(name: str, row: tuple[Any, ...], others: Mapping[str, Any]) -> Entry:
    try:
        _, numbers, positions, cell, pbc, energy, pairs, moments = row
        info = json.loads(pairs) if isinstance(pairs, str) else {}
        info = dict(info) | ({} if energy is None else {"energy": energy})
        z, x, box = (
            np.frombuffer(blob or b"", dtype)
            for blob, dtype in ((numbers, "<i4"), (positions, "<f8"), (cell, "<f8"))
        )
        if len(x) != 3 * len(z) or len(box) != 9:
            raise ReadError(f"{len(z)} sites, {len(x)} coordinates and {len(box)} lattice numbers disagree")
        if len(z) > MAX_SITES:
            raise ReadError(f"{len(z)} sites (limit {MAX_SITES})")
        periodic = [bool(int(pbc) & bit) for bit in (1, 2, 4)]
        entry = _of_arrays(
            own_name(info) or name,
            z,
            x.reshape(-1, 3),
            box.reshape(3, 3),
            periodic,
            info,
            None if moments is None else np.frombuffer(moments, "<f8"),
        )
        lost = (k for k, v in others.items() if v not in _EMPTY and not (k == "data" and v[8:] == b"{}"))
        return entry._replace(lost=(*entry.lost, *lost))
    except BaseException as error:  # noqa: BLE001 - one row never ends the others
        return Entry(name, None, reason_of(error))
