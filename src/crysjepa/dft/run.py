"""DFT on this machine, without VASP: candidates, elements and competing phases by the same settings.

Energies above hull are consistent within themselves, since everything on the hull is calculated too, and
comparable with nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymatgen.core import Composition

from crysjepa import datasets
from crysjepa._verbs import Report, Source
from crysjepa.candidates import CandidateTable, Status
from crysjepa.crystals import Crystals
from crysjepa.dft import gpaw
from crysjepa.dft.collect import Collected
from crysjepa.dft.competing import Competing, competing_phases
from crysjepa.dft.gpaw import GpawSettings
from crysjepa.dft.manifest import structure_hash
from crysjepa.dft.outcome import State
from crysjepa.dft.verdicts import bare, beside
from crysjepa.energy.hull import Hull
from crysjepa.energy.references import ElementalReferences
from crysjepa.evaluate.columns import set_column
from crysjepa.evaluate.judge import Judge
from crysjepa.evaluate.known import Known
from crysjepa.evaluate.presets import Protocol
from crysjepa.evaluate.rates import crystal_metrics
from crysjepa.relax.pool import Done, WorkerPool
from crysjepa.run import read_json, versions, write_json

STAGE = "dft"
BACKENDS = {"gpaw": gpaw}
"""Modules with ``versions()``, which raises where it is not installed, and ``setup(settings)``, which gives a
worker the function that calculates one crystal."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class _Task:
    """A crystal to calculate, and where its result is kept: the same for the same crystal and settings."""

    crystal: Crystals
    result: Path

    @property
    def formula(self) -> str:
        return self.crystal.reduced_formulas()[0]


def dft_run(
    source: Source,
    out: Source,
    *,
    backend: str = "gpaw",
    settings: GpawSettings | None = None,
    reference: Source = "flla",
    within: float = 0.05,
    max_sites: int = 20,
    cache: Source | None = None,
    processes: int = 1,
    time_limit: float | None = None,
    protocol: Protocol | None = None,
    progress: Report | None = None,
) -> Collected:
    """Relax candidates, their elements and competing phases with GPAW; judge by the hull that results.

    Every calculation is kept under ``cache`` as it ends, by crystal, settings and versions: what was
    interrupted goes on, and elements are calculated once. One that dies or takes too long costs no other.

    Parameters
    ----------
    source
        Crystals in any format; rows that are still ``ok`` are calculated, others keep their state.
    reference, within
        Known crystals with formation energies; see :func:`~crysjepa.dft.competing.competing_phases`. They
        are also what novelty is judged by.
    max_sites
        Larger cells are not calculated: candidates end as failed, competing phases are named in
        ``metrics.json``.
    cache
        By default ``dft`` in the cache folder of the data sets, which all runs share.
    processes
        Crystals at a time, each on one thread.
    time_limit
        Seconds for one crystal.

    Returns
    -------
    Collected
        As :func:`~crysjepa.dft.collect.dft_collect`: ``dft_…`` columns beside the candidates' own, written
        to ``out``. ``dft_competing_missing`` names competing phases whose calculation failed or that are
        too large (JSON by formula): then the hull may be too high, and ``dft_e_above_hull`` too low. No
        corrections are applied, and no U.

    Raises
    ------
    ValueError
        If there is nothing to calculate, or the reference has no formation energies.
    GpawMissing
        Where GPAW is not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"no backend {backend!r}: choose from {', '.join(BACKENDS)}")
    settings = settings or GpawSettings()
    scale = _scale(backend, settings)
    table = datasets.load(source)
    if not table.ok_ids:
        raise ValueError(f"nothing to calculate: of {len(table)} rows, none is ok ({table.counts()})")
    candidates, too_large = _small(table.crystals(table.ok_ids), max_sites)
    known = Known.load(reference)
    competing = competing_phases(candidates, known, within=within, max_sites=max_sites)
    folder = Path(cache) if cache is not None else datasets.cache_folder() / "dft"
    groups = (competing.elements, competing.compounds, candidates)
    tasks = [[_task(c, folder / scale) for c in group] for group in groups]
    found = _calculate(
        [t for group in tasks for t in group], backend, settings, processes, time_limit, progress
    )
    elements, compounds, own = ({t.crystal.ids[0]: found[t.result] for t in group} for group in tasks)
    references = _references(elements, backend, scale)
    hull, missing = _hull(competing, compounds, references)
    protocol = (protocol or Protocol()).model_copy(update={"relax": False})
    table = _with_results(table, own, too_large, references)
    missing = {**competing.left_out, **missing}
    table = _with_missing(table, candidates, missing)
    judge = Judge.prepare(protocol, known, hull, None)
    judged = judge.judge(bare(table), progress)
    final = beside(table, judged)
    metrics = {
        "num_crystals": len(final),
        "states": dict(Counter(final.column("dft_state"))),
        "dft": crystal_metrics(judged),
        "force_field": crystal_metrics(datasets.load(source)),
        "protocol": judge.describe(),
        "backend": {
            "name": backend,
            "settings": settings.model_dump(),
            "versions": BACKENDS[backend].versions(),
        },
        "elemental_references": dict(references.energies),
        "competing": _competing_table(hull),
        "competing_missing": missing,
        "hull": {"source": hull.source, "scale": hull.scale, "compounds": len(hull)},
        "seconds": sum(r.get("seconds", 0.0) for r in found.values()),
        "notes": [f"{f} competes, but is not on the hull: {why}" for f, why in sorted(missing.items())],
        "versions": versions(),
    }
    out = Path(out)
    final.write(out / "candidates.parquet")
    write_json(out / "metrics.json", metrics)
    return Collected(final, metrics, out)


def _scale(backend: str, settings: GpawSettings) -> str:
    """What energies must share to be compared: the backend, its version and its settings."""
    told = {**settings.model_dump(), "versions": BACKENDS[backend].versions()}
    return f"{backend}-{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]}"


def _small(crystals: Crystals, max_sites: int) -> tuple[Crystals, dict[str, str]]:
    sizes = dict(zip(crystals.ids, crystals.num_atoms.tolist(), strict=True))
    large = {i: f"{n} sites, more than {max_sites}" for i, n in sizes.items() if n > max_sites}
    if len(large) == len(crystals):
        raise ValueError(f"every crystal has more than {max_sites} sites: --max-sites")
    return crystals[[row for row, i in enumerate(crystals.ids) if i not in large]], large


def _task(crystal: Crystals, folder: Path) -> _Task:
    return _Task(crystal, folder / f"{structure_hash(crystal)[:24]}.json")


def _calculate(
    tasks: Sequence[_Task],
    backend: str,
    settings: GpawSettings,
    processes: int,
    time_limit: float | None,
    progress: Report | None,
) -> dict[Path, dict[str, Any]]:
    """Results by file. What raised is kept as well, for it would again; what died or was late is not."""
    by_file = {t.result: t for t in tasks}
    found = {p: read_json(p) for p in by_file if p.is_file()}
    left = [t for p, t in by_file.items() if p not in found]
    if progress is not None:
        progress(backend, len(found), len(by_file))
    if not left:
        return found
    next(iter(by_file)).parent.mkdir(parents=True, exist_ok=True)
    with WorkerPool(BACKENDS[backend].setup, (settings,), min(processes, len(left)), ONE_THREAD) as pool:
        # the largest first, so that none is left alone at the end
        for task in sorted(left, key=lambda t: -int(t.crystal.num_atoms[0])):
            pool.submit(task, _payload(task), time_limit)
        for task, done in pool.results():
            found[task.result] = _kept(task, done)
            if progress is not None:
                progress(backend, len(found), len(by_file))
    return found


def _payload(task: _Task) -> dict[str, Any]:
    atoms = task.crystal.to_atoms()[0]
    return {
        "numbers": atoms.numbers.tolist(),
        "cell": atoms.cell.array.tolist(),
        "frac_coords": atoms.get_scaled_positions().tolist(),
        "log": str(task.result.with_suffix("")),
    }


def _kept(task: _Task, done: Done) -> dict[str, Any]:
    result = {"formula": task.formula, **(done.value or {})}
    if done.kind != "done":
        result["trouble"] = done.trouble
    if done.kind in ("done", "raised"):
        write_json(task.result, result)
    return result


def _problem(result: Mapping[str, Any]) -> str | None:
    if "trouble" in result:
        return str(result["trouble"])
    return None if result["converged"] else f"not relaxed after {result['steps']} steps"


def _references(elements: Mapping[str, Mapping[str, Any]], backend: str, scale: str) -> ElementalReferences:
    return ElementalReferences(
        energies={s: r["energy_per_atom"] for s, r in elements.items() if _problem(r) is None},
        force_field=backend,
        scale=scale,
        source="elements as calculated here",
        method="computed",
    )


def _hull(
    competing: Competing, results: Mapping[str, Mapping[str, Any]], references: ElementalReferences
) -> tuple[Hull, dict[str, str]]:
    """The hull of what was calculated; and which competing phases are missing on it, and why."""
    missing: dict[str, str] = {}
    heights: dict[str, float | None] = {}
    for id_, composition in zip(competing.compounds.ids, competing.compounds.compositions(), strict=True):
        problem = _problem(results[id_])
        if problem is None:
            energy, problem = references.formation_energy_per_atom(
                composition, results[id_]["energy_per_atom"]
            )
        if problem is None:
            heights[composition.reduced_formula] = energy
        else:
            missing[composition.reduced_formula] = problem
    hull = Hull.from_entries(
        list(heights),
        list(heights.values()),
        scale=references.scale,
        source="competing phases as calculated here",
        references=references,
        elements_alone=True,
    )
    return hull, missing


def _with_results(
    table: CandidateTable,
    results: Mapping[str, Mapping[str, Any]],
    too_large: Mapping[str, str],
    references: ElementalReferences,
) -> CandidateTable:
    """Relaxed structures, energies and what became of each row."""
    problems = {i: _problem(r) for i, r in results.items()}
    finished = [i for i in results if problems[i] is None]
    table = table.with_structures(_relaxed({i: results[i] for i in finished}, table))
    energies, reasons = {}, {**too_large, **{i: p for i, p in problems.items() if p is not None}}
    for id_, composition in zip(finished, table.crystals(finished).compositions(), strict=True):
        energies[id_], problem = references.formation_energy_per_atom(
            composition, results[id_]["energy_per_atom"]
        )
        if problem is not None:
            reasons[id_] = problem
    states = {i: _state(results.get(i)) for i in table.ok_ids}
    columns: dict[str, tuple[dict[str, Any], str]] = {
        "state": ({**dict.fromkeys(table.ids, str(State.NOT_EXPORTED)), **states}, "string"),
        "reason": (reasons, "string"),
        "formation_energy_per_atom": (energies, "Float64"),
        "energy_per_atom": ({i: results[i]["energy_per_atom"] for i in finished}, "Float64"),
        "magnetic_moment": ({i: results[i]["magnetic_moment"] for i in finished}, "Float64"),
        "steps": ({i: results[i]["steps"] for i in finished}, "Int64"),
        "seconds": ({i: r["seconds"] for i, r in results.items() if "seconds" in r}, "Float64"),
    }
    for name, (values, dtype) in columns.items():
        table = set_column(table, f"dft_{name}", values, dtype)
    return table.decide(STAGE, reasons, Status.FAILED)


def _relaxed(results: Mapping[str, Mapping[str, Any]], table: CandidateTable) -> Crystals:
    ids = list(results)
    atoms = table.crystals(ids).to_atoms()
    for one, id_ in zip(atoms, ids, strict=True):
        one.set_cell(results[id_]["cell"])
        one.set_scaled_positions(results[id_]["frac_coords"])
    return Crystals.from_atoms(atoms, ids)


def _state(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return str(State.NOT_STARTED)
    if "trouble" in result:
        return str(State.UNREADABLE)
    return str(State.FINISHED if result["converged"] else State.IONIC)


def _with_missing(table: CandidateTable, candidates: Crystals, missing: Mapping[str, str]) -> CandidateTable:
    """By candidate the competing phases in its chemical system that are not on the hull, as JSON."""
    elements = {f: set(Composition(f).chemical_system_set) for f in missing}
    values = {}
    for id_, composition in zip(candidates.ids, candidates.compositions(), strict=True):
        own = {f: missing[f] for f in missing if elements[f] <= composition.chemical_system_set}
        if own:
            values[id_] = json.dumps(own, sort_keys=True)
    return set_column(table, "dft_competing_missing", values, "string")


def _competing_table(hull: Hull) -> list[dict[str, Any]]:
    """What is on the hull or near it, for ``metrics.json``."""
    rows = []
    for fractions, energy in sorted(hull.compounds.items()):
        formula = Composition(dict(fractions)).get_integer_formula_and_factor()[0]
        above = hull.e_above_hull(formula, energy).e_above_hull
        rows.append({"formula": formula, "formation_energy_per_atom": energy, "e_above_hull": above})
    return rows
