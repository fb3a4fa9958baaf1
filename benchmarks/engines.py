"""Relaxation by torch-sim beside relaxation by ASE's optimisers: the same crystals, force field and settings.

    python benchmarks/engines.py --data FOLDER --out FOLDER
    python benchmarks/engines.py --data FOLDER --out FOLDER --force-field sevennet-l3i5 --num 12 --device cuda

A sample of --num of DiffCSP's crystals (peers/diffcsp_mp20_first2000.parquet in FOLDER) is relaxed by both
engines, one after the other. Needs the extra torchsim, and Python 3.12. Into --out go engines.json, and what
is done: a run that was killed goes on from there. Times include loading the force field.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from crysjepa import datasets
from crysjepa.relaxation.relax import Relaxation, relax_crystals
from crysjepa.relaxation.settings import RelaxSettings
from crysjepa.runtime.files import write_json

SEED = 5
CLOSE = 2e-3
"""eV/atom between two relaxations that ended at the same place."""


def main() -> None:
    """Parse the command line, run, and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
    parser.add_argument("--out", type=Path, default=Path("engines"), help="default: %(default)s")
    parser.add_argument("--force-field", default="sevennet", help="default: %(default)s")
    parser.add_argument("--num", type=int, default=40, help="crystals; default: %(default)s")
    parser.add_argument("--fmax", type=float, default=0.1, help="eV/Å; default: %(default)s")
    parser.add_argument("--max-steps", type=int, default=150, help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    args = parser.parse_args()
    crystals = datasets.load(str(args.data / "peers" / "diffcsp_mp20_first2000.parquet")).crystals()
    chosen = np.random.default_rng(SEED).permutation(len(crystals))[: args.num]
    sample = crystals[np.sort(chosen)]
    done, seconds = {}, {}
    for engine in ("crysjepa", "torch-sim"):
        settings = RelaxSettings(fmax=args.fmax, max_steps=args.max_steps, engine=engine)
        began = time.perf_counter()
        done[engine] = relax_crystals(
            sample, force_field=args.force_field, settings=settings, device=args.device, processes=1,
            shards=args.out / engine,
        )  # fmt: skip
        seconds[engine] = time.perf_counter() - began
    result = {"num": len(sample), "force_field": args.force_field, "device": args.device}
    result |= compared(done["crysjepa"], done["torch-sim"]) | {"seconds": seconds}
    write_json(args.out / "engines.json", result)
    for name, value in result.items():
        print(f"{name}: {value}")


def compared(ours: Relaxation, theirs: Relaxation) -> dict[str, Any]:
    """How far apart energies, volumes and steps are, of the crystals that both engines converged."""
    both = [
        i
        for i, r in ours.records.items()
        if r.converged and i in theirs.records and theirs.records[i].converged
    ]
    pairs = [(ours.records[i], theirs.records[i]) for i in both]
    apart = np.array([abs(a.energy_per_atom - b.energy_per_atom) for a, b in pairs])
    lower = np.array([b.energy_per_atom - a.energy_per_atom for a, b in pairs])
    volumes = np.array([abs(b.volume_change - a.volume_change) for a, b in pairs])
    far = {
        i: {"meV/atom": round(1e3 * float(d), 2), "steps": (a.steps, b.steps)}
        for i, d, (a, b) in zip(both, lower, pairs, strict=True)
        if abs(d) > CLOSE
    }
    return {
        "both_converged": len(both),
        "converged": [sum(r.converged for r in x.records.values()) for x in (ours, theirs)],
        "failures": [x.failures for x in (ours, theirs)],
        "steps": [sum(r.steps for r in x.records.values()) for x in (ours, theirs)],
        "same_steps": sum(a.steps == b.steps for a, b in pairs),
        "median_meV_per_atom": 1e3 * float(np.median(apart)),
        "largest_meV_per_atom": 1e3 * float(apart.max()),
        "median_relative_volume": float(np.median(volumes)),
        "largest_relative_volume": float(volumes.max()),
        "within": int((apart <= CLOSE).sum()),
        "farther": far,
    }


if __name__ == "__main__":
    main()
