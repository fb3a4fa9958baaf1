"""Earlier results in a folder that is judged anew: whether they are, and where they go."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from crysjepa import __version__
from crysjepa.energy.kept_hull import FILE as HULL
from crysjepa.evaluation.given import is_run, read_given
from crysjepa.runtime.files import read_json, write_json

ARTEFACTS = ("crystals.parquet", "metrics.json")
_RELAXING = ("relax", "relaxation", "force_field")
"""Settings of a protocol that relaxation depends on: all others may change, and nothing is relaxed again."""
_CRYSTALS = ("crystals", "force_field", "device", "energies")
"""Inputs likewise."""


def judged_otherwise(
    out: Path, settings: dict[str, Any], inputs: dict[str, str], *, own_energies: bool = False
) -> bool:
    """Whether ``out`` has results of the same relaxed crystals by another hull, reference or setting.

    With ``own_energies`` what is judged comes with its energies: such crystals may be the results themselves.
    """
    if not (out / "run.json").is_file() or not (out / "config.json").is_file():
        return False
    record, before = read_json(out / "run.json"), read_json(out / "config.json").get("evaluate")
    if not record["stages"] or not isinstance(before, dict) or record["versions"]["crysjepa"] != __version__:
        return False
    if own_energies and is_run(out) and read_given(out).table.content_hash() == inputs["crystals"]:
        return True
    then, now = ({k: s.get(k) for k in _RELAXING} for s in (before, settings))
    if then != now or any(record["inputs"].get(k) != inputs.get(k) for k in _CRYSTALS):
        return False  # another relaxation: the run says so
    return bool(before != settings or record["inputs"] != inputs)


def set_aside(out: Path) -> None:
    """Move the results out of the way, to ``earlier-N``."""
    numbers = [int(p.name.rsplit("-", 1)[1]) for p in out.glob("earlier-*") if p.name[8:].isdecimal()]
    folder = out / f"earlier-{1 + max(numbers, default=0)}"
    folder.mkdir()
    for name in ("config.json", "run.json"):
        shutil.copy(out / name, folder / name)
    for name in (*ARTEFACTS, HULL, "competitors.parquet", "evaluation.html"):
        if (out / name).is_file():
            (out / name).rename(folder / name)
    # A run of which no stage is done may have any settings; until this is written, it is the old one.
    write_json(out / "run.json", {**read_json(out / "run.json"), "stages": {}})
