"""The expansion of :mod:`crysjepa.nn.geometry` in torch, for batches that live on a GPU.

The same sums in the same precision (distances double, sums single), so that what was trained on a GPU means
the same on a CPU. Edges are listed, expanded, and added up in the order of their pairs, without atomic
additions: the same batch gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from crysjepa.nn.expansion import CLOSEST, CUTOFF, FAR, MAX_IMAGES, NUM_RADIAL

CANDIDATES = 8_000_000
"""Images looked at at once; some 150 bytes each."""
_COLUMNS = [(2 * degree + 1) * k for degree, k in enumerate(NUM_RADIAL)]


@torch.no_grad()
def expand_orbits(
    frac_coords: Tensor, lattices: Tensor, owner: Tensor, num_sites: Tensor, most: int
) -> list[Tensor]:
    """What :func:`crysjepa.nn.geometry.orbit_features` returns, on the device of ``frac_coords``.

    A crystal that is none has zeros, as there.
    """
    device = frac_coords.device
    coords, cells = frac_coords.detach().double(), lattices.detach().double()
    batch, sites = owner.shape
    features = [torch.zeros(batch, most, most, c, device=device) for c in _COLUMNS]  # there, here
    spans, images = _reach(cells)
    real = torch.arange(sites, device=device) < num_sites[:, None]
    fit = (images <= MAX_IMAGES) & (coords.abs().amax(dim=(1, 2)) < FAR)
    first = real & fit[:, None]
    first[:, 1:] &= owner[:, 1:] != owner[:, :-1]
    crystal, here = first.nonzero(as_tuple=True)  # the first site of each orbit
    steps = 2 * torch.floor(torch.where(fit[:, None], spans, 0.0) + 0.5).long() + 1
    looked_at = num_sites * steps.prod(dim=1)
    for part in _parts(looked_at[crystal]):
        b, i = crystal[part], here[part]
        source, total = _repeated(num_sites[b])
        j = _within(num_sites[b], total)
        b, i = b[source], i[source]
        _expand_pairs(coords, cells, owner, steps, b, i, j, features)
    return [g.flatten(2).transpose(1, 2) for g in features]


def _expand_pairs(
    coords: Tensor,
    cells: Tensor,
    owner: Tensor,
    steps: Tensor,
    b: Tensor,
    i: Tensor,
    j: Tensor,
    features: list[Tensor],
) -> None:
    """Fill in pairs of sites (i, j) of crystals b, those of an orbit after one another."""
    delta = coords[b, j] - coords[b, i]
    delta = delta - torch.floor(delta + 0.5)
    counts = steps[b].prod(dim=1)
    pair, total = _repeated(counts)
    left = _within(counts, total)
    own_steps = steps[b][pair]
    shift = torch.empty(total, 3, dtype=torch.float64, device=coords.device)
    for a in (2, 1, 0):
        shift[:, a] = left % own_steps[:, a] - own_steps[:, a] // 2
        left = left // own_steps[:, a]
    vectors = torch.einsum("ea,eab->eb", delta[pair] + shift, cells[b][pair])
    squared = vectors.square().sum(dim=1)
    itself = (i == j)[pair] & (shift == 0).all(dim=1)
    kept = ((squared < CUTOFF**2) & ~itself).nonzero()[:, 0]
    pair, vectors = pair[kept], vectors[kept]
    r = squared[kept].sqrt().clamp(min=CLOSEST)
    radial, harmonics = _radial(r).float(), _harmonics((vectors / r[:, None]).float())
    # Pairs with the same orbit on either side are neighbours in the list: numbered, they are segments.
    group = (b * owner.shape[1] + i) * features[0].shape[1] + owner[b, j]
    seen, number = torch.unique_consecutive(group, return_inverse=True)
    lengths = torch.bincount(number[pair], minlength=len(seen))
    there = seen % features[0].shape[1]
    site = seen // features[0].shape[1]
    crystal = site // owner.shape[1]
    here = owner[crystal, site % owner.shape[1]]
    for degree, k in enumerate(NUM_RADIAL):
        products = harmonics[:, degree**2 : (degree + 1) ** 2, None] * radial[:, None, :k]
        sums = torch.segment_reduce(products.flatten(1), "sum", lengths=lengths, axis=0, initial=0.0)
        features[degree][crystal, there, here] = sums


def _reach(cells: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3) cells that the cutoff spans along each axis; (B,) images of a pair, inf where a cell is none."""
    a, b, c = cells.unbind(dim=1)
    normals = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 1)
    volume = (cells[:, 0] * normals[:, 0]).sum(dim=1).abs()
    spans = CUTOFF * normals.norm(dim=2) / volume[:, None]
    images = (2 * spans + 1).prod(dim=1)
    return spans, torch.where(volume > 1e-12, images, torch.inf)


def _parts(costs: Tensor) -> Iterator[slice]:
    """Runs of rows whose costs add up to :data:`CANDIDATES` at most, or single ones that cost more."""
    ends = torch.cumsum(costs, 0).cpu()
    start, before = 0, 0
    while start < len(ends):
        stop = int(torch.searchsorted(ends, before + CANDIDATES, right=True))
        stop = max(stop, start + 1)
        yield slice(start, stop)
        start, before = stop, int(ends[stop - 1])


def _repeated(counts: Tensor) -> tuple[Tensor, int]:
    """Each row's number as often as its count says; how many that are."""
    rows = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    return rows, len(rows)


def _within(counts: Tensor, total: int) -> Tensor:
    """0, 1, … below each count, one row after another."""
    starts = torch.cumsum(counts, 0) - counts
    return torch.arange(total, device=counts.device) - torch.repeat_interleave(
        starts, counts, output_size=total
    )


def _radial(r: Tensor) -> Tensor:
    """(E, K_0) the radial functions of :mod:`crysjepa.nn.geometry`."""
    t = r / CUTOFF
    cosine = torch.cos(math.pi * 1.6 * t / (t + 0.6))
    envelope = (1 - t * t) ** 2
    found = [envelope, cosine * envelope]
    while len(found) < NUM_RADIAL[0]:
        found.append(2 * cosine * found[-1] - found[-2])
    return torch.stack(found, dim=1)


def _harmonics(u: Tensor) -> Tensor:
    """(E, 16) real solid harmonics of degree 0 to 3, as in :mod:`crysjepa.nn.geometry`."""
    x, y, z = u.unbind(dim=1)
    xx, yy, zz = x * x, y * y, z * z
    s3, a, b, c = math.sqrt(3.0), math.sqrt(5 / 8), math.sqrt(15.0), math.sqrt(3 / 8)
    return torch.stack(
        [
            torch.ones_like(x), x, y, z,
            s3 * x * y, s3 * y * z, s3 * x * z, 0.5 * (2 * zz - xx - yy), 0.5 * s3 * (xx - yy),
            a * y * (3 * xx - yy), b * x * y * z, c * y * (4 * zz - xx - yy),
            0.5 * z * (2 * zz - 3 * (xx + yy)), c * x * (4 * zz - xx - yy),
            0.5 * b * z * (xx - yy), a * x * (xx - 3 * yy),
        ],
        dim=1,
    )  # fmt: skip
