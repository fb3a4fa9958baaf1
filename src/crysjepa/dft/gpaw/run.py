"""DFT on this machine, without VASP: candidates, elements and competing phases by the same settings.

Energies above hull are consistent within themselves, since everything on the hull is calculated too, and
comparable with nothing else. No corrections are applied, and no U.

Every result is kept as it comes, by crystal, settings and versions: what was interrupted goes on, and
elements are calculated once. What failed is tried again; it costs no other. Elements come first, and nothing
is calculated that holds one of which there is no energy.

The columns are those of :mod:`crysjepa.dft.vasp.collect`, and ``dft_competing_missing``: competing phases
that failed or are too large (JSON by formula). Then the hull may be too high, and ``dft_e_above_hull`` too
low. Those that did not relax are named too, though their energy, which can only be too high, is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from pymatgen.core import Composition

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.dft.candidates import rows_for_dft
from crysjepa.dft.gpaw.backend import GpawSettings
from crysjepa.dft.gpaw.calculations import BACKENDS, Calculations, Result, problem, scale_of, state
from crysjepa.dft.gpaw.competing_phases import Competing, compounds_given, compounds_near_hull, elements_of
from crysjepa.dft.outcome import State
from crysjepa.dft.verdicts import STAGE, Collected, write_verdicts
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.columns import set_column
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.rates import crystal_metrics
from crysjepa.evaluation.reference import Known
from crysjepa.runtime.progress import StageProgress
from crysjepa.workflows.inputs import Source


class CalculationOptions(TypedDict, total=False):
    """Keywords of :func:`dft_run`; what they mean is said in :class:`Extent`."""

    within: float
    competing: Source | None
    max_sites: int
    cache: Source | None
    processes: int
    time_limit: float | None
    progress: StageProgress | None


@dataclass(frozen=True, kw_only=True)
class Extent:
    """What is calculated beside the candidates, and with what means.

    Attributes
    ----------
    within
        eV/atom above the reference's hull, up to which known compounds compete; see
        :func:`~crysjepa.dft.gpaw.competing_phases.compounds_near_hull`.
    competing
        More crystals that compete, such as ``competitors.parquet`` of ``crysjepa compete``.
    max_sites
        Larger cells are not calculated: candidates end as failed, competing phases are named.
    cache
        Where calculations are kept: by default ``dft`` in the cache folder of the data sets, for all runs.
    processes, time_limit
        Crystals at a time, each on one thread; seconds for one crystal.
    """

    within: float = 0.05
    competing: Source | None = None
    max_sites: int = 20
    cache: Source | None = None
    processes: int = 1
    time_limit: float | None = None
    progress: StageProgress | None = None


def dft_run(
    source: Source,
    out: Source,
    *,
    backend: str = "gpaw",
    settings: GpawSettings | None = None,
    reference: Source = NAME,
    protocol: Protocol | None = None,
    **options: Unpack[CalculationOptions],
) -> Collected:
    """Relax candidates, their elements and competing phases with GPAW; judge by the hull that results.

    Parameters
    ----------
    source
        Crystals in any format, or a finished run for its short list; rows that are still ``ok`` are
        calculated, others keep their state.
    reference
        Known crystals with formation energies, also what novelty is judged by.
    options
        See :class:`Extent`.

    Raises
    ------
    ValueError
        If there is nothing to calculate, or the reference has no formation energies.
    GpawMissing
        Where GPAW is not installed.
    """
    extent, settings = Extent(**options), settings or GpawSettings()
    max_sites, progress = extent.max_sites, extent.progress
    scale = scale_of(backend, settings)
    table = rows_for_dft(source)
    by_force_field = crystal_metrics(table)
    if not table.ok_ids:
        raise ValueError(f"nothing to calculate: of {len(table)} rows, none is ok ({table.counts()})")
    candidates, reasons = _without(table.crystals(table.ok_ids), max_sites, {})
    known = Known.load(reference)
    given = None if extent.competing is None else datasets.load(extent.competing)
    folder = datasets.cache_folder() / "dft" if extent.cache is None else Path(extent.cache)
    calculations = Calculations(backend, settings, folder / scale, extent.processes, extent.time_limit)
    compounds = compounds_near_hull(candidates, known, within=extent.within, max_sites=max_sites)
    if given is not None:
        compounds = compounds.joined(compounds_given(candidates, given, max_sites=max_sites))
    done = _calculate(calculations, scale, candidates, compounds, max_sites, progress)
    table = _with_results(table, done.candidates, {**reasons, **done.not_tried}, done.references)
    table = _with_missing(table, done.missing)
    protocol = (protocol or Protocol()).model_copy(update={"relax": False})
    judge = Evaluator.prepare(protocol, known, done.hull, None, processes=extent.processes)
    about = _about(calculations, done)
    return write_verdicts(table, judge, Path(out), about, force_field=by_force_field, progress=progress)


@dataclass(frozen=True)
class _Calculated:
    """Results of candidates by id, why others were not tried, and what all of them are judged by."""

    candidates: Mapping[str, Result]
    not_tried: Mapping[str, str]
    references: ElementalReferences
    hull: Hull
    missing: Mapping[str, str]


def _calculate(
    calculations: Calculations,
    scale: str,
    candidates: Crystals,
    compounds: Competing,
    max_sites: int,
    progress: StageProgress | None,
) -> _Calculated:
    """Elements, then the competing phases and the candidates that hold no element without an energy."""
    elements = elements_of(candidates, max_sites)
    of_elements = calculations.run(elements.crystals, "elements", progress)
    missing = {**elements.left_out, **_problems(of_elements)}
    references = ElementalReferences(
        energies={s: r["energy_per_atom"] for s, r in of_elements.items() if problem(r) is None},
        force_field=calculations.backend, scale=scale, source="elements as calculated here",
        method="computed",
    )  # fmt: skip
    candidates, not_tried = _without(candidates, max_sites, missing)
    possible, _ = _without(compounds.crystals, max_sites, missing)
    rivals = calculations.run(possible, "competing phases", progress)
    failed = {str(rivals[i]["formula"]): why for i, why in _problems(rivals).items()}
    missing |= {**compounds.left_out, **failed}
    own = calculations.run(candidates, "candidates", progress)
    return _Calculated(own, not_tried, references, _hull(rivals.values(), references), missing)


def _about(calculations: Calculations, done: _Calculated) -> dict[str, Any]:
    """What the verdicts are relative to: for ``metrics.json``."""
    backend, hull = calculations.backend, done.hull
    return {
        "backend": {
            "name": backend,
            "settings": calculations.settings.model_dump(),
            "versions": BACKENDS[backend].versions(),
        },
        "elemental_references": dict(done.references.energies),
        "competing": _competing_table(hull),
        "competing_missing": done.missing,
        "hull": {"source": hull.source, "scale": hull.scale, "compounds": len(hull)},
        "notes": [f"competing phase {f}: {why}" for f, why in sorted(done.missing.items())],
    }


def _without(
    crystals: Crystals, max_sites: int, elements: Mapping[str, str]
) -> tuple[Crystals, dict[str, str]]:
    """Those that can be calculated and judged, and why the others cannot, by id."""
    reasons: dict[str, str] = {}
    for id_, sites, composition in zip(
        crystals.ids, crystals.num_atoms.tolist(), crystals.compositions(), strict=True
    ):
        unknown = sorted({str(e) for e in composition.elements} & set(elements))
        if sites > max_sites:
            reasons[id_] = f"{sites} sites, more than {max_sites}"
        elif unknown:
            reasons[id_] = "; ".join(f"no energy of {e}: {elements[e]}" for e in unknown)
    return crystals[[row for row, i in enumerate(crystals.ids) if i not in reasons]], reasons


def _problems(results: Mapping[str, Result]) -> dict[str, str]:
    """By id, of those that have one."""
    found = ((id_, problem(result)) for id_, result in results.items())
    return {id_: why for id_, why in found if why is not None}


def _hull(compounds: Iterable[Result], references: ElementalReferences) -> Hull:
    """Of every energy there is: one that is not relaxed lies too high, but the hull without it higher."""
    there = [r for r in compounds if "energy_per_atom" in r]
    formulas = [str(r["formula"]) for r in there]
    heights = [
        references.formation_energy_per_atom(Composition(f), r["energy_per_atom"])[0]
        for f, r in zip(formulas, there, strict=True)
    ]
    return Hull.from_entries(
        formulas, heights, scale=references.scale,
        source="competing phases as calculated here", references=references, elements_alone=True,
    )  # fmt: skip


def _with_results(
    table: CandidateTable,
    results: Mapping[str, Result],
    reasons: Mapping[str, str],
    references: ElementalReferences,
) -> CandidateTable:
    """Relaxed structures, energies and what became of each row; ``reasons`` are of those not tried."""
    problems = _problems(results)
    finished = [i for i in results if i not in problems]
    reasons = {**reasons, **problems}
    table = table.with_structures(_relaxed({i: results[i] for i in finished}, table))
    energies = {
        id_: references.formation_energy_per_atom(composition, results[id_]["energy_per_atom"])[0]
        for id_, composition in zip(finished, table.crystals(finished).compositions(), strict=True)
    }
    states = {i: str(state(results.get(i))) for i in table.ok_ids}
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


def _relaxed(results: Mapping[str, Result], table: CandidateTable) -> Crystals:
    ids = list(results)
    atoms = table.crystals(ids).to_atoms()
    for one, id_ in zip(atoms, ids, strict=True):
        one.set_cell(results[id_]["cell"])
        one.set_scaled_positions(results[id_]["frac_coords"])
    return Crystals.from_atoms(atoms, ids)


def _with_missing(table: CandidateTable, missing: Mapping[str, str]) -> CandidateTable:
    """By row, what is missing of its chemical system, as JSON."""
    elements = {f: Composition(f).chemical_system_set for f in missing}
    crystals, values = table.crystals(), {}
    for id_, composition in zip(crystals.ids, crystals.compositions(), strict=True):
        own = {f: why for f, why in missing.items() if elements[f] <= composition.chemical_system_set}
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
