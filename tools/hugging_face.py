"""Weights and data as two repositories of the Hugging Face hub, with cards; nothing is uploaded.

python tools/hugging_face.py OUT

OUT/model and OUT/dataset are written anew. Then, with an account:

hf upload NAME/crysjepa OUT/model
hf upload NAME/crysjepa-known OUT/dataset --repo-type dataset

What is downloaded from there works as it is: `crysjepa generate --generator generator.safetensors`, `crysjepa
screen … --jepa jepa.safetensors --reference known.parquet --hull known_hull.parquet`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
WEIGHTS, DATA = (ROOT / "src" / "crysjepa" / name for name in ("weights", "data"))
MODELS = ("jepa", "generator", "ddpm")
TAGS = ["materials-science", "chemistry", "crystal-structure", "inorganic-crystals"]
MODEL_CARD = {
    "license": "mit", "library_name": "crysjepa", "tags": TAGS, "datasets": ["crysjepa-known"],
}  # fmt: skip
DATA_CARD = {
    "license": "cc-by-4.0", "pretty_name": "Known inorganic crystals", "tags": TAGS,
    "size_categories": ["10K<n<100K"],
    "configs": [
        {"config_name": "crystals", "data_files": "known.parquet", "default": True},
        {"config_name": "hull", "data_files": "known_hull.parquet"},
        {"config_name": "counts", "data_files": "lemat_systems.parquet"},
    ],
}  # fmt: skip


def write(out: Path) -> list[Path]:
    """Both repositories; the files that were written. What lies in their folders goes first."""
    model, data = out / "model", out / "dataset"
    for folder in (model, data):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    weights = [WEIGHTS / f"{name}{end}" for name in MODELS for end in (".safetensors", ".curve.json")]
    tables = [DATA / name for name in ("known.parquet", "known_hull.parquet", "lemat_systems.parquet")]
    cards = [(WEIGHTS / f"{name}.md").read_text(encoding="utf-8") for name in MODELS]
    intro = (
        "# crysjepa: an embedding of crystals and two generators\n\nThe weights that ship with the Python package `crysjepa` "
        "(`pip install crysjepa`), which finds new inorganic crystals that are stable and novel.\n\n"
    )
    known = (DATA / "known.md").read_text(encoding="utf-8")
    _copy([*weights, WEIGHTS / "p_stable.json", ROOT / "LICENSE"], model)
    _copy(tables, data)
    _card(model, MODEL_CARD, intro + "\n".join(re.sub(r"^#", "##", c, flags=re.MULTILINE) for c in cards))
    _card(data, DATA_CARD, known)
    for folder in (model, data):
        sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
        (folder / "sha256.json").write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")
    return sorted([*model.iterdir(), *data.iterdir()])


def _copy(files: Iterable[Path], folder: Path) -> None:
    """Copies with the same names."""
    for path in files:
        shutil.copyfile(path, folder / path.name)


def _card(folder: Path, header: Mapping[str, object], text: str) -> None:
    """README.md with its header; links into the repository of the code are plain text there."""
    plain = re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]+\)", r"\1", text)
    head = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    (folder / "README.md").write_text(f"---\n{head}---\n\n{plain.strip()}\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for path in write(Path(sys.argv[1])):
        sys.stdout.write(f"{path.stat().st_size / 1e6:8.2f} MB  {path}\n")
