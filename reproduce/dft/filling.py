"""Structures for phases that are known by formula alone: known prototypes filled with their elements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from choosing import PROTOCOL

from crysjepa.closed_hull.prototypes import Prototypes
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.chemical_systems import atomic_numbers
from crysjepa.core.crystals import Crystals
from crysjepa.generators.substitution.parents import Parents
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.relaxation.relax import relax_crystals
from crysjepa.runtime.files import read_json, write_json, write_parquet

FILLED_SITES = 14
"""Prototypes with larger primitive cells are not tried."""
PROPOSALS = 5000
BEST = 6
"""By Crys-JEPA's prediction; these are relaxed."""


def filled(formulas: Sequence[str], known: CandidateTable, work: Path) -> Crystals:
    """Of each formula the prototype that CHGNet relaxes to the lowest energy, by the ids ``phase-FORMULA``.

    A formula that no prototype can be filled to is absent. What was found is kept in ``work``.
    """
    path, tried = work / "filled.parquet", work / "tried.json"
    before = Crystals.from_arrow(pq.read_table(path)) if path.is_file() else Crystals.empty()
    done: list[str] = read_json(tried) if tried.is_file() else []
    if new := sorted(set(formulas) - set(done)):
        before = Crystals.concatenate([before, _fill(new, known, work)])
        write_parquet(before.to_arrow(), path)
        write_json(tried, sorted({*done, *new}))
    wanted = {f"phase-{f}" for f in formulas}
    return before.select([i for i in before.ids if i in wanted])


def _fill(formulas: Sequence[str], known: CandidateTable, work: Path) -> Crystals:
    prototypes = Prototypes.of(Parents.of(known, "known"), max_sites=FILLED_SITES, cache=work)
    embedder = JepaEmbedder(CrysJepa.load(None), "cpu")
    proposals = Crystals.concatenate([_best(prototypes, formula, embedder) for formula in formulas])
    if not len(proposals):
        return proposals
    done = relax_crystals(proposals, force_field="chgnet", settings=PROTOCOL.relaxation, processes=1)
    energies = {i: r.energy_per_atom for i, r in done.records.items() if i not in done.failures}
    lowest: dict[str, str] = {}
    ids = [i for i in done.crystals.ids if i in energies]
    for id_, formula in zip(ids, done.crystals.select(ids).reduced_formulas(), strict=True):
        if formula not in lowest or energies[id_] < energies[lowest[formula]]:
            lowest[formula] = id_
    names = sorted(lowest)
    return done.crystals.select([lowest[f] for f in names]).with_ids([f"phase-{f}" for f in names])


def _best(prototypes: Prototypes, formula: str, embedder: JepaEmbedder) -> Crystals:
    from pymatgen.core import Composition

    system = tuple(sorted(atomic_numbers()[str(e)] for e in Composition(formula).elements))
    crystals = prototypes.crystals_of(prototypes.fillings(system, PROPOSALS))
    rows = [r for r, f in enumerate(crystals.reduced_formulas()) if f == formula] if len(crystals) else []
    if not rows:
        return Crystals.empty()
    fit = crystals[rows]
    embedded = embedder.embed(fit)
    energies = embedder.model.energies(embedded.vectors, relaxed=True)
    return fit[np.asarray(embedded.rows)[np.argsort(energies, kind="stable")[:BEST]].tolist()]
