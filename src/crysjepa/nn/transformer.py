"""The one Transformer, shared by Crys-JEPA's encoder and the denoiser (appendix B.2, Fig. 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class TransformerConfig:
    """Size of a Transformer: the paper's are 8 × 512 × 16 heads (JEPA), 12 × 1024 × 8 heads (DDPM)."""

    layers: int = 4
    width: int = 128
    heads: int = 8
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")


class Transformer(nn.Module):
    """Pre-norm Transformer [53] over sets of tokens: no positional encoding, so site order is free."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Map tokens (B, N, D) to tokens (B, N, D).

        Parameters
        ----------
        mask
            (B, N) True for real tokens; None when all are.
        condition
            (B, D) added to the input of every layer (the diffusion timestep, appendix B.2).
        """
        attend = None if mask is None else mask[:, None, None, :]
        for block in self.blocks:
            if condition is not None:
                x = x + condition[:, None, :]
            x = block(x, attend)
        return self.norm(x)


class Block(nn.Module):
    """Self-attention and feed-forward, each normalised first and added to the residual stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.norm1 = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, 4 * config.width)
        self.down = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor, attend: Tensor | None) -> Tensor:
        """(B, N, D) → (B, N, D); ``attend`` (B, 1, 1, N) is True where a key may be looked at."""
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attend, dropout_p=dropout)
        x = x + F.dropout(self.out(mixed.transpose(1, 2).reshape(batch, tokens, width)), dropout)
        return x + F.dropout(self.down(F.silu(self.up(self.norm2(x)))), dropout)


def sinusoidal(t: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding (B, width) of timesteps (B,), as in [47]."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=t.device) * (-torch.log(torch.tensor(10000.0)) / half))
    angles = t.float()[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
