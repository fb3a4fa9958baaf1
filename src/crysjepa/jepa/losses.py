"""What Crys-JEPA minimises."""

from __future__ import annotations

import math

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


def sigreg(
    embeddings: Tensor, noise: torch.Generator, *, directions: int = 64, points: int = 17, reach: float = 3.0
) -> Tensor:
    """How far random one-dimensional projections of embeddings (B, D) are from a standard normal.

    The Epps-Pulley statistic of LeJEPA [Balestriero and LeCun, arXiv 2511.08544], averaged over random
    directions: ∫ |φ(t) − exp(−t²/2)|² exp(−t²/2) dt with the empirical characteristic function φ, by the
    trapezoidal rule on [−reach, reach]. 0 for a perfect normal; as the mean over a batch, not times B.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        x = embeddings.float()
        a = torch.randn(x.shape[1], directions, generator=noise, device=x.device)
        projected = x @ (a / a.norm(dim=0))
        t = torch.linspace(-reach, reach, points, device=x.device)
        angle = projected[..., None] * t
        normal = torch.exp(-t.square() / 2)
        gap = (angle.cos().mean(dim=0) - normal).square() + angle.sin().mean(dim=0).square()
        return torch.trapezoid(gap * normal, t, dim=-1).mean() / math.sqrt(2 * math.pi)


def mean_absolute(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean |predicted − true| in eV/atom over the known (not NaN) entries; 0 if there is none.

    Energies far above those of matter weigh less: a crystal at +3 eV/atom is hopeless whether or not it is
    known to be at +3.2.
    """
    known = ~torch.isnan(true)
    true = torch.where(known, true, predicted.detach())
    weight = known / (1 + 2 * (true - 0.3).clamp(min=0))
    return (weight * (predicted - true).abs()).sum() / known.sum().clamp(min=1)
