"""The hull at many compositions of one chemical system at once.

The lower convex envelope of a chemical system (Eq. 5) is the largest of the planes through its lower facets.
A plane is a set of chemical potentials, E = Σ μ_i f_i; the facets of a system are found once, by Qhull
[Barber, Dobkin and Huhdanpaa, ACM TOMS 22, 469 (1996)], and then every composition costs a product.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from crysjepa.energy.hull import Fractions, Hull

MAX_FACETS = 1_000_000
"""A system whose points can have more facets than this is solved composition by composition."""
_KEPT = 20_000_000
"""Numbers in all planes that are kept: 160 MB."""
_TOLERANCE = 1e-8
"""eV/atom; how far a plane may lie above a point that bounds it before the facets are not trusted."""


class LowerHull:
    """Heights of a :class:`~crysjepa.energy.hull.Hull`, a chemical system at a time."""

    def __init__(self, hull: Hull) -> None:
        self.hull = hull
        self._systems: OrderedDict[tuple[str, ...], tuple[NDArray[np.float64] | None, int]] = OrderedDict()
        self._size = 0

    def heights(
        self, elements: Sequence[str], fractions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], int]:
        """Height of the hull in eV/atom (M,), at most 0, and the number of its compounds in the system.

        Parameters
        ----------
        elements, fractions
            The k elements of a chemical system, and the atomic fractions (M, k) of its compositions.

        Returns
        -------
        heights, num_entries
            As :meth:`Hull.e_above_hull` finds them, within 1e-8 eV/atom. NaN where its solver gives up.
        """
        planes, num_entries = self._system(tuple(elements))
        if planes is not None:
            if len(planes) * len(fractions) > _KEPT:
                blocks = np.array_split(fractions, len(planes) * len(fractions) // _KEPT + 1)
                found = np.concatenate([(block @ planes.T).max(axis=1) for block in blocks])
            else:
                found = (fractions @ planes.T).max(axis=1)
            return np.minimum(found, 0.0), num_entries
        solved = (self.hull.energy(dict(zip(elements, row.tolist(), strict=True))) for row in fractions)
        return np.array([np.nan if e is None else e for e in solved]), num_entries

    def _system(self, elements: tuple[str, ...]) -> tuple[NDArray[np.float64] | None, int]:
        """Planes (F, k) of chemical potentials, or None for the slow way; and the number of compounds."""
        if elements not in self._systems:
            members = self.hull.entries(elements)
            found = (_planes(elements, members), len(members))
            self._systems[elements] = found
            self._size += _footprint(found[0])
            while self._size > _KEPT and len(self._systems) > 1:
                _, (oldest, _) = self._systems.popitem(last=False)
                self._size -= _footprint(oldest)
        return self._systems[elements]


def _footprint(planes: NDArray[np.float64] | None) -> int:
    """Numbers that a system takes, what it is kept in included."""
    return 60 + (0 if planes is None else planes.size)


def _planes(elements: tuple[str, ...], members: dict[Fractions, float]) -> NDArray[np.float64] | None:
    """Chemical potentials (F, k) of the lower facets; None where they cannot be found or trusted."""
    size = len(elements)
    # A compound at or above 0 is never preferred to its elements.
    below = {composition: energy for composition, energy in members.items() if energy < 0}
    if not below:
        return np.zeros((1, size))
    column = {element: i for i, element in enumerate(elements)}
    points = np.concatenate([np.eye(size), np.zeros((len(below), size))])
    for row, composition in enumerate(below, start=size):
        for element, fraction in composition:
            points[row, column[element]] = fraction
    energies = np.concatenate([np.zeros(size), list(below.values())])
    if float(len(points)) ** (size // 2) > MAX_FACETS:
        return None
    try:
        # The fractions sum to 1, so the last one is left out.
        equations = ConvexHull(np.column_stack([points[:, :-1], energies])).equations
    except (QhullError, ValueError):
        return None
    normals, slope, offset = equations[:, :-2], equations[:, -2], equations[:, -1]
    lower = slope < -1e-9  # walls of the simplex are upright
    normals, slope, offset = normals[lower], slope[lower], offset[lower]
    potentials = -np.column_stack([normals + offset[:, None], offset]) / slope[:, None]
    found = potentials @ points.T
    trusted = len(found) and (found <= energies + _TOLERANCE).all()
    # Every corner is a vertex of the lower hull: there the planes must reach 0.
    return potentials if trusted and found[:, :size].max(axis=0).min() > -_TOLERANCE else None
