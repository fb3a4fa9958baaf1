"""Train the weights that ship with crysjepa, from tables of Materials Project crystals.

    python training/train_default_weights.py generator MP20.parquet MPTS52.parquet --out G
    python training/train_default_weights.py ddpm MP20.parquet MPTS52.parquet --out D
    python training/train_default_weights.py jepa PACKED1.parquet --steps 10000 --final 0.4 --out J1
    python training/train_default_weights.py jepa PACKED2.parquet --init J1 --steps 20000 --out J2
    python training/train_default_weights.py narrow J2 PACKED2.parquet --out J3

Tables have the columns of a crystal (id, atomic_numbers, frac_coords, lattice) and
formation_energy_per_atom; those of Crys-JEPA are made by ``data/jepa_data.py`` and
``data/jepa_teacher.py``. Chemical systems whose ``split`` is ``test`` are held out of all. ``narrow``
keeps the units of a model that matter most, down to the size that ships: that costs less than training a
small one. Runs resume from ``OUT.state`` and write ``OUT.curve.json``; generators are stored as bfloat16;
all have a card in the header.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq
import torch
from narrow_jepa import narrow

from crysjepa.core.crystals import Crystals
from crysjepa.datasets.training_tables import generator_crystals
from crysjepa.generators.diffusion.generator import LAPTOP, DiffusionGenerator
from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.generators.flow.paths import FlowConfig
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.invariant import InvariantConfig
from crysjepa.jepa.network import SMALL as JEPA
from crysjepa.jepa.network import JepaConfig
from crysjepa.jepa.packed import pretrain_packed
from crysjepa.nn.training import Training, TrainSettings
from crysjepa.weights import shipped

GENERATOR_SETTINGS = TrainSettings(
    batch_size=128, learning_rate=2e-3, warmup=300, checkpoint_every=500, record_every=100
)
DDPM_SETTINGS = TrainSettings(
    batch_size=128, learning_rate=5e-4, warmup=200, checkpoint_every=500, record_every=100
)
WIDE_JEPA = JepaConfig(InvariantConfig(channels=24, degrees=(128, 48, 48, 32), hidden=192), JEPA.objective)
"""What the small one is narrowed from."""
JEPA_SETTINGS = TrainSettings(
    batch_size=128, learning_rate=3e-3, warmup=300, checkpoint_every=500, record_every=100
)


def train_generator(paths: list[Path], out: Path, seed: int, steps: int, keep: list[int]) -> None:
    """The flow; the states at ``keep`` (whole multiples of 500 steps) stay beside it."""
    crystals = generator_crystals(paths)
    generator, training = FlowGenerator.train(
        crystals,
        FlowConfig(),
        GENERATOR_SETTINGS.model_copy(update={"steps": steps}),
        init=CrysJepa.load(shipped("jepa")),
        seed=seed,
        state=_state(out),
        progress=_Printer(_state(out), {k: out.with_name(f"{out.name}.at-{k}") for k in keep}),
    )
    generator.save(out, dtype=torch.bfloat16, card=_card(training, len(crystals), paths))
    _keep_curve(training, out)


def train_ddpm(paths: list[Path], out: Path, seed: int, steps: int) -> None:
    """The paper's, at a laptop's size, on the same crystals."""
    crystals = generator_crystals(paths)
    settings = DDPM_SETTINGS.model_copy(update={"steps": steps})
    generator, training = DiffusionGenerator.train(
        crystals, LAPTOP, settings, seed=seed, state=_state(out), progress=_Printer()
    )
    generator.save(out, dtype=torch.bfloat16, card=_card(training, len(crystals), paths))
    _keep_curve(training, out)


def train_jepa(data: Path, out: Path, seed: int, settings: TrainSettings, init: Path | None) -> None:
    """On a table that ``data/jepa_data.py pack`` made."""
    jepa, training = pretrain_packed(
        data, WIDE_JEPA, settings, init=CrysJepa.load(init) if init else None, seed=seed, state=_state(out),
        progress=_Printer(),
    )  # fmt: skip
    jepa.save(out, card=_card(training, pq.read_metadata(data).num_rows, [data]))
    _keep_curve(training, out)


class _Printer:
    def __init__(self, state: Path | None = None, keep: dict[int, Path] | None = None) -> None:
        self.started = time.monotonic()
        self.state, self.keep = state, keep or {}

    def __call__(self, done: int, total: int) -> None:
        if self.state and done in self.keep:
            shutil.copy(self.state, self.keep[done])
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
    generator.add_argument("--steps", type=int, default=24_000)
    generator.add_argument("--keep", type=int, nargs="*", default=[], help="steps whose state is kept")
    ddpm = kinds.add_parser("ddpm")
    ddpm.add_argument("tables", type=Path, nargs="+")
    ddpm.add_argument("--steps", type=int, default=1600)
    jepa = kinds.add_parser("jepa")
    jepa.add_argument("table", type=Path)
    jepa.add_argument("--init", type=Path)
    jepa.add_argument("--steps", type=int, default=20_000)
    jepa.add_argument("--peak", type=float, default=3e-3, help="learning rate")
    jepa.add_argument("--final", type=float, default=0.01, help="fraction of the peak at the last step")
    narrowing = kinds.add_parser("narrow")
    narrowing.add_argument("model", type=Path)
    narrowing.add_argument("table", type=Path)
    for sub in (generator, ddpm, jepa, narrowing):
        sub.add_argument("--out", type=Path, required=True)
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.kind == "generator":
        train_generator(chosen.tables, chosen.out, chosen.seed, chosen.steps, chosen.keep)
    elif chosen.kind == "ddpm":
        train_ddpm(chosen.tables, chosen.out, chosen.seed, chosen.steps)
    elif chosen.kind == "narrow":
        table = pq.read_table(chosen.table, columns=["id", "atomic_numbers", "frac_coords", "lattice"])
        narrow(CrysJepa.load(chosen.model), Crystals.from_arrow(table), JEPA, chosen.seed).save(chosen.out)
    else:
        settings = JEPA_SETTINGS.model_copy(
            update={
                "steps": chosen.steps,
                "learning_rate": chosen.peak,
                "final_learning_rate": chosen.final,
            }
        )
        train_jepa(chosen.table, chosen.out, chosen.seed, settings, chosen.init)


if __name__ == "__main__":
    main()
