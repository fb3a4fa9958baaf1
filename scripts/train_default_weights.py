"""Train the weights that ship with crysjepa, from tables of Materials Project crystals.

    python scripts/train_default_weights.py generator MP20.parquet MPTS52.parquet --out G
    python scripts/train_default_weights.py jepa --labels L*.parquet --hold-out MP20.parquet --out J

Tables have the columns of a crystal (id, atomic_numbers, frac_coords, lattice) and formation_energy_per_atom;
rows whose ``split`` is ``test`` (by chemical system) are held out of both trainings. Runs resume from
``OUT.state`` and write ``OUT.curve.json``; weights are stored as bfloat16 with a card in the header.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from crysjepa.canonical import canonicalise
from crysjepa.crystals import Crystals
from crysjepa.generate.diffusion import SMALL as GENERATOR
from crysjepa.generate.diffusion import DiffusionGenerator
from crysjepa.jepa.model import SMALL as JEPA
from crysjepa.jepa.pretrain import CrysJepa
from crysjepa.nn.training import Training, TrainSettings

GENERATOR_SETTINGS = TrainSettings(
    steps=6000, batch_size=128, learning_rate=1e-3, warmup=200, checkpoint_every=500, record_every=100
)
JEPA_SETTINGS = TrainSettings(
    steps=1500, batch_size=192, learning_rate=1e-3, warmup=200, checkpoint_every=500, record_every=100
)
LABELS_KEPT = 0.30
"""Share of the hypothetical and distorted crystals that Crys-JEPA is trained on (of the parents, all)."""


def known_crystals(paths: list[Path]) -> pa.Table:
    """Rows of at most 20 sites within 0.1 eV/atom of the hull, each id once."""
    columns = [*("id", "atomic_numbers", "frac_coords", "lattice"), "formation_energy_per_atom", "split"]
    parts: list[pa.Table] = []
    for path in paths:
        table = pq.read_table(path)
        fit = pc.and_(pc.less_equal(table["num_sites"], 20), pc.less_equal(table["e_above_hull"], 0.1))
        table = table.filter(fit) if parts else table
        for earlier in parts:
            table = table.filter(pc.invert(pc.is_in(table["id"], earlier["id"])))
        parts.append(table.select(columns))
    return pa.concat_tables(parts)


def train_generator(paths: list[Path], out: Path, seed: int) -> None:
    """On known crystals outside the test split."""
    table = known_crystals(paths)
    table = table.filter(pc.not_equal(table["split"], "test"))
    crystals, _ = canonicalise(Crystals.from_arrow(table))
    generator, training = DiffusionGenerator.train(
        crystals, GENERATOR, GENERATOR_SETTINGS, seed=seed, state=_state(out), progress=_Printer()
    )
    generator.save(out, dtype=torch.bfloat16, card=_card(training, len(crystals), paths))
    _keep_curve(training, out)


def train_jepa(labels: list[Path], held_out: list[Path], out: Path, seed: int) -> None:
    """On labelled parents and a share of their variants, none of a held-out chemical system."""
    rng = np.random.default_rng(0)
    systems: set[str] = set()
    for path in held_out:
        table = pq.read_table(path, columns=["id", "atomic_numbers", "frac_coords", "lattice", "split"])
        systems |= set(Crystals.from_arrow(table.filter(pc.equal(table["split"], "test"))).chemical_systems())
    batches, energies = [], []
    for path in sorted(labels):
        table = pq.read_table(path)
        keep = (np.array(table["kind"].to_pylist()) == "parent") | (rng.random(table.num_rows) < LABELS_KEPT)
        table = table.filter(keep)
        crystals, _ = canonicalise(Crystals.from_arrow(table))
        fit = np.array([s not in systems for s in crystals.chemical_systems()])
        by_id = dict(
            zip(table["id"].to_pylist(), table["formation_energy_per_atom"].to_pylist(), strict=True)
        )
        batches.append(crystals[fit])
        energies += [by_id[i] for i in batches[-1].ids]
    crystals = Crystals.concatenate(batches)
    jepa, training = CrysJepa.pretrain(
        crystals, np.array(energies), JEPA, JEPA_SETTINGS, seed=seed, state=_state(out), progress=_Printer()
    )
    jepa.save(out, dtype=torch.bfloat16, card=_card(training, len(crystals), labels))
    _keep_curve(training, out)


class _Printer:
    def __init__(self) -> None:
        self.started = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if done % 100 == 0:
            print(f"{done}/{total} steps, {time.monotonic() - self.started:.0f} s", flush=True)


def _state(out: Path) -> Path:
    return out.with_name(out.name + ".state")


def _card(training: Training, rows: int, paths: list[Path]) -> dict[str, object]:
    return {
        "num_crystals": rows,
        "data": [p.name for p in paths],
        "seconds": round(training.seconds),
        "last": training.curve[-1],
    }


def _keep_curve(training: Training, out: Path) -> None:
    curve = json.dumps({"seconds": round(training.seconds), "curve": training.curve}, indent=1)
    out.with_name(out.name + ".curve.json").write_text(curve, encoding="utf-8")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    generator = kinds.add_parser("generator")
    generator.add_argument("tables", type=Path, nargs="+")
    jepa = kinds.add_parser("jepa")
    jepa.add_argument("--labels", type=Path, nargs="+", required=True)
    jepa.add_argument("--hold-out", type=Path, nargs="+", required=True)
    for sub in (generator, jepa):
        sub.add_argument("--out", type=Path, required=True)
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.kind == "generator":
        train_generator(chosen.tables, chosen.out, chosen.seed)
    else:
        train_jepa(chosen.labels, chosen.hold_out, chosen.out, chosen.seed)


if __name__ == "__main__":
    main()
