"""Crys-JEPA: encoder, predictor and, for energy-aware training, a linear read-out of the energy.

Two encoders: the paper's Transformer with a CLS token, and the invariant one of
:mod:`crysjepa.jepa.invariant`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crysjepa.jepa.invariant import NUM_ELEMENTS, InvariantConfig, InvariantEncoder
from crysjepa.nn.transformer import Transformer, TransformerConfig

Objective = Literal["info-nce", "info-nce-unweighted", "sigreg", "energy"]
"""What is minimised: Eq. 9 with the weights of Eq. 10; without them, and SIGReg + MSE (both appendix C.2);
energies of crystals, sites and relaxed selves, beside Eq. 9 (ours)."""


@dataclass(frozen=True)
class JepaConfig:
    """Network, objective, and temperature τ of Eq. 9.

    For the Transformer only: ``fourier``, harmonics of the cell given beside the raw coordinates (the paper:
    none), and ``lattice_scale`` in Å, by which lattice entries are divided (one number, so that rotations
    commute with it).
    """

    network: TransformerConfig | InvariantConfig = field(default_factory=TransformerConfig)
    objective: Objective = "info-nce"
    temperature: float = 0.1
    fourier: int = 0
    lattice_scale: float = 5.0

    @property
    def invariant(self) -> bool:
        """Whether embeddings are invariant by construction, so that crystals need not be canonical."""
        return isinstance(self.network, InvariantConfig)

    @property
    def width(self) -> int:
        """Length D of an embedding."""
        return self.network.width

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for :meth:`from_dict`."""
        return asdict(self) | {"encoder": "invariant" if self.invariant else "transformer"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> JepaConfig:
        """Inverse of :meth:`to_dict`."""
        values = dict(values)
        network = values.pop("network")
        if values.pop("encoder") == "invariant":
            network = InvariantConfig(**network | {"degrees": tuple(network["degrees"])})
        else:
            network = TransformerConfig(**network)
        return cls(network, **values)


PAPER = JepaConfig(TransformerConfig(layers=8, width=512, heads=16))
"""The 25 M parameters of appendix B.3."""


def paper_config(part: int) -> JepaConfig:
    """The paper's network with about one ``part``-th of its parameters."""
    assert isinstance(PAPER.network, TransformerConfig)
    return replace(PAPER, network=PAPER.network.divided(part))


SMALL = JepaConfig(InvariantConfig(), "energy")
"""What a laptop can train; the shipped weights are of this kind."""


class Encoder(nn.Module):
    """Atom vectors [X ‖ one-hot(A) ‖ L] and a CLS token through a Transformer."""

    def __init__(self, config: JepaConfig) -> None:
        super().__init__()
        self.config = config
        assert isinstance(config.network, TransformerConfig)
        width = config.network.width
        self.embed = nn.Linear(3 + 6 * config.fourier + NUM_ELEMENTS + 9, width)
        self.cls = nn.Parameter(torch.randn(width) * 0.02)
        self.trunk = Transformer(config.network)

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


class RelaxationPredictor(nn.Module):
    """P(H) = H + W₂ σ(W₁ H + b₁) + b₂: from the embedding of a crystal to that of its relaxed self.

    An invariant encoder leaves nothing to predict about translations and rotations. What screening asks is
    where a crystal will be after relaxation, so a distorted crystal is the context and it itself the target.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, 2 * width)
        self.second = nn.Linear(2 * width, width)
        nn.init.zeros_(self.second.weight)  # at first, a crystal stays what it is
        nn.init.zeros_(self.second.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, D) → (B, D)."""
        return embedding + self.second(F.silu(self.first(embedding)))


class Jepa(nn.Module):
    """Encoder, predictor and read-out of the energy, trained together."""

    def __init__(self, config: JepaConfig) -> None:
        super().__init__()
        self.config = config
        if isinstance(config.network, InvariantConfig):
            self.encoder: nn.Module = InvariantEncoder(config.network)
            self.predictor: nn.Module = RelaxationPredictor(config.width)
        else:
            self.encoder = Encoder(config)
            self.predictor = Predictor(config.width)
        self.readout = nn.Linear(config.width, 1) if config.objective == "energy" else None
        if self.readout is not None:
            nn.init.normal_(self.readout.weight, std=0.05)

    def energies(self, embeddings: Tensor) -> Tensor:
        """Formation energies in eV/atom, linear in the embeddings: (…, D) → (…)."""
        assert self.readout is not None
        return self.readout(embeddings)[..., 0]
