"""ASE's cell filters, spared what they work out more than once."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
from ase import filters
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms


def make_cell_filter(atoms: Atoms, name: str) -> Any:
    """``"frechet"`` or ``"exp"``: ASE's filter of that name, with its coordinates and forces."""
    if name == "frechet":
        return FrechetCellFilter(atoms)
    with warnings.catch_warnings():  # ASE advises the other; the paper's protocol has this one
        warnings.filterwarnings("ignore", message="Use FrechetCellFilter", category=DeprecationWarning)
        return ExpCellFilter(atoms)


class _Remembering:
    """Forces, costly matrix functions among them, are computed once a geometry, and where it was put is not
    worked out again from the cell.
    """

    known: NDArray[np.float64] | None = None
    put: NDArray[np.float64] | None = None

    def get_forces(self, **options: Any) -> NDArray[np.float64]:
        if self.known is None:
            self.known = self.compute_forces()
        return self.known.copy()

    def compute_forces(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = super().get_forces()  # type: ignore[misc]
        return found

    def get_positions(self) -> NDArray[np.float64]:
        return super().get_positions() if self.put is None else self.put.copy()  # type: ignore[misc]

    def set_positions(self, new: NDArray[np.float64], **options: Any) -> None:
        self.known, self.put = None, new.copy()
        super().set_positions(new, **options)  # type: ignore[misc]


class ExpCellFilter(_Remembering, filters.ExpCellFilter):  # type: ignore[misc]
    """The paper's."""


class FrechetCellFilter(_Remembering, filters.FrechetCellFilter):  # type: ignore[misc]
    """The cell's coordinates are the logarithm U of its deformation, scaled and shifted.

    ASE takes that logarithm, and nine derivatives of an exponential. Here U is known, and one is enough: with
    L(U, V) the derivative of exp at U along V, the force is ⟨L(U, E_ij), W⟩ = L(Uᵀ, W)_ij.
    """

    def compute_forces(self) -> NDArray[np.float64]:
        atoms, scale = self.atoms, self.exp_cell_factor
        log = self.get_positions()[len(atoms) :] / scale - np.log(self.cell_factor) * np.eye(3)
        deformation = self.deform_grad()
        virial = -atoms.get_volume() * atoms.get_stress(voigt=False)
        by_log = derivative_of_exp(log.T, virial @ np.linalg.inv(deformation).T)
        return np.vstack([atoms.get_forces() @ deformation, by_log / scale])


def derivative_of_exp(at: NDArray[np.float64], along: NDArray[np.float64]) -> NDArray[np.float64]:
    """d/dt exp(A + t V) at t = 0, (3, 3): a block of the exponential of [[A, V], [0, A]]."""
    found: NDArray[np.float64] = scipy.linalg.expm(np.block([[at, along], [np.zeros((3, 3)), at]]))[:3, 3:]
    return found
