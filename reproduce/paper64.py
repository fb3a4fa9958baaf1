"""Crystals for ``paper64.toml``: the paper's experiment at a 64th, where MP-20 and MPtrj are not at hand.

    python reproduce/paper64.py FOLDER DATA

FOLDER holds ``mp20_bt.parquet`` (binary and ternary crystals of MP-20, in a split by chemical system) and
``chgnet_labels/part-*.parquet`` (the same crystals strained and rattled, with CHGNet's energies). Into DATA
go ``training.parquet``, the training split, and ``rattled.parquet``, what was rattled of it: what stands for
MP-20 and for MPtrj.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable

KEPT = ["id", "atomic_numbers", "frac_coords", "lattice", "num_sites", "formation_energy_per_atom"]


def main(folder: Path, out: Path) -> None:
    """Write both files."""
    known = datasets.load(folder / "mp20_bt.parquet").frame
    training = CandidateTable(known[known["split"] == "train"].reset_index(drop=True))
    training.write(out / "training.parquet")
    parts = [pd.read_parquet(p) for p in sorted((folder / "chgnet_labels").glob("part-*.parquet"))]
    labelled = pd.concat(parts, ignore_index=True)
    parents = set(training.ids)
    rattled = labelled[(labelled["kind"] == "rattle") & labelled["parent"].isin(parents)]
    path = out / "rattled-as-labelled.parquet"
    rattled[KEPT].to_parquet(path, index=False)
    datasets.load(path).write(out / "rattled.parquet")
    path.unlink()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
