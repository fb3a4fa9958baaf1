"""Augmentations: translation and rotation, which keep the energy (section 4.1), and distortion."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def translate(frac_coords: Tensor, t: Tensor) -> Tensor:
    """X + t, wrapped into [0, 1): coordinates (B, M, 3), shifts (B, 3)."""
    shifted = frac_coords + t[:, None, :]
    return shifted - shifted.floor()


def rotation_from_uniform(r: Tensor) -> Tensor:
    """Haar-uniform rotations (B, 3, 3) from uniform numbers (B, 3), by Shoemake's quaternions [41]."""
    u, v, w = r.unbind(-1)
    a, b = (1 - u).sqrt(), u.sqrt()
    x, y = a * torch.sin(2 * math.pi * v), a * torch.cos(2 * math.pi * v)
    z, q = b * torch.sin(2 * math.pi * w), b * torch.cos(2 * math.pi * w)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * q), 2 * (x * z + y * q)],
        [2 * (x * y + z * q), 1 - 2 * (x * x + z * z), 2 * (y * z - x * q)],
        [2 * (x * z - y * q), 2 * (y * z + x * q), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def rotate(lattices: Tensor, r: Tensor) -> Tensor:
    """L̃ U (B, 3, 3). The product is no longer symmetric, which is why the encoder reads all nine entries."""
    return lattices @ rotation_from_uniform(r)


def distort(
    frac_coords: Tensor,
    lattices: Tensor,
    noise: torch.Generator,
    *,
    strain: float = 0.03,
    displacement: float = 0.15,
) -> tuple[Tensor, Tensor]:
    """A crystal as a generator might have drawn it: strained cell, displaced sites.

    Strains are symmetric, N(0, ``strain``²) on the diagonal and with half that variance off it; displacements
    have, in each Cartesian direction, a standard deviation that is drawn for each crystal from
    U(0, ``displacement``) Å. (B, M, 3) and (B, 3, 3) → the same.
    """
    batch, device = len(lattices), lattices.device
    ones = torch.eye(3, device=device)
    e = strain * torch.randn(batch, 3, 3, generator=noise, device=device)
    cells = lattices @ (ones + (e + e.transpose(1, 2)) / 2)
    sigma = displacement * torch.rand(batch, 1, 1, generator=noise, device=device)
    moves = sigma * torch.randn(frac_coords.shape, generator=noise, device=device)
    # x = X L for rows: a Cartesian displacement u moves fractional coordinates by u L⁻¹
    return frac_coords + torch.linalg.solve(cells, moves, left=False), cells
