"""How hard a crystal is to compress and to shear, by a force field: a quick estimate, and the real thing.

The estimate takes two evaluations of a crystal as it stands. Its lattice is stretched and shrunk by
:data:`STRETCH`, its ions moved along, and the pressures give K(V) = −dP/d ln V. A drawn crystal is under the
pressure P of its cell; to first order K rises by K' ≈ 4 times the pressure (Murnaghan, PNAS 30, 244 (1944)),
so K = K(V) − 4 P. Ions that may not move make a crystal stiffer: the estimate is high where they would.

The real thing are the elastic constants of the crystal at rest (:mod:`crysjepa.properties.elastic`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase import units

from crysjepa.relaxation.force_fields.base import ForceField

if TYPE_CHECKING:
    from ase import Atoms

STRETCH = 0.01
"""Of each lattice vector, up and down."""
SLOPE = 4.0
"""K', dK/dP: 3 to 6 for most solids."""


CHEN_OFFSET = 3.0
"""GPa, in Chen's correlation."""


def estimated_bulk_moduli(atoms: Sequence[Atoms], force_field: ForceField) -> list[float | str]:
    """K of each crystal in GPa with its ions held and its pressure corrected for, or why there is none.

    The pressure's own correction is held within the modulus: a crystal drawn far from its volume has no more
    than a guess.
    """
    found = list[float | str]()
    cells = [_stretched(a, sign * STRETCH) for a in atoms for sign in (1, -1)]
    predictions = force_field.evaluate(cells)
    for wide, narrow in zip(predictions[::2], predictions[1::2], strict=True):
        if isinstance(wide, str) or isinstance(narrow, str):
            found.append(wide if isinstance(wide, str) else str(narrow))
            continue
        low, high = (-float(p.stress[:3].mean()) / units.GPa for p in (wide, narrow))
        modulus = (high - low) / (3 * np.log((1 + STRETCH) / (1 - STRETCH)))
        pressure = (high + low) / 2
        bounds = sorted((modulus / 2, modulus * 2))  # it may be below 0
        found.append(float(np.clip(modulus - SLOPE * pressure, *bounds)))
    return found


def chen_hardness(bulk_modulus: float, shear_modulus: float) -> float:
    """Vickers hardness in GPa from K and G in GPa: 2 (G³/K²)^0.585 − 3, 0 where that is below.

    Chen, Niu, Li and Li, Intermetallics 19, 1275 (2011). A correlation over polycrystals, not a calculation.
    """
    return float(max(2.0 * (shear_modulus**3 / bulk_modulus**2) ** 0.585 - CHEN_OFFSET, 0.0))


def _stretched(atoms: Atoms, strain: float) -> Atoms:
    other = atoms.copy()
    other.set_cell(atoms.cell.array * (1 + strain), scale_atoms=True)
    return other
