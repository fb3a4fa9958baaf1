"""Which known crystals a candidate must beat: the elements, and compounds near the hull of a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from crysjepa.candidates import CandidateTable
from crysjepa.crystals import Crystals
from crysjepa.energy.hull import Hull
from crysjepa.evaluate.force_field_hull import elemental_crystals
from crysjepa.evaluate.known import Known


@dataclass(frozen=True)
class Competing:
    """Crystals to be calculated, and those that should be and are not: ``{formula: reason}``.

    ``elements`` have their symbols as ids, ``compounds`` those of the reference.
    """

    elements: Crystals
    compounds: Crystals
    left_out: Mapping[str, str] = field(default_factory=dict)


def competing_phases(candidates: Crystals, reference: Known, *, within: float, max_sites: int) -> Competing:
    """The elements of the candidates, and the reference's compounds in their chemical systems.

    Parameters
    ----------
    reference
        With formation energies. Of each composition the lowest is taken.
    within
        Compounds at most so many eV/atom above the reference's own hull: by other settings, the order of
        phases near the hull may be another.
    max_sites
        Compounds with more sites in the cell are left out, and named.

    Raises
    ------
    ValueError
        If the reference has no column ``formation_energy_per_atom``.
    """
    systems = {frozenset(map(str, c.elements)) for c in candidates.compositions()}
    wanted = sorted(set().union(*systems))
    elements, missing = _elements(wanted)
    compounds, large = _compounds(systems, reference, within, max_sites)
    return Competing(elements, compounds, {**missing, **large})


def _elements(wanted: list[str]) -> tuple[Crystals, dict[str, str]]:
    known = elemental_crystals()
    rows = {id_.removesuffix("-0"): row for row, id_ in enumerate(known.ids) if id_.endswith("-0")}
    found = [s for s in wanted if s in rows]
    chosen = known[[rows[s] for s in found]].with_ids(found)
    return chosen, {s: "no crystal of the element is shipped" for s in wanted if s not in rows}


def _compounds(
    systems: set[frozenset[str]], reference: Known, within: float, max_sites: int
) -> tuple[Crystals, dict[str, str]]:
    table: CandidateTable = reference.table
    if "formation_energy_per_atom" not in table:
        raise ValueError(
            f"the reference {reference.name} has no formation energies, which say what competes: name one "
            "that has, such as flla"
        )
    crystals = table.crystals(table.ok_ids)
    energies = table.column("formation_energy_per_atom", crystals.ids)
    lowest: dict[str, int] = {}
    for row, composition in enumerate(crystals.compositions()):
        elements = frozenset(map(str, composition.elements))
        if len(elements) < 2 or energies[row] is None or not any(elements <= s for s in systems):
            continue
        formula = composition.reduced_formula
        if formula not in lowest or energies[row] < energies[lowest[formula]]:
            lowest[formula] = row
    if not lowest:
        return crystals[[]], {}
    rows = list(lowest.values())
    hull = Hull.from_entries(
        list(lowest), [energies[r] for r in rows], scale=reference.scale, source=reference.name
    )
    left_out, chosen = {}, []
    for formula, row in sorted(lowest.items()):
        above = hull.e_above_hull(formula, energies[row]).e_above_hull
        sites = int(crystals.num_atoms[row])
        if above is None or above > within:
            continue
        if sites > max_sites:
            left_out[formula] = f"{sites} sites, more than {max_sites}"
        else:
            chosen.append(row)
    return crystals[chosen], left_out
