"""Candidates for the structure of a formula: known prototypes filled, and templates of the flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crysjepa.closed_hull.of_formula import SAME_ELEMENTS, fillings_of
from crysjepa.closed_hull.prototypes import Prototypes
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.chemical_systems import element_symbols
from crysjepa.core.validity import reduced_formulas
from crysjepa.generators.flow import filling
from crysjepa.generators.flow.sampling import FlowSampler
from crysjepa.prediction.settings import PredictSettings
from crysjepa.prediction.target import Target
from crysjepa.runtime.progress import Progress

KNOWN, PROTOTYPE, FLOW = "known", "prototype", "flow"
"""Sources of candidates, which their ids begin with."""


@dataclass(frozen=True)
class Proposed:
    """Candidates with the columns ``source``, ``origin`` (the parent's id, or the template), ``filled`` (the
    elements of its slots or orbits) and ``likelihood`` (of the choice, as a logarithm; of a prototype, less
    the cost of its swaps); and what there was to choose from.
    """

    table: CandidateTable
    counts: dict[str, int]


def propose(
    target: Target,
    prototypes: Prototypes,
    flow: FlowSampler,
    settings: PredictSettings,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Proposed:
    """``settings.num`` candidates at most: prototypes as far as they go, then the flow.

    Known crystals of the formula come on top.
    """
    filled, counts = _of_prototypes(target, prototypes, settings)
    known = filled.column("source").count(KNOWN)
    room = settings.num - (len(filled) - known)
    drawn, more = _of_flow(target, flow, settings, room, device, progress)
    return Proposed(
        CandidateTable.concatenate([filled, drawn]),
        {**counts, **more, "known crystals of the formula": known},
    )


def _of_prototypes(
    target: Target, prototypes: Prototypes, settings: PredictSettings
) -> tuple[CandidateTable, dict[str, int]]:
    every = fillings_of(prototypes, target.counts, variants=settings.variants)
    if not settings.known:  # nor are they parents in which elements change places
        formulas = reduced_formulas(prototypes.crystals[[f.parent for f in every]])
        every = [f for f, formula in zip(every, formulas, strict=True) if formula != target.key]
    known = [f for f in every if f.cost == SAME_ELEMENTS]
    new = [f for f in every if f.cost > SAME_ELEMENTS]
    chosen = new[: round(settings.prototypes * settings.num)]
    counts = {
        "prototypes with this stoichiometry": len({int(prototypes.keys[f.parent]) for f in new}),
        "ways to fill them": len(new),
        "prototypes filled": len(chosen),
    }
    fillings = [*known, *chosen]
    ids = [f"{KNOWN}-{i}" for i in range(len(known))] + [f"{PROTOTYPE}-{i}" for i in range(len(chosen))]
    crystals = prototypes.crystals_of(fillings).with_ids(ids)
    table = CandidateTable.from_crystals(crystals)
    parents = prototypes.crystals.ids
    return (
        _described(
            table,
            [KNOWN] * len(known) + [PROTOTYPE] * len(chosen),
            [parents[f.parent] for f in fillings],
            [f.elements for f in fillings],
            [-f.cost for f in fillings],
        ),
        counts,
    )


def _of_flow(
    target: Target,
    flow: FlowSampler,
    settings: PredictSettings,
    num: int,
    device: str,
    progress: Progress | None,
) -> tuple[CandidateTable, dict[str, int]]:
    found = filling.fillings_of(flow, target.counts, settings.max_sites, seed=settings.seed)
    likely = filling.log_likelihoods(flow, found.filled, seed=settings.seed, device=device)
    most = np.array([_most_draws(flow, f, settings.most_draws) for f in found.filled], dtype=np.int64)
    times = shared_out(likely / settings.temperature, most, num)
    rows = np.repeat(np.arange(len(times)), times)[np.argsort(np.repeat(-likely, times), kind="stable")]
    chosen = [found.filled[row] for row in rows.tolist()]
    ids = [f"{FLOW}-{i}" for i in range(len(chosen))]
    crystals, failures = filling.fill(flow, chosen, ids, seed=settings.seed, device=device, progress=progress)
    counts = {
        "templates of this many sites": found.num_templates,
        "templates that the formula fits on": found.num_fit,
        "ways to place the elements": found.num_possible,
        "ways that the flow was asked about": len(found.filled),
        "ways drawn": int((times > 0).sum()),
        "crystals drawn": len(chosen),
    }
    table = CandidateTable.from_crystals(crystals, failures, stage="propose", order=ids)
    return (
        _described(
            table,
            [FLOW] * len(ids),
            [f"template-{f.template}" for f in chosen],
            [f.elements for f in chosen],
            likely[rows].tolist(),
        ),
        counts,
    )


def _most_draws(flow: FlowSampler, filled: filling.Filled, most: int) -> int:
    """Crystals that are worth drawing: one where only the volume is free, more where sites or shape are."""
    orbits = flow.templates.orbits(filled.template)
    cubic = orbits.space_group >= 195  # lattice with nothing free but its volume
    free = int(orbits.num_free.sum()) + (0 if cubic else 1)
    return min(most, 1 + free)


def shared_out(logits: NDArray[np.float64], most: NDArray[np.int64], num: int) -> NDArray[np.int64]:
    """(M,) how many of ``num`` draws each choice gets: in proportion to exp(``logits``), at most ``most``.

    What a choice cannot take goes to the others; the largest remainders are rounded up, the earlier first.
    """
    times = np.zeros(len(logits), dtype=np.int64)
    if not len(logits) or num <= 0:
        return times
    if most.sum() <= num:
        return most.copy()
    shares = np.exp(logits - logits.max())
    full, left = np.zeros(len(logits), dtype=bool), float(num)
    while True:  # those that would get more than they can take get just that
        wanted = np.where(full, most, 0.0)
        open_ = ~full
        wanted[open_] = left * shares[open_] / max(shares[open_].sum(), 1e-300)
        over = open_ & (wanted > most)
        if not over.any():
            break
        full |= over
        left = num - float(most[full].sum())
    times = np.floor(wanted + 1e-9).astype(np.int64)
    room = np.flatnonzero(times < most)
    rest = (wanted - times)[room]
    times[room[np.argsort(-rest, kind="stable")][: num - int(times.sum())]] += 1
    return times


def _described(
    table: CandidateTable,
    sources: Sequence[str],
    origins: Sequence[str],
    elements: Sequence[tuple[int, ...]],
    likelihoods: Sequence[float],
) -> CandidateTable:
    symbols, ids = element_symbols(), table.ids
    spelt = (".".join(symbols[z] for z in e) for e in elements)
    for name, values in (("source", sources), ("origin", origins), ("filled", spelt)):
        table = table.with_column(name, dict(zip(ids, values, strict=True)), "string")
    return table.with_column("likelihood", dict(zip(ids, likelihoods, strict=True)), "Float64")
