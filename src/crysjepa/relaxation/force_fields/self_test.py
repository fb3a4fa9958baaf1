"""A look at a force field before it is trusted: finite numbers, the same in a batch as one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crysjepa.relaxation.force_fields.base import NOT_FINITE, ForceField, Prediction

if TYPE_CHECKING:
    from ase import Atoms

ENERGY_TOLERANCE = 1e-3
"""eV/atom between a crystal alone and in a batch: single precision, with a margin."""
FORCE_TOLERANCE = 1e-2
"""eV/Å."""


def probe(force_field: ForceField, *, must_know_any: bool = True) -> str | None:
    """What is wrong with a force field; None when nothing is.

    It is asked for some small crystals, together and one by one. A crystal of which it says why it cannot do
    it (an element that it does not know) is no fault, as long as there is another, or ``must_know_any`` is
    False: a force field made for two elements is a good one all the same.
    """
    crystals = _crystals()
    together = force_field.evaluate(crystals)
    if len(together) != len(crystals):
        return f"it gave {len(together)} predictions for {len(crystals)} crystals"
    for atoms, found in zip(crystals, together, strict=True):
        if isinstance(found, str) and found.endswith(NOT_FINITE):
            return f"{found} in {atoms.symbols}"
    if must_know_any and all(isinstance(found, str) for found in together):
        return f"it can do none of {', '.join(map(str, (a.symbols for a in crystals)))}: {together[0]}"
    for atoms, found in zip(crystals, together, strict=True):
        (alone,) = force_field.evaluate([atoms])
        if isinstance(found, str) or isinstance(alone, str):
            if isinstance(found, Prediction) or isinstance(alone, Prediction):
                return f"it can do {atoms.symbols} only {'alone' if isinstance(found, str) else 'in a batch'}"
            continue
        if found.forces.shape != (len(atoms), 3) or found.stress.shape != (6,):
            return f"forces {found.forces.shape} and stress {found.stress.shape} of {len(atoms)} atoms"
        by = abs(found.energy - alone.energy) / len(atoms)
        if by > ENERGY_TOLERANCE:
            return f"the energy of {atoms.symbols} changes by {by:.2g} eV/atom when others are in its batch"
        by = float(np.abs(found.forces - alone.forces).max())
        if by > FORCE_TOLERANCE:
            return f"forces in {atoms.symbols} change by {by:.2g} eV/Å when others are in its batch"
    return None


def _crystals() -> list[Atoms]:
    """Of one, two and two sites, somewhat off their equilibrium; elements that any force field may know."""
    from ase.build import bulk

    oxide, metal = bulk("MgO", "rocksalt", a=4.3), bulk("Cu", "fcc", a=3.6)
    semiconductor = bulk("Si", "diamond", a=5.5)
    for seed, atoms in enumerate((oxide, semiconductor)):
        atoms.rattle(0.05, seed=seed)
    return [metal, oxide, semiconductor]
