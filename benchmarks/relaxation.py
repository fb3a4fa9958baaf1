"""Relaxation of generated crystals with CHGNet, beside a plain ASE loop with CHGNet's own calculator.

    python benchmarks/relaxation.py --data FOLDER --out FOLDER
    python benchmarks/relaxation.py --data FOLDER --out FOLDER --num 24 --plain 6    # to try it out

The first --num of DiffCSP's crystals (peers/diffcsp_mp20_first2000.parquet in FOLDER) are relaxed: what
became of each, and how long it took. A sample of --plain of them is then relaxed twice on the same cores,
one way after the other: by crysjepa in processes of one thread each, and by FIRE and FrechetCellFilter on
CHGNetCalculator, one crystal after the other, with as many threads; the same fmax, the same limit of steps.
Into --out go relaxation.json and relaxation.md, and what is done: a run that was killed goes on from there.
Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import shutil
import sys
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from progress import tenths

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.relax import QUICK, Relaxation, relax_crystals
from crysjepa.runtime.files import (
    read_json,
    write_json,
    write_text,
)
from crysjepa.runtime.threads import default_processes

SEED = 5
CLOSE = 2e-3
"""eV/atom between two relaxations that ended at the same place."""


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
    parser.add_argument("--out", type=Path, default=Path("relaxation"), help="default: %(default)s")
    parser.add_argument("--num", type=int, default=1000, help="crystals; default: %(default)s")
    parser.add_argument("--plain", type=int, default=72, help="of them both ways; default: %(default)s")
    parser.add_argument("--cores", type=int, default=default_processes("cpu"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    crystals = datasets.load(str(args.data / "peers" / "diffcsp_mp20_first2000.parquet")).crystals()[
        : args.num
    ]
    chosen = np.random.default_rng(SEED).permutation(len(crystals))[: args.plain]
    sample = crystals[np.sort(chosen)]

    everything = relax_crystals(
        crystals, settings=QUICK, processes=args.cores, shards=args.out / "all", progress=tenths("all:")
    )
    ours, seconds = timed(sample, args.out, args.cores)
    plain = plain_loop(sample, args.out / "plain.jsonl", args.cores)
    result = {
        "num": len(crystals),
        "settings": QUICK.model_dump(),
        "cores": args.cores,
        "both_ways": both_ways(ours, seconds, plain),
        "all": summary(everything, crystals),
    }
    write_json(args.out / "relaxation.json", result)
    write_text(args.out / "relaxation.md", page(result))
    sys.stdout.write(page(result))


def timed(sample: Crystals, out: Path, cores: int) -> tuple[Relaxation, float]:
    """Our way, and its seconds from beginning to end; read back if it was done to its end before."""
    path, shards = out / "sample.json", out / "sample"
    before = read_json(path) if path.exists() else {}
    key = key_of(sample, cores)
    known = before.get("key") == key
    if not known:
        shutil.rmtree(shards, ignore_errors=True)
    started = time.perf_counter()
    done = relax_crystals(sample, settings=QUICK, processes=cores, shards=shards, progress=tenths("ours:"))
    if known:
        return done, float(before["seconds"])
    seconds = time.perf_counter() - started
    write_json(path, {"key": key, "seconds": seconds})
    return done, seconds


def key_of(crystals: Crystals, cores: int) -> str:
    """Of everything that a time depends on, but for the machine."""
    parts = (
        crystals.content_hash(),
        str(cores),
        QUICK.model_dump_json(),
        version("chgnet"),
        version("torch"),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def plain_loop(crystals: Crystals, path: Path, threads: int) -> dict[str, dict[str, Any]]:
    """What a user would write: a calculator, a filter and an optimiser for each crystal in turn."""
    from chgnet.model.dynamics import CHGNetCalculator

    found: dict[str, dict[str, Any]] = {}
    key = key_of(crystals, threads)
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.endswith("}")]  # the last one may be torn
        found = {row["id"]: row for row in rows if row["key"] == key}
    torch.set_num_threads(threads)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calculator = CHGNetCalculator(use_device="cpu")
        calculator.calculate(crystals[:1].to_atoms()[0])  # what is loaded once does not count
    tell = tenths("plain:")
    with path.open("a", encoding="utf-8") as file:
        for done, (id_, atoms) in enumerate(zip(crystals.ids, crystals.to_atoms(), strict=True), start=1):
            if id_ not in found:
                found[id_] = {"id": id_, "key": key, **plain_relaxation(atoms, calculator)}
                file.write(json.dumps(found[id_]) + "\n")
                file.flush()
            tell(done, len(crystals))
    return found


def plain_relaxation(atoms: Any, calculator: Any) -> dict[str, Any]:
    """One crystal; what it raises is what a plain loop would have died of."""
    start = time.perf_counter()
    atoms.calc = calculator
    row: dict[str, Any] = {"converged": False, "energy_per_atom": None, "steps": None, "error": None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
            row["converged"] = bool(optimizer.run(fmax=QUICK.fmax, steps=QUICK.max_steps))
            row["energy_per_atom"] = float(atoms.get_potential_energy()) / len(atoms)
            row["steps"] = int(optimizer.nsteps)
    except Exception as error:  # noqa: BLE001 - counted: it is part of the comparison
        row["error"] = f"{type(error).__name__}: {error}"[:200]
    return {**row, "seconds": time.perf_counter() - start}


def both_ways(ours: Relaxation, seconds: float, plain: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Crystals a minute, and energies where both converged."""
    both = [i for i, r in ours.records.items() if r.converged and plain[i]["converged"]]
    differences = [abs(ours.records[i].energy_per_atom - plain[i]["energy_per_atom"]) for i in both]
    plain_seconds = sum(row["seconds"] for row in plain.values())
    return {
        "num": len(plain),
        "seconds": seconds,
        "plain_seconds": plain_seconds,
        "ratio": plain_seconds / seconds,
        "steps": sum(r.steps for r in ours.records.values()),
        "plain_steps": sum(row["steps"] or 0 for row in plain.values()),
        "converged": sum(r.converged for r in ours.records.values()),
        "failed": len(ours.failures),
        "plain_converged": sum(row["converged"] for row in plain.values()),
        "plain_errors": sum(row["error"] is not None for row in plain.values()),
        "both_converged": len(both),
        "close": sum(d <= CLOSE for d in differences),
        "median_difference": float(np.median(differences)) if differences else None,
        "max_difference": max(differences, default=None),
    }


def summary(done: Relaxation, crystals: Crystals) -> dict[str, Any]:
    """What became of each."""
    kept = [r for i, r in done.records.items() if i not in done.failures]
    seconds = [s for s in done.seconds().values() if s is not None]
    reasons = Counter(reason.split(": ")[0].split(",")[0] for reason in done.failures.values())
    return {
        "num": len(crystals),
        "lost": len(set(crystals.ids) - set(done.records) - set(done.failures)),
        "converged": sum(r.converged for r in kept),
        "not_converged": sum(not r.converged for r in kept),
        "failed": dict(reasons),
        "core_seconds": sum(seconds),
        "timed": len(seconds),
        "median_steps": float(np.median([r.steps for r in kept])),
        "median_displacement": float(np.median([r.max_displacement for r in kept])),
        "median_volume_change": float(np.median([r.volume_change for r in kept])),
        "median_gain": float(np.median([r.energy_per_atom_initial - r.energy_per_atom for r in kept])),
    }


def page(result: dict[str, Any]) -> str:
    """Two tables."""
    b, a, s = result["both_ways"], result["all"], result["settings"]
    failed = ", ".join(f"{n} × {reason}" for reason, n in sorted(a["failed"].items())) or "none"
    lines = [
        "`python benchmarks/relaxation.py --data FOLDER --out FOLDER`",
        "",
        f"| {b['num']} crystals, {result['cores']} cores | crystals a minute | steps | converged | failed |",
        "|---|---|---|---|---|",
        f"| crysjepa, {result['cores']} processes | {60 * b['num'] / b['seconds']:.1f} | {b['steps']} "
        f"| {b['converged']} | {b['failed']} |",
        f"| plain loop, {result['cores']} threads | {60 * b['num'] / b['plain_seconds']:.1f} "
        f"| {b['plain_steps']} | {b['plain_converged']} | {b['plain_errors']} |",
        "",
        f"{b['ratio']:.2f} times the plain loop, the start of our processes counted. Of the "
        f"{b['both_converged']} that both converge, {b['close']} end within {1000 * CLOSE:g} meV/atom of "
        f"each other (median difference {1000 * (b['median_difference'] or 0):.2f}, largest "
        f"{1000 * (b['max_difference'] or 0):.1f}).",
        "",
        f"Of all {a['num']}: {a['converged']} converged, {a['not_converged']} stopped at {s['max_steps']} "
        f"steps, {sum(a['failed'].values())} ended with a reason ({failed}), {a['lost']} lost. Median: "
        f"{a['median_steps']:.0f} steps, {1000 * a['median_gain']:.0f} meV/atom gained, atoms moved by up to "
        f"{a['median_displacement']:.2f} Å, volume changed by {100 * a['median_volume_change']:+.1f} %. "
        f"{a['core_seconds'] / max(a['timed'], 1):.1f} seconds of a core each. CHGNet, FIRE, "
        f"FrechetCellFilter, {s['fmax']} eV/Å, at most {s['max_steps']} steps.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
