"""CHGNet as a batched force field.

The weights come with the ``chgnet`` package (Deng et al., Nature Machine Intelligence 5, 1031, 2023).
Crystal graphs are built here with array operations, to the definition of
``chgnet.graph.CrystalGraphConverter``, and forces and stress come from one backward pass over the
fractional coordinates and the lattice, where ``CHGNet.predict_graph`` makes two that keep their graph.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.relaxation.checks import spacings
from crysjepa.relaxation.force_fields.base import (
    Prediction,
    T,
    alone,
    check_energy,
    evaluate_batch,
)
from crysjepa.runtime.errors import describe_error

if TYPE_CHECKING:
    from ase import Atoms
    from torch import Tensor

MAX_ATOMIC_NUMBER = 94
CUTOFF, BOND_CUTOFF = 6.0, 3.0
"""Å: of edges, and of those between which angles are seen."""
MAX_SITES = {"cpu": 48, "cuda": 2000}
"""Sites in one batch. On a CPU small batches are the faster ones: their features stay in the cache."""
MAX_ANGLES = 200_000
"""Angles in one batch, and in one crystal: some 5 GB. Dense matter has about 300 for a site."""
MAX_IMAGES = 1_000_000
"""Periodic images of all sites that may have to be looked at for one crystal."""


class ChgnetForceField:
    """CHGNet 0.3.0, trained on MPtrj energies with MP2020 corrections.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:0"``.
    """

    name = "chgnet"
    version = "0.3.0"
    scale = "materials_project"
    max_atomic_number = MAX_ATOMIC_NUMBER

    def __init__(self, device: str = "cpu") -> None:
        from chgnet.model import CHGNet

        with contextlib.redirect_stdout(io.StringIO()):  # it announces itself even with verbose=False
            model = CHGNet.load(model_name=self.version, verbose=False, use_device=device)
        self._model = model.eval().requires_grad_(False)
        self._device = device
        self._max_sites = MAX_SITES.get(device.split(":")[0], MAX_SITES["cuda"])

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
        """A prediction or a reason for each crystal, computed in batches of bounded memory."""
        return self._each(atoms, lambda graphs: evaluate_batch(graphs, self._predict))

    def energies(self, atoms: Sequence[Atoms]) -> list[float | str]:
        """Total energies in eV alone, without the backward pass: for crystals that are not to be moved."""
        return self._each(atoms, lambda graphs: evaluate_batch(graphs, self._energies, check_energy))

    def site_energies(self, atoms: Sequence[Atoms]) -> list[NDArray[np.float64] | str]:
        """Each site's share (n,) of the total energy in eV; they sum to it."""
        return self._each(atoms, lambda graphs: evaluate_batch(graphs, self._site_energies, check_energy))

    def _each(
        self, atoms: Sequence[Atoms], evaluate: Callable[[Sequence[Graph]], list[T | str]]
    ) -> list[T | str]:
        results: list[T | str] = [""] * len(atoms)
        graphs: dict[int, Graph] = {}
        for i, a in enumerate(atoms):
            try:
                graph = crystal_graph(a)
            except Exception as error:  # noqa: BLE001 - third-party neighbour search; recorded for this crystal
                graph = f"no crystal graph: {describe_error(error)}"
            if isinstance(graph, str):
                results[i] = graph
            else:
                graphs[i] = graph
        for batch in _batches(graphs, self._max_sites):
            for i, result in zip(batch, evaluate([graphs[i] for i in batch]), strict=True):
                results[i] = result
        return results

    def _energies(self, graphs: Sequence[Graph]) -> list[float]:
        return [float(e.sum()) for e in self._site_energies(graphs)]

    def _site_energies(self, graphs: Sequence[Graph]) -> list[NDArray[np.float64]]:
        import torch

        merged = _Merged(graphs, self._device)
        with torch.inference_mode():
            return merged.by_crystal(self._forward(merged))

    def _forward(self, merged: _Merged) -> Tensor:
        """(N,) energies of all sites in eV."""
        (found,) = self._model([merged.graph()], task="e", return_site_energies=True)["site_energies"]
        return found

    def _predict(self, graphs: Sequence[Graph]) -> list[Prediction]:
        import torch

        merged = _Merged(graphs, self._device)
        variables = [merged.frac_coords.requires_grad_(), merged.lattices.requires_grad_()]
        by_site = self._forward(merged)
        by_coords, by_lattice = torch.autograd.grad(by_site.sum(), variables)
        found = zip(
            merged.by_crystal(by_site.detach()), merged.by_crystal(by_coords),
            by_lattice.cpu().double().numpy(), strict=True,
        )  # fmt: skip
        return [
            _prediction(float(energies.sum()), graph.lattice, slopes, slope)
            for graph, (energies, slopes, slope) in zip(graphs, found, strict=True)
        ]


def _prediction(
    energy: float, lattice: np.ndarray, by_coords: np.ndarray, by_lattice: np.ndarray
) -> Prediction:
    """From derivatives by fractional coordinates X and lattice L: with x = X L and L(ε) = L (1 + ε),
    dE/dx = dE/dX L⁻ᵀ and dE/dε = Lᵀ dE/dL.
    """
    forces = -np.linalg.solve(lattice, by_coords.T).T
    strain = lattice.T @ by_lattice / abs(np.linalg.det(lattice))
    strain = (strain + strain.T) / 2
    return Prediction(energy, forces, strain[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])


def _batches(graphs: dict[int, Graph], max_sites: int) -> Iterator[list[int]]:
    """Neighbouring graphs in batches of at most ``max_sites`` sites and :data:`MAX_ANGLES` angles."""
    batch: list[int] = []
    sites = angles = 0
    for i, graph in graphs.items():
        more_sites, more_angles = graph.num_sites, len(graph.angles)
        if batch and (sites + more_sites > max_sites or angles + more_angles > MAX_ANGLES):
            yield batch
            batch, sites, angles = [], 0, 0
        batch.append(i)
        sites, angles = sites + more_sites, angles + more_angles
    if batch:
        yield batch


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


class _Merged:
    """Many crystals as one ``chgnet`` CrystalGraph, so that features are made of all of them at once.

    Its coordinates are Cartesian, its lattice is the identity, and an edge's image is the vector from cell
    to cell: to CHGNet that is the same, and each crystal keeps a lattice of its own to differentiate by.
    """

    def __init__(self, graphs: Sequence[Graph], device: str) -> None:
        import torch

        def stacked(name: str, dtype: torch.dtype, offsets: NDArray[np.int64] | None = None) -> Tensor:
            parts = [getattr(g, name) for g in graphs]
            if offsets is not None:
                parts = [p + o for p, o in zip(parts, offsets, strict=True)]
            return torch.as_tensor(np.concatenate(parts), dtype=dtype).to(device)

        def before(counts: list[int]) -> NDArray[np.int64]:
            return np.cumsum([0, *counts[:-1]])

        def owner(counts: list[int]) -> Tensor:
            return torch.as_tensor(np.repeat(np.arange(len(counts)), counts)).to(device)

        num_sites, num_edges = [g.num_sites for g in graphs], [len(g.edges) for g in graphs]
        sites, directed = before(num_sites), before(num_edges)
        undirected = directed // 2
        angle_offsets = np.column_stack([sites, undirected, directed, undirected, directed])
        self._starts = sites
        self.frac_coords = stacked("frac_coords", torch.float32)
        self.lattices = torch.as_tensor(np.stack([g.lattice for g in graphs]), dtype=torch.float32).to(device)
        self._images = stacked("images", torch.float32)
        self._owner, self._edge_owner = owner(num_sites), owner(num_edges)
        self._indices: dict[str, Any] = {
            "atomic_number": stacked("atomic_numbers", torch.int32),
            "atom_graph": stacked("edges", torch.int32, sites),
            "directed2undirected": stacked("undirected", torch.int32, undirected),
            "undirected2directed": stacked("directed", torch.int32, directed),
            "bond_graph": stacked("angles", torch.int32, angle_offsets),
        }

    def by_crystal(self, rows: Tensor) -> list[NDArray[np.float64]]:
        """Rows (N, …) of the sites, as many arrays (n, …) as there are crystals."""
        return np.split(rows.cpu().double().numpy(), self._starts[1:])

    def graph(self) -> Any:
        """For the model; a function of ``frac_coords`` (N, 3) and ``lattices`` (B, 3, 3)."""
        import torch
        from chgnet.graph.crystalgraph import CrystalGraph

        def cartesian(rows: Tensor, owner: Tensor) -> Tensor:
            return torch.einsum("ni,nij->nj", rows, self.lattices.index_select(0, owner))

        return CrystalGraph(
            atom_frac_coord=cartesian(self.frac_coords, self._owner),
            neighbor_image=cartesian(self._images, self._edge_owner),
            lattice=torch.eye(3, device=self.lattices.device),
            atom_graph_cutoff=CUTOFF,
            bond_graph_cutoff=BOND_CUTOFF,
            **self._indices,
        )


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
