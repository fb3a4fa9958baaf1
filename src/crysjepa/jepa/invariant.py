"""The invariant encoder: atoms exchange messages over all periodic images, read through rotation invariants.

A layer is the atomic cluster expansion's power spectrum [Drautz, Phys. Rev. B 99, 014104 (2019)] with learned
densities: what the neighbours send is expanded in distance and direction (:mod:`crysjepa.nn.geometry`), mixed
per degree l, and squared over m. Site order, origin, rotation, choice of cell and supercell cannot matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crysjepa.nn.geometry import NUM_RADIAL, pair_features

NUM_ELEMENTS = 100
SCALES = (0.25, 2.0, 2.0, 3.0)
"""Bring the densities of each l to about 1 for ordinary crystals."""


@dataclass(frozen=True)
class InvariantConfig:
    """``width`` D of an embedding; ``channels`` that an atom sends; ``degrees``: mixtures for each l."""

    layers: int = 3
    width: int = 128
    channels: int = 20
    degrees: tuple[int, ...] = (112, 40, 40, 24)
    hidden: int = 144


class InvariantLayer(nn.Module):
    """h_i ← h_i + MLP(h_i, Σ_j G⁰_ij W h_j, ‖Σ_j Gˡ_ij W h_j‖ …)."""

    def __init__(self, config: InvariantConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.send = nn.Linear(config.width, config.channels, bias=False)
        self.mix = nn.ModuleList(
            nn.Linear(k * config.channels, d, bias=degree == 0)
            for degree, (k, d) in enumerate(zip(NUM_RADIAL, config.degrees, strict=True))
        )
        self.first = nn.Linear(config.width + sum(config.degrees), config.hidden)
        self.second = nn.Linear(config.hidden, config.width)
        nn.init.normal_(self.second.weight, std=0.02)

    def forward(self, h: Tensor, features: list[Tensor]) -> Tensor:
        """(B, M, D) and the features of :func:`crysjepa.nn.geometry.pair_features` → (B, M, D)."""
        own = self.norm(h)
        seen = invariants(self.densities(own, features))
        return h + self.second(F.silu(self.first(torch.cat([own, *seen], dim=-1))))

    def densities(self, own: Tensor, features: list[Tensor]) -> list[Tensor]:
        """For each l, what is sent to a site, mixed: (B, M, 2 l + 1, degrees_l)."""
        batch, sites, _ = own.shape
        sent = self.send(own)
        return [
            mix(torch.bmm(g, sent).view(batch, sites, 2 * degree + 1, -1))  # rows i, m, k; columns c
            for degree, (mix, g) in enumerate(zip(self.mix, features, strict=True))
        ]


def invariants(densities: list[Tensor]) -> list[Tensor]:
    """The density of degree 0, and the lengths of the others: (B, M, degrees_l) each."""
    first, *others = densities
    return [first[:, :, 0], *((mixed.square().sum(dim=2) + 0.01).sqrt() for mixed in others)]


class InvariantEncoder(nn.Module):
    """Crystals in, embeddings of crystals and atoms out; the crystal's is the mean over its atoms."""

    def __init__(self, config: InvariantConfig) -> None:
        super().__init__()
        self.config = config
        self.element = nn.Embedding(NUM_ELEMENTS + 1, config.width, padding_idx=0)
        self.layers = nn.ModuleList(InvariantLayer(config) for _ in range(config.layers))

    def forward(
        self, atomic_numbers: Tensor, frac_coords: Tensor, lattices: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embed crystals: (B, M), (B, M, 3), (B, 3, 3) in Å, (B, M) → (B, D) and (B, M, D) (0 in padding)."""
        features = [
            g.mul_(s) for s, g in zip(SCALES, pair_features(frac_coords, lattices, mask), strict=True)
        ]
        h = self.element(atomic_numbers)
        for layer in self.layers:
            h = layer(h, features)
        h = h * mask[..., None]
        return h.sum(dim=1) / mask.sum(dim=1, keepdim=True), h
