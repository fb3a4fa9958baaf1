"""Crystals against the closed hull: how far above it, and what they would decompose into."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crysjepa.candidates import CandidateTable, Status
from crysjepa.chemical_systems import atomic_numbers
from crysjepa.compete.search import Closed
from crysjepa.crystals import Crystals
from crysjepa.energy.hull import Fractions, Hull
from crysjepa.energy.known_hull import known_formulas
from crysjepa.energy.support import System
from crysjepa.screen.filters import reduced_formulas

SAME = 0.02
"""eV/atom: crystals of one formula that differ by less are compared, for they may be one crystal."""
LOWER = 0.001
"""eV/atom by which a polymorph must be lower."""
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
class _Phase:
    """A competitor or another candidate: where it stands (eV/atom), its id, and its crystal."""

    energy: float
    id: str
    crystal: Crystals


def systems_to_close(crystals: Crystals) -> dict[str, System]:
    """The chemical system of each crystal of two elements or more, by id."""
    found = {
        i: tuple(z for z, _ in formula)
        for i, formula in zip(crystals.ids, reduced_formulas(crystals), strict=True)
    }
    return {i: tuple(sorted(s)) for i, s in found.items() if len(s) > 1}


def with_closed_hull(
    table: CandidateTable, ids: Sequence[str], closed: Closed, competitors: CandidateTable
) -> CandidateTable:
    """The table with the columns :data:`COLUMNS`, null for rows that are not in ``ids``.

    Each crystal is compared with the known compounds, the competitors, and every other crystal of the table
    that has a formation energy and has not failed; not with itself, nor with what matches it. The energies
    above hull may therefore be negative.

    ``decomposes_to`` is JSON: a list of ``{"formula", "id", "amount", "known"}``, where ``amount`` is the
    fraction of atoms, and ``id`` that of the known compound, the competitor or the other crystal.
    ``lower_polymorph`` is the id of the lowest of these that has the crystal's formula and a lower energy.
    """
    phases = _phases(table, competitors)
    base = closed.hull_before
    crystals = table.crystals(ids)
    energies = dict(zip(ids, table.column("formation_energy_per_atom", ids), strict=True))
    systems = systems_to_close(crystals)
    found: dict[str, dict[str, Any]] = {name: {} for name in COLUMNS}
    for id_, crystal, composition in zip(crystals.ids, crystals, crystals.compositions(), strict=True):
        energy = energies[id_]
        if energy is None or id_ not in systems:
            continue
        system = systems[id_]
        elements = [str(e) for e in composition.elements]
        own = _fractions(composition)
        around = {
            f: _without_self(entries, id_, crystal, energy) if f == own else entries
            for f, entries in phases.items()
            if {e for e, _ in f} <= set(elements)
        }
        lowest = {f: min(entries, key=lambda p: (p.energy, p.id)) for f, entries in around.items() if entries}
        known = base.entries(elements)
        points = {f: min(known.get(f, np.inf), lowest[f].energy if f in lowest else np.inf)
                  for f in {**known, **lowest}}  # fmt: skip
        hull = Hull(points, base.scale, base.source)
        above = hull.e_above_hull(composition, energy).e_above_hull
        if above is None:
            continue
        found["e_above_closed_hull"][id_] = above
        found["decomposes_to"][id_] = json.dumps(_named(hull.decomposition(composition), known, lowest))
        found["num_competitors"][id_] = closed.tried.get(system, 0)
        found["num_relaxed"][id_] = closed.num_relaxed.get(system, 0)
        found["search_converged"][id_] = closed.converged.get(system, False)
        if own in lowest and lowest[own].energy < energy - LOWER:
            found["lower_polymorph"][id_] = lowest[own].id
    for name, dtype in COLUMNS.items():
        table = table.with_column(name, {**dict.fromkeys(table.ids), **found[name]}, dtype)
    return table


def competitor_table(closed: Closed) -> CandidateTable:
    """The competitors as a table: relaxed crystals with ``formula``, ``chemical_system``,
    ``formation_energy_per_atom``, ``e_above_closed_hull`` (eV/atom, above the hull of all of them and the
    known) and ``on_closed_hull``.
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
    table = table.with_column("formation_energy_per_atom", energies, "Float64")
    table = table.with_column("e_above_closed_hull", above, "Float64")
    return table.with_column(
        "on_closed_hull", {i: a is not None and a <= 1e-6 for i, a in above.items()}, "boolean"
    )


def _phases(table: CandidateTable, competitors: CandidateTable) -> dict[Fractions, list[_Phase]]:
    """By composition, all that may compete beside the known compounds."""
    found: dict[Fractions, list[_Phase]] = {}
    for source in (competitors, table):
        states = dict(zip(source.ids, source.column("status"), strict=True))
        crystals = source.crystals()
        energies = source.column("formation_energy_per_atom", crystals.ids)
        for id_, crystal, composition, energy in zip(
            crystals.ids, crystals, crystals.compositions(), energies, strict=True
        ):
            if energy is not None and states[id_] != Status.FAILED and len(composition.elements) > 1:
                found.setdefault(_fractions(composition), []).append(_Phase(float(energy), id_, crystal))
    return found


def _without_self(entries: Sequence[_Phase], id_: str, crystal: Crystals, energy: float) -> list[_Phase]:
    """Those of the crystal's composition that are other crystals."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher, own, kept = StructureMatcher(), crystal.to_structures()[0], []
    for phase in entries:
        if phase.id == id_:
            continue
        near = abs(phase.energy - energy) < SAME
        if not (near and matcher.fit(own, phase.crystal.to_structures()[0])):
            kept.append(phase)
    return kept


def _fractions(composition: Any) -> Fractions:
    amounts = composition.get_el_amt_dict()
    total = sum(amounts.values())
    return tuple(sorted((e, round(n / total, 12)) for e, n in amounts.items()))


def _named(
    mixture: Mapping[Fractions, float], known: Mapping[Fractions, float], lowest: Mapping[Fractions, _Phase]
) -> list[dict[str, Any]]:
    """What a crystal would decompose into, most of it first."""
    names, numbers, rows = known_formulas(), atomic_numbers(), []
    for fractions, amount in sorted(
        mixture.items(), key=lambda item: (-round(item[1], 6), len(item[0]) == 1, item[0])
    ):
        phase = lowest.get(fractions)
        formula = _formula(fractions)
        if len(fractions) == 1:
            rows.append({"formula": formula, "id": None, "amount": round(amount, 4), "known": True})
        elif phase is not None and phase.energy < known.get(fractions, np.inf):
            rows.append({"formula": formula, "id": phase.id, "amount": round(amount, 4), "known": False})
        else:
            key = tuple(sorted((numbers[e], n) for e, n in _counts(fractions)))
            rows.append({"formula": formula, "id": names.get(key), "amount": round(amount, 4), "known": True})
    return rows


def _formula(fractions: Fractions) -> str:
    from pymatgen.core import Composition

    return str(Composition(dict(fractions)).get_integer_formula_and_factor(max_denominator=200)[0])


def _counts(fractions: Fractions) -> list[tuple[str, int]]:
    from pymatgen.core import Composition

    formula = Composition(_formula(fractions))
    return [(str(e), round(n)) for e, n in formula.items()]
