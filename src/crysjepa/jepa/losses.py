"""What Crys-JEPA minimises."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def energy_weights(energies: Tensor) -> Tensor:
    """ω_ik = 1 − exp(−|E_i − E_k|), ω_ii = 1 (Eq. 10); energies (B,) in eV/atom → (B, B).

    Where an energy is unknown (NaN) the weight is 1: the pair repels as in plain InfoNCE.
    """
    weights = 1 - torch.exp(-(energies[:, None] - energies[None, :]).abs())
    weights = torch.where(torch.isnan(weights), 1.0, weights)
    return weights.masked_fill(torch.eye(len(energies), dtype=torch.bool, device=energies.device), 1.0)


def info_nce(
    predicted: Tensor, target: Tensor, energies: Tensor | None = None, *, temperature: float = 0.1
) -> Tensor:
    """Energy-weighted InfoNCE (Eq. 9) of embeddings (B, D); plain InfoNCE without ``energies``.

    The weight multiplies the similarity *inside* the exponential, as the paper writes it: a negative of
    equal energy contributes a constant exp(0), not nothing.

    Computed in float32 even under autocast: bfloat16 tells cosines near 1 apart only by 0.004, and the
    temperature magnifies what is lost.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        similarity = F.normalize(predicted.float(), dim=-1) @ F.normalize(target.float(), dim=-1).T
        weights = torch.ones_like(similarity) if energies is None else energy_weights(energies.float())
        logits = weights * similarity / temperature
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
