"""CHGNet's message passing with fewer operations: the same weights, the same function.

Every gated block of CHGNet begins with a linear layer on features put side by side: those of a centre, of
its bonds and of the angle between them. A linear layer of ``[a, b, c]`` is ``a A + b B + c C``. So each part
is multiplied once a site or once a bond, and the products are added up at the edges or angles, of which there
are many more. Two things are left out: the last update of the angles, which nothing reads; and the update of
bonds without angles, whose features never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from crysjepa.relaxation.force_fields.chgnet_graph import Graph


class Merged:
    """Many crystals as one graph: N sites, E directed and U undirected edges, A angles.

    Of the undirected edges the S at which there are angles (short ones) come first, and of the directed ones
    ``short`` (D,) lists those. ``frac_coords`` (N, 3) and ``lattices`` (B, 3, 3) may be differentiated by.
    """

    def __init__(self, graphs: Sequence[Graph], device: str) -> None:
        def before(counts: Sequence[int]) -> NDArray[np.int64]:
            return np.cumsum([0, *counts[:-1]])

        def joined(name: str, offsets: NDArray[np.int64] | None = None) -> NDArray[Any]:
            parts = [getattr(g, name) for g in graphs]
            if offsets is not None:
                parts = [p + o for p, o in zip(parts, offsets, strict=True)]
            return np.concatenate(parts)

        def tensor(rows: NDArray[Any], dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.as_tensor(rows, dtype=dtype).to(device)

        num_sites, num_edges = [g.num_sites for g in graphs], [len(g.edges) for g in graphs]
        sites, directed = before(num_sites), before(num_edges)
        self._starts = sites
        self.frac_coords = tensor(joined("frac_coords"), torch.float32)
        self.lattices = tensor(np.stack([g.lattice for g in graphs]), torch.float32)
        self._images = tensor(joined("images"), torch.float32)
        self._owner = tensor(np.repeat(np.arange(len(graphs)), num_sites))
        self._edge_owner = tensor(np.repeat(np.arange(len(graphs)), num_edges))
        self.elements = tensor(joined("atomic_numbers") - 1)

        edges = joined("edges", sites)
        undirected = joined("undirected", directed // 2)
        first = joined("directed", directed)
        angles = joined("angles", np.column_stack([sites, *[directed // 2, directed] * 2]))
        with_angles = np.zeros(len(first), dtype=bool)
        with_angles[angles[:, 1]] = True
        order = np.argsort(~with_angles, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        is_short = with_angles[undirected]
        self.num_short = int(with_angles.sum())
        self.center, self.neighbor = tensor(edges[:, 0]), tensor(edges[:, 1])
        self.undirected, self.first = tensor(place[undirected]), tensor(first[order])
        self.short = tensor(np.flatnonzero(is_short))
        self.short_center = tensor(edges[is_short, 0])
        self.short_undirected = tensor(place[undirected[is_short]])
        place_of_directed = np.cumsum(is_short) - 1
        self.one, self.two = (tensor(place_of_directed[angles[:, column]]) for column in (2, 4))
        self.two_undirected = tensor(place[angles[:, 3]])

    def by_crystal(self, rows: Tensor) -> list[NDArray[np.float64]]:
        """Rows (N, …) of the sites, as many arrays (n, …) as there are crystals."""
        return np.split(rows.cpu().double().numpy(), self._starts[1:])

    def vectors(self) -> Tensor:
        """(E, 3) from the neighbour to the centre of each edge, Å."""
        coords = _by_lattice(self.frac_coords, self.lattices, self._owner)
        ends = coords.index_select(0, self.neighbor) + _by_lattice(
            self._images, self.lattices, self._edge_owner
        )
        return coords.index_select(0, self.center) - ends


def _by_lattice(rows: Tensor, lattices: Tensor, owner: Tensor) -> Tensor:
    return torch.einsum("ni,nij->nj", rows, lattices.index_select(0, owner))


class Network:
    """The energies of a loaded ``chgnet.model.CHGNet`` of 0.3.0's architecture, whose weights it shares."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._atoms = [_Gated(layer.twoBody_atom, 3) for layer in model.atom_conv_layers]
        self._bonds = [_Gated(layer.twoBody_bond, 4) for layer in model.bond_conv_layers]
        self._angles = [_Gated(layer.twoBody_bond, 4) for layer in model.angle_layers]
        self._out = [_transposed(layer.mlp_out.layers[-1]) for layer in model.atom_conv_layers]
        self._bonds_out = [_transposed(layer.mlp_out.layers[-1]) for layer in model.bond_conv_layers]
        self._embed = _transposed(model.bond_embedding)
        self._long = [self._embed @ gated.first[1] for gated in self._atoms]

    def site_energies(self, graph: Merged) -> Tensor:
        """(N,) energies of all sites in eV."""
        model, num_short = self._model, graph.num_short
        vectors = graph.vectors()
        lengths = vectors.norm(dim=1)
        undirected = lengths.index_select(0, graph.first)
        basis = model.bond_basis_expansion.rbf_expansion_ag(undirected)
        weights = model.bond_weights_ag(basis).index_select(0, graph.undirected)
        sites = model.atom_embedding(graph.elements)
        bonds, long = basis[:num_short] @ self._embed, basis[num_short:]
        if num_short:
            short_basis = model.bond_basis_expansion.rbf_expansion_bg(undirected[:num_short])
            short_weights = model.bond_weights_bg(short_basis)
            angles = self._angle_features(graph, vectors, lengths)
        for layer, gated in enumerate(self._atoms):
            at_sites, at_bonds, at_neighbors = gated.first
            found = torch.addmm(gated.bias, sites, at_sites).index_select(0, graph.center)
            products = torch.cat([bonds @ at_bonds, long @ self._long[layer]])
            found += products.index_select(0, graph.undirected)
            found += (sites @ at_neighbors).index_select(0, graph.neighbor)
            messages = gated.rest(found) * weights
            sites = sites + _summed(messages, graph.center, len(sites)) @ self._out[layer]
            if not num_short or layer == len(self._bonds):
                continue
            messages = self._bonds[layer](graph, sites, bonds, angles)
            messages = messages * short_weights.index_select(0, graph.two_undirected)
            at_one = _summed(messages, graph.one, len(graph.short))
            updates = _summed(at_one, graph.short_undirected, num_short) * short_weights
            bonds = bonds + updates @ self._bonds_out[layer]
            if layer + 1 < len(self._bonds):
                angles = angles + self._angles[layer](graph, sites, bonds, angles)
        energies: Tensor = model.mlp(model.readout_norm(sites)).squeeze(1)
        return energies + model.composition_model.fc.weight[0, graph.elements]

    def _angle_features(self, graph: Merged, vectors: Tensor, lengths: Tensor) -> Tensor:
        """(A, 64)."""
        directions = vectors.index_select(0, graph.short) / lengths.index_select(0, graph.short)[:, None]
        one, two = directions.index_select(0, graph.one), directions.index_select(0, graph.two)
        found: Tensor = self._model.angle_embedding(self._model.angle_basis_expansion(one, two))
        return found


class _Gated:
    """A ``chgnet.model.functions.GatedMLP`` whose input is ``parts`` features of 64 side by side.

    ``first``: the part of the first layer's weights (64, 128) that each is multiplied by, those of the core
    beside those of the gate.
    """

    def __init__(self, layer: Any, parts: int) -> None:
        branches = [
            [m for m in mlp.layers if isinstance(m, nn.Linear)] for mlp in (layer.mlp_core, layer.mlp_gate)
        ]
        weights = torch.cat([branch[0].weight for branch in branches])
        self.first = [part.t().contiguous() for part in weights.chunk(parts, dim=1)]
        self.bias = torch.cat([branch[0].bias for branch in branches])
        self._second = [branch[1] for branch in branches if len(branch) > 1]
        self._norms = layer.bn1, layer.bn2

    def __call__(self, graph: Merged, sites: Tensor, bonds: Tensor, angles: Tensor) -> Tensor:
        """(A, 64), of the features of one bond, of the other, of the angle and of the centre."""
        at_one, at_two, at_angles, at_sites = self.first
        by_edge = torch.addmm(self.bias, sites, at_sites).index_select(0, graph.short_center)
        by_edge += (bonds @ at_one).index_select(0, graph.short_undirected)
        found = by_edge.index_select(0, graph.one)
        found += (bonds @ at_two).index_select(0, graph.two_undirected)
        return self.rest(torch.addmm(found, angles, at_angles))

    def rest(self, found: Tensor) -> Tensor:
        """All but the first layer, whose outputs (n, 128) these are."""
        if self._second:
            halves = functional.silu(found).chunk(2, dim=1)
            core, gate = (layer(half) for layer, half in zip(self._second, halves, strict=True))
        else:
            core, gate = found.chunk(2, dim=1)
        return functional.silu(self._norms[0](core)) * torch.sigmoid(self._norms[1](gate))


def _transposed(layer: nn.Linear) -> Tensor:
    return layer.weight.t().contiguous()


def _summed(rows: Tensor, owner: Tensor, number: int) -> Tensor:
    """(number, …): the sums of the rows with the same owner."""
    return rows.new_zeros(number, rows.shape[1]).index_add(0, owner, rows)
