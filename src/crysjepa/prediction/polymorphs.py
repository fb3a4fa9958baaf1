"""What is left of the candidates, in the order of its energy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crysjepa.closed_hull.judged import with_closed_hull
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.symmetry import symmetry_of
from crysjepa.energy.support import warning
from crysjepa.evaluation.judge_names import energy_column
from crysjepa.evaluation.trust import Closing
from crysjepa.prediction.means import Means
from crysjepa.prediction.proposals import KNOWN, PROTOTYPE

COST_WEIGHT = 0.01
"""eV/atom that a unit of the cost of swaps is worth, where both decide how likely a polymorph is. Chosen on
the first eleven compounds of ``benchmarks/prediction.py``, by CHGNet's energies."""
WITHOUT_PROTOTYPE = 8.0
"""The cost of what no filled prototype became."""
_SYMPREC = 0.1


def ordered(table: CandidateTable, means: Means, closing: Closing | None) -> CandidateTable:
    """The table with the place and the height of each that is left.

    ``rank`` is from 1, by the energy of the last judge (:func:`last_word`), ``likely_rank`` that of
    :func:`likely_ranks`, with ``swap_cost``; ``e_above_hull`` (by the force field that relaxed) and
    ``e_above_lowest`` (by the last judge) are in eV/atom. Besides ``hull_warning``, ``space_group`` and
    ``num_sites``; and the columns of :func:`crysjepa.closed_hull.judged.with_closed_hull` where the hull was
    closed.
    """
    ids = table.ok_ids
    energies = dict(zip(ids, table.column("formation_energy_per_atom", ids), strict=True))
    last = last_word(table, means.judges)
    order = sorted(ids, key=last.__getitem__)
    composition, lowest = means.target.composition, min(last.values(), default=0.0)
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
    table = table.with_column("likely_rank", likely_ranks(table, means.judges), "Int64")
    table = table.with_column("swap_cost", swap_costs_of(table), "Float64")
    table = table.with_column("e_above_hull", above, "Float64")
    table = table.with_column("e_above_lowest", {i: e - lowest for i, e in last.items()}, "Float64")
    table = table.with_column("hull_warning", {i: warning(a) for i, a in above.items()}, "string")
    table = table.with_column("space_group", groups, "Int64")
    return table.with_column("num_sites", sites, "Int64")


def ordered_by(table: CandidateTable, judges: Sequence[str] = ()) -> str | None:
    """The last of the judges that has an energy of all that is left; None: the force field that relaxed."""
    ids = table.ok_ids
    for judge in reversed(judges):
        if (name := energy_column(judge)) in table and None not in table.column(name, ids):
            return judge
    return None


def last_word(table: CandidateTable, judges: Sequence[str] = ()) -> dict[str, float]:
    """Energies in eV/atom of what is left, by whom :func:`ordered_by` says; on a scale of its own.

    Of one composition only differences count.
    """
    ids, judge = table.ok_ids, ordered_by(table, judges)
    column = "formation_energy_per_atom" if judge is None else energy_column(judge)
    return dict(zip(ids, table.column(column, ids), strict=True))


def likely_ranks(table: CandidateTable, judges: Sequence[str] = ()) -> dict[str, int]:
    """Places from 1, by id of what is left, by energy plus :data:`COST_WEIGHT` times the cost of swaps.

    Of several structures within a force field's error, the one that similar compounds have is the likelier.
    """
    ids, costs, energies = table.ok_ids, swap_costs_of(table), last_word(table, judges)
    scores = {i: energies[i] + COST_WEIGHT * costs.get(i, WITHOUT_PROTOTYPE) for i in ids}
    order = sorted(ids, key=scores.__getitem__)
    return {i: place for place, i in enumerate(order, start=1)}


def swap_costs_of(table: CandidateTable) -> dict[str, float]:
    """The least cost of a filled prototype that became each of what is left; without those of none."""
    left, found = set(table.ok_ids), dict[str, float]()
    names = ("source", "likelihood", "same_as")
    for id_, source, likelihood, same in zip(table.ids, *(table.column(n) for n in names), strict=True):
        became = id_ if id_ in left else same
        if became in left and source in (KNOWN, PROTOTYPE):
            found[became] = min(-likelihood, found.get(became, math.inf))
    return found


def polymorphs_of(table: CandidateTable) -> CandidateTable:
    """The rows that are left, the lowest first."""
    frame = table.frame[table.frame["rank"].notna()].sort_values("rank", kind="stable")
    return CandidateTable(frame.reset_index(drop=True))
