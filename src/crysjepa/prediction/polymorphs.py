"""What is left of the candidates, in the order of its energy."""

from __future__ import annotations

from crysjepa.closed_hull.judged import with_closed_hull
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.symmetry import symmetry_of
from crysjepa.energy.support import warning
from crysjepa.evaluation.trust import Closing
from crysjepa.prediction.means import Means

_SYMPREC = 0.1


def ordered(table: CandidateTable, means: Means, closing: Closing | None) -> CandidateTable:
    """The table with ``rank`` (from 1, by energy), ``e_above_hull`` and ``e_above_lowest`` (eV/atom),
    ``hull_warning``, ``space_group`` and ``num_sites`` of what is left; and the columns of
    :func:`crysjepa.closed_hull.judged.with_closed_hull` where the hull was closed.
    """
    ids = table.ok_ids
    energies = dict(zip(ids, table.column("formation_energy_per_atom", ids), strict=True))
    order = sorted(ids, key=lambda i: (energies[i], ids.index(i)))
    composition, lowest = means.target.composition, min(energies.values(), default=0.0)
    above = {i: means.hull.e_above_hull(composition, e).e_above_hull for i, e in energies.items()}
    if closing is not None:
        table = with_closed_hull(table, ids, closing.closed, closing.competitors)
    groups, sites = dict[str, int | None](), dict[str, int]()
    for crystal in table.crystals(ids):
        (id_,) = crystal.ids
        sites[id_] = int(crystal.num_atoms[0])
        try:
            groups[id_] = int(symmetry_of(crystal, _SYMPREC).number)
        except ValueError:  # no symmetry can be settled on
            groups[id_] = None
    table = table.with_column("rank", {i: rank for rank, i in enumerate(order, start=1)}, "Int64")
    table = table.with_column("e_above_hull", above, "Float64")
    table = table.with_column("e_above_lowest", {i: e - lowest for i, e in energies.items()}, "Float64")
    table = table.with_column("hull_warning", {i: warning(a) for i, a in above.items()}, "string")
    table = table.with_column("space_group", groups, "Int64")
    return table.with_column("num_sites", sites, "Int64")


def polymorphs_of(table: CandidateTable) -> CandidateTable:
    """The rows that are left, the lowest first."""
    frame = table.frame[table.frame["rank"].notna()].sort_values("rank", kind="stable")
    return CandidateTable(frame.reset_index(drop=True))
