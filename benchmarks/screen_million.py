"""How fast, and in how much memory, a great many candidates are screened.

Makes N synthetic candidates from the bundled crystals (some elements substituted, cells scaled, sites moved),
streamed to Parquet a row group at a time, runs ``crysjepa screen --by NAME`` on them in another process, and
prints rows, seconds, rows a second and the largest resident memory of that process.

Usage: python benchmarks/screen_million.py [--num 1000000] [--by jepa-hull] [--jepa FILE] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from crysjepa import datasets
from crysjepa.core.crystals import ARROW_SCHEMA, Crystals

GROUP = 20_000
"""Rows that are made and written at once."""
MAX_SITES = 16
"""Of the crystals that candidates are made from: then they have about 8 sites."""


def candidates(num: int, seed: int) -> Iterator[Crystals]:
    """``num`` crystals, GROUP at a time."""
    known = datasets.load("flla").crystals()
    known = known[np.flatnonzero(known.num_atoms <= MAX_SITES)]
    elements = np.unique(known.atomic_numbers)
    for start in range(0, num, GROUP):
        rng = np.random.default_rng((seed, start))
        chosen = known[rng.integers(0, len(known), min(GROUP, num - start))]
        batch, sites = len(chosen), len(chosen.atomic_numbers)
        owner = np.repeat(np.arange(batch), chosen.num_atoms)
        # In half of the candidates, every site of one element becomes another element.
        old = chosen.atomic_numbers[chosen.offsets[:-1] + rng.integers(0, chosen.num_atoms)]
        new = np.where(rng.random(batch) < 0.5, rng.choice(elements, batch), old)
        numbers = np.where(chosen.atomic_numbers == old[owner], new[owner], chosen.atomic_numbers)
        cells = chosen.lattices * rng.uniform(0.9, 1.15, (batch, 1, 1))
        moved = np.linalg.solve(np.swapaxes(cells, 1, 2)[owner], rng.normal(0, 0.1, (sites, 3))[..., None])
        ids = tuple(f"c-{start + i}" for i in range(batch))
        yield Crystals(numbers, chosen.frac_coords + moved[..., 0], cells, chosen.num_atoms, ids)


def main() -> None:
    """Make the candidates, screen them, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num", type=int, default=1_000_000)
    parser.add_argument("--by", default="jepa-hull")
    parser.add_argument("--jepa")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        source, out = folder / f"candidates-{asked.num}-{asked.seed}.parquet", folder / "ranked.parquet"
        if not source.exists():
            sites = 0
            with pq.ParquetWriter(folder / "partial", ARROW_SCHEMA) as writer:
                for batch in candidates(asked.num, asked.seed):
                    writer.write_table(batch.to_arrow())
                    sites += len(batch.atomic_numbers)
            (folder / "partial").rename(source)
            print(f"{asked.num} candidates of {sites / asked.num:.1f} sites on average")
        command = [sys.executable, "-m", "crysjepa", "screen", str(source), "--out", str(out)]
        command += ["--by", asked.by, "--device", asked.device]
        command += ["--jepa", asked.jepa] if asked.jepa else []
        started = time.monotonic()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        rows = pq.read_metadata(out).num_rows
        print(f"{rows} rows in {seconds:.1f} s: {rows / seconds:.0f} rows/s, {peak:.0f} MB at most")


if __name__ == "__main__":
    main()
