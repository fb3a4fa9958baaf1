"""Quality of the flow against training: judge the states that were kept on the way.

    python training/train_default_weights.py generator MP20.parquet MPTS52.parquet --out G --keep 1000 5000
    python benchmarks/generator_curve.py G.at-1000 G.at-5000 --data FOLDER --out generator_training.md

Each state's averaged weights are put in the place of the shipped flow's, and --num crystals drawn: valid, and
valid and expected stable, which means at most 0.1 eV/atom above the hull as Crys-JEPA expects of the relaxed
crystal. The last row is the shipped flow. FOLDER holds mp20_bt.parquet and mp20_hull.parquet. A state on
the way stands at a high learning rate: a training that ends there would be better.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from generation.speed import expected, share

from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.nn import checkpoint
from crysjepa.runtime.files import write_text
from crysjepa.weights import shipped

SEED = 11


def main() -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("states", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--num", type=int, default=300, help="crystals of each; default: %(default)s")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    reference, hull = str(chosen.data / "mp20_bt.parquet"), str(chosen.data / "mp20_hull.parquet")
    lines = ["| steps | minutes | V | valid and expected stable |", "|---|---|---|---|"]
    for path in [*chosen.states, None]:
        generator = FlowGenerator.load(shipped("generator"))
        if path is None:
            card = checkpoint.read_header(shipped("generator"))["card"]
            steps, seconds = generator.origin["steps"], card["seconds"]
        else:
            tensors, header = checkpoint.load(path, kind="training-state")
            averaged = {k.removeprefix("ema."): v for k, v in tensors.items() if k.startswith("ema.")}
            generator.flow.load_state_dict(averaged)
            steps, seconds = header["step"], header["seconds"]
        crystals = generator.sample(chosen.num, seed=SEED).crystals
        found = expected(crystals, chosen.num, reference, hull)
        lines.append(
            f"| {steps} | {seconds / 60:.0f} | {share(found['valid'], chosen.num)} | "
            f"{share(found['expected_stable'], chosen.num)} |"
        )
        sys.stderr.write(lines[-1] + "\n")
    lines += ["", f"{chosen.num} crystals each; Wilson intervals of 95 %; minutes by the clock on one core."]
    write_text(chosen.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
