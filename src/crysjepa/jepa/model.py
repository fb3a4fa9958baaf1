"""Crys-JEPA: a Transformer encoder with a CLS token, and the predictor of Eq. 8."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crysjepa.nn.transformer import Transformer, TransformerConfig

NUM_ELEMENTS = 100


@dataclass(frozen=True)
class JepaConfig:
    """Size of the encoder and temperature τ of Eq. 9.

    ``fourier``: harmonics of the cell given beside the raw coordinates (the paper: none).
    ``lattice_scale``: Å; lattice entries are divided by it (one number, so that rotations commute with it).
    ``weighted``: whether Eq. 10 weights the negatives (without: appendix C.2).
    """

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    temperature: float = 0.1
    fourier: int = 0
    lattice_scale: float = 5.0
    weighted: bool = True

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> JepaConfig:
        """Inverse of ``dataclasses.asdict``."""
        values = dict(values)
        return cls(TransformerConfig(**values.pop("transformer")), **values)


PAPER = JepaConfig(TransformerConfig(layers=8, width=512, heads=16))
"""The 25 M parameters of appendix B.3."""

SMALL = JepaConfig(TransformerConfig(layers=4, width=128, heads=8))
"""What a laptop can train; the shipped weights are of this size."""


class Encoder(nn.Module):
    """Atom vectors [X ‖ one-hot(A) ‖ L] and a CLS token through a Transformer."""

    def __init__(self, config: JepaConfig) -> None:
        super().__init__()
        self.config = config
        width = config.transformer.width
        self.embed = nn.Linear(3 + 6 * config.fourier + NUM_ELEMENTS + 9, width)
        self.cls = nn.Parameter(torch.randn(width) * 0.02)
        self.trunk = Transformer(config.transformer)

    def forward(
        self, atomic_numbers: Tensor, frac_coords: Tensor, lattices: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embed crystals.

        Parameters
        ----------
        atomic_numbers, frac_coords, lattices, mask
            (B, M), (B, M, 3), (B, 3, 3) in Å in any orientation, (B, M) True for real sites.

        Returns
        -------
        crystal, atoms
            (B, D) from the CLS token, and (B, M, D), zero where padded.
        """
        batch, sites = atomic_numbers.shape
        cell = (lattices / self.config.lattice_scale).reshape(batch, 1, 9).expand(-1, sites, -1)
        types = F.one_hot((atomic_numbers - 1).clamp(min=0), NUM_ELEMENTS).to(frac_coords.dtype)
        parts = [frac_coords, types, cell]
        for harmonic in range(1, self.config.fourier + 1):
            angle = 2 * math.pi * harmonic * frac_coords
            parts += [angle.sin(), angle.cos()]
        tokens = torch.cat([self.cls.expand(batch, 1, -1), self.embed(torch.cat(parts, dim=-1))], dim=1)
        seen = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        out = self.trunk(tokens, None if bool(mask.all()) else seen)
        return out[:, 0], out[:, 1:] * mask[..., None]


class Predictor(nn.Module):
    """P(H, t, r) = W₂ σ(H + W₁ [t ‖ r] + b₁) + b₂ with σ = SiLU (Eq. 8)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(6, width)
        self.second = nn.Linear(width, width)

    def forward(self, embedding: Tensor, t: Tensor, r: Tensor) -> Tensor:
        """(B, D), (B, 3), (B, 3) → (B, D)."""
        return self.second(F.silu(embedding + self.first(torch.cat([t, r], dim=-1))))


class Jepa(nn.Module):
    """Encoder and predictor, trained together; only the encoder is needed afterwards."""

    def __init__(self, config: JepaConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.predictor = Predictor(config.transformer.width)
