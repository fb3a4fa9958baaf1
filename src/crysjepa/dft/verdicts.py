"""Verdicts by DFT, beside those that the candidates already had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysjepa.core.candidates import CandidateTable
from crysjepa.dft.outcome import State
from crysjepa.energy.support import TOO_LOW
from crysjepa.evaluation.columns import set_column
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.evaluation.rates import crystal_metrics
from crysjepa.runtime.files import write_json
from crysjepa.runtime.progress import StageProgress
from crysjepa.runtime.run_directory import versions

STAGE = "dft"
_WAITING = (State.NOT_STARTED, State.UNFINISHED)
_PLAIN = ["id", "status", "stage", "reason", "atomic_numbers", "frac_coords", "lattice"]
_JUDGED = {
    "valid": "boolean", "invalid_structure": "string", "invalid_composition": "string", "unique": "boolean",
    "duplicate_of": "string", "novel": "boolean", "matches": "string", "space_group": "string",
    "e_above_hull": "Float64", "hull_entries": "Int64", "stable": "boolean",
    "hull_warning": "string",
}  # fmt: skip
"""Columns of a judgement that go, as ``dft_...``, beside those by force field."""


@dataclass(frozen=True)
class Collected:
    """The table, and what ``metrics.json`` holds."""

    table: CandidateTable
    metrics: dict[str, Any]
    out: Path


def write_verdicts(
    table: CandidateTable,
    judge: Evaluator,
    out: Path,
    about: Mapping[str, Any],
    *,
    force_field: Mapping[str, Any],
    missing: Mapping[str, Sequence[str]] | None = None,
    progress: StageProgress | None = None,
) -> Collected:
    """Judge a table with ``dft_state`` and ``dft_formation_energy_per_atom``; write it and its metrics.

    ``about`` is what else goes into ``metrics.json``, ``force_field`` the metrics from before, and
    ``missing`` the elements without an energy by id. There are no rates before the first calculation ends;
    from then on what still waits, ``num_waiting``, counts against them, as what failed does.
    """
    judged = _explained(judge.evaluate(_bare(table), progress), missing or {})
    final = _beside(table, judged)
    notes = list(about.get("notes", ()))
    if (out / "candidates.parquet").exists():
        notes.append(f"the verdicts that were in {out} are replaced")
    low = sum(w is not None for w in final.column("dft_hull_warning")) if "dft_hull_warning" in final else 0
    if low:
        notes.append(
            f"{low} crystals lie more than {-TOO_LOW} eV/atom below the hull: a competing compound is "
            "missing there, or the energy is wrong (column dft_hull_warning)"
        )
    states = Counter(final.column("dft_state"))
    waiting = sum(states[s] for s in _WAITING)
    ended = len(final) - waiting - states[State.NOT_EXPORTED]
    metrics = {
        "num_crystals": len(final),
        "states": dict(states),
        "num_waiting": waiting,
        "num_ended": ended,
        "dft": crystal_metrics(judged if ended else CandidateTable(judged.frame[_PLAIN])),
        "force_field": force_field,
        "protocol": judge.describe(),
        "versions": versions(),
        **about,
        "notes": notes,
    }
    final.write(out / "candidates.parquet")
    write_json(out / "metrics.json", metrics)
    return Collected(final, metrics, out)


def _bare(table: CandidateTable) -> CandidateTable:
    """What is judged: structures, states and formation energies by DFT, and nothing of the force field's."""
    frame = table.frame[_PLAIN].copy()
    frame["formation_energy_per_atom"] = table.frame["dft_formation_energy_per_atom"]
    frame["converged"] = table.frame["dft_state"] == State.FINISHED
    return CandidateTable(frame)


def _explained(judged: CandidateTable, missing: Mapping[str, Sequence[str]]) -> CandidateTable:
    """Where the hull could say nothing for want of an element's energy, say which."""
    frame = judged.frame.copy()
    for id_, elements in missing.items():
        row = (frame["id"] == id_) & (frame["stage"] == "stability")
        frame.loc[row, "reason"] = (
            f"no energy of {', '.join(elements)} by DFT: give it with --elements, or calculate it too"
        )
    return CandidateTable(frame)


def _beside(table: CandidateTable, judged: CandidateTable) -> CandidateTable:
    """The candidates' own columns, those by DFT, and the state by DFT."""
    frame = table.frame.copy()
    frame[["status", "stage", "reason"]] = judged.frame[["status", "stage", "reason"]]
    final = CandidateTable(frame)
    for name, dtype in _JUDGED.items():
        if name in judged:
            values = dict(zip(judged.ids, judged.column(name), strict=True))
            final = set_column(final, f"dft_{name}", values, dtype)
    return final
