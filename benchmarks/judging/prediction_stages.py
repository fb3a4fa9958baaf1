"""Where a true structure is, and where it was lost, on the way from candidates to polymorphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.matching.structure_hash import crystal_hashes
from crysjepa.matching.uniqueness import novel
from crysjepa.prediction.polymorphs import likely_ranks

NOT_PROPOSED, OUT_BY_EMBEDDING, OUT_BY_STATIC, IN_RELAXATION, OUTRANKED, FOUND = (
    "not proposed", "proposed, ranked out by the embedding", "proposed, ranked out by its energy as it stood",
    "proposed and relaxed, to something else", "relaxed, but others are lower", "found",
)  # fmt: skip
LOST = (FOUND, NOT_PROPOSED, OUT_BY_EMBEDDING, OUT_BY_STATIC, IN_RELAXATION, OUTRANKED)


@dataclass(frozen=True)
class Places:
    """What became of the candidates that are the true structure, or have its symmetry and orbits.

    ``matching``: candidates that the StructureMatcher takes for it as they were proposed; ``alike``: with the
    same space group and orbits, whether or not they match. ``static`` and ``relaxed``: how many of both
    together were evaluated, and relaxed. ``rank``, ``source``: of the first polymorph that matches it.
    ``prototype``: the place of the first filled prototype that matched as it was proposed, by the cost of its
    swaps alone. ``likely_rank``: as ``rank``, where energy and cost of swaps decide together;
    ``first_rank``: by the energy of the force field that relaxed.
    """

    matching: int
    alike: int
    evaluated: int
    relaxed: int
    rank: int | None
    source: str | None
    prototype: int | None = None
    likely_rank: int | None = None
    first_rank: int | None = None


def places_of(
    true: Crystals, proposed: CandidateTable, table: CandidateTable, judges: Sequence[str] = ()
) -> Places:
    """Of one or more true structures, in the table of all candidates (as proposed, and at the end)."""
    started = proposed.crystals(proposed.ok_ids)
    matching = {i for i, match in novel(started, true).matches.items() if match is not None}
    hashes, _ = crystal_hashes(started)
    of_true = set(crystal_hashes(true)[0].values())
    alike = {i for i, h in hashes.items() if h in of_true}
    right = [i for i in started.ids if i in matching | alike]
    stages = dict(zip(table.ids, table.column("stage"), strict=True))
    evaluated = [i for i in right if stages[i] != "embed"]
    relaxed = [i for i in evaluated if stages[i] != "static"]
    own = dict(zip(table.ids, table.column("rank"), strict=True))
    merged = dict(zip(table.ids, table.column("same_as"), strict=True))
    ranks = {i: rank for i in table.ids if (rank := own[merged[i] or i]) is not None}
    ended = table.crystals(list(ranks))  # what was merged counts with what it was merged into
    hits = sorted((ranks[i], i) for i, match in novel(ended, true).matches.items() if match is not None)
    sources = dict(zip(table.ids, table.column("source"), strict=True))
    rank, source = (hits[0][0], sources[hits[0][1]]) if hits else (None, None)
    prototypes = [i for i in proposed.ids if i.startswith("prototype-")]
    energies = dict(zip(table.ids, table.column("formation_energy_per_atom"), strict=True))
    by_first = sorted(table.ok_ids, key=energies.__getitem__)
    first = next((place for place, i in enumerate(prototypes, start=1) if i in matching), None)
    likely = likely_ranks(table, judges)
    return Places(
        len(matching), len(alike), len(evaluated), len(relaxed), rank, source, first,
        min((likely[merged[i] or i] for _, i in hits), default=None),
        min((by_first.index(merged[i] or i) + 1 for _, i in hits), default=None),
    )  # fmt: skip


def lost_at(places: Places, best: int) -> str:
    """Where the true structure was lost on the way to the ``best`` polymorphs."""
    if places.rank is not None:
        return FOUND if places.rank <= best else OUTRANKED
    if not places.matching + places.alike:
        return NOT_PROPOSED
    if not places.evaluated:
        return OUT_BY_EMBEDDING
    return IN_RELAXATION if places.relaxed else OUT_BY_STATIC


__all__ = ["FOUND", "LOST", "Places", "lost_at", "places_of"]
