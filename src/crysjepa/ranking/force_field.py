"""Rankers by a force field: the energy of a crystal as it stands, above the hull."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crysjepa.core.chemical_systems import SystemTable, element_fractions, system_keys
from crysjepa.core.crystals import Crystals
from crysjepa.energy.corrections import corrections_by
from crysjepa.energy.elemental_references import ElementalReferences, check_scales, load_references
from crysjepa.energy.limits import no_formation_energy
from crysjepa.energy.lower_hull import LowerHull
from crysjepa.ranking.base import Score
from crysjepa.ranking.context import RankerContext
from crysjepa.relaxation.force_fields.base import ForceField, static_energies
from crysjepa.relaxation.force_fields.registry import get_force_field

_AT_ONCE = 64
"""Crystals handed to the force field together, which bounds its memory."""


def static_energy(name: str) -> Callable[[RankerContext], StaticEnergy]:
    """What makes the ranker of a force field."""

    def make(context: RankerContext) -> StaticEnergy:
        hull = context.needed_hull(name)
        references = context.elemental_references or load_references(name, hull.scale)
        check_scales(references.scale, hull.scale, allow_mixed=context.allow_mixed_scales)
        known = SystemTable.of_crystals(context.reference)
        return StaticEnergy(
            get_force_field(name, context.device), references, context.lower_hull(name), known
        )

    return make


@dataclass(frozen=True, eq=False)
class StaticEnergy:
    """A force field's total energy, with the corrections that its elemental references ask for, relative to
    these (Eq. 4), above the hull (eV/atom).
    """

    force_field: ForceField
    references: ElementalReferences
    hull: LowerHull
    known: SystemTable
    chunk_size: int = 256

    @property
    def name(self) -> str:
        """The force field's."""
        return self.force_field.name

    @property
    def key(self) -> str:
        """Of force field, elemental references, hull and reference."""
        parts = (self.name, self.force_field.version, self.references.to_json(), self.hull.key)
        return hashlib.sha256("\0".join((*parts, self.known.content_hash)).encode()).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """What its energies are relative to."""
        return (f"elemental references of {self.name}: {self.references.source}",)

    def score(self, crystals: Crystals) -> dict[str, Score]:
        """Energies above hull."""
        totals, reasons = self._energies(crystals)
        added = corrections_by(self.references.corrections, crystals)
        for row in np.flatnonzero(np.isnan(added)).tolist():
            reasons.setdefault(row, f"{self.references.corrections} has no correction for it")
        fractions = element_fractions(crystals)
        counts = self.known.num_within(system_keys(fractions))
        elemental, unknown = self.references.at(fractions)
        for row, elements in unknown.items():
            reasons.setdefault(row, f"no {self.name} reference energy for {', '.join(elements)}")
        formation = totals + added - elemental
        for row in np.flatnonzero(np.isfinite(formation)).tolist():
            if reason := no_formation_energy(float(formation[row])):
                formation[row] = np.nan
                reasons[row] = reason
        values, unbound = self.hull.above(formation, fractions)
        reasons = unbound | reasons
        return {
            id_: Score(float(values[row]), int(counts[row]))
            if np.isfinite(values[row])
            else Score(None, int(counts[row]), reason=reasons[row])
            for row, id_ in enumerate(crystals.ids)
        }

    def _energies(self, crystals: Crystals) -> tuple[np.ndarray, dict[int, str]]:
        """Total energies in eV/atom (B,), NaN with a reason where there is none."""
        totals, reasons = np.full(len(crystals), np.nan), dict[int, str]()
        heaviest = self.force_field.max_atomic_number
        fit = []
        for row, crystal in enumerate(crystals):
            if crystal.atomic_numbers.max() > heaviest:
                beyond = crystal.atomic_numbers.max()
                reasons[row] = f"{self.name} knows the elements 1 to {heaviest}, not Z = {beyond}"
            else:
                fit.append(row)
        for start in range(0, len(fit), _AT_ONCE):
            rows = fit[start : start + _AT_ONCE]
            found = static_energies(self.force_field, crystals[rows].to_atoms())
            for row, energy in zip(rows, found, strict=True):
                if isinstance(energy, str):
                    reasons[row] = energy
                else:
                    totals[row] = energy / crystals.num_atoms[row]
        return totals, reasons
