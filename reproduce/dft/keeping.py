"""The committed files: every calculation by the hash of its start geometry, and what they are of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from calculating import key_of
from tabling import Candidate, Energy

from crysjepa.core.candidates import CandidateTable
from crysjepa.runtime.files import read_json, write_json, write_parquet

HERE = Path(__file__).parent
CRYSTALS, CALCULATIONS = "crystals.parquet", "calculations.parquet"
JUDGES = {
    "chgnet": "e_above_hull",
    "chgnet, closed hull": "e_above_closed_hull",
    "sevennet-l3i5": "e_above_hull_sevennet_l3i5",
}
"""Columns of energies above hull by judge."""
SCHEMA = pa.schema(
    [
        ("key", pa.string()), ("formula", pa.string()), ("role", pa.string()), ("scale", pa.string()),
        ("energy_per_atom", pa.float64()), ("converged", pa.bool_()), ("steps", pa.int64()),
        ("seconds", pa.float64()), ("k_points", pa.int64()), ("trouble", pa.string()),
        ("atomic_numbers", pa.list_(pa.int64())), ("cell", pa.list_(pa.float64())),
        ("frac_coords", pa.list_(pa.float64())),
    ]
)  # fmt: skip


def keep(work: Path, scale: str, out: Path = HERE) -> int:
    """Write both files from a working folder; how many calculations they hold."""
    table = CandidateTable.read(work / CRYSTALS)
    failures = read_json(work / "failures.json") if (work / "failures.json").is_file() else {}
    rows, seen = [], set[str]()
    for id_, role, formula in zip(table.ids, table.column("role"), table.column("formula"), strict=True):
        if table.frame.loc[table.frame["id"] == id_, "lattice"].isna().any():
            continue
        crystal = table.crystals([id_])
        key = key_of(crystal)
        path = work / "cache" / scale / f"{key}.json"
        failed = failures.get(key, {}) if failures.get(key, {}).get("scale") == scale else {}
        if key in seen or not (path.is_file() or failed):
            continue
        seen.add(key)
        rows.append({
            "key": key, "formula": formula, "role": role, "scale": scale, "trouble": failed.get("trouble"),
            "atomic_numbers": crystal.atomic_numbers.tolist(), **_result(path),
        })  # fmt: skip
    rows.sort(key=lambda r: (r["role"], r["formula"], r["key"]))
    write_parquet(pa.Table.from_pylist(rows, schema=SCHEMA), out / CALCULATIONS)
    table.write(out / CRYSTALS)
    return len(rows)


def seed(work: Path, scale: str, kept: Path = HERE) -> int:
    """Put the committed calculations of this scale into a working folder that lacks them; how many.

    So ``calculate`` goes on where the committed files stand.
    """
    if not (work / CRYSTALS).is_file():
        CandidateTable.read(kept / CRYSTALS).write(work / CRYSTALS)
    added = 0
    for row in pq.read_table(kept / CALCULATIONS).to_pylist():
        path = work / "cache" / scale / f"{row['key']}.json"
        if row["scale"] != scale or row["energy_per_atom"] is None or path.is_file():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        triples = {n: [row[n][k : k + 3] for k in range(0, len(row[n]), 3)] for n in ("cell", "frac_coords")}
        names = ("formula", "energy_per_atom", "converged", "steps", "seconds", "k_points")
        write_json(path, {n: row[n] for n in names} | triples)
        added += 1
    return added


def _result(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = read_json(path)
    names = ("energy_per_atom", "converged", "steps", "seconds", "k_points")
    flat = {n: [float(x) for row in found[n] for x in row] for n in ("cell", "frac_coords")}
    return {**{n: found[n] for n in names}, **flat}


def read(folder: Path = HERE) -> tuple[list[tuple[Candidate, list[str]]], dict[str, Energy], dict[str, str]]:
    """Candidates with their groups, energies by key, and why some have none.

    Raises
    ------
    ValueError
        If a calculation is of no crystal that is there, a crystal does not have the hash that it says, or
        calculations are of several settings.
    """
    table = CandidateTable.read(folder / CRYSTALS)
    calculated = pq.read_table(folder / CALCULATIONS).to_pylist()
    if len({row["scale"] for row in calculated}) > 1:
        raise ValueError("the calculations are of several settings: their energies do not compare")
    keys = _keys(table)
    if lost := {row["key"] for row in calculated} - set(keys.values()):
        raise ValueError(f"{sorted(lost)[0]} is the hash of no crystal in {CRYSTALS}")
    energies = {
        row["key"]: Energy(row["key"], row["formula"], row["energy_per_atom"], row["converged"])
        for row in calculated
        if row["energy_per_atom"] is not None
    }
    troubles = {row["key"]: row["trouble"] for row in calculated if row["energy_per_atom"] is None}
    return _candidates(table, keys), energies, troubles


def _keys(table: CandidateTable) -> dict[str, str]:
    """The hash of each crystal, computed anew and compared with what the file says."""
    there = table.ids if not len(table) else list(table.frame.loc[table.frame["lattice"].notna(), "id"])
    said = dict(zip(there, table.column("key", there), strict=True))
    found = {c.ids[0]: key_of(c) for c in table.crystals(there)}
    wrong = [i for i in there if found[i] != said[i]]
    if wrong:
        raise ValueError(f"{wrong[0]} in {CRYSTALS} is not the crystal whose hash it has")
    return found


def _candidates(table: CandidateTable, keys: Mapping[str, str]) -> list[tuple[Candidate, list[str]]]:
    frame = table.frame[table.frame["groups"].notna()]
    ids = [str(i) for i in frame["id"]]
    columns = {
        n: dict(zip(ids, table.column(n, ids), strict=True))
        for n in ("formula", "groups", "named", "reason", "p_stable", *JUDGES.values())
        if n in table
    }
    found = []
    for id_ in ids:
        named = json.loads(columns["named"][id_] or "{}")
        candidate = Candidate(
            id=id_,
            formula=columns["formula"][id_] or "",
            key=keys.get(id_, ""),
            named={f: None if other is None else keys.get(other) for f, other in named.items()},
            judges={j: columns[c][id_] for j, c in JUDGES.items() if c in columns},
            chance=columns["p_stable"][id_] if "p_stable" in columns else None,
            trouble=columns["reason"][id_],
        )
        found.append((candidate, json.loads(columns["groups"][id_])))
    return found
