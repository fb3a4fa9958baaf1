"""Crystals reduced as pymatgen's StructureMatcher reduces them, on arrays.

``StructureMatcher.fit`` takes each structure's Niggli cell and then a primitive cell
(``Structure.get_reduced_structure`` and ``get_primitive_structure``). Most of what that costs is not the
search but the thousands of site objects made on the way. Here the same steps are taken, in the same order and
with the same tolerances, on arrays; the Niggli cell itself is pymatgen's. The tests compare every number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_cell

if TYPE_CHECKING:
    from pymatgen.core import Lattice, Structure

Floats = NDArray[np.float64]

TOLERANCE = 0.25
"""Å; pymatgen's default for sites that a translation takes to one another."""
MAX_LATTICE_POINTS = 300_000
"""pymatgen lists the lattice points in a sphere as wide as the longest cell vector. A cell so sheared that it
would look through more than these is reduced by other means first; one so long and thin that there are more
even then is not compared (seconds and 100 MB a pair)."""
MAX_LOOKED_THROUGH = 3_000_000
"""Points of the box around that sphere."""
MAX_SUPERCELLS = 1_000_000
"""Ways to divide a cell that are looked through; their number grows with the square of the sites. A crystal
for which there are more is not compared (minutes, gigabytes)."""
_MANY_PAIRS = 100_000
"""Vectors compared with vectors: of more, a tree finds the near ones sooner."""
_FEW = 3000
"""Supercells of one size that are kept for the next crystal."""
_AT_ONCE = 2_000_000
"""Numbers compared in one step."""


@dataclass(frozen=True, eq=False)
class Reduced:
    """A crystal's reduced cell: matrix (3, 3) in Å, frac_coords (n, 3), atomic_numbers (n,)."""

    matrix: Floats
    frac_coords: Floats
    atomic_numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.atomic_numbers)

    @cached_property
    def lengths(self) -> Floats:
        """(3,) lengths of the cell vectors in Å, shortest first."""
        return np.sort(np.sqrt((self.matrix**2).sum(axis=1)))

    @cached_property
    def volume(self) -> float:
        """Å³."""
        return float(abs(np.linalg.det(self.matrix)))

    @cached_property
    def lattice(self) -> Lattice:
        """As pymatgen has it."""
        from pymatgen.core import Lattice

        return Lattice(self.matrix)

    @cached_property
    def structure(self) -> Structure:
        """As pymatgen has it."""
        from pymatgen.core import Structure

        return Structure(self.lattice, self.atomic_numbers.tolist(), self.frac_coords)


def reduce_crystal(crystal: Crystals, *, primitive: bool, ltol: float) -> Reduced | str:
    """The reduced cell of one crystal, or the reason why it cannot be compared.

    Raises whatever pymatgen raises for a lattice that has no Niggli cell.
    """
    matrix, frac = crystal.lattices[0], crystal.frac_coords
    if not _manageable(matrix, ltol):
        matrix, frac = reduced_cell(crystal)
        if not _manageable(matrix, ltol):
            return f"the cell of {crystal.ids[0]} is too long and thin to compare"
    reduced = niggli(Reduced(matrix, frac, crystal.atomic_numbers))
    found = smallest(reduced) if primitive else reduced
    if found is None:
        return f"the cell of {crystal.ids[0]} is too large to be compared ({len(reduced)} sites)"
    return found


def _manageable(matrix: Floats, ltol: float) -> bool:
    """Whether the points that pymatgen looks through are few: those of a box around a sphere.

    The sphere is as wide as the longest vector, and the box is as many cells wide as fit into it between the
    cell's faces.
    """
    # In plain numbers: numpy's calls cost more than a 3 × 3 determinant.
    a, b, c = matrix.tolist()
    faces = [_cross(b, c), _cross(c, a), _cross(a, b)]
    volume = abs(sum(x * y for x, y in zip(a, faces[0], strict=True)))
    longest = max(math.hypot(*row) for row in (a, b, c)) * (1 + ltol)
    if not (volume > 0 and math.isfinite(volume) and math.isfinite(longest)):
        return not math.isfinite(volume + longest)  # left to pymatgen, which says what is wrong
    box = math.prod(2 * longest * math.hypot(*face) / volume + 1 for face in faces)
    return 4 / 3 * math.pi * longest**3 / volume <= MAX_LATTICE_POINTS and box <= MAX_LOOKED_THROUGH


def _cross(one: list[float], other: list[float]) -> list[float]:
    (a, b, c), (d, e, f) = one, other
    return [b * f - c * e, c * d - a * f, a * e - b * d]


def niggli(cell: Reduced) -> Reduced:
    """As ``Structure.get_reduced_structure("niggli")``."""
    lattice = cell.lattice
    found = lattice.get_niggli_reduced_lattice()
    if np.allclose(found.matrix, lattice.matrix):
        return cell
    cartesian = np.dot(cell.frac_coords, lattice.matrix)
    frac = np.mod(np.dot(cartesian, found.inv_matrix), 1)
    return Reduced(np.array(found.matrix), frac, cell.atomic_numbers)


def smallest(cell: Reduced) -> Reduced | None:
    """As ``Structure.get_primitive_structure()``: smaller cells are looked for until there is none.

    None where there are more than :data:`MAX_SUPERCELLS` to look through before one is found.
    """
    groups = _species(cell.atomic_numbers)
    units = math.gcd(*(len(g) for g in groups))
    if units == 1:  # pymatgen looks through the divisors of this number but 1
        return cell
    frac = [cell.frac_coords[g] for g in groups]
    tolerance = TOLERANCE / np.sqrt((cell.matrix**2).sum(axis=1))
    vectors = _translations(frac, tolerance)
    if len(vectors) == 1 and tolerance.max() < 1 / units:
        # Only the zero vector: each row of an inverse would have to be near integers, but one is not made of
        # integers, and its entries are multiples of 1 / size.
        return cell
    apart: list[NDArray[np.bool_]] = []
    looked_through = 0
    for size in _divisors(units)[1:]:
        count = _num_sublattices(size)
        looked_through += count
        if looked_through > MAX_SUPERCELLS:
            return None
        for inverses, matrices in _few_sublattices(size) if count < _FEW else _sublattices(size):
            for inverse, matrix in _fitting(inverses, matrices, vectors, tolerance):
                apart = apart or [_not_neighbours(f, tolerance) for f in frac]
                merged = _merged(cell, inverse, matrix, size, groups, frac, apart)
                if merged is not None:
                    found = smallest(merged)
                    return None if found is None else niggli(found)
    return cell


def _fitting(
    inverses: Floats, matrices: NDArray[np.int64], vectors: Floats, tolerance: Floats
) -> Iterator[tuple[Floats, NDArray[np.int64]]]:
    """Those whose every row is one of the translations."""
    step = max(1, _AT_ONCE // (9 * len(vectors)))
    for i in range(0, len(inverses), step):
        distance = inverses[i : i + step, :, None, :] - vectors[None, None, :, :]
        distance = np.abs(distance - np.round(distance))
        there = (distance < tolerance).all(axis=-1).any(axis=-1).all(axis=-1)
        yield from zip(inverses[i : i + step][there], matrices[i : i + step][there], strict=True)


def _species(numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Sites of each species, the species in the alphabetical order of their symbols."""
    order = sorted(set(numbers.tolist()), key=_symbol)
    return [np.flatnonzero(numbers == z) for z in order]


@lru_cache(maxsize=128)
def _symbol(number: int) -> str:
    from pymatgen.core import Element

    return Element.from_Z(number).symbol


def _translations(frac: list[Floats], tolerance: Floats) -> Floats:
    """Vectors that take each site to within twice the tolerance of one of its species."""
    fewest = min(frac, key=len)
    vectors = fewest - fewest[0]
    for group in sorted(frac, key=len):
        for site in group:
            if len(vectors) == 1:  # what takes nothing anywhere is never lost
                return vectors
            vectors = vectors[_near(vectors, group - site, 2 * tolerance)]
    return vectors


def _near(vectors: Floats, others: Floats, tolerance: Floats) -> NDArray[np.bool_]:
    """Which of the vectors are, but for integers, within the tolerance of one of the others."""
    if len(vectors) * len(others) > _MANY_PAIRS and (tolerance < 0.5).all():
        from scipy.spatial import cKDTree

        box = 1 / tolerance
        tree = cKDTree(_wrapped(others) * box, boxsize=box)
        return np.isfinite(tree.query(_wrapped(vectors) * box, p=np.inf, distance_upper_bound=1.0)[0])
    gaps = vectors[:, None, :] - others[None, :, :]
    return np.asarray((np.abs(gaps - np.round(gaps)) < tolerance).all(axis=-1).any(axis=-1))


def _wrapped(frac: Floats) -> Floats:
    inside = frac % 1
    return np.where(inside < 1, inside, 0.0)  # -1e-17 % 1 is 1.0


def _not_neighbours(frac: Floats, tolerance: Floats) -> NDArray[np.bool_]:
    gaps = frac[None, :, :] - frac[:, None, :]
    apart = np.asarray((np.abs(gaps - np.round(gaps)) > 2 * tolerance).any(axis=-1))
    np.fill_diagonal(apart, True)
    return apart


@lru_cache(maxsize=64)
def _few_sublattices(size: int) -> list[tuple[Floats, NDArray[np.int64]]]:
    return list(_sublattices(size))


def _sublattices(size: int) -> Iterator[tuple[Floats, NDArray[np.int64]]]:
    """(inverses, matrices) of every supercell of this size in Hermite normal form, in pymatgen's order."""
    for a in _divisors(size):
        for e in _divisors(size // a):
            g = size // a // e
            matrices = np.zeros((a * a * e, 3, 3), dtype=np.int64)
            matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 2, 2] = a, e, g
            offsets = np.indices((a, a, e)).reshape(3, -1)
            matrices[:, 0, 1], matrices[:, 0, 2], matrices[:, 1, 2] = offsets
            yield np.linalg.inv(matrices), matrices


def _num_sublattices(size: int) -> int:
    """How many :func:`_sublattices` there are."""
    return sum(a * a * e for a in _divisors(size) for e in _divisors(size // a))


def _divisors(number: int) -> list[int]:
    return [i for i in range(1, number + 1) if number % i == 0]


def _merged(
    cell: Reduced,
    inverse: Floats,
    matrix: NDArray[np.int64],
    size: int,
    groups: list[NDArray[np.int64]],
    frac: list[Floats],
    apart: list[NDArray[np.bool_]],
) -> Reduced | None:
    """The smaller cell, equivalent sites averaged; None where they do not fall together by ``size``."""
    new_matrix = np.dot(inverse, cell.matrix)
    tolerance = TOLERANCE / np.sqrt((new_matrix**2).sum(axis=1))
    coords, numbers = [], []
    for sites, old, not_near in zip(groups, frac, apart, strict=True):
        placed = np.dot(old, matrix)
        gaps = placed[None, :, :] - placed[:, None, :]
        together = (np.abs(gaps - np.round(gaps)) < tolerance).all(axis=-1) & not_near
        if not (together.sum(axis=0) == size).all():
            return None
        if not all(together[row][:, row].all() for row in together):
            return None
        added = np.zeros(len(sites), dtype=bool)
        wrapped = placed % 1
        for first, row in enumerate(together):
            if not added[first]:
                added[row] = True
                members = np.flatnonzero(row)
                mean = wrapped[members[0]]
                for count, member in enumerate(members[1:], start=2):
                    offset = wrapped[member] - mean
                    mean += (offset - np.round(offset)) / count
                coords.append(mean)
                numbers.append(int(cell.atomic_numbers[sites[0]]))
    return Reduced(new_matrix, np.array(coords), np.array(numbers, dtype=np.int64))
