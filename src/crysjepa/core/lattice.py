"""The lattice as models see it: polar decomposition and the 6-vector of the paper (Eq. 1, 3).

The paper writes a lattice with vectors in columns, L = U L̃ with U a rotation. Here rows are lattice
vectors, as in pymatgen and ASE, so the same statement reads L = L̃ Uᵀ with L̃ = (L Lᵀ)^½: the Cartesian
frame is turned until the lattice matrix is symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROWS, _COLUMNS = np.triu_indices(3)


def polar_decompose(lattices: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split lattices (B, 3, 3) into symmetric positive definite L̃ and orthogonal Q with L = L̃ Q (Eq. 1).

    L̃ does not change when the crystal is rotated (L → L R). For a left-handed lattice Q is a rotation
    times an inversion.
    """
    w, sigma, vt = np.linalg.svd(lattices)
    symmetric = (w * sigma[..., None, :]) @ np.swapaxes(w, -1, -2)
    return (symmetric + np.swapaxes(symmetric, -1, -2)) / 2, w @ vt


def to_vector(symmetric: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper triangle of symmetric matrices (B, 3, 3) as (B, 6) in Å."""
    return symmetric[..., _ROWS, _COLUMNS]


def from_vector(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric matrices (B, 3, 3) with these upper triangles (B, 6); inverse of :func:`to_vector`."""
    out = np.zeros((*vector.shape[:-1], 3, 3))
    out[..., _ROWS, _COLUMNS] = vector
    out[..., _COLUMNS, _ROWS] = vector
    return out


@dataclass(frozen=True)
class Scaler:
    """Per-component shift and scale, fitted on training data and stored in the checkpoint."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, values: NDArray[np.float64]) -> Scaler:
        """From values (B, D); a component that never varies gets the scale 1."""
        std = values.std(axis=0)
        return cls(tuple(values.mean(axis=0).tolist()), tuple(np.where(std > 1e-8, std, 1.0).tolist()))

    def transform(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """To zero mean and unit variance."""
        return (values - np.asarray(self.mean)) / np.asarray(self.std)

    def inverse(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Back to the original units."""
        return values * np.asarray(self.std) + np.asarray(self.mean)
