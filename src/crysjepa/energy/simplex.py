"""The one solver of Eq. 5: the least energy of any mixture of compounds that has a composition.

It is a linear programme with one row for each of the k elements. The revised simplex method [Dantzig and
Orchard-Hays, Math. Tables Aids Comput. 8, 64 (1954)] starts from the elements themselves and brings in one
compound after another, whichever lies furthest below the chemical potentials so far; some k exchanges later
none does, and the potentials give the height of the hull. In machine code that takes microseconds, less than
a library's solver takes to be set up; HiGHS is the oracle of the tests.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crysjepa.runtime.numba_jit import compiled

TOLERANCE = 1e-10
"""eV/atom; how far below the chemical potentials a compound may lie and not be brought in."""
_PATIENCE = 100
"""Exchanges after which they are chosen such that none can come round again (Bland's rule)."""
_GIVE_UP = 10_000
_SMALLEST = 1e-9
"""A compound takes the place of one of which it would need more than this."""


@compiled
def height(points: NDArray[np.float64], energies: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """The energy of :func:`mixture` alone."""
    return mixture(points, energies, target)[0]


@compiled
def mixture(
    points: NDArray[np.float64], energies: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[float, NDArray[np.int64], NDArray[np.float64]]:
    """Eq. 5 at ``target`` (k,), from compounds (n, k) below 0 eV/atom.

    Returns the energy in eV/atom, the k phases of the mixture (element i as i, compound j as k + j), and the
    share of each. The energy is NaN if it takes too long.
    """
    size = points.shape[1]
    basis = np.eye(size)  # the compositions of the present mixture, in columns
    inverse = np.eye(size)
    exact = True
    depths = np.zeros(size)
    names = np.arange(size)  # elements first, then compounds
    weights = target.copy()
    potentials = np.zeros(size)
    direction = np.zeros(size)
    for turn in range(_GIVE_UP):
        for i in range(size):
            potentials[i] = 0.0
            for j in range(size):
                potentials[i] += depths[j] * inverse[j, i]
        entering = _entering(points, energies, potentials, turn > _PATIENCE)
        if entering < 0 and exact:
            return _mixed(weights, depths), names, weights
        if entering < 0:
            # Each exchange adds to the rounding of the inverse: the last word is said with a fresh one.
            inverse[:], exact = np.linalg.inv(basis), True
            weights = inverse @ target
            continue
        column = np.zeros(size)
        if entering < size:
            column[entering] = 1.0
        else:
            column[:] = points[entering - size]
        leaving, least = -1, np.inf
        for i in range(size):
            direction[i] = 0.0
            for j in range(size):
                direction[i] += inverse[i, j] * column[j]
        for i in range(size):
            if direction[i] > _SMALLEST:
                ratio = max(weights[i], 0.0) / direction[i]
                if ratio < least or (ratio == least and names[i] < names[leaving]):
                    leaving, least = i, ratio
        if leaving < 0:
            return np.nan, names, weights
        for j in range(size):
            inverse[leaving, j] /= direction[leaving]
        weights[leaving] = least
        for i in range(size):
            if i != leaving:
                weights[i] -= least * direction[i]
                for j in range(size):
                    inverse[i, j] -= direction[i] * inverse[leaving, j]
        basis[:, leaving], exact = column, False
        depths[leaving] = 0.0 if entering < size else energies[entering - size]
        names[leaving] = entering
    return np.nan, names, weights


@compiled
def _entering(
    points: NDArray[np.float64], energies: NDArray[np.float64], potentials: NDArray[np.float64], first: bool
) -> int:
    """The phase furthest below the chemical potentials, or the ``first`` that is below; -1 if none is."""
    entering, lowest, size = -1, -TOLERANCE, len(potentials)
    for name in range(size + len(points)):
        if name < size:
            below = -potentials[name]
        else:
            below = energies[name - size]
            for i in range(size):
                below -= potentials[i] * points[name - size, i]
        if below < lowest:
            entering, lowest = name, below
            if first:
                break
    return entering


@compiled
def _mixed(weights: NDArray[np.float64], depths: NDArray[np.float64]) -> float:
    """Energy of a mixture (k,); NaN where a weight is negative by more than rounding."""
    energy = 0.0
    for i in range(len(weights)):
        if weights[i] < -1e-9:
            return np.nan
        energy += weights[i] * depths[i]
    return min(energy, 0.0)
