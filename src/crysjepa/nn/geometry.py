"""What an invariant encoder sees of a crystal: each pair of sites, expanded and summed over periodic images.

For sites i and j of a cell, and every image of j within a cutoff of i at distance r and direction u,

    G_ij[l, m, k] = Σ_images cos(k θ(r)) f(r) Y_lm(u),        l = 0 … 3.

Messages from j carry the same features whichever image they come from, so the sum over images loses nothing
that a layer of message passing could use, and a cell of N sites has N² pairs instead of some 70 N edges.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crysjepa.nn.expansion import CLOSEST, CUTOFF, FAR, MAX_IMAGES, NUM_RADIAL
from crysjepa.nn.torch_geometry import expand_orbits
from crysjepa.runtime.numba_jit import compiled

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
_K0, _K1 = NUM_RADIAL[:2]
_TOO_MANY = f"over {MAX_IMAGES} periodic images within {CUTOFF:g} Å: a cell is too small"


def pair_features(frac_coords: Tensor, lattices: Tensor, mask: Tensor) -> list[Tensor]:
    """The expansion G of every pair of sites.

    Parameters
    ----------
    frac_coords, lattices, mask
        (B, M, 3), (B, 3, 3) in Å in any orientation, (B, M) True for real sites.

    Returns
    -------
    list of Tensor
        For each l: (B, M · (2 l + 1) · K_l, M), rows ordered by i, then m, then k; zero where padded. In
        memory its columns lie one after another.
        Distances in double precision and sums in single, on the device of ``frac_coords`` (by
        :mod:`crysjepa.nn.torch_geometry` on CUDA; for others on the CPU).

    Raises
    ------
    ValueError
        If a cell is without volume, not finite, or so small or skewed that one pair has over
        :data:`MAX_IMAGES` images within reach.
    """
    if frac_coords.device.type == "cuda":
        return _on_gpu(frac_coords, lattices, mask)
    # contiguous: every other layout would be compiled anew
    coords = np.ascontiguousarray(frac_coords.detach().cpu().double().numpy())
    cells = np.ascontiguousarray(lattices.detach().cpu().double().numpy())
    counts = mask.sum(dim=1).cpu().numpy()
    batch, sites = coords.shape[:2]
    arrays = _no_features(batch, sites)
    if not expand_images(coords, cells, counts, *arrays):
        raise ValueError(_TOO_MANY)
    return _laid_out(arrays, frac_coords.device)


def orbit_features(
    frac_coords: Tensor, lattices: Tensor, owner: Tensor, num_sites: Tensor, most: int
) -> list[Tensor]:
    """The expansion G of orbits: what the first site of one sees of all sites of another.

    Parameters
    ----------
    frac_coords, lattices
        (B, N, 3), (B, 3, 3) in Å.
    owner
        (B, N) the orbit of each site, 0, 1, …; those of an orbit stand together.
    num_sites
        (B,) real sites.
    most
        R, at least the number of orbits of any.

    Returns
    -------
    list of Tensor
        For each l: (B, R · (2 l + 1) · K_l, R), as :func:`pair_features` has them of sites. A crystal that is
        none (not finite, without volume, over :data:`MAX_IMAGES` images) has zeros: while a generator draws
        many, one that diverged must not end the others.
    """
    if frac_coords.device.type == "cuda":
        return expand_orbits(frac_coords, lattices, owner, num_sites, most)
    coords, cells = (np.ascontiguousarray(v.detach().cpu().double().numpy()) for v in (frac_coords, lattices))
    owners, sites = (np.ascontiguousarray(v.cpu().numpy()) for v in (owner, num_sites))
    batch = len(cells)
    arrays = _no_features(batch, most)
    _expand_orbits(coords, cells, owners, sites, *arrays)
    return _laid_out(arrays, frac_coords.device)


def _on_gpu(frac_coords: Tensor, lattices: Tensor, mask: Tensor) -> list[Tensor]:
    """Of sites: orbits of one site each."""
    if not (num_images(lattices.detach().cpu().double().numpy()) <= MAX_IMAGES).all():
        raise ValueError(_TOO_MANY)
    sites = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    return expand_orbits(frac_coords, lattices, sites, mask.sum(dim=1), mask.shape[1])


def _no_features(batch: int, sites: int) -> list[Singles]:
    """For each l: zeros (B, M_j, M_i, 2 l + 1, K_l)."""
    return [
        np.zeros((batch, sites, sites, 2 * degree + 1, k), dtype=np.float32)
        for degree, k in enumerate(NUM_RADIAL)
    ]


def _laid_out(arrays: list[Singles], device: torch.device) -> list[Tensor]:
    """For each l: (B, M · (2 l + 1) · K_l, M)."""
    return [torch.from_numpy(a).view(*a.shape[:2], -1).transpose(1, 2).to(device) for a in arrays]


def num_images(lattices: Floats) -> Floats:
    """Periodic images looked at for each pair of sites, for cells (B, 3, 3): (B,), inf or NaN where a
    cell is none.
    """
    images = np.zeros(len(lattices))
    _count_images(np.ascontiguousarray(lattices, dtype=np.float64), images)
    return images


@compiled
def _count_images(cells: Floats, images: Floats) -> None:
    reach = np.zeros(3)
    for b in range(len(cells)):
        images[b] = _reach(cells[b], reach)


@partial(compiled, loosely=True)
def expand_images(
    coords: Floats, cells: Floats, counts: Ints, g0: Singles, g1: Singles, g2: Singles, g3: Singles
) -> bool:
    """Fill g_l (B, M_j, M_i, 2l + 1, K_l); False if a cell has too many images."""
    reach, delta = np.zeros(3), np.zeros(3)
    radial, harmonics = np.zeros(_K0, dtype=np.float32), np.ones(16, dtype=np.float32)
    # What one pair sums up to over its images, harmonics in a row: scattered into g_l once.
    sums = np.zeros((_K0, 16), dtype=np.float32)
    for b in range(len(counts)):
        if not _reach(cells[b], reach) <= MAX_IMAGES:
            return False
        for i in range(counts[b]):
            for j in range(i, counts[b]):
                for a in range(3):
                    d = coords[b, j, a] - coords[b, i, a]
                    delta[a] = d - math.floor(d + 0.5)
                sums[:] = 0
                _sum_images(cells[b], delta, reach, i == j, radial, harmonics, sums)
                # seen from j, every direction is reversed
                _scatter(sums, 0, 1.0, g0[b, j, i], g0[b, i, j])
                _scatter(sums, 1, -1.0, g1[b, j, i], g1[b, i, j])
                _scatter(sums, 4, 1.0, g2[b, j, i], g2[b, i, j])
                _scatter(sums, 9, -1.0, g3[b, j, i], g3[b, i, j])
    return True


@partial(compiled, loosely=True)
def _expand_orbits(
    coords: Floats,
    cells: Floats,
    owners: Ints,
    counts: Ints,
    g0: Singles,
    g1: Singles,
    g2: Singles,
    g3: Singles,
) -> None:
    """Fill g_l (B, R_b, R_a, 2l + 1, K_l), but for crystals that are none."""
    reach, delta = np.zeros(3), np.zeros(3)
    radial, harmonics = np.zeros(_K0, dtype=np.float32), np.ones(16, dtype=np.float32)
    sums = np.zeros((_K0, 16), dtype=np.float32)
    for b in range(len(counts)):
        if not _reach(cells[b], reach) <= MAX_IMAGES or not np.abs(coords[b]).max() < FAR:
            continue
        for i in range(counts[b]):
            if i > 0 and owners[b, i] == owners[b, i - 1]:
                continue  # its orbit has been seen through its first site
            here = owners[b, i]
            for j in range(counts[b]):
                there = owners[b, j]
                if j == 0 or owners[b, j - 1] != there:
                    sums[:] = 0
                for a in range(3):
                    d = coords[b, j, a] - coords[b, i, a]
                    delta[a] = d - math.floor(d + 0.5)
                _sum_images(cells[b], delta, reach, i == j, radial, harmonics, sums)
                if j + 1 == counts[b] or owners[b, j + 1] != there:
                    _scatter(sums, 0, 1.0, g0[b, there, here], g0[b, there, here])
                    _scatter(sums, 1, 1.0, g1[b, there, here], g1[b, there, here])
                    _scatter(sums, 4, 1.0, g2[b, there, here], g2[b, there, here])
                    _scatter(sums, 9, 1.0, g3[b, there, here], g3[b, there, here])


@compiled
def _reach(cell: Floats, reach: Floats) -> float:
    """Fill how many cells the cutoff spans along each axis (3,); how many images of a pair that makes."""
    volume, images = 0.0, 1.0
    for a in range(3):
        p, q = cell[(a + 1) % 3], cell[(a + 2) % 3]
        cx, cy, cz = p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]
        volume = abs(cell[a, 0] * cx + cell[a, 1] * cy + cell[a, 2] * cz)
        if not volume > 1e-12:
            return np.inf
        reach[a] = CUTOFF * math.sqrt(cx * cx + cy * cy + cz * cz) / volume
        images *= 2 * reach[a] + 1
    return images


@partial(compiled, loosely=True)
def _sum_images(
    cell: Floats, delta: Floats, reach: Floats, same: bool, radial: Singles, harmonics: Singles, sums: Singles
) -> None:
    """Add f_k Y_lm of every image within the cutoff to ``sums`` (K_0, 16); l = 0 alone beyond K_1."""
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
                if r2 >= CUTOFF * CUTOFF or (same and s0 == 0 and s1 == 0 and s2 == 0):
                    continue
                r = max(math.sqrt(r2), CLOSEST)
                _radial(r, radial)
                _harmonics(x / r, y / r, z / r, harmonics)
                for k in range(_K1):
                    row, f = sums[k], radial[k]
                    for m in range(len(harmonics)):  # a bound that is no constant: else it is not vectorised
                        row[m] += f * harmonics[m]
                for k in range(_K1, _K0):
                    sums[k, 0] += radial[k]


@compiled
def _scatter(sums: Singles, first: int, sign: float, there: Singles, back: Singles) -> None:
    """Write ``sums`` of one degree, from harmonic ``first`` on, to both places of the pair (2l + 1, K)."""
    for m in range(there.shape[0]):
        for k in range(there.shape[1]):
            there[m, k] = sums[k, first + m]
            back[m, k] = sign * sums[k, first + m]


@partial(compiled, loosely=True)
def _radial(r: float, out: Singles) -> None:
    """cos(k θ) f(r) with θ = π (1 + α) t / (t + α), t = r / cutoff, f = (1 − t²)².

    θ grows fastest where bonds are (α = 0.6), and f with its slope vanishes at the cutoff. The cosines are
    Chebyshev polynomials of cos θ, hence the recurrence.
    """
    t = r / CUTOFF
    # cos θ = sin(π/2 − θ), whose series ends at 1e-9 here, in a quarter of the time
    u = math.pi * (0.5 - 1.6 * t / (t + 0.6))
    v = u * u
    c = 1 / 6227020800 * v - 1 / 39916800
    c = ((c * v + 1 / 362880) * v - 1 / 5040) * v + 1 / 120
    c = u * ((c * v - 1 / 6) * v + 1)
    envelope = (1 - t * t) ** 2
    before, last = envelope, c * envelope
    out[0], out[1] = before, last
    for k in range(2, NUM_RADIAL[0]):
        before, last = last, 2 * c * last - before
        out[k] = last


@partial(compiled, loosely=True)
def _harmonics(x: float, y: float, z: float, out: Singles) -> None:
    """Real solid harmonics r^l Y_lm for l = 1, 2, 3 (16,), after that of l = 0, which is 1; Σ_m Y_lm² = 1."""
    out[1], out[2], out[3] = x, y, z
    s3 = math.sqrt(3.0)
    out[4], out[5], out[6] = s3 * x * y, s3 * y * z, s3 * x * z
    out[7], out[8] = 0.5 * (2 * z * z - x * x - y * y), 0.5 * s3 * (x * x - y * y)
    a, b, c = math.sqrt(5 / 8), math.sqrt(15.0), math.sqrt(3 / 8)
    out[9] = a * y * (3 * x * x - y * y)
    out[10] = b * x * y * z
    out[11] = c * y * (4 * z * z - x * x - y * y)
    out[12] = 0.5 * z * (2 * z * z - 3 * (x * x + y * y))
    out[13] = c * x * (4 * z * z - x * x - y * y)
    out[14] = 0.5 * b * z * (x * x - y * y)
    out[15] = a * x * (x * x - 3 * y * y)
