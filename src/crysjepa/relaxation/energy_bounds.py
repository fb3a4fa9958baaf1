"""Total energies that a force field can mean: a hole in it is noticed at the first evaluation.

Total energies of one scale differ between force fields by far less than the margins of
:data:`crysjepa.energy.limits.LOWEST`, so that one without elemental references of its own is held to those
of another. Corrections are not looked at: they lower energies, and the plain ones are above the floor all the
more. CHGNet's energies of 3,092 known crystals are 4.47 eV/atom below to 5.17 above the elements'.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import NUM_ELEMENTS
from crysjepa.energy.elemental_references import load_references
from crysjepa.energy.limits import HIGHEST, LOWEST

_MP = "materials_project"
_REFERENCED = ("sevennet-l3i5", "chgnet")
"""Force fields with elemental references, for those without; where the first has none, the second's count."""
_LIKE_MP = (_MP, f"{_MP}_uncorrected")
_OTHER_VASP = ("omat24",)
"""Total energies of VASP too, with other pseudopotentials: elements are as low, but not the same ones."""


@dataclass(frozen=True, eq=False)
class EnergyBounds:
    """Energies of each element (119,) in eV/atom, by atomic number, that nothing is far below or above."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def too_low(self, energy_per_atom: float, atomic_numbers: NDArray[np.int64]) -> str | None:
        """Why a total energy (eV/atom) is none, whatever the geometry; None where it can be one."""
        floor = float(self.low[atomic_numbers].mean()) + LOWEST
        if energy_per_atom >= floor:
            return None
        return (
            f"the force field's energy of {energy_per_atom:.1f} eV/atom is below the floor of these "
            f"elements, {floor:.1f}: a hole in the force field"
        )

    def too_high(self, energy_per_atom: float, atomic_numbers: NDArray[np.int64]) -> str | None:
        """Likewise, of what is not going to be relaxed: where a relaxation starts, it may be as high."""
        ceiling = float(self.high[atomic_numbers].mean()) + HIGHEST
        if energy_per_atom <= ceiling:
            return None
        return (
            f"the force field's energy of {energy_per_atom:.1f} eV/atom is above the ceiling of these "
            f"elements, {ceiling:.1f}: more than separated atoms have"
        )


@lru_cache
def energy_bounds(force_field: str, scale: str) -> EnergyBounds | None:
    """Bounds of a force field's total energies; None where the zero of its scale is not known."""
    if scale not in (*_LIKE_MP, *_OTHER_VASP):
        return None
    known = [load_references(name, _MP).by_number() for name in _REFERENCED]
    lowest, highest = np.nanmin(known), 0.0  # of elements without a reference: noble gases, and the heaviest
    if scale in _OTHER_VASP:
        everywhere = np.ones(NUM_ELEMENTS + 1)
        return EnergyBounds(lowest * everywhere, highest * everywhere)
    if force_field == _REFERENCED[1]:
        known.reverse()
    found = np.where(np.isnan(known[0]), known[1], known[0])
    unknown = np.isnan(found)
    return EnergyBounds(np.where(unknown, lowest, found), np.where(unknown, highest, found))
