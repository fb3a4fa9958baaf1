"""From the rows of a CIF to all sites of the cell: images under symmetry, and sites that meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import MAX_SITES
from crysjepa.io.cif.operations import Group
from crysjepa.io.cif.text import ReadError
from crysjepa.runtime.notes import note

SAME_SPOT = 0.01
"""Å. Two atoms closer than this stand on one spot."""
SAME_IMAGE = 0.05
"""Å. Symmetry images of one atom that are closer than this are one atom on a special position."""
_MERGED = 0.2
"""Å. So far apart images may be that the site's multiplicity says are one atom."""
_OVERLAP = 0.1
"""Å. Two atoms that symmetry brings closer than this are one that is listed twice or slightly displaced."""
_LEAST_VOLUME = 0.1
"""Å³ for an atom; real crystals give each some Å³."""
_THIRDS_TOLERANCE = 1e-4


def expand(
    coords: NDArray[np.float64],
    group: Group,
    lattice: NDArray[np.float64],
    multiplicities: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows (N,) that the atoms of the cell come from, in their order, and ``frac_coords`` (N, 3).

    Atoms are never merged, save the images of one atom on a special position, or so near it that the site's
    declared multiplicity (N,; NaN where there is none) must mean it. Without symmetry the coordinates stay
    as they are.

    Raises
    ------
    ReadError
        If there are too many, two atoms meet, or the images are not as many as declared.
    """
    if group.is_trivial:
        rows, frac = np.arange(len(coords)), coords
    else:
        given = np.full(len(coords), np.nan) if multiplicities is None else multiplicities
        images = _orbits(_exact_thirds(coords), group, lattice, given)
        rows = np.repeat(np.arange(len(coords)), [len(orbit) for orbit in images])
        frac = np.concatenate(images)
    check_apart(frac, lattice, SAME_SPOT if group.is_trivial else _OVERLAP)
    return rows, frac


def check_apart(frac: NDArray[np.float64], lattice: NDArray[np.float64], radius: float = SAME_SPOT) -> None:
    """Raise ReadError where two atoms are closer than ``radius`` (Å)."""
    check_density(len(frac), lattice)
    if not len(met := pairs_within(frac, lattice, radius)):
        return
    first, second = met[met[:, 1].argmin()]
    spot = ", ".join(f"{x % 1.0:.4g}" if x % 1.0 else "0.0" for x in frac[second])
    distance = _distances(frac[second] - frac[first], lattice)
    if distance < SAME_SPOT:
        raise ReadError(f"two atoms on one spot at ({spot})")
    raise ReadError(
        f"two atoms {distance:.2g} Å apart at ({spot}): one atom listed twice, or near a special position"
    )


def _orbits(
    coords: NDArray[np.float64], group: Group, lattice: NDArray[np.float64], given: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """The images of each site. ``given`` multiplicities count images, or in SHELX's files say the order of
    the site's symmetry."""
    order, total = len(group.rotations), 0
    plain, merged = [], []
    counts, orders, moved = True, True, 0
    for row, declared in zip(coords, given, strict=True):
        try:
            orbit = _orbit(row, group, lattice)
        except ReadError:
            if np.isnan(declared):
                raise
            orbit = np.empty((0, 3))
        plain.append(orbit)
        merged.append(orbit)
        if not np.isnan(declared) and len(orbit) != declared:
            special = _on_special_position(row, group, lattice, declared)
            counts &= special is not None
            merged[-1] = orbit if special is None else special
            moved += 1
        orders &= bool(np.isnan(declared) or len(orbit) * declared == order)
        total += len(merged[-1])
        if total > MAX_SITES:
            raise ReadError(f"more than {MAX_SITES} sites")
    if counts:
        if moved:
            note(f"sites near the special position that their multiplicity says are moved to it ({moved})")
        return merged
    if orders:
        return plain
    i = next(i for i, orbit in enumerate(merged) if not np.isnan(given[i]) and len(orbit) != given[i])
    spot = ", ".join(f"{x:.4g}" for x in coords[i])
    found = f"{len(plain[i])} images" if len(plain[i]) else "images that nearly coincide"
    raise ReadError(f"the atom at ({spot}) has the multiplicity {given[i]:g}, but {found} under the symmetry")


def _on_special_position(
    row: NDArray[np.float64], group: Group, lattice: NDArray[np.float64], multiplicity: float
) -> NDArray[np.float64] | None:
    """So many images of one atom, moved to the special position near it; None where there is none."""
    if multiplicity < 1 or (order := len(group.rotations)) % multiplicity:
        return None
    away = group.rotations @ row + group.translations - row
    away -= np.round(away)
    near = np.argsort(_distances(away, lattice), kind="stable")[: int(order / multiplicity)]
    if _distances(away[near], lattice).max() >= _MERGED:
        return None
    try:
        orbit = _orbit(row + away[near].mean(axis=0), group, lattice)
    except ReadError:
        return None
    return orbit if len(orbit) == multiplicity else None


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
