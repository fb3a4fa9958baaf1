"""Crystal graphs by array operations, to the definition of ``chgnet.graph.CrystalGraphConverter``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crysjepa.relaxation.checks import spacings
from crysjepa.relaxation.force_fields.base import alone

if TYPE_CHECKING:
    from ase import Atoms

MAX_ATOMIC_NUMBER = 94
CUTOFF, BOND_CUTOFF = 6.0, 3.0
"""Å: of edges, and of those between which angles are seen."""
MAX_ANGLES = 200_000
"""Angles in one batch, and in one crystal: some 5 GB. Dense matter has about 300 for a site."""
MAX_IMAGES = 1_000_000
"""Periodic images of all sites that may have to be looked at for one crystal."""


@dataclass(frozen=True)
class Graph:
    """What CHGNet looks at of a crystal with n sites, E directed and E/2 undirected edges and A angles.

    ``atomic_numbers`` (n,), ``frac_coords`` (n, 3), ``lattice`` (3, 3) in Å; ``edges`` (E, 2) from site to
    site, into the cells ``images`` (E, 3); ``undirected`` (E,) each edge's undirected one, ``directed``
    (E/2,) one edge of each of those; ``angles`` (A, 5) a site, and the undirected and the directed edge to
    either side.
    """

    atomic_numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    lattice: NDArray[np.float64]
    edges: NDArray[np.int64]
    images: NDArray[np.int64]
    undirected: NDArray[np.int64]
    directed: NDArray[np.int64]
    angles: NDArray[np.int64]

    @property
    def num_sites(self) -> int:
        """n."""
        return len(self.atomic_numbers)


def crystal_graph(atoms: Atoms) -> Graph | str:
    """The graph of a crystal, or the reason why it has none.

    Two directed edges that are each other's reverse make an undirected one; an angle is an ordered pair
    of different edges, both shorter than :data:`BOND_CUTOFF`, that leave the same atom.
    """
    if reason := _not_computable(atoms, CUTOFF):
        return reason
    center, neighbor, image, distance = _directed_edges(atoms, CUTOFF)
    if number := len(atoms) - len(np.unique(center)):
        return alone(number, len(atoms), CUTOFF)
    short = np.flatnonzero(distance < BOND_CUTOFF)
    counts = np.bincount(center[short], minlength=len(atoms))
    if (angles := int((counts * (counts - 1)).sum())) > MAX_ANGLES:
        return f"{angles} angles within {BOND_CUTOFF:g} Å: too dense to evaluate"
    undirected, first = _pair(center, neighbor, image)
    one, two = _pairs_within(center[short], counts)
    one, two = short[one], short[two]
    return Graph(
        atomic_numbers=atoms.numbers,
        frac_coords=atoms.cell.scaled_positions(atoms.positions),
        lattice=atoms.cell.array,
        edges=np.column_stack([center, neighbor]),
        images=image,
        undirected=undirected,
        directed=first,
        angles=np.column_stack([center[one], undirected[one], one, undirected[two], two]),
    )


def _not_computable(atoms: Atoms, cutoff: float) -> str | None:
    """Why no neighbours should be searched: it would end in nonsense, or in all of the memory."""
    unknown = atoms.numbers[(atoms.numbers > MAX_ATOMIC_NUMBER) | (atoms.numbers < 1)]
    if len(unknown):
        return f"CHGNet knows the elements 1 to {MAX_ATOMIC_NUMBER}, not Z = {unknown[0]}"
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return "a coordinate or lattice vector is not finite"
    with np.errstate(divide="ignore", invalid="ignore"):
        across = spacings(atoms.cell.array)
    if not across.min() > 1e-6:
        return "the cell has no volume"
    images = np.prod(2 * np.ceil(cutoff / across) + 1)
    if images * len(atoms) > MAX_IMAGES:
        return f"over {MAX_IMAGES} periodic images within {cutoff:g} Å: the cell is too small or too skewed"
    return None


def _directed_edges(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(center, neighbor, image, distance), sorted by centre, each edge with its reverse."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    positions = np.ascontiguousarray(atoms.positions, dtype=float)
    center, neighbor, image, distance = find_points_in_spheres(
        positions,
        positions,
        r=float(cutoff),
        pbc=np.ones(3, dtype=np.int64),
        lattice=np.ascontiguousarray(atoms.cell.array, dtype=float),
        tol=1e-8,
    )
    image = image.astype(np.int64)
    keep = (center != neighbor) | (image != 0).any(axis=1)
    edges = np.column_stack([center, neighbor, image])[keep].astype(np.int64)
    distance = distance[keep]
    # rounding may find an edge that is exactly as long as the cutoff in one direction only
    order = np.lexsort(edges.T[::-1])
    edges, distance = edges[order], distance[order]
    reverse = np.column_stack([edges[:, 1], edges[:, 0], -edges[:, 2:]])
    mirrored = np.lexsort(reverse.T[::-1])
    if not np.array_equal(reverse[mirrored], edges):
        known = {tuple(e) for e in edges.tolist()}
        both = np.asarray([tuple(r) in known for r in reverse.tolist()], dtype=bool)
        edges, distance = edges[both], distance[both]
    return edges[:, 0], edges[:, 1], edges[:, 2:], distance


def _pair(center: np.ndarray, neighbor: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For sorted directed edges: the undirected edge of each, and one directed edge of each undirected."""
    reverse = np.lexsort(np.column_stack([neighbor, center, -image]).T[::-1])
    first = np.flatnonzero(np.arange(len(center)) < reverse)
    undirected = np.empty(len(center), dtype=np.int64)
    undirected[first] = undirected[reverse[first]] = np.arange(len(first))
    return undirected, first


def _pairs_within(owner: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all ordered pairs of different entries with the same owner; ``owner`` is sorted."""
    starts = np.cumsum(counts) - counts
    partners = counts[owner]
    one = np.repeat(np.arange(len(owner)), partners)
    within = np.arange(len(one)) - np.repeat(np.cumsum(partners) - partners, partners)
    two = starts[owner[one]] + within
    return one[one != two], two[one != two]
