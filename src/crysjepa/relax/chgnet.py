"""CHGNet as a batched force field.

The weights come with the ``chgnet`` package (Deng et al., Nature Machine Intelligence 5, 1031, 2023).
Crystal graphs are built here with array operations, to the definition of
``chgnet.graph.CrystalGraphConverter``, and forces and stress come from one backward pass over the
fractional coordinates and the lattice, where ``CHGNet.predict_graph`` makes two that keep their graph.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.relax.interface import Prediction, T, check_energy, describe_error, evaluate_batch

if TYPE_CHECKING:
    from ase import Atoms

MAX_ATOMIC_NUMBER = 94
MAX_SITES = {"cpu": 48, "cuda": 400}
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
        self._max_sites = MAX_SITES.get(device.split(":")[0], 400)

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
        self, atoms: Sequence[Atoms], evaluate: Callable[[Sequence[Any]], list[T | str]]
    ) -> list[T | str]:
        results: list[T | str] = [""] * len(atoms)
        graphs: dict[int, Any] = {}
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

    def _energies(self, graphs: Sequence[Any]) -> list[float]:
        import torch

        moved = [g.to(self._device) for g in graphs]
        sites = torch.tensor([len(g.atomic_number) for g in moved], device=self._device)
        with torch.inference_mode():
            energies = self._model(moved, task="e")["e"] * sites
        return [float(e) for e in energies.cpu().double()]

    def _site_energies(self, graphs: Sequence[Any]) -> list[NDArray[np.float64]]:
        import torch

        with torch.inference_mode():
            found = self._model([g.to(self._device) for g in graphs], task="e", return_site_energies=True)
        return [torch.as_tensor(e).cpu().double().numpy() for e in found["site_energies"]]

    def _predict(self, graphs: Sequence[Any]) -> list[Prediction]:
        import torch

        moved = [g.to(self._device) for g in graphs]
        for graph in moved:
            graph.atom_frac_coord = graph.atom_frac_coord.detach().requires_grad_(True)
            graph.lattice = graph.lattice.detach().requires_grad_(True)
        sites = torch.tensor([len(g.atomic_number) for g in moved], device=self._device)
        with warnings.catch_warnings():  # chgnet makes plain numbers of the volumes, which we do not use
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad=True")
            energies = self._model(moved, task="e")["e"] * sites
        variables = [g.atom_frac_coord for g in moved] + [g.lattice for g in moved]
        gradients = [g.cpu().double().numpy() for g in torch.autograd.grad(energies.sum(), variables)]
        lattices = [g.lattice.detach().cpu().double().numpy() for g in moved]
        return [
            _prediction(float(energy), lattice, by_coords, by_lattice)
            for energy, lattice, by_coords, by_lattice in zip(
                energies.detach().cpu().double(),
                lattices,
                gradients[: len(moved)],
                gradients[len(moved) :],
                strict=True,
            )
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


def _batches(graphs: dict[int, Any], max_sites: int) -> Iterator[list[int]]:
    """Neighbouring graphs in batches of at most ``max_sites`` sites and :data:`MAX_ANGLES` angles."""
    batch: list[int] = []
    sites = angles = 0
    for i, graph in graphs.items():
        more_sites, more_angles = len(graph.atomic_number), len(graph.bond_graph)
        if batch and (sites + more_sites > max_sites or angles + more_angles > MAX_ANGLES):
            yield batch
            batch, sites, angles = [], 0, 0
        batch.append(i)
        sites, angles = sites + more_sites, angles + more_angles
    if batch:
        yield batch


def crystal_graph(atoms: Atoms, cutoff: float = 6.0, bond_cutoff: float = 3.0) -> Any:
    """The ``chgnet`` CrystalGraph of a crystal, or the reason why it has none.

    Two directed edges that are each other's reverse make an undirected one; an angle is an ordered pair
    of different edges, both shorter than ``bond_cutoff`` (Å), that leave the same atom.
    """
    import torch
    from chgnet.graph.crystalgraph import CrystalGraph

    if reason := _not_computable(atoms, cutoff):
        return reason
    center, neighbor, image, distance = _directed_edges(atoms, cutoff)
    if alone := len(atoms) - len(np.unique(center)):
        return f"{alone} of {len(atoms)} atoms have no neighbour within {cutoff:g} Å"
    short = np.flatnonzero(distance < bond_cutoff)
    counts = np.bincount(center[short], minlength=len(atoms))
    if (angles := int((counts * (counts - 1)).sum())) > MAX_ANGLES:
        return f"{angles} angles within {bond_cutoff:g} Å: too dense to evaluate"
    undirected, first = _pair(center, neighbor, image)
    one, two = _pairs_within(center[short], counts)
    one, two = short[one], short[two]
    bond_graph = np.column_stack([center[one], undirected[one], one, undirected[two], two])
    return CrystalGraph(
        atomic_number=torch.tensor(atoms.numbers, dtype=torch.int32),
        atom_frac_coord=torch.tensor(atoms.cell.scaled_positions(atoms.positions), dtype=torch.float32),
        atom_graph=torch.tensor(np.column_stack([center, neighbor]), dtype=torch.int32),
        atom_graph_cutoff=cutoff,
        neighbor_image=torch.tensor(image, dtype=torch.float32),
        directed2undirected=torch.tensor(undirected, dtype=torch.int32),
        undirected2directed=torch.tensor(first, dtype=torch.int32),
        bond_graph=torch.tensor(bond_graph, dtype=torch.int32),
        bond_graph_cutoff=bond_cutoff,
        lattice=torch.tensor(atoms.cell.array, dtype=torch.float32),
    )


def _not_computable(atoms: Atoms, cutoff: float) -> str | None:
    """Why no neighbours should be searched: it would end in nonsense, or in all of the memory."""
    unknown = atoms.numbers[(atoms.numbers > MAX_ATOMIC_NUMBER) | (atoms.numbers < 1)]
    if len(unknown):
        return f"CHGNet knows the elements 1 to {MAX_ATOMIC_NUMBER}, not Z = {unknown[0]}"
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return "a coordinate or lattice vector is not finite"
    a, b, c = atoms.cell.array
    sides = np.linalg.norm([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=1)
    if atoms.cell.volume < 1e-6 * sides.max():
        return "the cell has no volume"
    images = np.prod(2 * np.ceil(cutoff * sides / atoms.cell.volume) + 1)
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
