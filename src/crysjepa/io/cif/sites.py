"""From the rows of a CIF to all sites of the cell: images under symmetry, and sites that meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import MAX_SITES
from crysjepa.io.cif.operations import Group
from crysjepa.io.cif.text import ReadError

SAME_SPOT = 0.01
"""Å. Two atoms closer than this stand on one spot."""
SAME_IMAGE = 0.05
"""Å. Symmetry images of one atom that are closer than this are one atom on a special position."""
_LEAST_VOLUME = 0.1
"""Å³ for an atom; real crystals give each some Å³."""
_THIRDS_TOLERANCE = 1e-4


def expand(
    coords: NDArray[np.float64], group: Group, lattice: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows (N,) that the atoms of the cell come from, in their order, and ``frac_coords`` (N, 3).

    Atoms are never merged, save the images of one atom on a special position. Without symmetry the
    coordinates stay as they are.

    Raises
    ------
    ReadError
        If there are too many, or two atoms stand on one spot.
    """
    if group.is_trivial:
        rows, frac = np.arange(len(coords)), coords
    else:
        images, total = [], 0
        for row in _exact_thirds(coords):
            images.append(_orbit(row, group, lattice))
            total += len(images[-1])
            if total > MAX_SITES:
                raise ReadError(f"more than {MAX_SITES} sites")
        rows = np.repeat(np.arange(len(coords)), [len(orbit) for orbit in images])
        frac = np.concatenate(images)
    check_density(len(frac), lattice)
    if len(met := pairs_within(frac, lattice, SAME_SPOT)):
        spot = ", ".join(f"{x % 1.0:.4g}" if x % 1.0 else "0.0" for x in frac[met[:, 1].min()])
        raise ReadError(f"two atoms on one spot at ({spot})")
    return rows, frac


def check_density(sites: int, lattice: NDArray[np.float64]) -> None:
    """Raise where so many atoms cannot stand apart in the cell; a search would find pairs without end."""
    volume = abs(float(np.linalg.det(lattice)))
    if sites > 64 and volume < _LEAST_VOLUME * sites:
        raise ReadError(f"{sites} atoms in {volume:.2g} Å³: {volume / sites:.2g} Å³ for each")


def _exact_thirds(coords: NDArray[np.float64]) -> NDArray[np.float64]:
    """0.3333 and 0.6667 to the fractions they stand for, so that images under a threefold axis coincide."""
    thirds = np.round(coords * 3) / 3
    return np.where(np.abs(coords - thirds) < _THIRDS_TOLERANCE, thirds, coords)


def _orbit(row: NDArray[np.float64], group: Group, lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distinct images of one atom, the first of each coinciding cluster, wrapped into the cell."""
    images = group.rotations @ row + group.translations
    images -= np.floor(images)
    stabilizer = int((_distances(images - row, lattice) < SAME_IMAGE).sum())
    if stabilizer == 1:
        return images
    left, first = images, []
    while len(left):
        same = _distances(left - left[0], lattice) < SAME_IMAGE
        if same.sum() != stabilizer:
            spot = ", ".join(f"{x:.4g}" for x in row)
            raise ReadError(f"the images of the atom at ({spot}) nearly coincide: give more digits")
        first.append(left[0])
        left = left[~same]
    return np.array(first)


def maps_onto_itself(
    kinds: NDArray[np.int64], frac: NDArray[np.float64], group: Group, lattice: NDArray[np.float64]
) -> bool:
    """Whether every operation takes each site (N, 3) to one of the same kind (N,)."""
    for rotation, translation in zip(group.rotations, group.translations, strict=True):
        both = np.concatenate([frac, frac @ rotation.T + translation])
        site, image = pairs_within(both, lattice, SAME_IMAGE).T
        hit = (site < len(frac)) & (image >= len(frac))
        hit &= kinds[site % len(frac)] == kinds[image % len(frac)]
        if len(np.unique(image[hit])) < len(frac):
            return False
    return True


def pairs_within(frac: NDArray[np.float64], lattice: NDArray[np.float64], radius: float) -> NDArray[np.int64]:
    """(M, 2) sites, the smaller first, closer than ``radius`` (Å), which is far smaller than the cell."""
    if len(frac) <= 64:
        first, second = np.triu_indices(len(frac), 1)
    else:
        from scipy.spatial import cKDTree

        # along each axis, distance is at least the difference in units of the cell's height
        heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
        tree = cKDTree(frac % 1.0 * heights % heights, boxsize=heights)
        first, second = tree.query_pairs(radius, p=np.inf, output_type="ndarray").reshape(-1, 2).T
    close = _distances(frac[first] - frac[second], lattice) < radius
    return np.stack([first[close], second[close]], axis=1)


def _distances(difference: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length in Å of fractional differences, less whole lattice vectors; exact when it is small."""
    return np.asarray(np.linalg.norm((difference - np.round(difference)) @ lattice, axis=-1))
