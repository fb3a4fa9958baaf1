"""From judged crystals to the set to fine-tune on, and to the short list."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.energy.support import ORDER
from crysjepa.matching.grades import Grade
from crysjepa.matching.uniqueness import unique

if TYPE_CHECKING:
    from crysjepa.ranking.reference_index import ReferenceIndex

LEAST = 32
"""Crystals to learn from when objectives are weighed, as long as there are some."""


def select_best(judged: CandidateTable, keep: float) -> list[str]:
    """Ids of the best ``keep`` of the V.U.N. crystals, best first (section 4.2, steps 2 and 5).

    The share is of all V.U.N. crystals that did not fail (in relaxation, say), rounded up. A crystal
    without a score is ranked last, and never taken.

    Where objectives are weighed (a column ``merit``) the share is of those that are stable and meet the
    targets; of the best quarter, where there is no target; and of :data:`LEAST` at least.
    """
    return ranked_vun(judged)[: _num_to_learn_from(judged, vun_ids(judged), keep)]


def ranked_vun(judged: CandidateTable) -> list[str]:
    """Ids of V.U.N. crystals that did not fail and have a score, best first: by merit, if there is one."""
    return [id_ for _, id_ in sorted((score, id_) for score, id_ in _vun(judged) if score is not None)]


def vun_ids(judged: CandidateTable) -> list[str]:
    """Ids of V.U.N. crystals that did not fail, with a score or without, in the order of the table."""
    return [id_ for _, id_ in _vun(judged)]


def _vun(judged: CandidateTable) -> list[tuple[float | None, str]]:
    columns = ("id", "status", "valid", "unique", "novel")
    rows = zip(_to_learn_by(judged), *(judged.column(c) for c in columns), strict=True)
    return [(score, id_) for score, id_, status, *flags in rows if status != Status.FAILED and all(flags)]


def _to_learn_by(judged: CandidateTable) -> list[float | None]:
    """The lower, the better."""
    if "merit" not in judged:
        return judged.column("score")
    return [None if m is None else -m for m in judged.column("merit")]


def _num_to_learn_from(judged: CandidateTable, vun: list[str], keep: float) -> int:
    if "merit" not in judged:
        return math.ceil(keep * len(vun))
    meets, stable = judged.column("meets_targets", vun), judged.column("stable", vun)
    if all(m is None for m in meets):
        best = math.ceil(len(vun) / 4)
    else:
        best = sum(bool(m and s) for m, s in zip(meets, stable, strict=True))
    return min(max(math.ceil(keep * best), LEAST), len(vun))


def with_nearest(
    table: CandidateTable,
    crystals: Crystals,
    embeddings: NDArray[np.float32],
    index: ReferenceIndex,
    reference: Crystals,
) -> CandidateTable:
    """Columns ``nearest_known`` (id), ``nearest_known_formula`` and ``nearest_known_distance`` (‖h − r‖).

    ``embeddings`` (B, D) are those of ``crystals``; ``reference`` holds the crystals of ``index``.
    """
    systems = crystals.chemical_systems()
    near = {
        i: found
        for i, system, h in zip(crystals.ids, systems, embeddings, strict=True)
        if (found := index.nearest(h, system)) is not None
    }
    named = reference.select(sorted({n.id for n in near.values()}))
    formulas = dict(zip(named.ids, named.reduced_formulas(), strict=True))
    table = table.with_column("nearest_known", {i: n.id for i, n in near.items()}, "string")
    table = table.with_column("nearest_known_formula", {i: formulas[n.id] for i, n in near.items()}, "string")
    return table.with_column("nearest_known_distance", {i: n.distance for i, n in near.items()}, "Float64")


def mark_repeats(table: CandidateTable) -> CandidateTable:
    """Reject what repeats an earlier round: a refined model may return what it was tuned on.

    Ids of earlier rounds must come first in natural order.
    """
    matching = unique(table.crystals(table.ok_ids))
    repeats = {i: f"repeats {m} of an earlier round" for i, m in matching.matches.items() if m is not None}
    table = table.decide("uniqueness", matching.failures, Status.FAILED)
    return table.decide("uniqueness", repeats, Status.REJECTED)


def with_shortlist(
    table: CandidateTable, longest: int, *, aimed: bool = False, front_first: bool = False
) -> CandidateTable:
    """Column ``shortlist_rank`` of what is still ``ok``, ordered by what missing competitors cannot inflate.

    First those without a warning (by the closed hull, where there is one), then new formulas before known
    ones; then by the chance that DFT agrees (``p_stable``), where that was looked into. What was not comes
    after: where the hull is supported before thin before blind, new formulas before known ones, by energy
    above hull, where all that lies below the hull counts as on it, then where the hull has more compounds.
    Crystals with a warning come last, and are no more than the others: they never are in the first half.

    Where objectives are weighed (``aimed``), ``merit`` stands for the chance, and what misses a target is not
    listed; with ``front_first`` those on the Pareto front come before others of their kind.
    """
    meeting = _meeting(table) if aimed else set()
    ids = [i for i in table.ok_ids if not aimed or i in meeting]
    columns = (
        "hull_warning", "hull_support", "novelty_grade", "e_above_hull", "hull_entries", "p_stable",
        "e_above_closed_hull", "closed_hull_warning", "merit", "on_front",
    )  # fmt: skip
    values = (table.column(c, ids) if c in table else [None] * len(ids) for c in columns)
    keys = {}
    for id_, *row in zip(ids, *values, strict=True):
        warned, support, grade, above, entries, chance, closed, other, merit, front = row
        warned = warned if closed is None else other  # the closed hull knows better
        height = math.inf if above is None else max(above, 0.0)
        polymorph = grade == Grade.KNOWN_FORMULA
        good = merit if aimed else chance
        behind = front_first and not front
        likely = (0, polymorph, behind, -good) if chance is not None else (1, False, behind, -(merit or 0.0))
        trust = ORDER.get(support, 3)
        keys[id_] = (warned is not None, likely, trust, polymorph, height, -(entries or 0), id_)
    order = sorted(ids, key=keys.__getitem__)
    trusted = sum(not keys[i][0] for i in ids)
    ranks = {id_: rank for rank, id_ in enumerate(order[: min(longest, 2 * trusted)], start=1)}
    return table.with_column("shortlist_rank", ranks, "Int64")


def _meeting(table: CandidateTable) -> set[str]:
    """Ids of what misses no target, and has a value of everything that is weighed."""
    rows = zip(table.ids, table.column("merit"), table.column("meets_targets"), strict=True)
    return {i for i, merit, meets in rows if merit is not None and meets is not False}
