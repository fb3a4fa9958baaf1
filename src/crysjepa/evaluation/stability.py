"""Formation energies and energies above hull of judged crystals (paper, Eq. 5, 6 and 21)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.energy.corrections import corrections_by
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.energy.hull import Hull, HullResult
from crysjepa.energy.limits import no_formation_energy, within
from crysjepa.evaluation.columns import set_column

if TYPE_CHECKING:
    from pymatgen.core import Composition

CORRECTION = "energy_correction_per_atom"


def check_energy_column(
    table: CandidateTable, hull: Hull | None, references: ElementalReferences | None
) -> None:
    if references is not None and "energy_per_atom" not in table:
        raise ValueError(
            "references were given, but the table has no column energy_per_atom to apply them to"
        )
    if hull is not None and references is None and "formation_energy_per_atom" not in table:
        if "energy_per_atom" in table:
            raise ValueError("energy_per_atom needs elemental references to be compared with a hull")
        raise ValueError("stability needs a column energy_per_atom or formation_energy_per_atom")


def with_formation_energies(
    table: CandidateTable, crystals: Crystals, references: ElementalReferences
) -> CandidateTable:
    """Formation energies, and the corrections that the references ask for."""
    energies = table.column("energy_per_atom", crystals.ids)
    if references.corrections is not None:
        added = dict(
            zip(crystals.ids, corrections_by(references.corrections, crystals).tolist(), strict=True)
        )
        found = {i: None if np.isnan(c) else c for i, c in added.items()}
        table = set_column(table, CORRECTION, found, "Float64")
        energies = [None if e is None else e + added[i] for i, e in zip(crystals.ids, energies, strict=True)]
    formation = {
        i: references.formation_energy_per_atom(c, e)[0]
        for i, c, e in zip(crystals.ids, crystals.compositions(), energies, strict=True)
    }
    return set_column(table, "formation_energy_per_atom", formation, "Float64")


def decide_stability(
    table: CandidateTable,
    crystals: Crystals,
    hull: Hull,
    references: ElementalReferences | None,
    e_above_hull_max: float,
    min_hull_entries: int,
) -> CandidateTable:
    formation = table.column("formation_energy_per_atom", crystals.ids)
    totals: dict[str, float | None] = {}
    if references is not None:
        totals = dict(zip(crystals.ids, table.column("energy_per_atom", crystals.ids), strict=True))
    results: dict[str, HullResult] = {}
    failures: dict[str, str] = {}
    for id_, composition, energy in zip(crystals.ids, crystals.compositions(), formation, strict=True):
        results[id_] = hull.e_above_hull(composition, energy)
        reason = results[id_].reason
        if reason:
            if references is not None:  # its reason is nearer to the cause
                reason = references.formation_energy_per_atom(composition, totals[id_])[1] or reason
                if references.corrections is not None and table.column(CORRECTION, [id_])[0] is None:
                    reason = f"{references.corrections} has no correction for it"
        elif energy is not None and (reason := no_formation_energy(energy)):
            results[id_] = replace(results[id_], e_above_hull=None)
        if reason:
            failures[id_] = reason
        elif _unsupported(results[id_], composition, e_above_hull_max, min_hull_entries):
            known = results[id_].num_entries
            failures[id_] = f"the hull knows {known or 'no'} compound in {composition.chemical_system}"
            results[id_] = replace(results[id_], e_above_hull=None)
    above = {i: r.e_above_hull for i, r in results.items()}
    table = set_column(table, "e_above_hull", above, "Float64")
    table = set_column(table, "hull_entries", {i: r.num_entries for i, r in results.items()}, "Int64")
    stable = {i: None if e is None else within(e, e_above_hull_max) for i, e in above.items()}
    table = set_column(table, "stable", stable, "boolean")
    table = table.decide("stability", failures, Status.FAILED)
    unstable = {
        i: f"unstable: {above[i]:.3f} eV/atom above the hull"
        for i, is_stable in stable.items()
        if is_stable is False
    }
    return table.decide("stability", unstable, Status.REJECTED)


def _unsupported(result: HullResult, composition: Composition, limit: float, entries: int) -> bool:
    """Whether a crystal only looks stable because the hull lacks compounds to compare it with.

    A hull with fewer entries is never lower, so one that is above the limit is unstable all the same.
    """
    above = result.e_above_hull
    return (
        len(composition) > 1 and result.num_entries < entries and above is not None and within(above, limit)
    )
