"""A quasi-Newton optimiser that begins with a guess of how stiff atoms and cell are."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.optimize import BFGS
from numpy.typing import NDArray

ATOM_STIFFNESS = 25.0
"""eV/Å², of an atom that moves alone."""
CELL_STIFFNESS = 1.5
"""eV/Å³ (240 GPa), of the cell against strain."""
MAX_STEP, MAX_STRAIN = 0.2, 0.03
"""Of an atom in Å, and of the cell, in one step."""


class QuasiNewton(BFGS):
    """ASE's BFGS on a cell filter, with another first Hessian and another limit of a step.

    ASE begins with 70 eV/Å² for every row. But the cell's rows are strains ε times a factor f (the number of
    atoms n for FrechetCellFilter, 1 for ExpCellFilter); their energy is ½ V C ε², and their curvature
    V C / f², some 20 / n eV/Å² for the former. A step is scaled down as a whole until no atom moves by more
    than :data:`MAX_STEP`, and no row of the strain by more than :data:`MAX_STRAIN`; ASE limits f ε instead,
    which holds large cells back.
    """

    def __init__(self, target: Any) -> None:
        atoms = target.atoms
        self._num_atoms = len(atoms)
        self._factor = float(getattr(target, "exp_cell_factor", 1.0))  # ExpCellFilter has none
        self._cell_stiffness = CELL_STIFFNESS * atoms.get_volume() / self._factor**2
        super().__init__(target, logfile=None)

    def initialize(self) -> None:
        """Called by ASE."""
        super().initialize()
        diagonal = np.full((self._num_atoms + 3, 3), ATOM_STIFFNESS)
        diagonal[self._num_atoms :] = self._cell_stiffness
        self.H0 = np.diag(diagonal.ravel())

    def determine_step(self, step: NDArray[np.float64], lengths: Any) -> NDArray[np.float64]:
        """Called by ASE: the step (3 n + 9,), scaled down where it is too long."""
        rows = np.linalg.norm(step.reshape(-1, 3), axis=1)
        atoms, cell = rows[: self._num_atoms], rows[self._num_atoms :]
        excess = max(atoms.max() / MAX_STEP, cell.max() / (MAX_STRAIN * self._factor))
        return step / max(excess, 1.0)
