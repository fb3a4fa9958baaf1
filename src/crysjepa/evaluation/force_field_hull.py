"""A hull of a force field's own energies: competing phases and elements computed with that same force field.

Against such a hull nothing is fitted to DFT, and the errors of a force field that a compound shares with its
competing phases cancel. What it cannot see is an error that they do not share. One such is made good: a force
field that was trained on the Materials Project's plain energies speaks for some compounds with +U and for
others without, which the corrections of 2020 bring together; competing phases and candidates get them alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.corrections import corrections_by
from crysjepa.energy.elemental_references import MP2020, ElementalReferences
from crysjepa.evaluation.reference import PLAIN_SCALE
from crysjepa.relaxation.force_fields.registry import ForceFieldInfo
from crysjepa.relaxation.relax import QUICK, Relaxation, RelaxSettings, relax_crystals
from crysjepa.runtime.execution import Execution, ExecutionOptions
from crysjepa.runtime.files import as_metadata, write_parquet
from crysjepa.runtime.parts import part_in

AS_THEY_ARE = RelaxSettings(max_steps=0)
"""Energies of the structures as they stand."""


def elemental_crystals(of: Crystals | None = None) -> Crystals:
    """Elemental crystals of the Materials Project, ids such as ``Fe-0``: of each of 88 elements the one of
    lowest energy by PBE, and up to three that are at most 30 meV/atom above it; or of those elements alone
    that other crystals hold.
    """
    file = resources.files("crysjepa.energy").joinpath("references", "elements.parquet")
    with resources.as_file(file) as path:
        found = Crystals.from_arrow(pq.read_table(path))
    return (
        found if of is None else found[np.isin(found.atomic_numbers[found.offsets[:-1]], of.atomic_numbers)]
    )


PHASES = "competing phases"
"""The stage, and the folder of its finished chunks."""


def own_scale(info: ForceFieldInfo) -> str:
    """The scale of formation energies between a force field and its own elements."""
    return f"{info.name} {info.version}"


def computed_references(relaxation: Relaxation, corrections: str | None = None) -> ElementalReferences:
    """Of each element its lowest energy among relaxed elemental crystals, to which no correction applies;
    ``corrections`` are those of the compounds that they will meet.
    """
    lowest: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for id_, record in relaxation.records.items():
        element = id_.split("-")[0]
        if id_ not in relaxation.failures:
            lowest[element] = min(record.energy_per_atom, lowest.get(element, np.inf))
    for id_, reason in relaxation.failures.items():
        if (element := id_.split("-")[0]) not in lowest:
            reasons[element] = reason
    info = relaxation.force_field
    return ElementalReferences(
        energies={e: round(v, 6) for e, v in lowest.items()},
        force_field=info.name,
        scale=own_scale(info),
        source="elemental crystals of the Materials Project, relaxed with the force field",
        version=info.version,
        excluded=reasons,
        method="computed",
        corrections=corrections,
    )


def force_field_hull(
    table: CandidateTable,
    out: Path,
    *,
    force_field: str = "chgnet",
    settings: RelaxSettings | None = None,
    source: str = "",
    shards: Path | None = None,
    about: Mapping[str, Any] | None = None,
    **how: Unpack[ExecutionOptions],
) -> pa.Table:
    """Compute the crystals of a table, and the elements, with a force field; write a hull of them to ``out``.

    Parameters
    ----------
    table
        Known crystals: the competing phases.
    settings
        How they are relaxed: by default :data:`~crysjepa.relaxation.relax.QUICK`, as ``crysjepa evaluate``
        does with candidates; :data:`AS_THEY_ARE` for static energies. The elements that they hold are always
        relaxed; a candidate with another element has no formation energy against this hull.
    shards
        A folder for finished work, from which an interrupted run goes on.
    about
        More for the metadata.

    Returns
    -------
    pyarrow.Table
        What ``out`` holds, and :meth:`crysjepa.energy.hull.Hull.read` reads: a row for each crystal of the
        table with ``composition``, ``energy_per_atom`` and ``formation_energy_per_atom`` (eV/atom, null where
        there is none), ``converged`` (a phase that did not is a little too high) and ``reason`` (why there is
        no energy). The metadata state the scale, the settings and the elemental references.

    Raises ValueError if the table has no readable crystal; otherwise as ``relax_crystals``.
    """
    settings = settings or QUICK
    known = table.crystals(table.ok_ids)
    if not len(known):
        raise ValueError("no readable crystals: there is nothing to make a hull of")

    run = Execution(**how)

    def relax(crystals: Crystals, settings: RelaxSettings, stage: str) -> Relaxation:
        return relax_crystals(
            crystals, force_field=force_field, settings=settings, device=run.found_device,
            processes=run.processes, shards=shards and shards / stage, progress=run.stage(stage),
        )  # fmt: skip

    if part_in(shards and shards / PHASES) is not None:
        relax(known, settings, PHASES)  # this part's share; the elements are few
    elements = relax(elemental_crystals(known), RelaxSettings(fmax=0.05, max_steps=300), "elements")
    corrections = MP2020 if elements.force_field.scale == PLAIN_SCALE else None
    references = computed_references(elements, corrections)
    phases = relax(known, settings, PHASES)
    rows = _entry_rows(table, known, phases, references)
    metadata = {**_origin(phases, references), "source": source, "rows": rows.num_rows, **(about or {})}
    rows = rows.replace_schema_metadata(as_metadata(metadata))
    write_parquet(rows, out)
    return rows


def _origin(phases: Relaxation, references: ElementalReferences) -> dict[str, Any]:
    return {
        "scale": references.scale,
        "functional": phases.force_field.functional,
        "relaxation": phases.settings.model_dump(),
        "elemental_references": asdict(references),
    }


def _entry_rows(
    table: CandidateTable, known: Crystals, phases: Relaxation, references: ElementalReferences
) -> pa.Table:
    """A row for each crystal of the table, with its energies (eV/atom) or why there is none."""
    reasons: dict[str, str | None] = dict(_unread(table)) | dict(phases.failures)
    totals = {i: r.energy_per_atom for i, r in phases.records.items() if i not in reasons}
    compositions = dict(zip(known.ids, known.compositions(), strict=True))
    formation: dict[str, float | None] = {}
    added = corrections_by(references.corrections, known)
    for id_, correction in zip(known.ids, added.tolist(), strict=True):
        if id_ in totals:
            energy = totals[id_] + correction
            formation[id_], reasons[id_] = references.formation_energy_per_atom(compositions[id_], energy)
            if np.isnan(correction):
                reasons[id_] = f"{references.corrections} has no correction for it"
    converged = {i: r.converged for i, r in phases.records.items() if i in totals}
    formulas = [compositions[i].formula if i in compositions else None for i in table.ids]
    return pa.table(
        {
            "id": pa.array(table.ids, pa.string()),
            "composition": pa.array(formulas, pa.string()),
            "energy_per_atom": pa.array([totals.get(i) for i in table.ids], pa.float64()),
            "formation_energy_per_atom": pa.array([formation.get(i) for i in table.ids], pa.float64()),
            "converged": pa.array([converged.get(i) for i in table.ids], pa.bool_()),
            "reason": pa.array([reasons.get(i) for i in table.ids], pa.string()),
        }
    )


def _unread(table: CandidateTable) -> Mapping[str, str | None]:
    ok = set(table.ok_ids)
    return {
        i: r or "no structure" for i, r in zip(table.ids, table.column("reason"), strict=True) if i not in ok
    }
