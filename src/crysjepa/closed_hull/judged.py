"""Crystals against the closed hull: how far above it, and what they would decompose into."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crysjepa.closed_hull.rounds import Closed
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_formulas
from crysjepa.energy.compositions import Fractions, fractions_of
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import formula_and_id
from crysjepa.energy.limits import within
from crysjepa.energy.support import TOO_LOW, System, systems_of

if TYPE_CHECKING:
    from pymatgen.core import Composition

SAME = 0.02
"""eV/atom: crystals of one formula that differ by less are compared, for they may be one crystal, relaxed to
different ends."""
LOWER = 0.001
"""eV/atom by which another structure must be lower to be called a lower polymorph."""
COLUMNS = {
    "e_above_closed_hull": "Float64",
    "decomposes_to": "string",
    "num_competitors": "Int64",
    "num_relaxed": "Int64",
    "search_converged": "boolean",
    "lower_polymorph": "string",
}
"""What closing adds, with dtypes."""


@dataclass(frozen=True)
class Phase:
    """What may compete beside the known compounds: its formation energy (eV/atom), its id, its crystal."""

    energy: float
    id: str
    crystal: Crystals


@dataclass(frozen=True)
class Standing:
    """Where a crystal stands: eV/atom above the hull of all others, what that hull is made of there (JSON),
    and the id of the lowest polymorph that is lower.
    """

    above: float
    decomposes_to: str
    lower_polymorph: str | None


def systems_to_close(crystals: Crystals) -> dict[str, System]:
    """The chemical system of each crystal of two elements or more, by id."""
    systems = zip(crystals.ids, systems_of(reduced_formulas(crystals)), strict=True)
    return {i: system for i, system in systems if len(system) > 1}


def standings(
    crystals: Crystals, energies: Mapping[str, float], known: Hull, phases: Sequence[Phase]
) -> dict[str, Standing]:
    """Each crystal against the known hull and the phases, but not against itself.

    Itself is a phase of its id, or one of its formula within :data:`SAME` that the structure matcher takes
    for the same. ``energies`` are formation energies (eV/atom) by id; without one there is no standing.
    """
    by_composition: dict[Fractions, list[Phase]] = {}
    for phase in phases:
        (composition,) = phase.crystal.compositions()
        if len(composition.elements) > 1:
            by_composition.setdefault(fractions_of(composition), []).append(phase)
    found = {}
    for id_, crystal, composition in zip(crystals.ids, crystals, crystals.compositions(), strict=True):
        if id_ not in energies:
            continue
        energy, own = energies[id_], fractions_of(composition)
        elements = [str(e) for e in composition.elements]
        lowest = {}
        for fractions, rivals in by_composition.items():
            if {e for e, _ in fractions} <= set(elements):
                others = _without_self(rivals, id_, crystal, energy) if fractions == own else rivals
                if others:
                    lowest[fractions] = min(others, key=lambda p: (p.energy, p.id))
        points = known.entries(elements)
        entries = dict(points)
        for fractions, phase in lowest.items():
            points[fractions] = min(phase.energy, points.get(fractions, math.inf))
        hull = Hull(points, known.scale, known.source)
        above = hull.e_above_hull(composition, energy).e_above_hull
        if above is None:
            continue
        mixture = json.dumps(_named(hull.decomposition(composition), entries, lowest))
        lower = own in lowest and lowest[own].energy < energy - LOWER
        found[id_] = Standing(above, mixture, lowest[own].id if lower else None)
    return found


def with_closed_hull(
    table: CandidateTable, ids: Sequence[str], closed: Closed, competitors: CandidateTable
) -> CandidateTable:
    """The table with the columns :data:`COLUMNS`, null for rows that are not in ``ids``.

    Each crystal is compared with the known compounds, the competitors, and every other crystal of the table
    that has a formation energy and has not failed; not with itself, nor with what matches it. The energies
    above hull may therefore be negative. A crystal of the table that lies below known compounds and
    competitors by more than is credible competes with no other: its energy is likelier wrong.

    ``decomposes_to`` is JSON: a list of ``{"formula", "id", "amount", "known"}``, where ``amount`` is the
    fraction of atoms, and ``id`` that of the known compound, the competitor or the other crystal.
    ``lower_polymorph`` is the id of the lowest of these that has the crystal's formula and is lower by more
    than 1 meV/atom.
    """
    energies = energies_of(table, ids)
    crystals = table.crystals([i for i in ids if i in energies])
    systems = systems_to_close(crystals)
    found = standings(crystals, energies, closed.hull_before, phases_of(table, closed, competitors))
    columns: dict[str, dict[str, Any]] = {
        "e_above_closed_hull": {i: s.above for i, s in found.items()},
        "decomposes_to": {i: s.decomposes_to for i, s in found.items()},
        "num_competitors": {i: closed.tried.get(systems[i], 0) for i in found if i in systems},
        "num_relaxed": {i: closed.num_relaxed.get(systems[i], 0) for i in found if i in systems},
        "search_converged": {i: closed.converged.get(systems[i], False) for i in found if i in systems},
        "lower_polymorph": {i: s.lower_polymorph for i, s in found.items()},
    }
    for name, dtype in COLUMNS.items():
        table = table.with_column(name, {**dict.fromkeys(table.ids), **columns[name]}, dtype)
    return table


def energies_of(table: CandidateTable, ids: Sequence[str]) -> dict[str, float]:
    """Formation energies (eV/atom) by id, of those that have one."""
    values = zip(ids, table.column("formation_energy_per_atom", ids), strict=True)
    return {i: float(e) for i, e in values if e is not None}


def phases_of(table: CandidateTable, closed: Closed, competitors: CandidateTable) -> list[Phase]:
    """The competitors, and the crystals of the table that may compete with each other."""
    states = zip(table.ids, table.column("status"), strict=True)
    energies = energies_of(table, [i for i, status in states if status != Status.FAILED])
    rivals = competitors.crystals()
    theirs = energies_of(competitors, rivals.ids)
    found = [Phase(theirs[c.ids[0]], c.ids[0], c) for c in rivals if c.ids[0] in theirs]
    crystals = table.crystals(list(energies))
    for crystal, composition in zip(crystals, crystals.compositions(), strict=True):
        energy = energies[crystal.ids[0]]
        height = closed.hull.energy(composition)
        if len(composition.elements) > 1 and height is not None and energy >= height + TOO_LOW:
            found.append(Phase(energy, crystal.ids[0], crystal))
    return found


def competitor_table(closed: Closed) -> CandidateTable:
    """The competitors as a table: relaxed crystals with ``formula``, ``chemical_system``,
    ``energy_per_atom``, ``converged``, ``formation_energy_per_atom``, ``e_above_closed_hull`` (eV/atom, above
    the hull of the known and of all competitors, itself among them) and ``on_closed_hull``.
    """
    crystals = closed.crystals
    table = CandidateTable.from_crystals(crystals)
    energies = dict(zip(crystals.ids, closed.energies.tolist(), strict=True))
    above = {
        i: closed.hull.e_above_hull(c, energies[i]).e_above_hull
        for i, c in zip(crystals.ids, crystals.compositions(), strict=True)
    }
    table = table.with_column(
        "formula", dict(zip(crystals.ids, crystals.reduced_formulas(), strict=True)), "string"
    )
    table = table.with_column(
        "chemical_system", dict(zip(crystals.ids, crystals.chemical_systems(), strict=True)), "string"
    )
    table = table.with_column("energy_per_atom", closed.totals, "Float64")
    table = table.with_column("converged", closed.arrived, "boolean")
    table = table.with_column("formation_energy_per_atom", energies, "Float64")
    table = table.with_column("e_above_closed_hull", above, "Float64")
    return table.with_column(
        "on_closed_hull", {i: a is not None and within(a, 0.0) for i, a in above.items()}, "boolean"
    )


def _without_self(rivals: Sequence[Phase], id_: str, crystal: Crystals, energy: float) -> list[Phase]:
    """Those of the crystal's composition that are other crystals."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher, own, others = StructureMatcher(), crystal.to_structures()[0], []
    for phase in rivals:
        if phase.id == id_:
            continue
        near = abs(phase.energy - energy) < SAME
        if not (near and matcher.fit(own, phase.crystal.to_structures()[0])):
            others.append(phase)
    return others


def _named(
    mixture: Mapping[Fractions, float], known: Mapping[Fractions, float], lowest: Mapping[Fractions, Phase]
) -> list[dict[str, Any]]:
    """What a crystal would decompose into, most of it first."""
    rows = list[dict[str, Any]]()
    for fractions, amount in sorted(
        mixture.items(), key=lambda item: (-round(item[1], 6), len(item[0]) == 1, item[0])
    ):
        phase = lowest.get(fractions)
        formula, id_ = formula_and_id(fractions)
        is_known = True
        if len(fractions) == 1:
            id_ = None
        elif phase is not None and phase.energy < known.get(fractions, np.inf):
            id_, is_known = phase.id, False
        rows.append({"formula": formula, "id": id_, "amount": round(amount, 4), "known": is_known})
    return rows


def lacking_competitor(
    composition: Composition, unknown: Mapping[str, tuple[Composition, str]]
) -> str | None:
    """Why a judge's hull is not to be trusted at a composition: a competitor that it could not compute."""
    elements = set(composition.elements)
    for id_, (formula, reason) in unknown.items():
        if elements.issuperset(formula.elements):
            return f"its hull lacks the competitor {id_} ({formula.reduced_formula}): {reason}"
    return None
