"""The search for competing phases: propose, rank by the embedding, evaluate, relax, update the hull, again.

Every chemical system asked for, and each of its parts, is filled with known prototypes. Crys-JEPA predicts
what they relax to; those near or below the present hull are evaluated by the force field as they are, and the
best of these are relaxed. They join the hull, and the next round asks what is near it now. A system is closed
when a round brings nothing that lowers its hull, or the rounds end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crysjepa.closed_hull.prototypes import Prototypes
from crysjepa.closed_hull.rounds import SURE, Closed, Pool, Rounds
from crysjepa.closed_hull.settings import CompeteSettings
from crysjepa.core.chemical_systems import NUM_ELEMENTS, element_fractions
from crysjepa.core.crystals import Crystals
from crysjepa.energy.compositions import fractions_of
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.energy.hull import Hull
from crysjepa.energy.support import System
from crysjepa.relaxation.formation_energies import Formed, formation_energies
from crysjepa.relaxation.relax import RelaxSettings
from crysjepa.runtime.progress import StageProgress, of_stage

if TYPE_CHECKING:
    from crysjepa.jepa.crys_jepa import CrysJepa


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
        state = Rounds(self, wanted)
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
        from crysjepa.ranking.embedders import JepaEmbedder  # with torch

        embedded = JepaEmbedder(self.model, self.device).embed(crystals)
        kept = crystals[embedded.rows]
        if not len(kept):
            return Pool(kept, np.zeros(0), np.zeros(0), np.zeros((0, NUM_ELEMENTS + 1)))
        energies, gains = self.model.energies_after(embedded.vectors)
        return Pool(kept, energies, gains, element_fractions(kept))

    def energies(self, crystals: Crystals, settings: RelaxSettings, stage: str) -> Formed:
        """Relax crystals, or evaluate them as they are."""
        return formation_energies(
            crystals,
            self.references,
            force_field=self.force_field,
            settings=settings,
            device=self.device,
            processes=self.processes,
            shards=self.shards,
            progress=of_stage(self.progress, stage),
        )
