"""The denoising network ε_θ(x_t, t): a Transformer over atom vectors (Eq. 2, 3; appendix B.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crysjepa.nn.transformer import Transformer, TransformerConfig, sinusoidal

NUM_ELEMENTS = 100


@dataclass(frozen=True)
class Noisy:
    """The three parts of x_t, or of the noise in it.

    ``coords`` (B, M, 3); ``types`` (B, M, 100); ``lattice`` (B, 6), or (B, M, 6) where every atom has noise
    of its own. Eq. 2 repeats the lattice on every atom. Where it is held once, what the network says of it is
    averaged over atoms.
    """

    coords: Tensor
    types: Tensor
    lattice: Tensor

    def map(self, function) -> Noisy:  # type: ignore[no-untyped-def]
        """Apply a function to each part."""
        return Noisy(function(self.coords), function(self.types), function(self.lattice))


class Denoiser(nn.Module):
    """ε_θ: noisy atom vectors and timestep to the noise in them."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.width = width
        self.embed = nn.Linear(3 + NUM_ELEMENTS + 6, width)
        self.time = nn.Linear(width, width)
        self.trunk = Transformer(config)
        self.read_out = nn.Linear(width, 3 + NUM_ELEMENTS + 6)

    def forward(self, x: Noisy, t: Tensor, mask: Tensor) -> Noisy:
        """Predict the noise.

        Parameters
        ----------
        x
            x_t; coordinates are centred and scaled (2 X − 1), so that the cell has length 2.
        t
            (B,) timesteps, 1 to T.
        mask
            (B, M) True for real sites.
        """
        of_sites = x.lattice.dim() == 3
        repeated = x.lattice if of_sites else x.lattice[:, None, :].expand(-1, x.coords.shape[1], -1)
        parts = [x.coords, x.types, repeated]
        condition = self.time(sinusoidal(t, self.width).to(x.coords.dtype))
        padded = None if bool(mask.all()) else mask
        out = self.read_out(self.trunk(self.embed(torch.cat(parts, dim=-1)), padded, condition))
        coords, types, lattice = out.split([3, NUM_ELEMENTS, 6], dim=-1)
        if of_sites:
            return Noisy(coords, types, lattice)
        weight = mask[..., None] / mask.sum(dim=1)[:, None, None]
        return Noisy(coords, types, (lattice * weight).sum(dim=1))
