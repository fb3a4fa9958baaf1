"""Test the adapters of force-field libraries, each in an environment of its own.

    python .ci/test_force_fields.py mace orb            # or none: all of them
    python .ci/test_force_fields.py sevennet --envs FOLDER    # keeps the environments

One environment does not hold them all. What a library declares but does not need for energies (services,
training, GPUs) is left out: hence the lists. The networks are those that each library writes for the test.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = re.compile(r"(mypy|ruff|librt|ast_ser|umap|pynndescent)", re.IGNORECASE)
"""Pins of constraints.txt that these tests do without."""
EQUIVARIANT = ("opt_einsum", "opt_einsum_fx")
SINCE_312 = "python_version >= '3.12'"
"""What orb-models 0.7 and torch-sim need: run this by such a Python for them, by 3.11 for Orb's 0.5."""
SEVENNET = (
    *("sevenn>=0.13", "e3nn>=0.5", "torch_geometric", "matscipy", "braceexpand", "xxhash"),
    *EQUIVARIANT,
)


@dataclass(frozen=True)
class Library:
    """What is installed by itself, and what with all that it declares."""

    alone: tuple[str, ...]
    whole: tuple[str, ...] = ()


LIBRARIES = {
    "sevennet": Library(SEVENNET),
    "torch_sim": Library(  # with SevenNet, whose weights come with it
        (
            *SEVENNET,
            *("torch-sim-atomistic>=0.6,<0.7", "nvalchemi-toolkit-ops>=0.4", "warp-lang"),
            *("tables", "blosc2", "ndindex", "numexpr", "py-cpuinfo"),
        )
    ),
    "mattersim": Library(
        (
            *("mattersim>=1.2", "e3nn>=0.5", "deprecated", "wrapt", "loguru", "torch-ema", "xxhash"),
            *("torch_geometric", "torch_runstats", "torchmetrics"),
            *EQUIVARIANT,
        )
    ),
    "mace": Library(
        (
            *("mace-torch>=0.3.16", "e3nn==0.4.4", "torch-ema", "prettytable", "wcwidth", "matscipy", "h5py"),
            *("torchmetrics", "python-hostlist", "configargparse", "GitPython", "gitdb", "smmap", "lmdb"),
            *EQUIVARIANT,
        )
    ),
    "orb": Library(
        (
            *(f"orb-models>=0.7,<0.8; {SINCE_312}", "orb-models>=0.5.5,<0.6; python_version < '3.12'"),
            *(f"nvalchemi-toolkit-ops>=0.3.1,<0.4; {SINCE_312}", f"warp-lang; {SINCE_312}"),
            *("cached_path", "dm-tree==0.1.8"),
        ),
        ("rich<14", "filelock<4", "huggingface-hub<2", "boto3", "google-cloud-storage"),
    ),
    "fairchem": Library(
        (
            *("fairchem-core>=2.24,<3", "e3nn>=0.5", "ase-db-backends", "torchtnt", "hydra-core"),
            *("omegaconf<2.4", "antlr4-python3-runtime==4.9.3", "submitit", "clusterscope==0.0.18"),
            *("websockets", "lmdb==1.7.3", "nvalchemi-toolkit-ops"),
            *EQUIVARIANT,
        ),
        ("setuptools<81", "backoff", "huggingface-hub", "wandb", "pyre-extensions", "tensorboard"),
    ),
}


def environment(name: str, folder: Path) -> Path:
    """Python of an environment with crysjepa and a library, made unless it is there."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        library = LIBRARIES[name]
        wanted = {re.split("[<>=]", w)[0].lower() for w in (*library.alone, *library.whole)}
        pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
        own = [p for p in pins if not LEFT_OUT.match(p) and p.split("==")[0].lower() not in wanted]
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q"]
        subprocess.run([*pip, "--no-deps", *own, "setuptools<81"], check=True)
        # a build for GPUs, if that is what there is for this Python, is nothing without its libraries
        subprocess.run([*pip, *(p for p in own if p.startswith("torch=="))], check=True)
        subprocess.run([*pip, "--no-deps", *library.alone], check=True)
        if library.whole:
            subprocess.run([*pip, *library.whole], check=True)
        subprocess.run([*pip, "--no-deps", "-e", str(ROOT)], check=True)
    return python


def main() -> None:
    """Make environments, test, and say how it ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(LIBRARIES)}; by default all")
    parser.add_argument("--envs", type=Path, help="folder of the environments; by default a temporary one")
    args = parser.parse_args()
    if unknown := set(args.names) - set(LIBRARIES):
        parser.error(f"no library {', '.join(sorted(unknown))}: there are {', '.join(LIBRARIES)}")
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.names or LIBRARIES:
            python = environment(name, args.envs or Path(temporary))
            command = [str(python), "-m", "pytest", "-q", f"tests/relaxation/force_fields/test_{name}.py"]
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                failed.append(name)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
