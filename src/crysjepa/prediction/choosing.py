"""Which candidates go on: the lowest, and beside them those that were the likeliest beforehand.

An energy errs by hundredths of eV/atom, and what chemistry expects (the cost of the swaps in a prototype, how
often the flow meets a template) errs otherwise. Candidates that look alike would all be lowest together, and
end as one: of them only a few go on.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.matching.structure_hash import crystal_hashes
from crysjepa.matching.structure_matcher import FormulaIndex, expected_warnings
from crysjepa.prediction.proposals import FLOW, KNOWN, PROTOTYPE

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher

TURNS = ("energy", PROTOTYPE, "energy", "energy", FLOW, "energy", PROTOTYPE, "energy")
"""Whose turn it is to choose: the lowest energy, the likeliest prototype, the likeliest template."""


def close_matcher() -> StructureMatcher:
    """With half of the default tolerances: what matches so is relaxed to the same end, as a rule."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(ltol=0.1, stol=0.15, angle_tol=3.0)


def without_repeats(table: CandidateTable, stage: str, energies: Mapping[str, float]) -> CandidateTable:
    """Of candidates with as many sites and the same energy, to 0.1 meV/atom, the first stays."""
    first: dict[tuple[int, float], str] = {}
    reasons = dict[str, str]()
    ids = [i for i in table.ok_ids if i in energies]
    for id_, num in zip(ids, table.crystals(ids).num_atoms.tolist(), strict=True):
        key = num, round(energies[id_], 4)
        if (before := first.setdefault(key, id_)) != id_:
            reasons[id_] = f"the energy of {before}, to 0.1 meV/atom: the same crystal again"
    return table.decide(stage, reasons, Status.REJECTED)


def choose(
    table: CandidateTable, stage: str, energies: Mapping[str, float], most: int, alike: int, what: str
) -> CandidateTable:
    """``most`` stay, of those with the same space group and orbits at most ``alike``; known ones in any case.

    The two are by :mod:`crysjepa.matching.structure_hash`. Each that goes has a reason with its place.
    """
    ids = [i for i in table.ok_ids if i in energies]
    hashes, _ = crystal_hashes(table.crystals(ids))
    taken = Counter[str]()

    def fits(id_: str) -> str | None:
        kind = hashes.get(id_, id_)
        if taken[kind] >= alike:
            return f"{alike} with its space group and orbits go on before it"
        taken[kind] += 1
        return None

    return _chosen(table, stage, energies, most, what, fits)


def choose_different(
    table: CandidateTable, stage: str, energies: Mapping[str, float], most: int, what: str
) -> CandidateTable:
    """``most`` stay, of which no two match by :func:`close_matcher`; known ones in any case."""
    ids = [i for i in table.ok_ids if i in energies]
    crystals = table.crystals(ids)
    index = FormulaIndex(crystals, matcher=close_matcher())
    row_of = {i: row for row, i in enumerate(ids)}
    kept = list[int]()

    def fits(id_: str) -> str | None:
        structure = index.reduced(row_of[id_])
        if isinstance(structure, str):
            return structure
        match, _ = index.first_match(structure, kept)
        if match is not None:
            return f"{match}, which it matches closely, goes on before it"
        kept.append(row_of[id_])
        return None

    with expected_warnings():
        return _chosen(table, stage, energies, most, what, fits)


def _chosen(
    table: CandidateTable,
    stage: str,
    energies: Mapping[str, float],
    most: int,
    what: str,
    fits: Callable[[str], str | None],
) -> CandidateTable:
    ids = [i for i in table.ok_ids if i in energies]
    sources = dict(zip(ids, table.column("source", ids), strict=True))
    likely = dict(zip(ids, table.column("likelihood", ids), strict=True))
    lowest = sorted(ids, key=energies.__getitem__)
    places = {i: place for place, i in enumerate(lowest, start=1)}
    reasons, kept = dict[str, str](), 0
    for id_ in lowest:
        if sources[id_] == KNOWN:
            fits(id_)
    likeliest = sorted(ids, key=lambda i: -likely[i])
    orders = {
        "energy": [i for i in lowest if sources[i] != KNOWN],
        **{s: [i for i in likeliest if sources[i] == s] for s in (PROTOTYPE, FLOW)},
    }
    for id_ in _in_turns(orders):
        if kept >= most:
            reasons[id_] = f"place {places[id_]} by its {what}; {most} others go on"
        elif reason := fits(id_):
            reasons[id_] = reason
        else:
            kept += 1
    return table.decide(stage, reasons, Status.REJECTED)


def _in_turns(orders: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """All, each once: by :data:`TURNS` the next of an order that was not there yet."""
    left = {name: iter(order) for name, order in orders.items()}
    seen, num = set[str](), len({i for order in orders.values() for i in order})
    for name in itertools.cycle(TURNS):
        if len(seen) == num:
            return
        id_ = next((i for i in left[name] if i not in seen), None)
        if id_ is not None:
            seen.add(id_)
            yield id_
