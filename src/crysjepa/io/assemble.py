"""From entries to a candidate table: the checks that hold for every format, ids, and the source's columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import ARROW_SCHEMA, MAX_COORDINATE, MAX_LENGTH, MAX_SITES, Crystals
from crysjepa.core.min_distance import surely_valid
from crysjepa.core.moments import COLUMN
from crysjepa.io.cif.blocks import RawCrystal, ReadError
from crysjepa.io.cif.sites import SAME_SPOT, check_apart
from crysjepa.io.columns import inferred
from crysjepa.io.entry import Entry, unicode_name
from crysjepa.io.formulas import tell_other_formulas
from crysjepa.runtime.notes import note

STATE = ("status", "stage", "reason")
_MANY = 5000
"""Crystals; fewer are looked at one by one."""
_MOST_NAMED = 6
_RESERVED = ("id", *STATE, *ARROW_SCHEMA.names[1:])


def assemble(
    entries: list[Entry], columns: pd.DataFrame | None = None, *, of_models: bool = False
) -> CandidateTable:
    """A row an entry. ``columns`` are the source's other values; by default those in the entries.

    Atoms on one spot are a mistake of a file. Where crystals may be samples ``of_models``, they are for the
    verbs to judge, which reject them: they count as invalid, not as unread.
    """
    names = [unicode_name(entry.name) for entry in entries]
    if strange := sum(name != entry.name for name, entry in zip(names, entries, strict=True)):
        note(f"{strange} names are not UTF-8: their bytes are written as \\xE9 and the like in the ids")
    if lost := list(dict.fromkeys(name for entry in entries for name in entry.lost)):
        more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        shown = unicode_name(", ".join(lost[:_MOST_NAMED]))
        note(f"values that a table does not hold are left out: {shown}{more}")
    ids = unique_names(names)
    sound = [i for i, e in enumerate(entries) if e.crystal is not None and len(e.crystal.atomic_numbers)]
    known = set(sound)
    reasons = {i: unicode_name(e.reason) or "no atom sites" for i, e in enumerate(entries) if i not in known}
    crystals = joined([(ids[i], c) for i in sound if (c := entries[i].crystal) is not None])
    problems = problems_of(crystals)
    if not of_models:
        problems |= _coincident(crystals, problems)
    reasons |= {sound[i]: reason for i, reason in problems.items()}
    kept = np.array([i for i in range(len(crystals)) if i not in problems], dtype=np.int64)
    good = crystals[kept] if problems else crystals
    table = CandidateTable.from_crystals(good, {ids[i]: reasons[i] for i in sorted(reasons)}, order=ids)
    moments = {
        ids[i]: c.magmoms
        for i in sound
        if i not in problems and (c := entries[i].crystal) is not None and c.magmoms is not None
    }
    if moments:
        table = table.with_column(COLUMN, {i: list(m) for i, m in moments.items()})
    columns = inferred([e.extra for e in entries], ids) if columns is None else columns
    if not of_models:
        tell_other_formulas(columns, [entry.crystal for entry in entries], ids)
    for name in columns.columns:
        own = unicode_name(f"source_{name}" if name in _RESERVED else str(name))
        while own in table.frame.columns:
            own = f"source_{own}"
        table.frame[own] = columns[name].array
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
        (
            np.asarray((np.abs(cells) > MAX_LENGTH).any(axis=(1, 2))),
            lambda i: f"a lattice vector of {np.abs(cells[i]).max():.2g} Å (limit {MAX_LENGTH:g})",
        ),
        (
            ~every(np.asarray((np.abs(crystals.frac_coords) <= MAX_COORDINATE).all(axis=1))),
            lambda i: f"a fractional coordinate beyond {MAX_COORDINATE:g}",
        ),
        (singular, lambda i: f"singular cell (volume {volumes[i]:.2g} Å³)"),
        (~every((z >= 1) & (z <= 118)), lambda i: "an atomic number is not that of an element (1 to 118)"),
        (crystals.num_atoms > MAX_SITES, lambda i: f"{crystals.num_atoms[i]} sites (limit {MAX_SITES})"),
    ]
    for bad, reason in checks:
        for i in np.flatnonzero(bad):
            found.setdefault(int(i), reason(int(i)))
    return found


def _coincident(crystals: Crystals, problems: Mapping[int, str]) -> dict[int, str]:
    """Where two atoms of a crystal without ``problems`` stand on one spot, by position.

    Overlap beyond that is for the verbs that judge crystals to find.
    """
    apart = np.zeros(len(crystals), dtype=np.bool_)
    if len(crystals) > _MANY:
        apart = surely_valid(crystals, SAME_SPOT, 0.0)
    found = {}
    for i in np.flatnonzero(~apart):
        if int(i) not in problems:
            try:
                check_apart(crystals[int(i)].frac_coords, crystals.lattices[i])
            except ReadError as error:
                found[int(i)] = str(error)
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
