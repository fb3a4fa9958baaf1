"""Elastic constants with relaxed ions, and whether the crystal is stable against strain.

Nothing is relaxed for it. The energy of a crystal at rest, to second order in strain ε (six, Voigt) and
displacements u of its ions (3n), is

    E = V/2 εᵀ C⁰ ε − εᵀ Λ u + 1/2 uᵀ K u,

where C⁰ are the elastic constants with clamped ions, Λ the forces that a strain calls forth and K the force
constants at Γ. Ions that follow the strain make it C = C⁰ − 1/V Λ K⁻¹ Λᵀ, with translations left out of K⁻¹
[Born and Huang, Dynamical Theory of Crystal Lattices (1954); Wu, Vanderbilt and Hamann, Phys. Rev. B 72,
035105 (2005)]. All three are central differences of the force field's stresses and forces on the
primitive cell: 12 + 6n evaluations, in one call. It is done twice, with a step and with half of it: force
fields are less smooth than they look (see :data:`crysjepa.checks.phonons.DISPLACEMENT`), and a sign that
depends on the step is none.

Born's criterion is that C has no eigenvalue at or below zero [Mouhat and Coudert, Phys. Rev. B 90, 224104
(2014)]. It is asked of C in Kelvin's form (rows and columns of shear times √2), whose eigenvalues do not
depend on how the crystal lies; their signs are those of Voigt's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import units
from numpy.typing import NDArray

from crysjepa.relaxation.force_fields.base import ForceField, Prediction

if TYPE_CHECKING:
    from ase import Atoms

STEP = 0.01
"""Of each of the six strains, up and down; of shear, in engineering strain."""
REACH = 3.0
"""Å. Ions are moved by this times the strain, about as far as they follow it: where a force field is not
quite harmonic, that makes the same error in Λ and in K."""
SOFT = 0.01
"""eV/Å². Where an optical mode of K is below this, the ions have no place to relax to."""
MAX_ATOMS = 60
"""In the primitive cell."""
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_KELVIN = np.array([1, 1, 1, 2**0.5, 2**0.5, 2**0.5])


@dataclass(frozen=True)
class Elasticity:
    """Elastic constants of a crystal at rest, its ions relaxed.

    Attributes
    ----------
    constants
        (6, 6) in GPa, Voigt order xx, yy, zz, yz, xz, xy, symmetric.
    """

    constants: NDArray[np.float64]

    @property
    def min_eigenvalue(self) -> float:
        """The smallest of Kelvin's six eigenvalues, GPa."""
        return float(np.linalg.eigvalsh(self.constants * np.outer(_KELVIN, _KELVIN))[0])

    @property
    def stable(self) -> bool:
        """Born's criterion: every strain costs energy."""
        return self.min_eigenvalue > 0

    @property
    def bulk_modulus(self) -> float | None:
        """Voigt–Reuss–Hill mean, GPa; None where the crystal is not stable, for it has no Reuss bound."""
        return self._mean("k_vrh")

    @property
    def shear_modulus(self) -> float | None:
        """The same of shear, GPa."""
        return self._mean("g_vrh")

    def _mean(self, name: str) -> float | None:
        from pymatgen.analysis.elasticity import ElasticTensor

        return float(getattr(ElasticTensor.from_voigt(self.constants), name)) if self.stable else None


def elasticity(primitive: Atoms, force_field: ForceField) -> Elasticity | str:
    """Elastic constants of a primitive cell at rest, or the reason why there are none."""
    if len(primitive) > MAX_ATOMS:
        return f"the primitive cell has over {MAX_ATOMS} atoms"
    found = with_step(primitive, force_field, STEP)
    if isinstance(found, str):
        return found
    finer = with_step(primitive, force_field, STEP / 2)
    if isinstance(finer, str):
        return finer
    if found.stable != finer.stable:
        values = f"{found.min_eigenvalue:.1f} and {finer.min_eigenvalue:.1f} GPa"
        return f"the smallest eigenvalue changes sign with the strain ({values} at {STEP:g} and {STEP / 2:g})"
    return found


def with_step(primitive: Atoms, force_field: ForceField, step: float) -> Elasticity | str:
    """Elastic constants by strains of ``step``, and displacements of :data:`REACH` times as many Å."""
    n, moved_by = len(primitive), REACH * step
    displaced = _displaced(primitive, moved_by) if n > 1 else []
    predictions: list[Prediction] = []
    for prediction in force_field.evaluate([*strained_cells(primitive, step), *displaced]):
        if isinstance(prediction, str):
            return prediction
        predictions.append(prediction)
    stresses = np.array([p.stress for p in predictions[:12]]).reshape(6, 2, 6)
    clamped = (stresses[:, 0] - stresses[:, 1]) / (2 * step)
    constants = (clamped + clamped.T) / 2
    if n > 1:
        forces = np.array([p.forces.reshape(-1) for p in predictions]).reshape(-1, 2, 3 * n)
        slopes = forces[:, 0] - forces[:, 1]
        coupling = slopes[:6] / (2 * step)
        compliance = _compliance(-slopes[6:] / (2 * moved_by))
        if isinstance(compliance, str):
            return compliance
        constants = constants - coupling @ compliance @ coupling.T / float(primitive.cell.volume)
    return Elasticity(constants / units.GPa)


def _compliance(stiffness: NDArray[np.float64]) -> NDArray[np.float64] | str:
    """K⁻¹ (3n, 3n) on all that is no translation, from K; or that K is not positive there."""
    size = len(stiffness)
    translations = np.tile(np.eye(3), (size // 3, 1)) / np.sqrt(size / 3)
    basis = np.linalg.svd(translations, full_matrices=True)[0][:, 3:]
    inner = basis.T @ (stiffness + stiffness.T) @ basis / 2
    values = np.linalg.eigvalsh(inner)
    if values[0] < SOFT:
        return (
            f"a mode at Γ is soft or imaginary ({values[0]:.3f} eV/Å²), so its ions do not rest under strain"
        )
    return np.asarray(basis @ np.linalg.solve(inner, basis.T))


def strained_cells(atoms: Atoms, step: float) -> list[Atoms]:
    """Twelve: each strain up and down, ions moved along."""
    found = []
    for i, j in _VOIGT:
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            other = atoms.copy()
            other.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            found.append(other)
    return found


def _displaced(atoms: Atoms, step: float) -> list[Atoms]:
    """6n: each coordinate up and down."""
    found = []
    for site in range(len(atoms)):
        for axis in range(3):
            for sign in (1, -1):
                other = atoms.copy()
                other.positions[site, axis] += sign * step
                found.append(other)
    return found
