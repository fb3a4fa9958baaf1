"""What each of the flow's choices is worth, at equal training compute.

    python benchmarks/flow_choices.py --data FOLDER --out FOLDER
    python benchmarks/flow_choices.py --data FOLDER --out FOLDER --minutes 0.1 --num 20    # to try it out

One flow with every choice as it ships, and one for each choice undone, all trained for --minutes of one core
on the known crystals of FOLDER (mp20_bt.parquet, mpts52.parquet), without its test split. Of --num crystals
drawn from each: valid, and valid and expected stable, which means at most 0.1 eV/atom above the hull
(mp20_hull.parquet) as Crys-JEPA expects of the relaxed crystal. It does not take the place of a force field,
but tells the same way within minutes. Choices of sampling are undone on the first flow. Into --out go
flow_choices.json and flow_choices.md, and each trained flow: a run that was killed goes on from there.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from generation.speed import expected, share

from crysjepa.core.crystals import Crystals
from crysjepa.energy.limits import within
from crysjepa.generators.flow.generator import FlowGenerator, settle_all
from crysjepa.generators.flow.orbit_batches import PackedOrbits
from crysjepa.generators.flow.paths import Flow, FlowConfig, FlowLoss
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.nn.batches import epoch_batches
from crysjepa.nn.training import TrainSettings
from crysjepa.runtime.files import write_json, write_text
from crysjepa.weights import shipped

SEED = 11
BATCH = 128
TRAININGS: dict[str, tuple[dict[str, Any], bool]] = {
    "as it ships": ({}, True),
    "every site by itself, no symmetry": ({"symmetric": False}, True),
    "noise paired as it comes": ({"nearest": False}, True),
    "from random weights, not from Crys-JEPA's": ({}, False),
}
"""Changes of the configuration, and whether training starts from Crys-JEPA."""
SAMPLINGS: dict[str, dict[str, Any]] = {
    "Euler's steps, no fresh noise": {"fresh": False},
    "compositions need no balance": {"balanced": False},
    "known formulas allowed": {"novel": False},
    "elements at temperature 1": {"temperature": 1.0},
}


def known_crystals(data: Path, most: int) -> Crystals:
    """At most 20 sites, within 0.1 eV/atom of the hull, outside the test split; at most so many."""
    columns = ["id", "atomic_numbers", "frac_coords", "lattice"]
    parts, seen = [], set[str]()
    for name in ("mp20_bt.parquet", "mpts52.parquet"):
        path = data / name
        if not path.exists():
            continue
        table = pq.read_table(path)
        kept = np.array([i not in seen for i in table["id"].to_pylist()])
        kept &= table["num_sites"].to_numpy() <= 20
        kept &= within(table["e_above_hull"].to_numpy(), 0.1)
        kept &= np.array(table["split"].to_pylist()) != "test"
        seen |= set(table["id"].to_pylist())
        parts.append(Crystals.from_arrow(table.select(columns).filter(kept)))
    found = Crystals.concatenate(parts)
    return found[np.sort(np.random.default_rng(SEED).permutation(len(found))[:most])]


def trained(crystals: Crystals, changes: dict[str, Any], from_jepa: bool, minutes: float, path: Path) -> int:
    """A flow trained for so many minutes of one core, kept in ``path``; how many steps that were."""
    config = replace(FlowConfig(), **changes)
    init = CrysJepa.load(shipped("jepa")) if from_jepa else None
    data = PackedOrbits(settle_all(crystals, symmetric=config.symmetric))
    seconds = seconds_a_step(Flow(config, torch.full((119,), 2.5)), data)
    steps = max(10, round(60 * minutes / seconds))
    settings = TrainSettings(
        steps=steps, batch_size=BATCH, learning_rate=2e-3, warmup=min(300, steps // 5),
        checkpoint_every=100, record_every=100,
    )  # fmt: skip
    generator, _ = FlowGenerator.train(crystals, config, settings, init=init, seed=SEED)
    generator.save(path)
    return steps


def seconds_a_step(flow: Flow, data: PackedOrbits, num: int = 24) -> float:
    """Of this process's time on the cores, whatever else they do."""
    optimizer = torch.optim.AdamW(flow.train().parameters(), lr=1e-5)
    loss, noise = FlowLoss(flow.config), torch.Generator().manual_seed(0)
    found = []
    for rows in epoch_batches(data.num_atoms, BATCH, (SEED,)):
        start = time.process_time()
        loss(flow, data.batch(rows), noise)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        found.append(time.process_time() - start)
        if len(found) == num + 2:
            break
    return float(np.mean(found[2:] or found))


def judged(generator: FlowGenerator, args: argparse.Namespace) -> dict[str, Any]:
    """What its crystals are worth."""
    crystals = generator.sample(args.num, seed=SEED).crystals
    known, hull = args.data / "mp20_bt.parquet", args.data / "mp20_hull.parquet"
    found = expected(crystals, args.num, str(known), str(hull))
    return {"num": args.num, **found}


def page(results: list[dict[str, Any]], minutes: float, known: int) -> str:
    """The table."""
    lines = ["| flow | steps | V | valid and expected stable |", "|---|---|---|---|"]
    lines += [
        f"| {r['name']} | {r['steps']} | {share(r['valid'], r['num'])} | "
        f"{share(r['expected_stable'], r['num'])} |"
        for r in results
    ]
    lines += [
        "",
        f"{minutes:g} minutes of one core on {known} crystals for each training; the last {len(SAMPLINGS)} "
        f"rows are samples of the first flow. {results[0]['num']} crystals each; Wilson intervals of 95 %.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("flow_choices"))
    parser.add_argument("--minutes", type=float, default=4.0, help="of one core; default: %(default)s")
    parser.add_argument("--crystals", type=int, default=6000, help="to train on; default: %(default)s")
    parser.add_argument("--num", type=int, default=400, help="crystals of each; default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    crystals = known_crystals(args.data, args.crystals)
    results = []
    for k, (name, (changes, from_jepa)) in enumerate(TRAININGS.items()):
        path = args.out / f"flow-{k}-{args.minutes:g}-{args.crystals}.safetensors"
        if not path.exists():
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} train: {name}\n")
            trained(crystals, changes, from_jepa, args.minutes, path)
        flow = FlowGenerator.load(path)
        results.append({"name": name, "steps": flow.origin["steps"], **judged(flow, args)})
    first = args.out / f"flow-0-{args.minutes:g}-{args.crystals}.safetensors"
    for name, setting in SAMPLINGS.items():
        flow = FlowGenerator.load(first)
        for key, value in setting.items():
            setattr(flow, key, value)
        results.append({"name": name, "steps": flow.origin["steps"], **judged(flow, args)})
    text = page(results, args.minutes, len(crystals))
    about = {"minutes": args.minutes, "num_crystals": len(crystals), "results": results}
    write_json(args.out / "flow_choices.json", about)
    write_text(args.out / "flow_choices.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
