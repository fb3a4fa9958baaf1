"""From what was chosen and judged to one file: every crystal of the experiment and its place in the queue."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from calculating import key_of
from choosing import NUM, PROTOCOL, shortlist
from filling import filled
from planning import (
    Product,
    cost_of,
    decomposition,
    element_crystals,
    order,
    phases_of,
    symmetrised,
    without,
)
from pymatgen.core import Composition

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.judges import SECOND, above_hull_column, judge_by_all
from crysjepa.evaluation.reference import Known

CONTROL, LISTED, EARLIER = "control", "short list", "list before the hull was closed"
SAYS = (
    "e_above_hull", "e_above_closed_hull", "e_above_hull_sevennet_l3i5", "p_stable", "screen_score",
    "hull_support", "novelty_grade", "space_group", "search_converged", "num_competitors", "num_relaxed",
)  # fmt: skip
"""Columns of judgements that the experiment keeps, where they are there."""
LATE = frozenset("O")
"""Elements that nothing here decomposes into, and slow to converge: calculated last."""


@dataclass(frozen=True)
class Pool:
    """Candidates as they were judged, by group, and the phases that the hulls name."""

    judged: CandidateTable
    groups: Mapping[str, Sequence[str]]
    competitors: CandidateTable | None


def assemble(work: Path) -> CandidateTable:
    """Read what was judged, name what competes, and write ``work/crystals.parquet``."""
    pool = _pool(work)
    known = Known.load("known")
    hull = known.hull_or_default(None)
    ids = list(dict.fromkeys(i for group in pool.groups.values() for i in group))
    candidates = symmetrised(pool.judged.crystals([i for i in ids if i in set(_relaxed(pool.judged))]))
    named: dict[str, dict[str, Product]] = {}
    for id_, composition in zip(candidates.ids, candidates.compositions(), strict=True):
        products = decomposition(hull, composition)
        named[id_] = {p.formula: p for p in products} | _closed(pool.judged, id_)
    formulas = sorted({f for own in named.values() for f in own if len(Composition(f)) > 1})
    phases, missing = phases_of(formulas, known.table)
    stand_ins = symmetrised(filled(sorted(missing), known.table, work / "filling"))
    phases = Crystals.concatenate([phases, stand_ins])
    # where a phase has no structure small enough, what lies below without it bounds the hull from above
    lost = sorted(set(missing) - {_formula_of(i) for i in phases.ids})
    instead: dict[str, list[str]] = {}
    if lost:
        poorer = without(hull, lost)
        for id_, composition in zip(candidates.ids, candidates.compositions(), strict=True):
            if set(named[id_]) & set(lost):
                instead[id_] = [p.formula for p in decomposition(poorer, composition)]
        more = sorted({f for own in instead.values() for f in own} - set(formulas))
        extra, _ = phases_of([f for f in more if len(Composition(f)) > 1], known.table)
        phases = Crystals.concatenate([phases, extra])
    hypothetical = _hypothetical(pool, named)
    elements = element_crystals({str(e) for c in candidates.compositions() for e in c.elements})
    everything = Crystals.concatenate([elements, phases, hypothetical, candidates])
    have = set(everything.ids)
    who = {i: {f: _id_of(f, p, have) for f, p in own.items()} for i, own in named.items()}
    needs = {
        i: [n for n in (*own.values(), *(_id_of(f, None, have) for f in instead.get(i, ()))) if n is not None]
        for i, own in who.items()
    }
    places = _places(elements, candidates, pool.groups, needs, {c.ids[0]: cost_of(c) for c in everything})
    table = _table(everything, pool, candidates.ids, who, places, set(stand_ins.ids))
    table.write(work / "crystals.parquet")
    return table


def second_judge(work: Path) -> None:
    """Energies above hull by SevenNet, of what CHGNet relaxed as it is, in ``work/sevennet.parquet``.

    With the competitors of the closed hull where these are there, each by its own energies of them.
    """
    pool = _pool(work)
    known = Known.load("known")
    relaxed = set(_relaxed(pool.judged))
    ids = [i for i in dict.fromkeys(i for group in pool.groups.values() for i in group) if i in relaxed]
    rivals = pool.competitors
    if rivals is not None and "on_closed_hull" in rivals:
        on_hull = rivals.frame["on_closed_hull"].fillna(False).astype(bool)
        rivals = CandidateTable(rivals.frame[on_hull].reset_index(drop=True))
    done = judge_by_all(
        pool.judged, [SECOND], hull=known.hull_or_default(None), known=known, protocol=PROTOCOL,
        first=dict(zip(ids, pool.judged.column("e_above_hull", ids), strict=True)), competitors=rivals,
    )  # fmt: skip
    done.table.write(work / "sevennet.parquet")


def _pool(work: Path) -> Pool:
    control = CandidateTable.read(work / "control" / "crystals.parquet")
    chosen = CandidateTable.read(work / "chosen" / "crystals.parquet")
    groups = {CONTROL: list(control.ids), LISTED: shortlist(chosen)}
    competitors = None
    judged = _joined(control, chosen)
    if (work / "closed" / "crystals.parquet").is_file():
        closed = CandidateTable.read(work / "closed" / "crystals.parquet")
        competitors = CandidateTable.read(work / "closed" / "competitors.parquet")
        judged = _joined(closed, judged)
        groups[EARLIER] = groups[LISTED]
        listed = set(chosen.ids)
        mine = CandidateTable(closed.frame[closed.frame["id"].isin(listed)].reset_index(drop=True))
        groups[LISTED] = shortlist(mine, "p_stable")
    if (work / "sevennet.parquet").is_file():
        second = CandidateTable.read(work / "sevennet.parquet")
        column = above_hull_column(SECOND)
        values = dict(zip(second.ids, second.column(column), strict=True))
        values = {i: v for i, v in values.items() if i in set(judged.ids)}
        judged = judged.with_column(column, values, "Float64")
    assert len(groups[LISTED]) <= NUM
    return Pool(judged, groups, competitors)


def _joined(first: CandidateTable, second: CandidateTable) -> CandidateTable:
    """Rows of the first, and those of the second that it lacks."""
    left = second.frame[~second.frame["id"].isin(first.ids)]
    return CandidateTable(pd.concat([first.frame, left], ignore_index=True))


def _relaxed(table: CandidateTable) -> list[str]:
    """Ids of what CHGNet relaxed to some end."""
    columns = zip(table.ids, table.column("energy_per_atom"), strict=True)
    return [i for i, energy in columns if energy is not None]


def _closed(judged: CandidateTable, id_: str) -> dict[str, Product]:
    """The phases that the closed hull names, hypothetical ones with their ids."""
    if "decomposes_to" not in judged or (text := judged.column("decomposes_to", [id_])[0]) is None:
        return {}
    return {
        p["formula"]: Product(p["formula"], float(p["amount"]), None if p["known"] else p["id"])
        for p in json.loads(text)
    }


def _hypothetical(pool: Pool, named: Mapping[str, Mapping[str, Product]]) -> Crystals:
    wanted = sorted({p.id for own in named.values() for p in own.values() if p.id is not None})
    if not wanted or pool.competitors is None:
        return Crystals.empty()
    there = [i for i in wanted if i in set(pool.competitors.ids)]
    found = symmetrised(pool.competitors.crystals(there))
    return found.with_ids([f"competitor-{i}" for i in found.ids])


def _formula_of(id_: str) -> str:
    return id_.split("-", 1)[1]


def _id_of(formula: str, product: Product | None, have: set[str]) -> str | None:
    """The row that stands for a named phase; None where there is no structure."""
    if product is not None and product.id is not None:
        own = [f"competitor-{product.id}", product.id]
        return next((i for i in own if i in have), None)
    single = Composition(formula)
    name = f"element-{single.elements[0]}" if len(single) == 1 else f"phase-{formula}"
    return name if name in have else None


def _places(
    elements: Crystals,
    candidates: Crystals,
    groups: Mapping[str, Sequence[str]],
    needs: Mapping[str, Sequence[str]],
    cost: Mapping[str, float],
) -> dict[str, float]:
    """The queue: cheap elements, both groups in turn, what was listed before, the other elements."""
    first = [i for i in elements.ids if _formula_of(i) not in LATE and cost[i] < 10]
    here = set(candidates.ids)
    both = [[i for i in groups[g] if i in here] for g in (CONTROL, LISTED)]
    later = [[i for i in groups.get(EARLIER, ()) if i in here]]
    queue = [*first, *order(both, needs, cost), *order(later, needs, cost), *elements.ids]
    return {i: float(place) for place, i in enumerate(dict.fromkeys(queue))}


def _table(
    everything: Crystals,
    pool: Pool,
    candidates: Sequence[str],
    who: Mapping[str, Mapping[str, str | None]],
    places: Mapping[str, float],
    hollow: set[str],
) -> CandidateTable:
    """A row for each crystal; a candidate that CHGNet could not relax keeps its row, and says why.

    ``role`` is ``element``, ``phase`` (a known compound in a known structure), ``filled`` (a known compound
    in a prototype: ``hollow``), ``competitor`` (a hypothetical one) or ``candidate``.
    """
    listed = list(dict.fromkeys(i for g in pool.groups.values() for i in g))
    lost = [i for i in listed if i not in set(candidates)]
    reasons = dict(zip(lost, pool.judged.column("reason", lost), strict=True))
    table = CandidateTable.from_crystals(everything, {i: r or "not relaxed" for i, r in reasons.items()})
    groups = {i: json.dumps([g for g, own in pool.groups.items() if i in own]) for i in listed}
    rank = {i: n for n, i in enumerate(pool.groups[LISTED], start=1)}
    formulas = dict(zip(everything.ids, everything.reduced_formulas(), strict=True))
    roles = {i: "filled" if i in hollow else i.split("-")[0] for i in everything.ids if i not in groups}
    columns: dict[str, tuple[Mapping[str, object], str]] = {
        "role": (roles | dict.fromkeys(groups, "candidate"), "string"),
        "groups": (groups, "string"),
        "rank": (rank, "Int64"),
        "place": (places, "Float64"),
        "formula": (formulas, "string"),
        "key": ({c.ids[0]: key_of(c) for c in everything}, "string"),
        "named": ({i: json.dumps(own, sort_keys=True) for i, own in who.items()}, "string"),
    }
    for name in SAYS:
        if name in pool.judged:
            values = dict(zip(listed, pool.judged.column(name, listed), strict=True))
            columns[name] = (values, str(pool.judged.frame[name].dtype))
    for name, (found, dtype) in columns.items():
        table = table.with_column(name, found, dtype)
    return table
