"""Relaxation of generated crystals with CHGNet, beside a plain ASE loop with CHGNet's own calculator.

    python benchmarks/relaxation.py --data FOLDER --out FOLDER
    python benchmarks/relaxation.py --data FOLDER --out FOLDER --num 24 --plain 6    # to try it out

The first --num of DiffCSP's crystals (peers/diffcsp_mp20_first2000.parquet in FOLDER) are relaxed: what
became of each, and how long it took. A sample of --plain of them is then relaxed several ways on the same
cores, one way after the other: by crysjepa with each of three optimisers, and by a plain loop of FIRE and
FrechetCellFilter on CHGNetCalculator; the same fmax, the same limit of steps, in as many processes of one
thread each as there are cores, whose start counts. ``bfgs`` is ASE's: how often it ends where ASE's FIRE ends
is the control of ``quasi-newton``.
Into --out go relaxation.json and relaxation.md, and what is done: a run that was killed goes on from there.
Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import multiprocessing
import os
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
from crysjepa.relaxation.relax import Relaxation, relax_crystals
from crysjepa.relaxation.settings import QUICK, RelaxSettings
from crysjepa.runtime.files import (
    read_json,
    write_json,
    write_text,
)
from crysjepa.runtime.threads import ONE_THREAD, default_processes

SEED = 5
OPTIMIZERS = ("fire", "quasi-newton", "bfgs")
CALCULATOR: list[Any] = []
"""Of a process of the plain loop."""
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
    ways = {name: timed(sample, args.out, args.cores, name) for name in OPTIMIZERS}
    plain, plain_seconds = plain_loop(sample, args.out, args.cores)
    result = {
        "num": len(crystals),
        "settings": QUICK.model_dump(),
        "cores": args.cores,
        "plain": summary_of_plain(plain, plain_seconds),
        "ways": {name: beside(*way, plain, plain_seconds) for name, way in ways.items()},
        "all": summary(everything, crystals),
    }
    write_json(args.out / "relaxation.json", result)
    write_text(args.out / "relaxation.md", page(result))
    sys.stdout.write(page(result))


def timed(sample: Crystals, out: Path, cores: int, optimizer: str) -> tuple[Relaxation, float]:
    """Our way, and its seconds from beginning to end; read back if it was done to its end before."""
    path, shards = out / f"{optimizer}.json", out / optimizer
    chosen = QUICK.model_copy(update={"optimizer": optimizer})
    key = key_of(sample, cores, chosen)
    known = path.exists() and read_json(path)["key"] == key
    if not known:
        shutil.rmtree(shards, ignore_errors=True)
    started = time.perf_counter()
    done = relax_crystals(
        sample, settings=chosen, processes=cores, shards=shards, progress=tenths(f"{optimizer}:")
    )
    if known:
        return done, float(read_json(path)["seconds"])
    seconds = time.perf_counter() - started
    write_json(path, {"key": key, "seconds": seconds})
    return done, seconds


def key_of(crystals: Crystals, cores: int, chosen: RelaxSettings) -> str:
    """Of everything that a time depends on, but for the machine."""
    parts = (
        crystals.content_hash(),
        str(cores),
        chosen.model_dump_json(),
        version("chgnet"),
        version("torch"),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def plain_loop(crystals: Crystals, out: Path, cores: int) -> tuple[dict[str, dict[str, Any]], float]:
    """What a user would write, in as many processes as cores, and its seconds from beginning to end."""
    path, key = out / "plain.json", key_of(crystals, cores, QUICK)
    if path.exists() and (before := read_json(path))["key"] == key:
        return before["rows"], float(before["seconds"])
    tell = tenths("plain:")
    rows: dict[str, dict[str, Any]] = {}
    os.environ |= ONE_THREAD  # or the threads of both processes wait for one another
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(cores, initializer=set_up_plain) as pool:
        for row in pool.imap_unordered(
            plain_relaxation, zip(crystals.ids, crystals.to_atoms(), strict=True), chunksize=1
        ):
            rows[row["id"]] = row
            tell(len(rows), len(crystals))
    seconds = time.perf_counter() - started
    write_json(path, {"key": key, "seconds": seconds, "rows": rows})
    return rows, seconds


def set_up_plain() -> None:
    """In a process of the plain loop: one thread, and the calculator."""
    from chgnet.model.dynamics import CHGNetCalculator

    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        CALCULATOR.append(CHGNetCalculator(use_device="cpu"))


def plain_relaxation(asked: tuple[str, Any]) -> dict[str, Any]:
    """One crystal by ASE; what it raises is what a plain loop would have died of."""
    id_, atoms = asked
    (atoms.calc,) = CALCULATOR
    row: dict[str, Any] = {
        "id": id_,
        "converged": False,
        "energy_per_atom": None,
        "steps": None,
        "error": None,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
            row["converged"] = bool(optimizer.run(fmax=QUICK.fmax, steps=QUICK.max_steps))
            row["energy_per_atom"] = float(atoms.get_potential_energy()) / len(atoms)
            row["steps"] = int(optimizer.nsteps)
    except Exception as error:  # noqa: BLE001 - counted: it is part of the comparison
        row["error"] = f"{type(error).__name__}: {error}"[:200]
    return row


def summary_of_plain(plain: dict[str, dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What became of the plain loop's."""
    return {
        "num": len(plain),
        "seconds": seconds,
        "steps": sum(row["steps"] or 0 for row in plain.values()),
        "converged": sum(row["converged"] for row in plain.values()),
        "failed": sum(row["error"] is not None for row in plain.values()),
    }


def beside(
    ours: Relaxation, seconds: float, plain: dict[str, dict[str, Any]], plain_seconds: float
) -> dict[str, Any]:
    """How fast, and where it ends: differences in eV/atom, less the plain loop's, where both converged."""
    both = [i for i, r in ours.records.items() if r.converged and plain[i]["converged"]]
    differences = [ours.records[i].energy_per_atom - plain[i]["energy_per_atom"] for i in both]
    return {
        "seconds": seconds,
        "ratio": plain_seconds / seconds,
        "steps": sum(r.steps for r in ours.records.values()),
        "converged": sum(r.converged for r in ours.records.values()),
        "failed": len(ours.failures),
        "both_converged": len(both),
        "close": sum(abs(d) <= CLOSE for d in differences),
        "lower": sum(d < -CLOSE for d in differences),
        "higher": sum(d > CLOSE for d in differences),
        "mean_difference": float(np.mean(differences)) if differences else None,
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
    p, a, s = result["plain"], result["all"], result["settings"]
    failed = ", ".join(f"{n} × {reason}" for reason, n in sorted(a["failed"].items())) or "none"
    lines = [
        "`python benchmarks/relaxation.py --data FOLDER --out FOLDER`",
        "",
        f"| {p['num']} crystals, {result['cores']} processes | crystals a minute | times the plain loop "
        f"| steps | converged | failed | ends within {1000 * CLOSE:g} meV/atom of the plain loop "
        "| lower | higher | mean difference, meV/atom |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| crysjepa, `{name}` | {60 * p['num'] / w['seconds']:.1f} | {w['ratio']:.1f} | {w['steps']} "
            f"| {w['converged']} | {w['failed']} | {w['close']} of {w['both_converged']} | {w['lower']} "
            f"| {w['higher']} | {1000 * (w['mean_difference'] or 0):+.1f} |"
            for name, w in result["ways"].items()
        ),
        f"| plain loop of ASE's FIRE | {60 * p['num'] / p['seconds']:.1f} | 1 | {p['steps']} "
        f"| {p['converged']} | {p['failed']} | | | | |",
        "",
        "`bfgs` is ASE's BFGS, step for step: that it ends elsewhere than ASE's FIRE is the control for "
        "`quasi-newton`.",
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
