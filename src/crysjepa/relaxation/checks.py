"""When a crystal is not worth a force field's time, and when a relaxation has diverged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

    from crysjepa.core.crystals import Crystals

OVERLAP = 0.5
"""Å: crystals with a shorter distance are not relaxed."""
COLLAPSE = 0.4
"""Å: a relaxation that comes to a shorter distance is stopped."""
MAX_VOLUME_PER_ATOM = 500.0
"""Å³: beyond this, atoms do not see each other."""

DENSE = 10.0
"""Å³ per atom: how much a cell grows is counted from this volume where it began denser."""


def unfit(crystal: Crystals, max_atomic_number: int) -> str | None:
    """Why a single crystal should not be relaxed; None when it can be."""
    numbers, lattice = crystal.atomic_numbers, crystal.lattices[0]
    if not (np.isfinite(crystal.frac_coords).all() and np.isfinite(lattice).all()):
        return "a coordinate or lattice vector is not finite; not relaxed"
    strange = numbers[(numbers > max_atomic_number) | (numbers < 1)]
    if len(strange):
        return f"the force field does not know element Z = {strange[0]}; not relaxed"
    volume = float(abs(np.linalg.det(lattice))) / len(numbers)
    if volume > MAX_VOLUME_PER_ATOM:
        return f"{volume:.0f} Å³ per atom is above {MAX_VOLUME_PER_ATOM:.0f} Å³; not relaxed"
    # no packing of spheres is denser than d³/√2 each, so below it some distance must be too short
    if volume < OVERLAP**3 / np.sqrt(2):
        return f"{volume:.2g} Å³ per atom: atoms overlap; not relaxed"
    distance = shortest_distance(crystal.frac_coords, lattice, OVERLAP)
    if distance is None:
        return "the cell is too skewed to search for neighbours; not relaxed"
    if distance < OVERLAP:
        return f"shortest distance {distance:.2f} Å is below {OVERLAP} Å; not relaxed"
    return None


def diverged(atoms: Atoms, initial_volume: float) -> str | None:
    """Why a relaxation should stop at this geometry; None while it is sane."""
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return "the relaxation left finite numbers"
    volume = float(atoms.cell.volume)
    if volume > 5 * max(initial_volume, DENSE * len(atoms)):
        return "the cell grew to more than 5 times its volume"
    if volume < 0.2 * initial_volume:
        return "the cell shrank to less than 0.2 of its volume"
    distance = shortest_distance(atoms.cell.scaled_positions(atoms.positions), atoms.cell.array, COLLAPSE)
    if distance is None:
        return "the cell became too skewed to search for neighbours"
    if distance < COLLAPSE:
        return f"the shortest distance fell to {distance:.2f} Å, below {COLLAPSE} Å"
    return None


def shortest_distance(
    frac_coords: NDArray[np.float64], lattice: NDArray[np.float64], cutoff: float
) -> float | None:
    """The shortest distance (Å) between sites or their periodic images, inf when none is below ``cutoff``.

    None when the cell cannot be reduced to one whose neighbours can be searched.
    """
    from ase.geometry import minkowski_reduce
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cell, cutoff = np.asarray(lattice, dtype=float), float(cutoff)
    if spacings(cell).min() < cutoff:  # many images within reach: perhaps only for a skewed choice of cell
        try:
            cell, _ = minkowski_reduce(cell)
        except (RuntimeError, ValueError, FloatingPointError):
            return None
        if np.prod(2 * np.ceil(cutoff / spacings(cell)) + 1) > 1e6:
            return None
    positions = np.asarray(frac_coords, dtype=float) @ lattice
    wrapped = np.ascontiguousarray(np.linalg.solve(cell.T, positions.T).T % 1.0 @ cell)
    center, neighbor, image, distance = find_points_in_spheres(
        wrapped,
        wrapped,
        r=cutoff,
        pbc=np.ones(3, dtype=np.int64),
        lattice=np.ascontiguousarray(cell),
        tol=1e-8,
    )
    other = (center != neighbor) | (image != 0).any(axis=1)
    return float(distance[other].min()) if other.any() else float("inf")


def num_alone(frac_coords: NDArray[np.float64], lattice: NDArray[np.float64], cutoff: float) -> int:
    """How many sites have neither another site nor an image of their own within ``cutoff`` (Å).

    0 where the cell is too skewed to search for neighbours, and where numbers are not finite.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cell = np.asarray(lattice, dtype=float)
    if np.linalg.norm(cell, axis=1).min() <= cutoff or not np.isfinite(cell).all():
        return 0  # each sees itself in the next cell
    if not np.isfinite(frac_coords).all() or np.prod(2 * np.ceil(cutoff / spacings(cell)) + 1) > 1e6:
        return 0
    positions = np.ascontiguousarray(np.asarray(frac_coords, dtype=float) % 1.0 @ cell)
    center, neighbor, image, _ = find_points_in_spheres(
        positions,
        positions,
        r=float(cutoff),
        pbc=np.ones(3, dtype=np.int64),
        lattice=np.ascontiguousarray(cell),
        tol=1e-8,
    )
    other = (center != neighbor) | (image != 0).any(axis=1)
    return len(positions) - len(np.unique(center[other]))


def spacings(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances (3,) between opposite faces of a cell (3, 3)."""
    sides = np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
    return np.asarray(abs(np.linalg.det(cell)) / sides)
