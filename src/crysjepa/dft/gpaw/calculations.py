"""Calculations on this machine: in workers that may die, each result kept as it ends."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysjepa.core.crystals import Crystals
from crysjepa.dft.gpaw import backend as gpaw
from crysjepa.dft.gpaw.backend import GpawSettings
from crysjepa.dft.outcome import State
from crysjepa.dft.vasp.manifest import structure_hash
from crysjepa.runtime.files import read_json, write_json
from crysjepa.runtime.progress import StageProgress
from crysjepa.runtime.worker_pool import Done, WorkerPool

BACKENDS = {"gpaw": gpaw}
"""Modules with ``versions()``, which raises where it is not installed, and ``setup(settings)``, which gives a
worker the function that calculates one crystal."""
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
Result = Mapping[str, Any]
"""What a backend's function returns, and ``formula``; or ``trouble``, why there is nothing else."""


def scale_of(backend: str, settings: GpawSettings) -> str:
    """What energies must share to be compared: the backend, its versions, and settings.

    How many steps a relaxation may take is none of it, for a converged one took no more than it needed.

    Raises
    ------
    ValueError
        If there is no such backend.
    """
    if backend not in BACKENDS:
        raise ValueError(f"no backend {backend!r}: choose from {', '.join(BACKENDS)}")
    told = {**settings.model_dump(exclude={"max_steps"}), "versions": BACKENDS[backend].versions()}
    return f"{backend}-{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Calculations:
    """Where results of one backend and its settings are kept, and how more are made."""

    backend: str
    settings: GpawSettings
    folder: Path
    processes: int = 1
    time_limit: float | None = None

    def run(self, crystals: Crystals, stage: str, progress: StageProgress | None = None) -> dict[str, Result]:
        """Results by id. What is kept is not calculated again, unless it may now take more steps."""
        files = {id_: self._file(c) for id_, c in zip(crystals.ids, crystals, strict=True)}
        kept = {p: read_json(p) for p in set(files.values()) if p.is_file()}
        found = {p: r for p, r in kept.items() if r["converged"] or r["steps"] >= self.settings.max_steps}
        left = {p: c for p, c in zip(files.values(), crystals, strict=True) if p not in found}
        total = len(set(files.values()))
        if progress is not None:
            progress(stage, len(found), total)
        if left:
            self.folder.mkdir(parents=True, exist_ok=True)
            setup, processes = BACKENDS[self.backend].setup, min(self.processes, len(left))
            with WorkerPool(setup, (self.settings,), processes, _ONE_THREAD) as pool:
                # the largest first, so that none is left alone at the end
                for path, crystal in sorted(left.items(), key=lambda item: -int(item[1].num_atoms[0])):
                    pool.submit(path, _payload(crystal, kept.get(path), path), self.time_limit, tries=2)
                for path, done in pool.results():
                    found[path] = _keep(path, done, left[path], kept.get(path))
                    if progress is not None:
                        progress(stage, len(found), total)
        return {id_: found[path] for id_, path in files.items()}

    def _file(self, crystal: Crystals) -> Path:
        return self.folder / f"{structure_hash(crystal)[:24]}.json"


def _payload(crystal: Crystals, before: Result | None, path: Path) -> dict[str, Any]:
    """The crystal, or where an earlier relaxation ran out of steps."""
    atoms = crystal.to_atoms()[0]
    return {
        "numbers": atoms.numbers.tolist(),
        "cell": before["cell"] if before else atoms.cell.array.tolist(),
        "frac_coords": before["frac_coords"] if before else atoms.get_scaled_positions().tolist(),
        "log": str(path.with_suffix("")),
    }


def _keep(path: Path, done: Done, crystal: Crystals, before: Result | None) -> Result:
    """Only what was calculated is kept: another try may have more time, memory or data sets."""
    formula = crystal.reduced_formulas()[0]
    if done.kind != "done":
        # an energy that was kept still bounds the hull from above
        return {**(before or {}), "formula": formula, "trouble": done.trouble, "kind": done.kind}
    if not math.isfinite(done.value["energy_per_atom"]):
        return {"formula": formula, "trouble": "the energy is not a finite number", "kind": "raised"}
    result = {"formula": formula, **done.value}
    if before:
        result["steps"] += before["steps"]
        result["seconds"] += before["seconds"]
    write_json(path, result)
    return result


def problem(result: Result) -> str | None:
    """Why a result is no relaxed crystal's."""
    if "trouble" in result:
        return str(result["trouble"])
    return None if result["converged"] else f"not relaxed after {result['steps']} steps"


def state(result: Result | None) -> State:
    """What became of a crystal; None for one that was not tried."""
    if result is None:
        return State.NOT_STARTED
    if "trouble" not in result:
        return State.FINISHED if result["converged"] else State.IONIC
    if result["trouble"].startswith("KohnShamConvergenceError"):
        return State.ELECTRONIC
    return State.CRASHED if result["kind"] == "raised" else State.UNFINISHED
