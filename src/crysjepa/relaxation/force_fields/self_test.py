"""A look at a force field before it is trusted: finite numbers, the same in a batch as one by one, and forces
and stress that are derivatives of the energy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import units

from crysjepa.relaxation.force_fields.base import NOT_FINITE, ForceField, Prediction

if TYPE_CHECKING:
    from ase import Atoms

ENERGY_TOLERANCE = 1e-3
"""eV/atom between a crystal alone and in a batch: single precision, with a margin."""
DOUBLED_TOLERANCE = 1e-2
"""eV/atom between a cell and one twice as large."""
FORCE_TOLERANCE = 1e-2
"""eV/Å."""
_STEP = 0.01
"""Å, or of the cell's length as a fraction."""
_LEAST_FORCE, _LEAST_VIRIAL = 0.05, 0.2
"""eV/Å and eV: less is not told from the errors of single precision."""
_UNITS = {"GPa": 1 / units.GPa, "kbar": 10 / units.GPa}


def probe(force_field: ForceField, *, must_know_any: bool = True) -> str | None:
    """What is wrong with a force field; None when nothing is.

    It is asked for some small crystals, together and one by one. A crystal of which it says why it cannot do
    it (an element that it does not know) is no fault, as long as there is another, or ``must_know_any`` is
    False: a force field made for two elements is a good one all the same.

    The energy of a cell twice as large must be twice the energy. Forces and stress are compared with finite
    differences of the energy, grossly, so that a calculator with a stress of the wrong sign or unit is found
    out here, and crystals do not get the blame.
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
    known = [atoms for atoms, found in zip(crystals, together, strict=True) if isinstance(found, Prediction)]
    looks = (look(force_field, atoms) for look in (_not_extensive, _no_derivatives) for atoms in known)
    return next(filter(None, looks), None)


def _not_extensive(force_field: ForceField, like: Atoms) -> str | None:
    """Whether a cell twice as large has another energy an atom; compressed, for energies well off zero."""
    atoms = like.copy()
    atoms.set_cell(0.95 * atoms.cell.array, scale_atoms=True)
    once, twice = force_field.evaluate([atoms, atoms.repeat((2, 1, 1))])
    if isinstance(once, str) or isinstance(twice, str):
        return None
    by = abs(twice.energy / 2 - once.energy) / len(atoms)
    if by <= DOUBLED_TOLERANCE:
        return None
    return (
        f"its energies do not grow with the cell: {once.energy:.4g} eV for {atoms.symbols}, and "
        f"{twice.energy:.4g} eV for twice as large a cell of it"
    )


def _no_derivatives(force_field: ForceField, like: Atoms) -> str | None:
    """How forces and stress differ from finite differences of the energy in a compressed, displaced crystal.

    Grossly: force fields that predict forces by themselves are not exact derivatives.
    """
    atoms = like.repeat((2, 1, 1))
    atoms.set_cell(0.97 * atoms.cell.array, scale_atoms=True)
    atoms.positions[0] += [0.1, 0.06, 0.03]
    (here,) = force_field.evaluate([atoms])
    if isinstance(here, str):
        return None
    size = float(np.linalg.norm(here.forces[0]))
    moved = []
    for sign in (1, -1):
        strained, displaced = atoms.copy(), atoms.copy()
        strained.set_cell((1 + sign * _STEP) * atoms.cell.array, scale_atoms=True)
        displaced.positions[0] += sign * _STEP * here.forces[0] / max(size, 1e-9)
        moved += [strained, displaced]
    energies = [p.energy for p in force_field.evaluate(moved) if isinstance(p, Prediction)]
    if len(energies) < 4:
        return None
    by_strain, by_place = ((energies[i] - energies[i + 2]) / (2 * _STEP) for i in (0, 1))
    if abs(by_place) > _LEAST_FORCE and (problem := _ratio(-size / by_place, {})):
        return f"the force in {atoms.symbols} {problem}"
    if abs(by_strain) > _LEAST_VIRIAL:
        ratio = float(here.stress[:3].sum()) * atoms.cell.volume / by_strain
        if problem := _ratio(ratio, _UNITS):
            return f"its stress in {atoms.symbols} {problem}"
    return None


def _ratio(ratio: float, units: dict[str, float]) -> str | None:
    """What is wrong with what should be a derivative of the energy, and is so many times that."""
    if 0.6 < ratio < 1.6:
        return None
    times = f"{ratio:.4g} times the derivative of its energy"
    sign = "has the wrong sign" if ratio < 0 else ""
    unit = next((u for u, size in units.items() if 0.5 < abs(ratio) / size < 2), None)
    wrong = " and ".join(filter(None, (sign, f"is in {unit}, not eV/Å³" if unit else "")))
    return f"{wrong}: {times}" if wrong else f"is {times}"


def _crystals() -> list[Atoms]:
    """Of one, two and two sites, somewhat off their equilibrium; elements that any force field may know."""
    from ase.build import bulk

    oxide, metal = bulk("MgO", "rocksalt", a=4.3), bulk("Cu", "fcc", a=3.6)
    semiconductor = bulk("Si", "diamond", a=5.5)
    for seed, atoms in enumerate((oxide, semiconductor)):
        atoms.rattle(0.05, seed=seed)
    return [metal, oxide, semiconductor]
