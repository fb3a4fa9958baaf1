"""Train the weights that ship with crysjepa, from tables of Materials Project crystals.

    python scripts/train_default_weights.py generator MP20.parquet MPTS52.parquet --out G
    python scripts/train_default_weights.py ddpm MP20.parquet MPTS52.parquet --out D
    python scripts/train_default_weights.py jepa PACKED1.parquet --steps 10000 --final 0.4 --out J1
    python scripts/train_default_weights.py jepa PACKED2.parquet --init J1 --steps 20000 --out J2
    python scripts/train_default_weights.py narrow J2 PACKED2.parquet --out J3

Tables have the columns of a crystal (id, atomic_numbers, frac_coords, lattice) and
formation_energy_per_atom; those of Crys-JEPA are made by ``scripts/jepa_data.py`` and
``scripts/jepa_teacher.py``. Chemical systems whose ``split`` is ``test`` are held out of all. ``narrow``
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

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from narrow_jepa import narrow

from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.generators.diffusion.generator import LAPTOP, DiffusionGenerator
from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.generators.flow.paths import FlowConfig
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.invariant import InvariantConfig
from crysjepa.jepa.network import SMALL as JEPA
from crysjepa.jepa.network import JepaConfig
from crysjepa.nn.training import Training, TrainSettings
from crysjepa.runtime.progress import Progress
from crysjepa.weights import shipped

GENERATOR_SETTINGS = TrainSettings(
    batch_size=128, learning_rate=2e-3, warmup=300, checkpoint_every=500, record_every=100
)
DDPM_SETTINGS = TrainSettings(
    batch_size=128, learning_rate=5e-4, warmup=200, checkpoint_every=500, record_every=100
)
WIDE_JEPA = JepaConfig(InvariantConfig(channels=24, degrees=(128, 48, 48, 32), hidden=192), JEPA.objective)
"""What the small one is narrowed from."""
LARGE_JEPA = JepaConfig(
    InvariantConfig(layers=4, width=256, channels=32, degrees=(224, 80, 80, 48), hidden=320), JEPA.objective
)
"""For a GPU."""
JEPA_SETTINGS = TrainSettings(
    batch_size=128, learning_rate=3e-3, warmup=300, checkpoint_every=500, record_every=100
)


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


def generator_crystals(paths: list[Path]) -> Crystals:
    """Known crystals outside the test split."""
    table = known_crystals(paths)
    return canonicalise(Crystals.from_arrow(table.filter(pc.not_equal(table["split"], "test"))))[0]


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


def train_jepa(
    data: Path,
    out: Path | None,
    seed: int,
    settings: TrainSettings,
    init: Path | None,
    config: JepaConfig = WIDE_JEPA,
    device: str = "cpu",
    progress: Progress | None = None,
) -> None:
    """On a table that ``scripts/jepa_data.py pack`` made; ``config`` is for random weights to start from.

    Without ``out`` nothing is kept: for a trial.
    """
    table = pq.read_table(data)
    crystals = Crystals.from_arrow(table.select(["id", "atomic_numbers", "frac_coords", "lattice"]))
    starting = CrysJepa.load(init) if init else None
    jepa, training = CrysJepa.pretrain(
        crystals,
        table["formation_energy_per_atom"].to_numpy(),
        starting.model.config if starting else config,
        settings,
        relaxed_energies=table["relaxed_formation_energy_per_atom"].to_numpy(),
        site_energies=table["site_energies"].combine_chunks().flatten().to_numpy(zero_copy_only=False),
        scale="materials_project",
        init=starting,
        seed=seed,
        device=device,
        state=out and _state(out),
        progress=progress or _Printer(),
    )
    if out is not None:
        jepa.save(out, card=_card(training, len(crystals), [data]))
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
