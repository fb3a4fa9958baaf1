"""From entries to a candidate table: the checks that hold for every format, ids, and the source's columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crysjepa._cif import MAX_SITES, RawCrystal
from crysjepa._readers import Entry
from crysjepa.candidates import CandidateTable
from crysjepa.crystals import ARROW_SCHEMA, Crystals

STATE = ("status", "stage", "reason")
_RESERVED = ("id", *STATE, *ARROW_SCHEMA.names[1:])


def assemble(entries: list[Entry], columns: pd.DataFrame | None = None) -> CandidateTable:
    """A row an entry. ``columns`` are the source's other values; by default those in the entries."""
    ids = unique_names([entry.name for entry in entries])
    sound = [i for i, e in enumerate(entries) if e.crystal is not None and len(e.crystal.atomic_numbers)]
    known = set(sound)
    reasons = {i: e.reason or "no atom sites" for i, e in enumerate(entries) if i not in known}
    crystals = joined([(ids[i], c) for i in sound if (c := entries[i].crystal) is not None])
    problems = problems_of(crystals)
    reasons |= {sound[i]: reason for i, reason in problems.items()}
    kept = np.array([i for i in range(len(crystals)) if i not in problems], dtype=np.int64)
    good = crystals[kept] if problems else crystals
    table = CandidateTable.from_crystals(good, {ids[i]: reasons[i] for i in sorted(reasons)}, order=ids)
    columns = _inferred([dict(e.extra) for e in entries]) if columns is None else columns
    for name in columns.columns:
        table.frame[f"source_{name}" if name in _RESERVED else str(name)] = columns[name].array
    return table


def joined(crystals: list[tuple[str, RawCrystal]]) -> Crystals:
    if not crystals:
        return Crystals.empty()
    return Crystals(
        np.concatenate([c.atomic_numbers for _, c in crystals]),
        np.concatenate([c.frac_coords for _, c in crystals]),
        np.stack([c.lattice for _, c in crystals]),
        np.array([len(c.atomic_numbers) for _, c in crystals]),
        tuple(id_ for id_, _ in crystals),
    )


def problems_of(crystals: Crystals) -> dict[int, str]:
    """Why a crystal is none, by position: checks that hold for every format."""
    if not len(crystals):
        return {}
    starts = crystals.offsets[:-1]

    def every(per_site: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.asarray(np.logical_and.reduceat(per_site, starts), dtype=np.bool_)

    z, cells = crystals.atomic_numbers, crystals.lattices
    finite_cell = np.asarray(np.isfinite(cells).all(axis=(1, 2)))
    cells = np.where(finite_cell[:, None, None], cells, np.eye(3))
    with np.errstate(all="ignore"):
        volumes = np.abs(np.linalg.det(cells))
        boxes = np.linalg.norm(cells, axis=2).prod(axis=1)
        singular = ~(volumes > 1e-3) | ~(volumes > 1e-6 * boxes)
    found: dict[int, str] = {}
    checks: list[tuple[NDArray[np.bool_], Callable[[int], str]]] = [
        (~finite_cell, lambda i: "the lattice has a number that is not finite"),
        (
            ~every(np.asarray(np.isfinite(crystals.frac_coords).all(axis=1))),
            lambda i: "a coordinate is not finite",
        ),
        (singular, lambda i: f"singular cell (volume {volumes[i]:.2g} Å³)"),
        (~every((z >= 1) & (z <= 118)), lambda i: "an atomic number is not that of an element (1 to 118)"),
        (crystals.num_atoms > MAX_SITES, lambda i: f"{crystals.num_atoms[i]} sites (limit {MAX_SITES})"),
    ]
    for bad, reason in checks:
        for i in np.flatnonzero(bad):
            found.setdefault(int(i), reason(int(i)))
    return found


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, a repeated one with ``#2``, ``#3``, ... behind it."""
    taken, seen = set(names), dict[str, int]()
    out = []
    for name in names:
        count = seen.get(name, 0) + 1
        while count > 1 and f"{name}#{count}" in taken:
            count += 1
        seen[name] = count
        out.append(name if count == 1 else f"{name}#{count}")
    return out


def _inferred(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Columns of the narrowest nullable type that holds every value; empty text and NaN are null."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({name: _inferred_column([row.get(name) for row in rows]) for name in names})


def _inferred_column(values: list[Any]) -> Any:
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    plain = [None if v is None or v != v or (isinstance(v, str) and not v.strip()) else v for v in plain]
    given = [v for v in plain if v is not None]
    if given and all(isinstance(v, bool) or v in ("True", "False") for v in given):
        return pd.array([v if v is None else str(v) == "True" for v in plain], dtype="boolean")
    if given and not any(isinstance(v, bool) for v in given):
        for kind, dtype in ((int, "Int64"), (float, "Float64")):
            numbers = [_converted(v, kind) for v in plain]
            if all(n is not None for n, v in zip(numbers, plain, strict=True) if v is not None):
                return pd.array([None if n is None or n != n else n for n in numbers], dtype=dtype)
    return pd.array([None if v is None else str(v) for v in plain], dtype="string")


def _converted(value: Any, kind: type) -> Any:
    if value is None or (kind is int and isinstance(value, float)):
        return None
    try:
        number = kind(value)
    except ValueError:
        return None
    return None if kind is int and abs(number) >= 2**63 else number
