"""Build the bundled table, src/crysjepa/data/flla.parquet, from matminer 0.4.0's source distribution.

FLLA: 3,938 crystals of the Materials Project as of 2015, chosen by Faber, Lindmaa, von Lilienfeld and
Armiento (Int. J. Quantum Chem. 115, 1094, 2015, doi:10.1002/qua.24917), with formation energies and energies
above hull.

    python data/build_flla.py [--sdist matminer-0.4.0.tar.gz] [--out src/crysjepa/data/flla.parquet]
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase.data import atomic_numbers
from pypi_sdist import member_of_sdist

SDIST_SHA256 = "1a6bdfb198b36d836bab4fbcdffb2dc4fda8a740c3dc08cbb21ea43b817fec86"
MEMBER = "matminer-0.4.0/matminer/datasets/flla_2015.csv"
OUT = Path(__file__).parents[1] / "src" / "crysjepa" / "data" / "flla.parquet"

METADATA = {
    "name": "flla",
    "scale": "materials_project_2015",
    "units": {
        "formation_energy_per_atom": "eV/atom",
        "e_above_hull": "eV/atom",
        "lattice": "Å, rows a, b, c",
    },
    "source": f"{MEMBER} in the source distribution of matminer 0.4.0 on PyPI",
    "sdist_sha256": SDIST_SHA256,
    "doi": "10.1002/qua.24917",
    "citation": (
        "F. Faber, A. Lindmaa, O. A. von Lilienfeld, R. Armiento, Crystal structure representations for "
        "machine learning models of formation energies, Int. J. Quantum Chem. 115 (2015) 1094-1101; data: "
        "A. Jain et al., The Materials Project, APL Materials 1 (2013) 011002, doi:10.1063/1.4812323"
    ),
    "licence": "CC BY 4.0 (Materials Project data), as collected in matminer (modified BSD licence)",
    "note": "Energies and hull of the Materials Project in 2015; its corrections have changed since.",
}


def read_rows(sdist: Path | None) -> list[dict[str, str]]:
    """The rows of the CSV."""
    content = member_of_sdist(sdist, "matminer", "0.4.0", SDIST_SHA256, MEMBER)
    csv.field_size_limit(10_000_000)
    lines = content.decode("utf-8").split("\n", 1)[1]  # the first line is a comment
    return list(csv.DictReader(io.StringIO(lines)))


def crystal(row: dict[str, str]) -> dict[str, Any]:
    """A row of the table from one of the CSV, whose structure is a pymatgen dictionary in Python's syntax."""
    structure = ast.literal_eval(row["structure"])
    sites = structure["sites"]
    if any(len(s["species"]) != 1 or s["species"][0]["occu"] != 1 for s in sites) or len(sites) != int(
        row["nsites"]
    ):
        raise SystemExit(f"{row['material_id']} is disordered, or sites are missing")
    coords = np.array([site["abc"] for site in sites]) % 1.0
    coords = coords.astype(np.float32)
    coords[coords >= 1.0] = 0.0  # 0.99999999 rounds up to 1
    return {
        "id": row["material_id"],
        "atomic_numbers": [atomic_numbers[site["species"][0]["element"]] for site in sites],
        "frac_coords": coords.reshape(-1),
        "lattice": np.array(structure["lattice"]["matrix"], dtype=np.float64).reshape(-1),
        "num_sites": len(sites),
        "formation_energy_per_atom": float(row["formation_energy_per_atom"]),
        "e_above_hull": float(row["e_above_hull"]),
    }


def build(rows: list[dict[str, str]]) -> pa.Table:
    """The table, in the order of the source, exact duplicates left out and repeated ids made unique."""
    crystals: dict[str, dict[str, Any]] = {}
    dropped = renamed = 0
    for row in map(crystal, rows):
        old = crystals.get(row["id"])
        if old is not None and all(np.array_equal(old[k], row[k]) for k in row):
            dropped += 1
            continue
        if old is not None:
            renamed += 1
            row["id"] = f"{row['id']}#{sum(k.split('#')[0] == row['id'] for k in crystals) + 1}"
        crystals[row["id"]] = row
    print(f"{len(rows)} rows read, {dropped} exact duplicates dropped, {renamed} repeated ids made unique")
    columns = {name: [c[name] for c in crystals.values()] for name in next(iter(crystals.values()))}
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("atomic_numbers", pa.list_(pa.uint8())),
            ("frac_coords", pa.list_(pa.float32())),
            ("lattice", pa.list_(pa.float64(), 9)),
            ("num_sites", pa.int16()),
            ("formation_energy_per_atom", pa.float64()),
            ("e_above_hull", pa.float64()),
            ("source", pa.string()),
        ],
        metadata={"crysjepa": json.dumps(METADATA, sort_keys=True, ensure_ascii=False)},
    )
    return pa.table({**columns, "source": ["flla"] * len(crystals)}, schema=schema)


def main() -> None:
    """Download or open the distribution, build the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sdist", type=Path, help="matminer-0.4.0.tar.gz, if you have it")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    table = build(read_rows(args.sdist))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_name(f".{args.out.name}.partial")
    pq.write_table(table, partial, compression="zstd", compression_level=19, store_schema=True)
    partial.replace(args.out)
    print(f"{table.num_rows} rows, {args.out.stat().st_size / 1e3:.0f} kB: {args.out}")


if __name__ == "__main__":
    main()
