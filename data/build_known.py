"""Build the data set ``known``: what is known of the Materials Project, and where LeMat-Bulk knows more.

Three files in src/crysjepa/data: ``known.parquet`` (structures), ``known_hull.parquet`` (a composition and
its lowest formation energy, a row each, all on the MP2020 scale) and ``lemat_systems.parquet`` (how many
compounds LeMat-Bulk has on its hull in each chemical system). The data card, ``known.md``, is beside them.

    python data/build_known.py --data FOLDER

FOLDER holds ``mp20_bt.parquet`` (MP-20's binary and ternary validation and test crystals), ``mpts52.parquet``
(MPTS-52's validation and test crystals), ``mp20_hull.parquet`` (every MP-20 compound within 25 meV/atom of
the hull) and ``lemat_systems.parquet``. FLLA comes from the package (``data/build_flla.py``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.core.chemical_systems import atomic_numbers, element_symbols
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import Formula, reduced_formulas
from crysjepa.energy.hull import Hull
from crysjepa.matching.uniqueness import novel, unique

OUT = Path(__file__).parents[1] / "src" / "crysjepa" / "data"
LIMIT = 9_000_000
"""Bytes that the data of the package may have together."""
MP = "CC BY 4.0 (Materials Project)"
CITATION = "A. Jain et al., The Materials Project, APL Materials 1 (2013) 011002, doi:10.1063/1.4812323"
ENERGY, ABOVE = "formation_energy_per_atom", "e_above_hull"


def read(folder: Path, name: str) -> pd.DataFrame:
    """A source's rows by id."""
    return pq.read_table(folder / f"{name}.parquet").to_pandas().set_index("id", drop=False)


def structures(sources: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows of the crystals that are kept, and how many of each source are duplicates.

    A row with the id of an earlier source is left out, and so is one that StructureMatcher matches with an
    earlier crystal (default tolerances).
    """
    kept: list[pd.DataFrame] = []
    left_out = {}
    for name, rows in sources.items():
        earlier = pd.concat(kept) if kept else rows.iloc[:0]
        new = rows[~rows["id"].isin(earlier["id"])]
        crystals = _crystals(new)
        repeats = {i for i, m in unique(crystals).matches.items() if m is not None}
        if len(earlier):
            repeats |= {i for i, m in novel(crystals, _crystals(earlier)).matches.items() if m is not None}
        kept.append(new[~new["id"].isin(repeats)].assign(source=name))
        left_out[name] = len(rows) - len(kept[-1])
    return pd.concat(kept, ignore_index=True), left_out


def _crystals(rows: pd.DataFrame) -> Crystals:
    return Crystals(
        np.concatenate(rows["atomic_numbers"].tolist()),
        np.concatenate(rows["frac_coords"].tolist()),
        np.stack(rows["lattice"].tolist()),
        rows["num_sites"].to_numpy(),
        tuple(rows["id"]),
    )


def formulas_of(rows: pd.DataFrame) -> list[Formula]:
    """Reduced formulas of a source of crystals or of compositions."""
    if "atomic_numbers" in rows:
        return reduced_formulas(_crystals(rows))
    from pymatgen.core import Composition

    numbers = atomic_numbers()
    found = []
    for text in rows["composition"]:
        amounts = Composition(text).get_el_amt_dict()
        divisor = math.gcd(*(int(n) for n in amounts.values()))
        found.append(tuple(sorted((numbers[e], int(n) // divisor) for e, n in amounts.items())))
    return found


def compounds(sources: dict[str, pd.DataFrame], without_energy: pd.DataFrame) -> pd.DataFrame:
    """A row for each reduced formula: the lowest energy, the lowest hull, and the id of the lowest compound.

    ``hull_energy_per_atom`` is the height of the Materials Project's own hull at the formula, which is the
    formation energy less the energy above hull that it published. It had every compound; the sources do not.
    """
    parts = []
    for rows in sources.values():
        energy, above = (rows[c].to_numpy(dtype=float) for c in (ENERGY, ABOVE))
        part = pd.DataFrame({"formula": formulas_of(rows), "id": rows["id"].to_numpy(), ENERGY: energy})
        parts.append(part.assign(hull_energy_per_atom=energy - np.maximum(above, 0.0)))
    extra = pd.DataFrame({"formula": formulas_of(without_energy), "id": without_energy["id"].to_numpy()})
    every = pd.concat([*parts, extra.assign(**{ENERGY: np.nan, "hull_energy_per_atom": np.nan})])
    every = every.sort_values([ENERGY, "id"], kind="stable")  # NaN last
    lowest = every.groupby("formula", sort=True).agg(
        {"id": "first", ENERGY: "min", "hull_energy_per_atom": "min"}
    )
    return lowest.reset_index()


def write(path: Path, columns: dict[str, pa.Array], about: dict[str, Any]) -> None:
    """One Parquet file, with ``about`` as its metadata."""
    table = pa.table(columns).replace_schema_metadata(
        {"crysjepa": json.dumps(about, sort_keys=True, ensure_ascii=False)}
    )
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(
        table, partial, compression="zstd", compression_level=22, use_dictionary=["source"],
        row_group_size=1 << 20,
    )  # fmt: skip
    partial.replace(path)
    print(f"{path.name}: {table.num_rows} rows, {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """Read the sources, build the files, write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the four source files")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    bt, ts, hull, lemat = (
        read(args.data, name) if name != "lemat_systems" else pq.read_table(args.data / f"{name}.parquet")
        for name in ("mp20_bt", "mpts52", "mp20_hull", "lemat_systems")
    )
    flla = pq.read_table(OUT / "flla.parquet").to_pandas().set_index("id", drop=False)
    kept, left_out = structures({"mp20_bt": bt, "mpts52": ts, "flla": flla})
    # FLLA's energies are on the scale of 2015: those of the same compounds today, or none.
    today = hull[~hull["id"].duplicated()]
    is_old = (kept["source"] == "flla").to_numpy()
    for column in (ENERGY, ABOVE):
        values = kept[column].to_numpy(dtype=float, copy=True)
        values[is_old] = today[column].reindex(kept["id"][is_old]).to_numpy(dtype=float)
        kept[column] = values
    lowest = compounds({"mp20_hull": hull, "mp20_bt": bt, "mpts52": ts}, flla)
    hashes = {
        name: hashlib.sha256((args.data / f"{name}.parquet").read_bytes()).hexdigest()
        for name in ("mp20_bt", "mpts52", "mp20_hull", "lemat_systems")
    }
    about = {
        "name": "known", "scale": "materials_project", "licence": MP, "citation": CITATION,
        "units": {ENERGY: "eV/atom", ABOVE: "eV/atom", "lattice": "Å, rows a, b, c"},
        "sources": hashes, "duplicates_left_out": left_out,
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    agreement([hull, bt, ts], lowest)
    _write_structures(args.out / "known.parquet", kept, about)
    _write_compounds(args.out / "known_hull.parquet", lowest, about)
    _write_systems(args.out / "lemat_systems.parquet", lemat, hashes["lemat_systems"])
    total = sum(p.stat().st_size for p in args.out.glob("*.parquet"))
    print(f"{total / 1e6:.2f} MB together")
    if total > LIMIT:
        raise SystemExit(f"the limit is {LIMIT / 1e6:.0f} MB")


def agreement(sources: list[pd.DataFrame], lowest: pd.DataFrame, num: int = 6000) -> None:
    """Print how far energies above hull are from those published, by the new hull and the first source."""
    rows = pd.concat([part.assign(formula=formulas_of(part)) for part in sources])
    rows = rows.iloc[np.random.default_rng(0).permutation(len(rows))[:num]]
    symbols = element_symbols()

    def hull_of(formulas: list[Formula], energies: list[float]) -> Hull:
        texts = ["".join(f"{symbols[z]}{n}" for z, n in f) for f in formulas]
        return Hull.from_entries(texts, energies, scale="materials_project", source="check")

    first = sources[0]
    hulls = {
        "MP-20's compounds": hull_of(formulas_of(first), first[ENERGY].tolist()),
        "known": hull_of(lowest["formula"].tolist(), lowest["hull_energy_per_atom"].tolist()),
    }
    for name, hull in hulls.items():
        found = [
            hull.e_above_hull({symbols[z]: n for z, n in f}, e).e_above_hull
            for f, e in zip(rows["formula"], rows[ENERGY], strict=True)
        ]
        gaps = np.array(found, dtype=float) - rows[ABOVE].to_numpy(dtype=float)
        print(
            f"{name}: energies above hull of {len(gaps)} compounds, less those published: {gaps.min():.3f} "
            f"to {gaps.max():.3f} eV/atom, {np.abs(gaps).mean():.4f} on average"
        )


def _write_structures(path: Path, kept: pd.DataFrame, about: dict[str, Any]) -> None:
    coords = [np.asarray(f, dtype=np.float32) for f in kept["frac_coords"]]
    cells = np.stack(kept["lattice"].tolist()).astype(np.float32)
    columns = {
        "id": pa.array(kept["id"].tolist()),
        "atomic_numbers": pa.array(kept["atomic_numbers"].tolist(), type=pa.list_(pa.uint8())),
        "frac_coords": pa.array(coords, type=pa.list_(pa.float32())),
        "lattice": pa.FixedSizeListArray.from_arrays(pa.array(cells.reshape(-1)), 9),
        "num_sites": pa.array(kept["num_sites"].to_numpy(dtype=np.int16)),
        ENERGY: pa.array(kept[ENERGY].to_numpy(dtype=np.float64).round(6), from_pandas=True),
        ABOVE: pa.array(kept[ABOVE].to_numpy(dtype=np.float64).round(6), from_pandas=True),
        "source": pa.array(kept["source"].tolist()),
    }
    counts = kept["source"].value_counts().to_dict()
    note = "MP2020 corrections; FLLA's own energies, of 2015, are left out"
    write(path, columns, {**about, "rows": len(kept), "rows_by_source": counts, "note": note})


def _write_compounds(path: Path, lowest: pd.DataFrame, about: dict[str, Any]) -> None:
    formulas = lowest["formula"].tolist()
    columns = {
        "elements": pa.array([[z for z, _ in f] for f in formulas], type=pa.list_(pa.uint8())),
        "amounts": pa.array([[n for _, n in f] for f in formulas], type=pa.list_(pa.uint16())),
        ENERGY: pa.array(lowest[ENERGY].to_numpy(dtype=float).round(6), from_pandas=True),
        "hull_energy_per_atom": pa.array(
            lowest["hull_energy_per_atom"].to_numpy(dtype=float).round(6), from_pandas=True
        ),
        "id": pa.array(lowest["id"].tolist()),
    }
    note = "hull_energy_per_atom: formation energy less the published energy above hull, the lowest"
    with_energy = int(lowest[ENERGY].notna().sum())
    write(path, columns, {**about, "rows": len(lowest), "with_energy": with_energy, "note": note})


def _write_systems(path: Path, lemat: pa.Table, digest: str) -> None:
    numbers = atomic_numbers()
    systems = [sorted(numbers[e] for e in s.split("-")) for s in lemat["chemical_system"].to_pylist()]
    counts = lemat["num_near_hull"].to_pylist()
    order = sorted(range(len(systems)), key=lambda i: systems[i])
    columns = {
        "elements": pa.array([systems[i] for i in order], type=pa.list_(pa.uint8())),
        "num_on_hull": pa.array([counts[i] for i in order], type=pa.uint8()),
    }
    about = {
        "name": "lemat_systems",
        "note": "compounds on the hull of LeMat-Bulk (Materials Project, Alexandria, OQMD) in each system",
        "licence": "CC BY 4.0",
        "citation": "M. Siron et al., LeMat-Bulk, 2024, huggingface.co/datasets/LeMaterial/LeMat-Bulk; "
        "counted from data/lematbulk_above_hull_composition_matrix.npz of GenBench (Apache-2.0), 94e36664",
        "sources": {"lemat_systems": digest},
        "rows": len(order),
    }
    write(path, columns, about)


if __name__ == "__main__":
    main()
