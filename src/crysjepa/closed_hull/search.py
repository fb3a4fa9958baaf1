"""The search for competing phases: propose, rank by the embedding, evaluate, relax, update the hull, again.

Every chemical system asked for, and each of its parts, is filled with known prototypes. Crys-JEPA predicts
what they relax to; those near or below the present hull are evaluated by the force field as they are, and the
best of these are relaxed. They join the hull, and the next round asks what is near it now. A system is closed
when a round brings nothing that lowers its hull, or the rounds end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from crysjepa.closed_hull.prototypes import Prototypes, subsystems_of
from crysjepa.core.chemical_systems import NUM_ELEMENTS, element_fractions
from crysjepa.core.crystals import Crystals
from crysjepa.energy.compositions import fractions_of
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import NAME
from crysjepa.energy.lower_hull import LowerHull
from crysjepa.energy.support import System
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.relaxation.formation_energies import Formed, formation_energies
from crysjepa.relaxation.relax import RelaxSettings
from crysjepa.runtime.progress import StageProgress

LOWERED = 0.001
"""eV/atom by which a competitor must lower the hull to count as something new."""
NOT_CREDIBLE = 0.6
"""eV/atom below the prediction, at which a force field's energy is taken for a hole in it."""
SURE = 0.03
"""eV/atom. A force field errs by about as much: where a compound of the formula is known, a competitor must
be lower than DFT's energy of it by more, or it is the known compound, seen through the force field."""


_STATIC_OF_FORMULA, _RELAXED_OF_FORMULA = 8, 2
"""In one round and system; of a formula only the lowest matters, and several often relax to the same."""


class CompeteSettings(BaseModel):
    """How far to look for competing phases.

    All numbers are for one chemical system and round, but ``proposals``, which is for each part of a system,
    once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    proposals: int = Field(
        800, ge=0, description="filled prototypes of each part of a system that are ranked"
    )
    static: int = Field(48, ge=0, description="of these, evaluated by the force field as they are")
    relaxed: int = Field(12, ge=0, description="of these, relaxed")
    rounds: int = Field(3, ge=1, description="after which the search ends, converged or not")
    margin: float = Field(
        0.1, ge=0, description="eV/atom above the present hull, up to which a crystal is worth a look"
    )
    max_sites: int = Field(20, ge=1, description="sites of a prototype's primitive cell, at most")
    parents: str = Field(NAME, description="known crystals whose prototypes are filled: a name or a path")
    relaxation: RelaxSettings = RelaxSettings(fmax=0.1, max_steps=60, time_limit=120)


EFFORTS = {
    "quick": CompeteSettings(static=24, relaxed=4, rounds=2),
    "standard": CompeteSettings(),
    "thorough": CompeteSettings(proposals=2000, static=100, relaxed=24, rounds=5),
}
"""By name: ``quick`` is what a run of ``discover`` can pay for its short list on two cores."""


@dataclass(eq=False)
class Pool:
    """Proposals of one system: crystals, the energies (B,) that they are predicted to relax to, by how much
    that is below what they have as they are (B,), and their fractions (B, 119).
    """

    crystals: Crystals
    predicted: NDArray[np.float64]
    gains: NDArray[np.float64]
    fractions: NDArray[np.float64]


@dataclass(eq=False)
class Closed:
    """What a search found.

    Attributes
    ----------
    hull, hull_before
        The hull with every competitor, and that which the search began with.
    crystals, energies, totals
        Competitors as they were relaxed, their formation energies (B,) and, by id, the force field's total
        energies, in eV/atom.
    arrived
        By id: whether the relaxation converged.
    tried, num_relaxed
        By system, parts included: how many were evaluated, and how many relaxed.
    converged
        By system: whether its last round found nothing. Never where no prototype of so many elements is
        known.
    failures
        Reasons of those that could not be evaluated or relaxed, by id.
    num_tried
        How many were evaluated in all.
    """

    hull: Hull
    hull_before: Hull
    crystals: Crystals
    energies: NDArray[np.float64]
    totals: dict[str, float]
    arrived: dict[str, bool]
    tried: dict[System, int]
    num_relaxed: dict[System, int]
    converged: dict[System, bool]
    failures: dict[str, str]
    num_tried: int


@dataclass(eq=False)
class Search:
    """See the module. ``hidden`` systems lend no parents (their compounds are for the caller to hide)."""

    prototypes: Prototypes
    model: CrysJepa
    hull: Hull
    references: ElementalReferences
    force_field: str = "chgnet"
    settings: CompeteSettings = field(default_factory=CompeteSettings)
    hidden: frozenset[System] = frozenset()
    device: str = "cpu"
    processes: int | None = None
    shards: Path | None = None
    progress: StageProgress | None = None

    def close(self, systems: Iterable[System]) -> Closed:
        """Search in all systems together; parts that several share are searched once."""
        wanted = sorted(set(systems), key=lambda s: (len(s), s))
        state = _State(self, wanted)
        for number in range(self.settings.rounds):
            if not state.open:
                break
            state.round(number)
        return state.closed()

    def bars(self, crystals: Crystals) -> NDArray[np.float64]:
        """(B,) formation energies that crystals must be below to count: where a compound of the formula is
        known, its energy less :data:`SURE`; infinite elsewhere.
        """
        known = self.hull.compounds
        return np.array([known.get(fractions_of(c), np.inf) - SURE for c in crystals.compositions()])

    def propose(self, system: System) -> Pool:
        """Filled prototypes of exactly these elements, with the energies they are predicted to relax to."""
        fillings = self.prototypes.fillings(system, self.settings.proposals, self.hidden)
        return self.pool(self.prototypes.crystals_of(fillings))

    def pool(self, crystals: Crystals) -> Pool:
        """Crystals with the energies they are predicted to relax to; without those that have none."""
        embedded = JepaEmbedder(self.model, self.device).embed(crystals)
        kept = crystals[embedded.rows]
        if not len(kept):
            return Pool(kept, np.zeros(0), np.zeros(0), np.zeros((0, NUM_ELEMENTS + 1)))
        energies = self.model.energies(embedded.vectors, relaxed=True)
        gains = np.maximum(self.model.energies(embedded.vectors) - energies, 0.0)
        return Pool(kept, energies, gains, element_fractions(kept))

    def energies(self, crystals: Crystals, settings: RelaxSettings, stage: str) -> Formed:
        """Relax crystals, or evaluate them as they are."""
        report = self.progress
        return formation_energies(
            crystals,
            self.references,
            force_field=self.force_field,
            settings=settings,
            device=self.device,
            processes=self.processes,
            shards=self.shards,
            progress=None if report is None else (lambda done, total: report(stage, done, total)),
        )


class _State:
    """Where a search stands."""

    def __init__(self, search: Search, systems: Sequence[System]) -> None:
        self.search, self.systems = search, systems
        self.open = list(systems)
        self.parts = {s: list(subsystems_of(s)) for s in systems}
        self.pools: dict[System, Pool] = {}
        self.bars: dict[System, NDArray[np.float64]] = {}
        self.predicted: dict[str, float] = {}
        self.gains: dict[str, float] = {}
        self.sites: dict[str, int] = {}
        self.static: dict[str, float] = {}
        self.found: dict[str, tuple[Crystals, float]] = {}
        self.totals: dict[str, float] = {}
        self.arrived: dict[str, bool] = {}
        self.part_of: dict[str, System] = {}
        self.failures: dict[str, str] = {}
        self.hull = search.hull

    def round(self, number: int) -> None:
        """Look, relax the best, and let them join the hull."""
        settings = self.search.settings
        lower = LowerHull(self.hull)
        chosen = self._worth_a_look(lower)
        still = settings.relaxation.model_copy(update={"max_steps": 0})
        static = self.search.energies(chosen, still, f"competitors, round {number + 1}")
        self.failures |= static.failures
        self.static |= static.formation
        best = self._worth_relaxing(lower)
        relaxed = self.search.energies(best, settings.relaxation, f"relax competitors, round {number + 1}")
        self.failures |= relaxed.failures
        new: dict[str, float] = {}
        for crystal in relaxed.crystals.select(list(relaxed.formation)):
            (id_,) = crystal.ids
            energy = relaxed.formation[id_]
            reason = self._no_competitor(id_, crystal, energy)
            if reason is not None:
                self.failures[id_] = reason
                continue
            self.found[id_] = (crystal, energy)
            self.totals[id_], self.arrived[id_] = relaxed.totals[id_], relaxed.converged[id_]
            new[id_] = energy
        lowered = self._lowered(lower, new)
        self._join(new)
        self.open = [s for s in self.open if any(part in lowered for part in self.parts[s])]

    def _no_competitor(self, id_: str, crystal: Crystals, energy: float) -> str | None:
        """Why a relaxed crystal does not count, if it does not."""
        predicted = self.predicted[id_]
        if energy < predicted - NOT_CREDIBLE:
            return (
                f"{energy:.2f} eV/atom of formation, where {predicted:.2f} was predicted: a hole in the "
                "force field is likelier"
            )
        if energy > self.search.bars(crystal)[0]:
            return f"a compound of this formula is known, and this is not lower by more than {SURE:g} eV/atom"
        return None

    def _pool(self, part: System) -> Pool:
        if part not in self.pools:
            pool = self.search.propose(part)
            self.pools[part], self.bars[part] = pool, self.search.bars(pool.crystals)
            self.predicted |= dict(zip(pool.crystals.ids, pool.predicted.tolist(), strict=True))
            self.gains |= dict(zip(pool.crystals.ids, pool.gains.tolist(), strict=True))
            self.part_of |= dict.fromkeys(pool.crystals.ids, part)
            self.sites |= dict(zip(pool.crystals.ids, pool.crystals.num_atoms.tolist(), strict=True))
        return self.pools[part]

    def _worth_a_look(self, lower: LowerHull) -> Crystals:
        settings = self.search.settings
        above: dict[System, list[tuple[float, str]]] = {}
        report = self.search.progress
        needed = sorted({p for s in self.open for p in self.parts[s]}, key=lambda s: (len(s), s))
        for done, part in enumerate(needed, start=1):
            pool = self._pool(part)
            values = pool.predicted - lower.heights(pool.fractions)[0]
            promising = (values < settings.margin) & (pool.predicted < self.bars[part])
            above[part] = [
                (float(v), i)
                for v, i, good in zip(values, pool.crystals.ids, promising, strict=True)
                if good and i not in self.static and i not in self.failures
            ]
            if report is not None:
                report("propose competitors", done, len(needed))
        return self._best(above, settings.static, _STATIC_OF_FORMULA)

    def _worth_relaxing(self, lower: LowerHull) -> Crystals:
        settings = self.search.settings
        left = [i for i in self.static if i not in self.found and i not in self.failures]
        crystals = self._crystals(left)
        # what it is now, less what relaxation is predicted to gain
        energies = np.array([self.static[i] - self.gains[i] for i in left])
        values = energies - lower.heights(element_fractions(crystals))[0] if left else energies
        by_part: dict[System, list[tuple[float, str]]] = {}
        for value, id_ in zip(values.tolist(), left, strict=True):
            if value < settings.margin:
                by_part.setdefault(self.part_of[id_], []).append((value, id_))
        return self._best(by_part, settings.relaxed, _RELAXED_OF_FORMULA)

    def _best(self, ranked: dict[System, list[tuple[float, str]]], most: int, of_formula: int) -> Crystals:
        """The lowest of each open system, of one formula no more than a few."""
        chosen: dict[str, None] = {}
        for system in self.open:
            taken: Counter[str] = Counter()
            seen: set[tuple[str, int, float]] = set()  # what was filled twice in the same way
            for _, id_ in sorted(entry for part in self.parts[system] for entry in ranked.get(part, ())):
                if taken.total() >= most:
                    break
                formula, sites = id_.split("-", 1)[0], self.sites[id_]
                energy = round(self.static.get(id_, self.predicted[id_]), 4)
                if taken[formula] < of_formula and (formula, sites, energy) not in seen:
                    taken[formula] += 1
                    seen.add((formula, sites, energy))
                    chosen[id_] = None
        return self._crystals(list(chosen))

    def _crystals(self, ids: Sequence[str]) -> Crystals:
        by_part: dict[System, list[str]] = {}
        for id_ in ids:
            by_part.setdefault(self.part_of[id_], []).append(id_)
        parts = [self.pools[p].crystals.select(own) for p, own in by_part.items()]
        return Crystals.concatenate(parts) if parts else Crystals.empty()

    def _lowered(self, lower: LowerHull, new: dict[str, float]) -> set[System]:
        """Parts in which a new competitor is below the hull as it was."""
        if not new:
            return set()
        crystals = Crystals.concatenate([self.found[i][0] for i in new])
        heights = lower.heights(element_fractions(crystals))[0]
        return {
            self.part_of[i]
            for (i, energy), height in zip(new.items(), heights.tolist(), strict=True)
            if energy < height - LOWERED
        }

    def _join(self, new: dict[str, float]) -> None:
        if not new:
            return
        crystals = Crystals.concatenate([self.found[i][0] for i in new])
        hypothetical = Hull.from_entries(
            crystals.compositions(), list(new.values()), scale=self.hull.scale, source="competitors"
        )
        self.hull = replace(self.hull.joined(hypothetical), source=self.search.hull.source)

    def closed(self) -> Closed:
        """What was found."""
        crystals = [c for c, _ in self.found.values()]
        counts: dict[System, int] = {}
        relaxed: dict[System, int] = {}
        for id_ in self.static:
            counts[self.part_of[id_]] = counts.get(self.part_of[id_], 0) + 1
        for id_ in self.found:
            relaxed[self.part_of[id_]] = relaxed.get(self.part_of[id_], 0) + 1
        return Closed(
            self.hull,
            self.search.hull,
            Crystals.concatenate(crystals) if crystals else Crystals.empty(),
            np.array([e for _, e in self.found.values()]),
            self.totals,
            self.arrived,
            {s: sum(counts.get(p, 0) for p in parts) for s, parts in self.parts.items()},
            {s: sum(relaxed.get(p, 0) for p in parts) for s, parts in self.parts.items()},
            {s: s not in self.open and len(self._pool(s).crystals) > 0 for s in self.systems},
            self.failures,
            len(self.static),
        )
