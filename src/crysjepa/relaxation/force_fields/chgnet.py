"""CHGNet as a batched force field.

The weights come with the ``chgnet`` package (Deng et al., Nature Machine Intelligence 5, 1031, 2023).
Crystal graphs are those of :mod:`crysjepa.relaxation.force_fields.chgnet_graph`, and the network is that of
:mod:`crysjepa.relaxation.force_fields.chgnet_network`. Forces and stress come from one backward pass over the
fractional coordinates and the lattice, where ``CHGNet.predict_graph`` makes two that keep their graph.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crysjepa.relaxation.force_fields.base import Prediction, T, check_energy, evaluate_batch
from crysjepa.relaxation.force_fields.chgnet_graph import (
    MAX_ANGLES,
    MAX_ATOMIC_NUMBER,
    Graph,
    crystal_graph,
)
from crysjepa.runtime.errors import describe_error

if TYPE_CHECKING:
    from ase import Atoms

MAX_SITES = {"cpu": 96, "cuda": 2000}
"""Sites in one batch. On a CPU small batches are the faster ones: their features stay in the cache."""


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

        from crysjepa.relaxation.force_fields.chgnet_network import Network

        with contextlib.redirect_stdout(io.StringIO()):  # it announces itself even with verbose=False
            model = CHGNet.load(model_name=self.version, verbose=False, use_device=device)
        self._network = Network(model.eval().requires_grad_(False))
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
        for batch in batches_within(graphs, self._max_sites):
            for i, result in zip(batch, evaluate([graphs[i] for i in batch]), strict=True):
                results[i] = result
        return results

    def _energies(self, graphs: Sequence[Graph]) -> list[float]:
        return [float(e.sum()) for e in self._site_energies(graphs)]

    def _site_energies(self, graphs: Sequence[Graph]) -> list[NDArray[np.float64]]:
        import torch

        from crysjepa.relaxation.force_fields.chgnet_network import Merged

        merged = Merged(graphs, self._device)
        with torch.inference_mode():
            return merged.by_crystal(self._network.site_energies(merged))

    def _predict(self, graphs: Sequence[Graph]) -> list[Prediction]:
        import torch

        from crysjepa.relaxation.force_fields.chgnet_network import Merged

        merged = Merged(graphs, self._device)
        variables = [merged.frac_coords.requires_grad_(), merged.lattices.requires_grad_()]
        by_site = self._network.site_energies(merged)
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


def batches_within(graphs: dict[int, Graph], max_sites: int) -> Iterator[list[int]]:
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
