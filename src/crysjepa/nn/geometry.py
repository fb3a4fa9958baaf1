"""What an invariant encoder sees of a crystal: each pair of sites, expanded and summed over periodic images.

For sites i and j of a cell, and every image of j within a cutoff of i at distance r and direction u,

    G_ij[l, m, k] = Σ_images cos(k θ(r)) f(r) Y_lm(u),        l = 0 … 3.

Messages from j carry the same features whichever image they come from, so the sum over images loses nothing
that a layer of message passing could use, and a cell of N sites has N² pairs instead of some 70 N edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CUTOFF = 6.0
"""Å."""
NUM_RADIAL = (10, 6, 6, 4)
"""Radial functions for l = 0, 1, 2, 3."""
CLOSEST = 0.3
"""Å; two sites that are nearer are expanded as if they were this far apart, and the nearer they are, the less
does their direction count: at no distance there is none."""
MAX_IMAGES = 100_000
"""Periodic images of one pair that are looked at; a cell that has more is too small or too skewed."""


def _compiled(function: Callable[..., object]) -> Any:
    """To machine code, which is kept for the next process where there is a place to keep it.

    Without one (package and home both read-only, as in some containers) Numba refuses to decorate.
    """
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


def pair_features(frac_coords: Tensor, lattices: Tensor, mask: Tensor) -> list[Tensor]:
    """The expansion G of every pair of sites.

    Parameters
    ----------
    frac_coords, lattices, mask
        (B, M, 3), (B, 3, 3) in Å in any orientation, (B, M) True for real sites.

    Returns
    -------
    list of Tensor
        For each l: (B, M · (2 l + 1) · K_l, M), rows ordered by i, then m, then k; zero where padded.
        Computed on the CPU, distances in double precision and sums in single; returned on the device of
        ``frac_coords``.

    Raises
    ------
    ValueError
        If a cell is without volume, not finite, or so small or skewed that one pair has over
        :data:`MAX_IMAGES` images within reach.
    """
    device = frac_coords.device
    # contiguous: every other layout would be compiled anew
    coords = np.ascontiguousarray(frac_coords.detach().cpu().double().numpy())
    cells = np.ascontiguousarray(lattices.detach().cpu().double().numpy())
    counts = mask.sum(dim=1).cpu().numpy()
    batch, sites = coords.shape[:2]
    arrays = [
        np.zeros((batch, sites, 2 * degree + 1, k, sites), dtype=np.float32)
        for degree, k in enumerate(NUM_RADIAL)
    ]
    if not _expand(coords, cells, counts, *arrays):
        raise ValueError(f"over {MAX_IMAGES} periodic images within {CUTOFF:g} Å: a cell is too small")
    return [torch.from_numpy(a).view(batch, -1, sites).to(device) for a in arrays]


@_compiled
def _expand(
    coords: NDArray[np.float64],
    cells: NDArray[np.float64],
    counts: NDArray[np.int64],
    g0: NDArray[np.float32],
    g1: NDArray[np.float32],
    g2: NDArray[np.float32],
    g3: NDArray[np.float32],
) -> bool:
    """Fill g_l (B, M, 2l + 1, K_l, M); False if a cell has too many images."""
    k0, k1, k2, k3 = g0.shape[3], g1.shape[3], g2.shape[3], g3.shape[3]
    radial = np.zeros(max(k0, k1, k2, k3))
    y1, y2, y3 = np.zeros(3), np.zeros(5), np.zeros(7)
    reach = np.zeros(3)
    delta = np.zeros(3)
    for b in range(len(counts)):
        cell = cells[b]
        volume = abs(np.linalg.det(cell))
        if not volume > 1e-12:
            return False
        images = 1.0
        for a in range(3):
            p, q = cell[(a + 1) % 3], cell[(a + 2) % 3]
            cx, cy, cz = p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]
            reach[a] = CUTOFF * math.sqrt(cx * cx + cy * cy + cz * cz) / volume
            images *= 2 * reach[a] + 1
        if not images <= MAX_IMAGES:
            return False
        for i in range(counts[b]):
            for j in range(i, counts[b]):
                for a in range(3):
                    d = coords[b, j, a] - coords[b, i, a]
                    delta[a] = d - math.floor(d + 0.5)
                for s0 in range(math.ceil(-reach[0] - delta[0]), math.floor(reach[0] - delta[0]) + 1):
                    f0 = delta[0] + s0
                    for s1 in range(math.ceil(-reach[1] - delta[1]), math.floor(reach[1] - delta[1]) + 1):
                        f1 = delta[1] + s1
                        px = f0 * cell[0, 0] + f1 * cell[1, 0]
                        py = f0 * cell[0, 1] + f1 * cell[1, 1]
                        pz = f0 * cell[0, 2] + f1 * cell[1, 2]
                        for s2 in range(math.ceil(-reach[2] - delta[2]), math.floor(reach[2] - delta[2]) + 1):
                            f2 = delta[2] + s2
                            x, y, z = px + f2 * cell[2, 0], py + f2 * cell[2, 1], pz + f2 * cell[2, 2]
                            r2 = x * x + y * y + z * z
                            if r2 >= CUTOFF * CUTOFF or (i == j and s0 == 0 and s1 == 0 and s2 == 0):
                                continue
                            r = math.sqrt(r2)
                            inverse = 1.0 / max(r, CLOSEST)
                            x, y, z = x * inverse, y * inverse, z * inverse
                            _radial(max(r, CLOSEST), radial)
                            _harmonics(x, y, z, y1, y2, y3)
                            for k in range(k0):
                                g0[b, i, 0, k, j] += radial[k]
                            for m in range(3):
                                for k in range(k1):
                                    g1[b, i, m, k, j] += y1[m] * radial[k]
                            for m in range(5):
                                for k in range(k2):
                                    g2[b, i, m, k, j] += y2[m] * radial[k]
                            for m in range(7):
                                for k in range(k3):
                                    g3[b, i, m, k, j] += y3[m] * radial[k]
                if i != j:  # seen from j, every direction is reversed
                    for k in range(k0):
                        g0[b, j, 0, k, i] = g0[b, i, 0, k, j]
                    for m in range(3):
                        for k in range(k1):
                            g1[b, j, m, k, i] = -g1[b, i, m, k, j]
                    for m in range(5):
                        for k in range(k2):
                            g2[b, j, m, k, i] = g2[b, i, m, k, j]
                    for m in range(7):
                        for k in range(k3):
                            g3[b, j, m, k, i] = -g3[b, i, m, k, j]
    return True


@_compiled
def _radial(r: float, out: NDArray[np.float64]) -> None:
    """cos(k θ) f(r) with θ = π (1 + α) t / (t + α), t = r / cutoff, f = (1 − t²)².

    θ grows fastest where bonds are (α = 0.6), and f with its slope vanishes at the cutoff. The cosines are
    Chebyshev polynomials of cos θ, hence the recurrence.
    """
    t = r / CUTOFF
    c = math.cos(math.pi * 1.6 * t / (t + 0.6))
    envelope = (1 - t * t) ** 2
    out[0] = envelope
    out[1] = c * envelope
    for k in range(2, len(out)):
        out[k] = 2 * c * out[k - 1] - out[k - 2]


@_compiled
def _harmonics(
    x: float,
    y: float,
    z: float,
    y1: NDArray[np.float64],
    y2: NDArray[np.float64],
    y3: NDArray[np.float64],
) -> None:
    """Real solid harmonics r^l Y_lm for l = 1, 2, 3, with Y scaled so that Σ_m Y_lm² = 1."""
    y1[0], y1[1], y1[2] = x, y, z
    s3 = math.sqrt(3.0)
    y2[0], y2[1], y2[2] = s3 * x * y, s3 * y * z, s3 * x * z
    y2[3], y2[4] = 0.5 * (2 * z * z - x * x - y * y), 0.5 * s3 * (x * x - y * y)
    a, b, c = math.sqrt(5 / 8), math.sqrt(15.0), math.sqrt(3 / 8)
    y3[0] = a * y * (3 * x * x - y * y)
    y3[1] = b * x * y * z
    y3[2] = c * y * (4 * z * z - x * x - y * y)
    y3[3] = 0.5 * z * (2 * z * z - 3 * (x * x + y * y))
    y3[4] = c * x * (4 * z * z - x * x - y * y)
    y3[5] = 0.5 * b * z * (x * x - y * y)
    y3[6] = a * x * (x * x - 3 * y * y)
