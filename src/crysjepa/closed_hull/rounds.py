"""The rounds of a search for competing phases: rank by the embedding, evaluate, relax, update the hull."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crysjepa.closed_hull.prototypes import subsystems_of
from crysjepa.core.chemical_systems import element_fractions
from crysjepa.core.crystals import Crystals
from crysjepa.energy.hull import Hull
from crysjepa.energy.lower_hull import LowerHull
from crysjepa.energy.support import System

if TYPE_CHECKING:
    from crysjepa.closed_hull.search import Search

LOWERED = 0.001
"""eV/atom by which a competitor must lower the hull to count as something new."""
NOT_CREDIBLE = 0.6
"""eV/atom below the prediction, at which a force field's energy is taken for a hole in it."""
SURE = 0.03
"""eV/atom. A force field errs by about as much: where a compound of the formula is known, a competitor must
be lower than DFT's energy of it by more, or it is the known compound, seen through the force field."""
_STATIC_OF_FORMULA, _RELAXED_OF_FORMULA = 8, 2
"""In one round and system; of a formula only the lowest matters, and several often relax to the same."""


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


def not_credible(energy: float, predicted: float) -> str | None:
    """Why a relaxed crystal's formation energy (eV/atom) is not taken for one; None where it may be."""
    if energy < predicted - NOT_CREDIBLE:
        return (
            f"{energy:.2f} eV/atom of formation, where {predicted:.2f} was predicted: a hole in the force "
            "field is likelier"
        )
    return None


class Rounds:
    """Where a search stands, and its next round."""

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
        lowered = self._join(new, lower) if new else set()
        self.open = [s for s in self.open if any(part in lowered for part in self.parts[s])]

    def _no_competitor(self, id_: str, crystal: Crystals, energy: float) -> str | None:
        """Why a relaxed crystal does not count, if it does not."""
        predicted = self.predicted[id_]
        if (reason := not_credible(energy, predicted)) is not None:
            return reason
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

    def _join(self, new: dict[str, float], lower: LowerHull) -> set[System]:
        """New competitors join the hull; the parts in which one is below the hull as it was."""
        crystals = Crystals.concatenate([self.found[i][0] for i in new])
        heights = lower.heights(element_fractions(crystals))[0]
        hypothetical = Hull.from_entries(
            crystals.compositions(), list(new.values()), scale=self.hull.scale, source="competitors"
        )
        self.hull = replace(self.hull.joined(hypothetical), source=self.search.hull.source)
        below = zip(new.items(), heights.tolist(), strict=True)
        return {self.part_of[i] for (i, energy), height in below if energy < height - LOWERED}

    def closed(self) -> Closed:
        """What was found."""
        crystals = [c for c, _ in self.found.values()]
        counts = Counter(self.part_of[i] for i in self.static)
        relaxed = Counter(self.part_of[i] for i in self.found)
        return Closed(
            self.hull,
            self.search.hull,
            Crystals.concatenate(crystals) if crystals else Crystals.empty(),
            np.array([e for _, e in self.found.values()]),
            self.totals,
            self.arrived,
            {s: sum(counts[p] for p in parts) for s, parts in self.parts.items()},
            {s: sum(relaxed[p] for p in parts) for s, parts in self.parts.items()},
            {s: s not in self.open and len(self._pool(s).crystals) > 0 for s in self.systems},
            self.failures,
            len(self.static),
        )
