"""Which crystals are surely valid, at a glance: the slow check is for the others."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.runtime.numba_jit import compiled

_MARGIN = 1e-6
"""Å, far above the rounding of distances in cells no longer than :data:`_LONGEST`."""
_LONGEST = 1e3
"""Å and cells; larger lattice entries and coordinates are left to the slow check."""


def surely_valid(crystals: Crystals, min_distance: float, min_volume: float) -> NDArray[np.bool_]:
    """(B,) True where the volume is above ``min_volume`` (Å³) and every distance above ``min_distance`` (Å).

    False says nothing: the crystal may be valid all the same, in a cell that is thin or strongly sheared.
    """
    if not len(crystals):
        return np.zeros(0, dtype=np.bool_)
    with np.errstate(all="ignore"):
        cells = crystals.lattices
        sane = (np.abs(cells) <= _LONGEST).all(axis=(1, 2))
        inside = (np.abs(crystals.frac_coords) <= _LONGEST).all(axis=1)
        sane &= np.logical_and.reduceat(inside, crystals.offsets[:-1])
        volumes = crystals.volumes
        sane &= volumes > min_volume * (1 + 1e-9)
        sides = np.linalg.norm(np.cross(cells[:, [1, 2, 0]], cells[:, [2, 0, 1]]), axis=2)
        heights = volumes[:, None] / sides
    # Whatever image of a site differs in n along an axis is n heights away, at least: this is for a site's
    # own images, and leaves at most one image on each side for the others.
    reach = min_distance + _MARGIN
    sane &= (heights > reach).all(axis=1)
    apart = _apart(crystals.frac_coords, cells, crystals.offsets, sane, heights, reach)
    return np.asarray(sane & apart, dtype=np.bool_)


@compiled
def _apart(
    coords: NDArray[np.float64],
    cells: NDArray[np.float64],
    offsets: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    heights: NDArray[np.float64],
    reach: float,
) -> NDArray[np.bool_]:
    """(B,) True where no image of another site is within ``reach``; heights must exceed it."""
    found = np.zeros(len(wanted), dtype=np.bool_)
    delta = np.zeros(3)
    least = np.zeros(3)
    most = np.zeros(3)
    for b in range(len(wanted)):
        if not wanted[b]:
            continue
        cell, close = cells[b], False
        for i in range(offsets[b], offsets[b + 1]):
            for j in range(i + 1, offsets[b + 1]):
                possible = True
                for a in range(3):
                    d = coords[j, a] - coords[i, a]
                    delta[a] = d - math.floor(d + 0.5)
                    room = reach / heights[b, a]
                    least[a] = math.ceil(-room - delta[a])
                    most[a] = math.floor(room - delta[a])
                    possible = possible and most[a] >= least[a]
                if not possible:
                    continue
                for s0 in range(least[0], most[0] + 1):
                    for s1 in range(least[1], most[1] + 1):
                        for s2 in range(least[2], most[2] + 1):
                            f0, f1, f2 = delta[0] + s0, delta[1] + s1, delta[2] + s2
                            x = f0 * cell[0, 0] + f1 * cell[1, 0] + f2 * cell[2, 0]
                            y = f0 * cell[0, 1] + f1 * cell[1, 1] + f2 * cell[2, 1]
                            z = f0 * cell[0, 2] + f1 * cell[1, 2] + f2 * cell[2, 2]
                            if x * x + y * y + z * z <= reach * reach:
                                close = True
        found[b] = not close
    return found
