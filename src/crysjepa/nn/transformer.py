"""The one Transformer, shared by Crys-JEPA's encoder and the denoiser (appendix B.2, Fig. 6)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOGETHER = {"cuda": 64}
"""Tokens that attend as one sequence in training: a GPU's kernels work on so many at once, and a crystal has
some ten. Apart from training, where one crystal that is not finite would take its neighbours with it."""


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

    def divided(self, by: int) -> TransformerConfig:
        """About one ``by``-th of the parameters, which go as layers × width².

        Depth goes as by^(-1/6) and width as by^(-5/12), so that neither becomes extreme; heads have 32
        dimensions, as those of the paper's encoder.
        """
        if by == 1:
            return self
        heads = max(1, round(self.width / by ** (5 / 12) / 32))
        return replace(self, layers=max(1, round(self.layers / by ** (1 / 6))), width=32 * heads, heads=heads)


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
        batch, tokens, _ = x.shape
        together = TOGETHER.get(x.device.type, 0) // tokens if self.training else 1
        together = max(1, min(batch, together))
        x, attend = side_by_side(x, mask, together)
        if condition is not None:
            condition = _fill(condition, together, 0.0).unflatten(0, (-1, together)).unsqueeze(2)
        for block in self.blocks:
            if condition is not None:
                x = (x.unflatten(1, (together, tokens)) + condition).flatten(1, 2)
            x = block(x, attend)
        x = x.reshape(-1, tokens, x.shape[-1])[:batch]
        return self.norm(x)


def side_by_side(x: Tensor, mask: Tensor | None, together: int) -> tuple[Tensor, Tensor | None]:
    """Sets of tokens (B, N, D) as rows of ``together`` sets (R, together × N, D), and who may look at whom,
    which is as before: (R or 1, 1, 1 or together × N, together × N), None when all may.
    """
    if together == 1:
        return x, None if mask is None else mask[:, None, None, :]
    _, tokens, width = x.shape
    owner = torch.arange(together, device=x.device).repeat_interleave(tokens)
    own = (owner[:, None] == owner[None, :])[None, None]
    if mask is not None:
        # what fills the last row is seen by itself: a softmax over nothing has no gradient
        own = own & _fill(mask, together, True).reshape(-1, 1, 1, together * tokens)
    return _fill(x, together, 0.0).reshape(-1, together * tokens, width), own


def _fill(rows: Tensor, multiple: int, value: float) -> Tensor:
    """Rows (B, …) with more of ``value`` up to a multiple."""
    missing = -len(rows) % multiple
    return torch.cat([rows, rows.new_full((missing, *rows.shape[1:]), value)]) if missing else rows


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
        """(B, N, D) → (B, N, D); ``attend`` (B or 1, 1, 1 or N, N) is True where a key may be looked at."""
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
