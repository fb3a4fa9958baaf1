"""What rankers are made from: known crystals, their energies, a hull, a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.chemical_systems import Keys, element_fractions, system_keys, within_any
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.energy.hull import Hull
from crysjepa.energy.lower_hull import LowerHull
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.ranking.reference_index import ReferenceIndex
from crysjepa.runtime.progress import Progress, StageProgress, of_stage

_ENERGY = "formation_energy_per_atom"


def labels(table: CandidateTable, crystals: Crystals) -> NDArray[np.float64] | None:
    """Formation energies (B,) of a table's crystals in eV/atom, NaN where unknown, or None."""
    if _ENERGY not in table:
        return None
    return np.array([np.nan if e is None else e for e in table.column(_ENERGY, crystals.ids)], dtype=float)


@dataclass(frozen=True, eq=False)
class RankerContext:
    """Everything that a ranker may need; each takes what it does need, and says what is missing.

    Parameters
    ----------
    reference
        Known crystals (R of them), as they come.
    formation_energies
        (R,) eV/atom, NaN where unknown; None if none is known.
    scale
        Of those energies, such as ``"materials_project"``.
    hull
        What energies are compared with.
    jepa
        The model, or its file; by default the shipped one, loaded when a ranker asks for it.
    elemental_references
        For a force field; by default those that come with crysjepa for it and the hull's scale.
    min_hull_entries
        Compounds that the hull must know in a crystal's chemical system; with fewer it has no score.
    allow_mixed_scales
        Compare energies of different scales all the same.
    index
        File that keeps the reference's embeddings; made anew when it belongs to another model or reference.
    systems
        (M, 2) chemical systems of all candidates, where these are few: known crystals of no other system are
        embedded then, for no score depends on them.
    """

    reference: Crystals
    formation_energies: NDArray[np.float64] | None = None
    scale: str = "unknown"
    hull: Hull | None = None
    jepa: CrysJepa | str | Path | None = None
    elemental_references: ElementalReferences | None = None
    min_hull_entries: int = 0
    allow_mixed_scales: bool = False
    index: Path | None = None
    systems: Keys | None = None
    seed: int = 0
    device: str = "cpu"
    progress: StageProgress | None = None

    @cached_property
    def model(self) -> CrysJepa:
        """The Crys-JEPA model."""
        return self.jepa if isinstance(self.jepa, CrysJepa) else CrysJepa.load(self.jepa)

    @cached_property
    def jepa_index(self) -> ReferenceIndex:
        """The reference's embeddings by the model, shared by all rankers of this context."""
        embedder, reference, cache = JepaEmbedder(self.model, self.device), self.reference, self.index
        # A fit of shifts between scales takes any known crystals, and more of them than a few systems have.
        if self.systems is not None and (self.hull is None or self.hull.scale == self.model.scale):
            inside = within_any(system_keys(element_fractions(reference)), self.systems)
            # With none inside, no score needs any; but an index has one at least.
            reference, cache = reference[inside] if inside.any() else reference[:1], None
        return ReferenceIndex.build(embedder, reference, cache=cache, progress=self.stage("embed reference"))

    def needed_hull(self, name: str) -> Hull:
        """The hull. Raises ValueError, for the ranker of this name, where there is none."""
        if self.hull is None:
            raise ValueError(
                f"the ranker {name} compares energies with a hull: give one (--hull), or a reference with a "
                "column formation_energy_per_atom, or choose jepa-distance, which needs none"
            )
        return self.hull

    def lower_hull(self, name: str) -> LowerHull:
        """The hull, for many compositions at once. Raises ValueError as :meth:`needed_hull` does."""
        return LowerHull(self.needed_hull(name), min_entries=self.min_hull_entries)

    def stage(self, name: str) -> Progress | None:
        """Progress of one stage."""
        return of_stage(self.progress, name)
