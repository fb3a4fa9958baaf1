"""How fast, and in how much memory, a data set of Alex-MP-20's size becomes Parquet and a reference index.

Makes a zip of N crystals in the form in which MatterGen publishes Alex-MP-20 (the bundled crystals with cells
scaled and sites moved, as CIFs in CSV), imports it, embeds it into a reference index, and prints a table.
Each step runs in a process of its own. CPU seconds are those of all its processes, so that they mean the
same on a busy machine; rows a second are what two free cores would do, if the work is shared evenly.

    python benchmarks/import_data.py [--num 600000] [--folder FOLDER] [--no-index]
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.datasets.chunks import open_chunks
from crysjepa.datasets.importers.convert import convert
from crysjepa.runtime.files import file_metadata

STEPS = ("make", "import", "index")
HEADER = (
    "material_id", "reduced_formula", "space_group", "chemical_system", "num_sites", "cif",
    "energy_above_hull", "dft_band_gap", "dft_bulk_modulus", "dft_mag_density", "hhi_score",
    "ml_bulk_modulus",
)  # fmt: skip
MAX_SITES = 20
TRAINING = 0.9
"""Share of the rows in train.csv; the others are in val.csv."""


def made_up(num: int, seed: int = 0) -> Iterator[list[str]]:
    """``num`` rows under :data:`HEADER`, one in ten thousand of them without a CIF that can be read."""
    known = datasets.load("flla").crystals()
    parents = known[np.flatnonzero(known.num_atoms <= MAX_SITES)]
    symbols = {z: e for e, z in _elements().items()}
    formulas, systems = parents.reduced_formulas(), parents.chemical_systems()
    rng = np.random.default_rng(seed)
    for row in range(num):
        parent = row % len(parents)
        crystal = parents[parent]
        names = [symbols[z] for z in crystal.atomic_numbers.tolist()]
        moved = crystal.frac_coords + rng.uniform(-0.01, 0.01, crystal.frac_coords.shape)
        text = cif(formulas[parent], names, moved % 1.0, crystal.lattices[0] * rng.uniform(0.97, 1.03))
        above, modulus, density = rng.uniform(0, 0.1), rng.uniform(1, 300), rng.uniform(0, 0.2)
        yield [
            f"agm{row:09d}", formulas[parent], "P1", systems[parent], str(len(names)),
            "broken" if row % 10_000 == 9_999 else text,
            repr(above), "", "", repr(density), "", repr(modulus),
        ]  # fmt: skip


def _elements() -> dict[str, int]:
    from ase.data import atomic_numbers

    return atomic_numbers


def cif(formula: str, names: list[str], coords: np.ndarray, lattice: np.ndarray) -> str:
    """The text that pymatgen's CifWriter writes for a crystal in P1."""
    lengths = np.linalg.norm(lattice, axis=1)
    unit = lattice / lengths[:, None]
    angles = np.degrees(np.arccos([unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]]))
    counts = dict.fromkeys(names, 0)
    for name in names:
        counts[name] += 1
    cell = "".join(f"_cell_length_{k}   {v:.8f}\n" for k, v in zip("abc", lengths, strict=True))
    cell += "".join(
        f"_cell_angle_{k}   {v:.8f}\n" for k, v in zip(("alpha", "beta", "gamma"), angles, strict=True)
    )
    sites = "".join(
        f"  {name}  {name}{i}  1  {x:.8f}  {y:.8f}  {z:.8f}  1\n"
        for i, (name, (x, y, z)) in enumerate(zip(names, coords.tolist(), strict=True))
    )
    return (
        f"# generated using pymatgen\ndata_{formula}\n_symmetry_space_group_name_H-M   'P 1'\n{cell}"
        f"_symmetry_Int_Tables_number   1\n_chemical_formula_structural   {formula}\n"
        f"_chemical_formula_sum   '{' '.join(f'{k}{v}' for k, v in counts.items())}'\n"
        f"_cell_volume   {abs(np.linalg.det(lattice)):.8f}\n_cell_formula_units_Z   1\n"
        "loop_\n _symmetry_equiv_pos_site_id\n _symmetry_equiv_pos_as_xyz\n  1  'x, y, z'\n"
        "loop_\n _atom_site_type_symbol\n _atom_site_label\n _atom_site_symmetry_multiplicity\n"
        f" _atom_site_fract_x\n _atom_site_fract_y\n _atom_site_fract_z\n _atom_site_occupancy\n{sites}"
    )


def make(path: Path, num: int) -> None:
    """Write the zip."""
    rows = made_up(num)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for split, share in (("train", round(num * TRAINING)), ("val", num - round(num * TRAINING))):
            with archive.open(f"alex_mp_20/{split}.csv", "w", force_zip64=True) as raw:
                text = io.TextIOWrapper(raw, encoding="utf-8", newline="")
                writer = csv.writer(text)
                writer.writerow(HEADER)
                for _ in range(share):
                    writer.writerow(next(rows))
                text.flush()
                text.detach()


def index(parquet: Path, out: Path) -> int:
    """Embed the crystals with the shipped Crys-JEPA; how many the index has."""
    from crysjepa.jepa.crys_jepa import CrysJepa
    from crysjepa.ranking.embedders import JepaEmbedder
    from crysjepa.ranking.reference_index import ReferenceIndex

    return len(ReferenceIndex.build(JepaEmbedder(CrysJepa.load()), _crystals(parquet), cache=out))


def _crystals(parquet: Path) -> Crystals:
    """Those that could be read, without a table of all rows in memory."""
    return Crystals.concatenate([part.crystals(part.ok_ids) for part in open_chunks(parquet).of(5_000)])


def run(step: str, folder: Path, num: int, processes: int) -> dict[str, float]:
    """One step, and what it took."""
    source, parquet = folder / "alex_mp_20.zip", folder / "alex_mp_20.parquet"
    began = time.perf_counter()
    rows = num
    if step == "make":
        make(source, num)
    elif step == "import":
        convert("zip of csv", [source], parquet, {"dataset": "made up"}, processes=processes)
        rows = file_metadata(parquet)["rows"]
    else:
        rows = index(parquet, folder / "index.arrow")
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = own.ru_utime + own.ru_stime + workers.ru_utime + workers.ru_stime
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return {
        "rows": rows,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": cpu,
        "memory": unit
        * (own.ru_maxrss + processes * workers.ru_maxrss if step == "import" else own.ru_maxrss),
    }


def main() -> None:
    """Every step in a process of its own, and a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num", type=int, default=600_000, help="crystals; default: %(default)s")
    parser.add_argument("--folder", type=Path, help="where files go; by default a temporary folder")
    parser.add_argument("--processes", type=int, default=2, help="that import; default: %(default)s")
    parser.add_argument("--no-index", action="store_true", help="do not embed")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        print(json.dumps(run(chosen.step, chosen.folder, chosen.num, chosen.processes)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        print("| step | rows | seconds | CPU seconds | rows a second on two cores | peak memory (GB) |")
        print("|---|---|---|---|---|---|")
        for step in STEPS[: 2 if chosen.no_index else 3]:
            options = ["--step", step, "--folder", str(folder), "--num", str(chosen.num)]
            options += ["--processes", str(chosen.processes)]
            done = subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE)
            took = json.loads(done.stdout.splitlines()[-1])
            speed = 2 * took["rows"] / took["cpu_seconds"]
            print(
                f"| {step} | {took['rows']:,} | {took['seconds']:.1f} | {took['cpu_seconds']:.1f} | "
                f"{speed:,.0f} | {took['memory'] / 1e9:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
