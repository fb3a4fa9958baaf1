"""Denoising diffusion (Ho et al. 2020): schedule, forward process, reverse step (Eq. 17 to 20)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """Cosine schedule of T steps (Nichol & Dhariwal 2021); arrays (T,) are indexed by t − 1.

    ``beta`` β_t, ``alpha_bar`` ᾱ_t, ``alpha_bar_previous`` ᾱ_{t−1} (1 at t = 1).
    """

    beta: Tensor
    alpha_bar: Tensor
    alpha_bar_previous: Tensor

    @classmethod
    def cosine(cls, steps: int = 256, offset: float = 0.008, largest_beta: float = 0.999) -> Schedule:
        """ᾱ_t = f(t) / f(0) with f(t) = cos²((t/T + s) / (1 + s) · π/2), β_t at most ``largest_beta``."""
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        f = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
        beta = (1 - f[1:] / f[:-1]).clamp(max=largest_beta)
        alpha_bar = torch.cumprod(1 - beta, dim=0)
        previous = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
        return cls(beta.float(), alpha_bar.float(), previous.float())

    def __len__(self) -> int:
        return len(self.beta)

    def to(self, device: torch.device | str) -> Schedule:
        """The same schedule on another device."""
        return Schedule(*(v.to(device) for v in (self.beta, self.alpha_bar, self.alpha_bar_previous)))

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1 − ᾱ_t), each (B,), for t (B,) in 1..T: how much signal and noise x_t holds."""
        kept = self.alpha_bar[t - 1]
        return kept.sqrt(), (1 - kept).sqrt()

    def diffuse(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε for t (B,) in 1..T (Eq. 17); x of any shape (B, …)."""
        signal, level = (v.view(-1, *[1] * (x0.ndim - 1)) for v in self.levels(t))
        return signal * x0 + level * noise

    def step_back(
        self,
        x: Tensor,
        predicted_noise: Tensor,
        t: int,
        fresh_noise: Tensor,
        within: tuple[float, float] | None = None,
    ) -> Tensor:
        """One draw from q(x_{t−1} | x_t, x_0) (Eq. 19, 20); at t = 1 the mean: no noise is added.

        x_0 is what the noise leaves, (x_t − √(1 − ᾱ_t) ε) / √ᾱ_t. Near t = T the divisor is some thousandths,
        and the smallest error of ε becomes a crystal of no size: ``within``, what x_0 can be is what it is
        taken for, as Ho et al. did it. Without, this is Eq. 19 as it stands.
        """
        beta, kept, before = self.beta[t - 1], self.alpha_bar[t - 1], self.alpha_bar_previous[t - 1]
        clean = (x - (1 - kept).sqrt() * predicted_noise) / kept.sqrt()
        if within is not None:
            clean = clean.clamp(*within)
        mean = (before.sqrt() * beta * clean + (1 - beta).sqrt() * (1 - before) * x) / (1 - kept)
        if t == 1:
            return mean
        return mean + ((1 - before) / (1 - kept) * beta).sqrt() * fresh_noise
