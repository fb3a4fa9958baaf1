"""Which known crystals a candidate must beat: the elements, and compounds near the hull of a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy import limits
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.force_field_hull import elemental_crystals
from crysjepa.evaluation.reference import Known


@dataclass(frozen=True)
class Competing:
    """Crystals to be calculated, and those that should be and are not: ``{formula: reason}``."""

    crystals: Crystals
    left_out: Mapping[str, str]

    def joined(self, other: Competing) -> Competing:
        """Both."""
        crystals = Crystals.concatenate([self.crystals, other.crystals])
        return Competing(crystals, {**other.left_out, **self.left_out})


def elements_of(candidates: Crystals, max_sites: int) -> Competing:
    """A crystal of each element of the candidates, with the element's symbol as its id.

    Of the Materials Project's crystals that are shipped, the lowest in energy that has at most ``max_sites``;
    all of an element are within 30 meV/atom of its lowest.
    """
    wanted = sorted({str(e) for c in candidates.compositions() for e in c.elements})
    known = elemental_crystals()
    chosen: dict[str, int] = {}
    smallest: dict[str, int] = {}
    for row, id_ in enumerate(known.ids):  # of each element the lowest first
        symbol, sites = id_.split("-")[0], int(known.num_atoms[row])
        smallest[symbol] = min(sites, smallest.get(symbol, sites))
        if sites <= max_sites:
            chosen.setdefault(symbol, row)
    found = [s for s in wanted if s in chosen]
    left_out = {
        s: f"the smallest crystal of the element has {smallest[s]} sites, more than {max_sites}"
        if s in smallest
        else "no crystal of the element is shipped"
        for s in wanted
        if s not in chosen
    }
    return Competing(known[[chosen[s] for s in found]].with_ids(found), left_out)


def compounds_near_hull(
    candidates: Crystals, reference: Known, *, within: float, max_sites: int
) -> Competing:
    """The reference's compounds in the candidates' chemical systems, of each composition the lowest.

    Parameters
    ----------
    reference
        With formation energies.
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
    table: CandidateTable = reference.table
    if "formation_energy_per_atom" not in table:
        raise ValueError(
            f"the reference {reference.name} has no formation energies, which say what competes: name one "
            "that has, such as known"
        )
    systems = {frozenset(c.elements) for c in candidates.compositions()}
    crystals = table.crystals(table.ok_ids)
    energies = table.column("formation_energy_per_atom", crystals.ids)
    lowest: dict[str, int] = {}
    for row, composition in enumerate(crystals.compositions()):
        own = frozenset(composition.elements)
        if len(own) < 2 or energies[row] is None or not any(own <= s for s in systems):
            continue
        formula = composition.reduced_formula
        if formula not in lowest or energies[row] < energies[lowest[formula]]:
            lowest[formula] = row
    hull = Hull.from_entries(
        list(lowest), [energies[r] for r in lowest.values()], scale=reference.scale, source=reference.name,
        elements_alone=True,
    )  # fmt: skip
    left_out, chosen = {}, []
    for formula, row in sorted(lowest.items()):
        above = hull.e_above_hull(formula, energies[row]).e_above_hull
        sites = int(crystals.num_atoms[row])
        if above is None or not limits.within(above, within):
            continue
        if sites > max_sites:
            left_out[formula] = f"{sites} sites, more than {max_sites}"
        else:
            chosen.append(row)
    return Competing(crystals[chosen], left_out)


def compounds_given(candidates: Crystals, table: CandidateTable, *, max_sites: int) -> Competing:
    """Compounds of a table in the candidates' chemical systems: ``competitors.parquet`` of ``compete``, say.

    Where it has a column ``on_closed_hull``, those that are on it. Their ids begin with ``given:``.
    """
    systems = {frozenset(c.elements) for c in candidates.compositions()}
    crystals = table.crystals(table.ok_ids)
    on_hull = dict.fromkeys(crystals.ids, True)
    if "on_closed_hull" in table:
        on_hull = dict(zip(crystals.ids, table.column("on_closed_hull", crystals.ids), strict=True))
    left_out, chosen = dict[str, str](), list[int]()
    for row, composition in enumerate(crystals.compositions()):
        own = frozenset(composition.elements)
        if len(own) < 2 or not on_hull[crystals.ids[row]] or not any(own <= s for s in systems):
            continue
        sites = int(crystals.num_atoms[row])
        if sites > max_sites:
            left_out[composition.reduced_formula] = f"{sites} sites, more than {max_sites}"
        else:
            chosen.append(row)
    found = crystals[chosen]
    return Competing(found.with_ids([f"given:{i}" for i in found.ids]), left_out)
