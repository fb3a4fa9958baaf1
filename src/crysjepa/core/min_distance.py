"""Which crystals are surely valid, at a glance: the slow check is for the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals

_MARGIN = 1e-6
"""Å, far above the rounding of distances in cells no longer than :data:`_LONGEST`."""
_LONGEST = 1e3
"""Å and cells; larger lattice entries and coordinates are left to the slow check."""
_MOST_SITES = 300
"""Larger crystals are left to it too: its memory is linear in the sites, not in their pairs."""
_AT_ONCE = 100_000
"""Pairs compared in one step."""
_IMAGES = np.array(list(np.ndindex(3, 3, 3))) - 1.0


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
    # own images, and leaves the nearest image along each axis for the others.
    reach = min_distance + _MARGIN
    sane &= (heights > reach).all(axis=1)
    sane &= crystals.num_atoms <= _MOST_SITES
    for size in np.unique(crystals.num_atoms[sane]).tolist():
        rows = np.flatnonzero(sane & (crystals.num_atoms == size))
        step = max(1, 2 * _AT_ONCE // size**2)
        for part in (rows[i : i + step] for i in range(0, len(rows), step)):
            sites = crystals.offsets[part][:, None] + np.arange(size)
            frac = crystals.frac_coords[sites]
            sane[part[_some_near(frac, cells[part], reach / heights[part], reach)]] = False
    return np.asarray(sane, dtype=np.bool_)


def _some_near(
    frac: NDArray[np.float64], cells: NDArray[np.float64], room: NDArray[np.float64], reach: float
) -> NDArray[np.intp]:
    """Which of B crystals of n sites, ``frac`` (B, n, 3), have two within ``reach`` of one another.

    Such differ along no axis by more than ``room`` (B, 3), which is below 1: few pairs are left to measure.
    """
    first, second = np.triu_indices(frac.shape[1], 1)
    rows, pairs = np.nonzero(_within(frac[:, second, 0] - frac[:, first, 0], room[:, :1]))
    for axis in (1, 2):
        gaps = frac[rows, second[pairs], axis] - frac[rows, first[pairs], axis]
        near = _within(gaps, room[rows, axis])
        rows, pairs = rows[near], pairs[near]
    gaps = frac[rows, second[pairs]] - frac[rows, first[pairs]]
    images = (gaps - np.floor(gaps + 0.5))[:, None] + _IMAGES
    distances = np.linalg.norm(images @ cells[rows], axis=-1)
    return np.unique(rows[(distances <= reach).any(axis=1)])


def _within(gaps: NDArray[np.float64], room: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the nearest images differ by no more than that."""
    return np.asarray(np.abs(gaps - np.floor(gaps + 0.5)) <= room)
