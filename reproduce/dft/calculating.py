"""The queue of calculations: one crystal after another, each result kept as it ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.dft.gpaw.backend import PRESETS
from crysjepa.dft.gpaw.calculations import Calculations, scale_of
from crysjepa.dft.vasp.manifest import structure_hash
from crysjepa.runtime.files import read_json, write_json

TIME_LIMIT = 1500.0
"""Seconds for one crystal."""
RELAXED = frozenset(("candidate", "element"))
"""Roles that are relaxed. What competes is calculated as it comes: known compounds as the Materials Project
relaxed them, hypothetical ones as CHGNet did. The first twelve were relaxed too, which changed them by 5
meV/atom at most: by about so much the hull is too high, and candidates too low."""
AT_ONCE = 8
"""Calculations for each process before the queue is read again: starting a process takes seconds."""
POLL = 30.0
"""Seconds until the queue is read again when nothing is left to do."""


def key_of(crystal: Crystals) -> str:
    """What names a calculation: the start geometry, whatever its id (as the cache does)."""
    return structure_hash(crystal)[:24]


def calculate(crystals: Path, work: Path, *, preset: str = "quick", processes: int = 1, wait: bool) -> None:
    """Calculate what ``crystals`` lists, in its order; with ``wait``, go on when rows are added.

    The file is read again every few calculations, so that it may grow meanwhile. A calculation that failed
    is noted in ``work/failures.json`` and is not tried again; remove it there to have it tried.
    """
    settings = PRESETS[preset]
    scale = scale_of("gpaw", settings)
    folder = work / "cache" / scale
    as_it_is = settings.model_copy(update={"max_steps": 0})
    while True:
        waiting, roles = _left(crystals, folder, _failures(work, scale))
        if not waiting and not wait:
            return
        if not waiting:
            time.sleep(POLL)
            continue
        for relaxed in (True, False):
            own = [c for c in waiting[: AT_ONCE * processes] if (roles[c.ids[0]] in RELAXED) is relaxed]
            if not own:
                continue
            batch = Crystals.concatenate(own)
            how = settings if relaxed else as_it_is
            ran = Calculations("gpaw", how, folder, processes, TIME_LIMIT).run(batch, "dft")
            for one in batch:
                _note(work, scale, one, ran[one.ids[0]])


def _left(crystals: Path, folder: Path, failed: Mapping[str, Any]) -> tuple[list[Crystals], dict[str, str]]:
    """What is neither kept nor failed, in the order of the queue, each structure once; and roles by id."""
    table = CandidateTable.read(crystals)
    waiting: dict[str, Crystals] = {}
    for crystal in table.crystals(in_order(table)):
        key = key_of(crystal)
        if key not in failed and not (folder / f"{key}.json").is_file():
            waiting.setdefault(key, crystal)
    return list(waiting.values()), dict(zip(table.ids, table.column("role"), strict=True))


def in_order(table: CandidateTable) -> list[str]:
    """Ids with a place in the queue, first the smallest."""
    frame = table.frame[table.frame["place"].notna()].sort_values("place", kind="stable")
    return [str(i) for i in frame["id"]]


def _failures(work: Path, scale: str) -> dict[str, Any]:
    path = work / "failures.json"
    known: dict[str, Any] = read_json(path) if path.is_file() else {}
    return {k: v for k, v in known.items() if v["scale"] == scale}


def _note(work: Path, scale: str, crystal: Crystals, result: Mapping[str, Any]) -> None:
    """A line of the log; and what failed, so that it is not tried again."""
    said = result.get("trouble") or f"{result['energy_per_atom']:.4f} eV/atom, {result['seconds']:.0f} s"
    stamp = pd.Timestamp.now().isoformat(timespec="seconds")
    what = f"{crystal.ids[0]} {crystal.reduced_formulas()[0]} {int(crystal.num_atoms[0])} sites"
    print(f"{stamp} {what}: {said}", flush=True)
    if "trouble" in result:
        path = work / "failures.json"
        noted: dict[str, Any] = read_json(path) if path.is_file() else {}
        noted[key_of(crystal)] = {
            "formula": result["formula"], "trouble": result["trouble"], "kind": result["kind"], "scale": scale
        }  # fmt: skip
        write_json(path, noted)
