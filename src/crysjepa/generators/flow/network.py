"""The network of the flow: what each orbit should become, and where sites and lattice should go.

Layers are those of Crys-JEPA's invariant encoder (:mod:`crysjepa.jepa.invariant`), over orbits instead of
sites. Their densities of degree 1 and 2 are kept, since they are vectors and tensors: weighed by invariants
and added up they say where a site moves and how the cell is strained. So the velocity turns with the
crystal, moves with its origin, and leaves its symmetry as it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crysjepa.generators.flow.orbit_batches import OrbitBatch
from crysjepa.generators.flow.orbits import STRAINS
from crysjepa.jepa.invariant import (
    NUM_ELEMENTS,
    SCALES,
    InvariantConfig,
    InvariantEncoder,
    InvariantLayer,
    invariants,
)
from crysjepa.nn.geometry import orbit_features
from crysjepa.nn.transformer import sinusoidal

MASKED = NUM_ELEMENTS + 1
"""In the place of an element that is not chosen yet."""


@dataclass(frozen=True)
class Guess:
    """What the network says: ``types`` (B, R, 100), logits; ``sites`` (B, R, 3), Cartesian, in units of the
    cube root of the volume per site; ``strain`` (B, 6), in units of the prior's width.
    """

    types: Tensor
    sites: Tensor
    strain: Tensor


class FlowLayer(InvariantLayer):
    """h ← h + MLP(h, densities of degree 0, lengths of those of higher degree, all orbits' mean)."""

    def __init__(self, config: InvariantConfig) -> None:
        super().__init__(config)
        self.shared = nn.Linear(config.width, config.hidden)

    def step(
        self, h: Tensor, features: list[Tensor], shares: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, R, D), features, (B, R) shares of sites, (B, D) → (B, R, D), densities of degree 1 and 2."""
        own = self.norm(h)
        densities = self.densities(own, features)
        everywhere = self.shared((own * shares[..., None]).sum(dim=1) + condition)
        seen = torch.cat([own, *invariants(densities)], dim=-1)
        hidden = F.silu(self.first(seen) + everywhere[:, None])
        return h + self.second(hidden), densities[1], densities[2]


class FlowNetwork(nn.Module):
    """Orbits whose elements may be masked, whose sites and lattice may be noise, to a :class:`Guess`."""

    basis: Tensor

    def __init__(self, config: InvariantConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.element = nn.Embedding(NUM_ELEMENTS + 2, width, padding_idx=0)
        self.space_group = nn.Embedding(231, width)
        self.time = nn.Linear(width, width)
        self.site = nn.Linear(5, width)
        self.cell = nn.Linear(6, width)
        self.layers = nn.ModuleList(FlowLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.types = nn.Linear(width, NUM_ELEMENTS)
        self.towards = nn.Linear(width, config.layers * config.degrees[1])
        self.squeeze = nn.Linear(width, config.layers * config.degrees[2])
        self.of_cell = nn.Linear(width, 3)
        self.register_buffer("basis", torch.as_tensor(STRAINS, dtype=torch.float32), persistent=False)

    def _layers(self) -> list[FlowLayer]:
        return [layer for layer in self.layers if isinstance(layer, FlowLayer)]

    @torch.no_grad()
    def start_from(self, encoder: InvariantEncoder) -> None:
        """Take over the elements and layers of a trained encoder of the same width.

        It has learnt which surroundings cost energy, so it knows much of where sites would rather be. Further
        layers stay as they are; what the encoder does not know (time, symmetry, other orbits) starts small.

        Raises
        ------
        ValueError
            If the encoder's layers have another shape, or are more.
        """
        theirs, ours = asdict(encoder.config), asdict(self.config)
        if {**theirs, "layers": 0} != {**ours, "layers": 0} or theirs["layers"] > ours["layers"]:
            raise ValueError(f"a network of {ours} cannot start from an encoder of {theirs}")
        new = nn.ModuleList([self.time, self.site, self.cell, self.space_group])
        for weights in (*new.parameters(), *(w for own in self._layers() for w in own.shared.parameters())):
            weights.mul_(0.1)
        self.element.weight[:-1] = encoder.element.weight
        self.element.weight[-1] = encoder.element.weight[1:].mean(dim=0)
        for own, layer in zip(self._layers(), encoder.layers, strict=False):
            own.load_state_dict(layer.state_dict(), strict=False)

    def forward(
        self,
        batch: OrbitBatch,
        numbers: Tensor,
        free_coords: Tensor,
        strain: Tensor,
        shape: Tensor,
        t: Tensor,
    ) -> Guess:
        """What becomes of a crystal that is noise to the degree t.

        Parameters
        ----------
        batch
            Its orbits.
        numbers
            (B, R) atomic numbers, :data:`MASKED` where not chosen, 0 in padding.
        free_coords, strain
            (B, R, 3) and (B, 6) at t.
        shape
            (B, 6) the strain in units of the prior's width.
        t
            (B,) from 0, the crystal, to 1, noise.
        """
        mask = batch.mask
        lattices = batch.lattices(strain)
        seen = orbit_features(batch.sites(free_coords), lattices, batch.owner, batch.num_sites, mask.shape[1])
        features = [g.mul_(scale) for scale, g in zip(SCALES, seen, strict=True)]
        shares = batch.multiplicity / batch.num_sites[:, None]
        kinds = F.one_hot(batch.num_free, 4).to(strain.dtype)
        site = torch.cat([batch.multiplicity.clamp(min=1).log()[..., None], kinds], dim=-1)
        deviator = torch.einsum("bs,sij->bij", shape[:, 1:], self.basis[1:])
        squared = deviator @ deviator
        cell = self._cell_features(batch, numbers, shape, deviator, squared)
        condition = (
            self.time(sinusoidal(1000 * t, self.config.width))
            + self.space_group(batch.space_group)
            + self.cell(cell)
        )
        h = self.element(numbers) + self.site(site) + condition[:, None]
        vectors, tensors = [], []
        for layer in self._layers():
            h, vector, tensor = layer.step(h, features, shares, condition)
            vectors.append(vector)
            tensors.append(tensor)
        h = self.norm(h)
        sites = torch.einsum("brmd,brd->brm", torch.cat(vectors, dim=-1), self.towards(h))
        tensor = torch.einsum("brmd,brd,br->bm", torch.cat(tensors, dim=-1), self.squeeze(h), shares)
        scale, stretch, curve = self.of_cell((h * shares[..., None]).sum(dim=1)).split(1, dim=-1)
        traceless = torch.einsum("sij,bij->bs", self.basis[1:], squared)
        # Real harmonics of degree 2 are the traceless strains, in the same order.
        strains = torch.cat([scale, tensor + stretch * shape[:, 1:] + curve * traceless], dim=-1)
        allowed = torch.einsum("bst,bt->bs", batch.projector, strains)
        return Guess(self.types(h), sites * mask[..., None], allowed)

    @staticmethod
    def _cell_features(
        batch: OrbitBatch, numbers: Tensor, shape: Tensor, deviator: Tensor, squared: Tensor
    ) -> Tensor:
        """(B, 6) of the cell: of the deviator D of the strain and D², the invariants tr D², tr D³."""
        return torch.stack(
            [
                shape[:, 0],
                torch.einsum("bii->b", squared),
                torch.einsum("bij,bji->b", squared, deviator),
                batch.num_sites.log(),
                batch.num_orbits.log(),
                (numbers == MASKED).any(dim=1).to(shape.dtype),
            ],
            dim=-1,
        )
