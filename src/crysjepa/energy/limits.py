"""What energies can be, and when one is within a limit: the same rule wherever energies are compared."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOLERANCE = 1e-6
"""eV/atom by which an energy may exceed a limit and still be within it: -2.0 less -2.1 is more than 0.1."""
LOWEST, HIGHEST = -6.0, 20.0
"""eV/atom of formation. Of 40,784 known compounds the lowest is LaF3, with -4.49; separated atoms, which
are above any relaxed crystal, have less than 9 (tungsten)."""


@overload
def within(values: float, limit: float) -> bool: ...
@overload
def within(values: ArrayLike, limit: float) -> NDArray[np.bool_]: ...
def within(values: ArrayLike, limit: float) -> bool | NDArray[np.bool_]:
    """Whether energies (eV/atom) are at most ``limit``, up to :data:`TOLERANCE`; NaN is not."""
    found = np.asarray(values, dtype=float) <= limit + TOLERANCE
    return found if found.ndim else bool(found)


def no_formation_energy(energy_per_atom: float) -> str | None:
    """Why a formation energy (eV/atom) can be none; None where it can be one."""
    if energy_per_atom < LOWEST:
        return (
            f"{energy_per_atom:.4g} eV/atom of formation is below {LOWEST:g}, the floor of any compound: "
            "a hole in the force field, or not an energy"
        )
    if energy_per_atom > HIGHEST:
        return (
            f"{energy_per_atom:.4g} eV/atom of formation is above {HIGHEST:g}, the ceiling, more than "
            "separated atoms have"
        )
    return None
