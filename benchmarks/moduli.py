"""How far are a force field's moduli from DFT's?

    python benchmarks/moduli.py run --elastic elastic_tensor.csv --force-field chgnet --out ROWS.jsonl
    python benchmarks/moduli.py table

``elastic_tensor.csv`` (de Jong et al., Sci. Data 2, 150009 (2015), CC0) holds 1,181 crystals of the Materials
Project with elastic constants by DFT; it is inside the source distribution of matminer 0.4.0, in
``matminer/datasets``. Crystals are drawn at random. Both force fields have seen them in training, most of
them at rest only. A crystal starts as DFT relaxed it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from progress import say
from pymatgen.core import Structure

from crysjepa.core.crystals import Crystals
from crysjepa.properties.by_force_field import BULK
from crysjepa.properties.elastic import elasticity
from crysjepa.properties.moduli import estimated_bulk_moduli
from crysjepa.properties.rest import at_rest
from crysjepa.relaxation.force_fields.base import ForceField
from crysjepa.relaxation.force_fields.registry import get_force_field
from crysjepa.runtime.time_limit import TimeLimitExceeded, time_limit

KEPT = Path(__file__).parent / "judging" / "moduli.jsonl"
SECONDS = 300
TARGET = 200.0
"""GPa."""
FEWEST = 20
"""Rows that a line of the table needs."""
DFT = {"bulk_modulus": "K_VRH", "shear_modulus": "G_VRH"}


def run(elastic: Path, force_field: str, out: Path, num: int, strained: int, seed: int) -> None:
    """A line a crystal; what has its line is not calculated again.

    Only the first ``strained`` are strained at rest.
    """
    table = pd.read_csv(elastic, comment="#")
    chosen = np.random.default_rng(seed).permutation(len(table))[:num]
    loaded, done = get_force_field(force_field), set()
    if out.exists():
        rows = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        done = {row["id"] for row in rows if row["force_field"] == force_field}
    for count, place in enumerate(chosen.tolist()):
        record = table.iloc[place]
        if record["material_id"] in done:
            continue
        row = compared(record, loaded, with_strain=count < strained) | {"force_field": force_field}
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        say(f"{count + 1} of {num}: {row}")


def compared(record: pd.Series, force_field: ForceField, *, with_strain: bool) -> dict[str, Any]:
    """Moduli by DFT, estimated, and from elastic constants at rest, in GPa, with the seconds of the two."""
    crystal = Crystals.from_structures(
        [Structure.from_str(record["poscar"], fmt="poscar")], [record["material_id"]]
    )
    row: dict[str, Any] = {
        "id": record["material_id"], "formula": record["formula"], "num_sites": int(crystal.num_atoms[0]),
        "dft": {n: round(float(record[c]), 2) for n, c in DFT.items()},
    }  # fmt: skip
    start = time.monotonic()
    (row["estimate"],) = estimated_bulk_moduli(crystal.to_atoms(), force_field)
    row["seconds_estimate"], start = round(time.monotonic() - start, 3), time.monotonic()
    if not with_strain:
        return row
    try:
        with time_limit(SECONDS):
            rest = at_rest(crystal, force_field)
            found = rest if isinstance(rest, str) else elasticity(rest.primitive, force_field)
    except TimeLimitExceeded:
        found = f"took more than {SECONDS} s"
    row["seconds"] = round(time.monotonic() - start, 3)
    if isinstance(found, str) or not found.stable:
        row["reason"] = found if isinstance(found, str) else "not stable against strain"
    else:
        row |= {"bulk_modulus": found.bulk_modulus, "shear_modulus": found.shear_modulus}
    return row


def table() -> str:
    """Of the kept rows: the factor that brings values to DFT's, and the spread about it."""
    rows = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]
    lines = [
        "| force field | modulus | how | n | no value | DFT's over it, median | spread of the logarithm "
        "| mean absolute error, scaled, GPa | DFT's median, GPa | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for force_field in dict.fromkeys(r["force_field"] for r in rows):
        own = [r for r in rows if r["force_field"] == force_field]
        for modulus, column, how in (
            ("bulk_modulus", "estimate", "two evaluations"),
            ("bulk_modulus", "bulk_modulus", "elastic constants at rest"),
            ("shear_modulus", "shear_modulus", "elastic constants at rest"),
        ):
            asked = [r for r in own if column in r or (column != "estimate" and "reason" in r)]
            pairs = np.array(
                [(r[column], r["dft"][modulus]) for r in asked if isinstance(r.get(column), float)]
            )
            if len(pairs) < FEWEST:
                continue
            pairs = pairs[(pairs > 0).all(axis=1)]
            logs = np.log(pairs[:, 1] / pairs[:, 0])
            factor = float(np.exp(np.median(logs)))
            spread = float(np.sqrt(((logs - np.median(logs)) ** 2).mean()))
            error = float(np.abs(factor * pairs[:, 0] - pairs[:, 1]).mean())
            seconds = np.mean([r["seconds_estimate" if column == "estimate" else "seconds"] for r in asked])
            lines.append(
                f"| {force_field} | {modulus.partition('_')[0]} | {how} | {len(pairs)} "
                f"| {len(asked) - len(pairs)} | {factor:.2f} | {spread:.2f} | {error:.1f} "
                f"| {np.median(pairs[:, 1]):.0f} | {seconds:.2f} |"
            )
    return "\n".join([*lines, "", _at_target(rows)])


def _at_target(rows: list[dict[str, Any]]) -> str:
    """How many of those that each force field puts at the target are there by DFT."""
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        known = BULK.get(row["force_field"])
        if isinstance(row["estimate"], float) and known is not None:
            own = values.setdefault(row["id"], {"DFT": row["dft"]["bulk_modulus"]})
            own[row["force_field"]] = known.factor * row["estimate"]
    both = [v for v in values.values() if len(v) == 1 + len(BULK)]
    there = [v["DFT"] >= TARGET for v in both]
    said = [f"{sum(there)} of {len(both)} have a bulk modulus of at least {TARGET:g} GPa by DFT"]
    ways = {name: [v[name] >= TARGET for v in both] for name in BULK}
    ways["all of them"] = [all(v[n] >= TARGET for n in BULK) for v in both]
    for name, picked in ways.items():
        right = sum(p and t for p, t in zip(picked, there, strict=True))
        said.append(f"of {sum(picked)} by {name}, {right} have")
    return "; ".join(said) + "."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run")
    running.add_argument("--elastic", type=Path, required=True)
    running.add_argument("--force-field", default="chgnet")
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--num", type=int, default=200)
    running.add_argument("--at-rest", type=int, default=200, help="of these, strained at rest")
    running.add_argument("--seed", type=int, default=0)
    verbs.add_parser("table")
    asked = parser.parse_args()
    if asked.verb == "run":
        run(asked.elastic, asked.force_field, asked.out, asked.num, asked.at_rest, asked.seed)
    else:
        print(table())


if __name__ == "__main__":
    main()
