import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.special import lpmv

from crysjepa.nn.geometry import CLOSEST, CUTOFF, MAX_IMAGES, NUM_RADIAL, expand_images, pair_features

SITES_MAX = 12
ORDER = ([0], [1, -1, 0], [-2, -1, 1, 0, 2], [-3, -2, -1, 0, 1, 2, 3])
"""m of each component; negative ones go with sin |m|φ. For l = 1 that is x, y, z."""


def features(coords, cell, padding=0):
    """G of one crystal as arrays (N, 2 l + 1, K, N), computed with some padding and cut out again."""
    n = len(coords)
    padded = torch.zeros(1, n + padding, 3, dtype=torch.float64)
    padded[0, :n] = torch.as_tensor(coords)
    mask = (torch.arange(n + padding) < n)[None]
    found = pair_features(padded, torch.as_tensor(cell, dtype=torch.float64)[None], mask)
    shaped = [
        g.numpy().reshape(n + padding, 2 * degree + 1, NUM_RADIAL[degree], n + padding)
        for degree, g in enumerate(found)
    ]
    for g in shaped:
        assert not g[n:].any() and not g[..., n:].any(), "padding is zero"
    return [g[:n, ..., :n] for g in shaped]


def harmonics(degree, directions):
    """Real spherical harmonics (n, 2 l + 1) of unit vectors by Legendre functions, with Σ_m Y² = 1."""
    polar, azimuth = directions[:, 2], np.arctan2(directions[:, 1], directions[:, 0])
    columns = []
    for m in ORDER[degree]:
        a = abs(m)
        norm = math.sqrt((1 if m == 0 else 2) * math.factorial(degree - a) / math.factorial(degree + a))
        wave = np.sin(a * azimuth) if m < 0 else np.cos(a * azimuth)
        columns.append((-1) ** a * norm * lpmv(a, degree, polar) * wave)
    return np.stack(columns, axis=1)


def radial(r, count):
    """cos(k θ(r)) f(r), (n, count)."""
    t = r / CUTOFF
    theta = np.pi * (1 + 0.6) * t / (t + 0.6)
    return np.cos(np.arange(count) * theta[:, None]) * ((1 - t**2) ** 2)[:, None]


def written_out(coords, cell):
    """G by its definition: every image in a box that is surely large enough."""
    coords = coords - np.floor(coords)
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    box = [np.arange(-n, n + 1) for n in np.ceil(CUTOFF / heights).astype(int) + 1]
    images = np.stack(np.meshgrid(*box, indexing="ij"), axis=-1).reshape(-1, 3)
    n = len(coords)
    out = [np.zeros((n, 2 * degree + 1, k, n)) for degree, k in enumerate(NUM_RADIAL)]
    for i in range(n):
        for j in range(n):
            vectors = (coords[j] - coords[i] + images) @ cell
            r = np.linalg.norm(vectors, axis=1)
            near = r < CUTOFF
            near &= (images != 0).any(axis=1) | (i != j)
            vectors, r = vectors[near], r[near]
            assert (r > CLOSEST).all()
            directions = vectors / r[:, None]
            for degree, g in enumerate(out):
                g[i, :, :, j] = harmonics(degree, directions).T @ radial(r, NUM_RADIAL[degree])
    return out


def random_cell(rng, shortest, longest, skew):
    """Lengths between the two, in any orientation, sheared; some thousand images at most."""
    while True:
        directions = rng.normal(size=(3, 3))
        cell = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        cell *= rng.uniform(shortest, longest, size=(3, 1))
        for _ in range(skew):
            a, b = rng.choice(3, size=2, replace=False)
            cell[a] += rng.choice([-1, 1]) * cell[b]
        heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        if np.prod(2 * CUTOFF / heights + 1) < 5_000:
            return cell


def closest(coords, cell):
    """The shortest distance between any two sites, images included, Å."""
    box = np.arange(-4, 5)
    images = np.stack(np.meshgrid(box, box, box, indexing="ij"), axis=-1).reshape(-1, 3)
    gaps = (coords[:, None, None] - coords[None, :, None] + images) @ cell
    r = np.linalg.norm(gaps, axis=-1)
    r[np.arange(len(coords)), np.arange(len(coords)), len(images) // 2] = np.inf
    return r.min()


@given(
    seed=st.integers(0, 2**32 - 1),
    sites=st.integers(1, SITES_MAX),
    lengths=st.sampled_from([(1.0, 2.0), (2.5, 5.0), (4.0, 9.0)]),
    skew=st.integers(0, 2),
    padding=st.integers(0, 2),
)
@settings(deadline=None, max_examples=25)
def test_the_kernel_is_the_sum_over_images(seed, sites, lengths, skew, padding):
    rng = np.random.default_rng(seed)
    cell = random_cell(rng, *lengths, skew)
    if lengths[1] <= 2:  # no room for more
        sites = min(sites, 2)
    coords = rng.uniform(-1.5, 1.5, size=(sites, 3))
    while closest(coords, cell) < 1.2 * CLOSEST:
        coords, cell = rng.uniform(-1.5, 1.5, size=(sites, 3)), 1.05 * cell
    expected = written_out(coords, cell)
    # sums in single precision: their error grows with the number of neighbours, hence with G of l = 0, k = 0
    error = 1e-6 * max(1.0, expected[0].max())
    for found, true in zip(features(coords, cell, padding), expected, strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-5, atol=error)


def two_sites(vector):
    """G of the pair when the second site is at ``vector`` (Å) from the first, far from every image."""
    cell = 40 * np.eye(3)
    return [g[0, :, :, 1] for g in features(np.array([[0.0, 0, 0], np.asarray(vector) / 40]), cell)]


@given(seed=st.integers(0, 2**32 - 1), r=st.floats(CLOSEST, 0.95 * CUTOFF))
@settings(deadline=None)
def test_harmonics_have_length_one_and_their_parity(seed, r):
    direction = np.random.default_rng(seed).normal(size=3)
    direction /= np.linalg.norm(direction)
    envelope = (1 - (r / CUTOFF) ** 2) ** 2
    there, back = two_sites(r * direction), two_sites(-r * direction)
    for degree, (g, mirrored) in enumerate(zip(there, back, strict=True)):
        # The first radial function is the envelope alone.
        assert np.square(g[:, 0] / envelope).sum() == pytest.approx(1, rel=1e-5)
        np.testing.assert_allclose(mirrored, (-1) ** degree * g, atol=1e-6)


def test_a_pair_seen_from_its_other_end():
    rng = np.random.default_rng(1)
    for degree, g in enumerate(features(rng.random((5, 3)), random_cell(rng, 3, 6, 1))):
        np.testing.assert_allclose(g.transpose(3, 1, 2, 0), (-1) ** degree * g, atol=1e-5)
        if degree % 2:  # a site's own images come in pairs
            np.testing.assert_allclose(g[range(5), :, :, range(5)], 0, atol=1e-5)


def test_a_site_that_leaves_the_cutoff_is_not_missed():
    """Value and slope vanish there."""
    direction = np.array([1.0, 2.0, -2.0]) / 3
    step = 1e-2
    for g, h in zip(
        two_sites((CUTOFF - step) * direction), two_sites(1.01 * CUTOFF * direction), strict=True
    ):
        assert not h.any()
        assert g.any()
        # (1 - t²)² is (2 step / cutoff)² there: no term that is linear in the step.
        assert np.abs(g).max() <= 1.1 * (2 * step / CUTOFF) ** 2


def test_no_radial_function_is_a_combination_of_the_others():
    seen = [two_sites(np.array([1.0, 2.0, 2.0]) / 3 * r) for r in np.linspace(0.8, 5.9, 60)]
    for degree, count in enumerate(NUM_RADIAL):
        component = np.abs(seen[0][degree][:, 0]).argmax()
        values = np.stack([g[degree][component] for g in seen])
        assert np.linalg.matrix_rank(values, tol=1e-4 * np.linalg.norm(values)) == count


def invariants(coords, cell):
    """Σ_m G² and G for l = 0: no rotation can change them."""
    return np.concatenate(
        [
            np.square(g).sum(axis=1).ravel() if degree else g.ravel()
            for degree, g in enumerate(features(coords, cell))
        ]
    )


@given(seed=st.integers(0, 2**32 - 1), gap=st.sampled_from([0.0, 1e-12, 1e-4, 0.05, 0.29]))
@settings(deadline=None, max_examples=40)
def test_sites_on_top_of_each_other(seed, gap):
    """No NaN, and no direction where there is none: the invariants stay invariants."""
    rng = np.random.default_rng(seed)
    cell = random_cell(rng, 3, 5, 0)
    coords = rng.random((3, 3))
    away = rng.normal(size=3)
    coords[1] = coords[0] + gap * away / np.linalg.norm(away) @ np.linalg.inv(cell)
    plain = invariants(coords, cell)
    assert np.isfinite(plain).all()
    turn = Rotation.random(rng=rng).as_matrix() * rng.choice([-1, 1])
    np.testing.assert_allclose(invariants(coords, cell @ turn), plain, atol=2e-4)
    if gap < 1e-3:  # and noise cannot matter
        coords[1] = coords[0]
        np.testing.assert_allclose(invariants(coords, cell), plain, atol=2e-2)


def test_a_cell_that_is_too_small_or_not_finite_is_refused():
    ones = torch.ones(1, 1, dtype=torch.bool)
    origin = torch.zeros(1, 1, 3)
    flat = torch.eye(3)[None].repeat(1, 1, 1)
    flat[0, 2] = flat[0, 1]
    fine_edge = 2 * CUTOFF / (MAX_IMAGES ** (1 / 3) - 1)
    assert torch.isfinite(pair_features(origin, 1.01 * fine_edge * torch.eye(3)[None], ones)[0]).all()
    for cell in (0.99 * fine_edge * torch.eye(3)[None], torch.zeros(1, 3, 3), flat, torch.nan * flat):
        with pytest.raises(ValueError, match=r"a cell is too small|infs or NaNs"):
            pair_features(origin, cell, ones)


def test_the_layout_of_its_input_does_not_matter():
    """Transposed or sliced tensors give the same, and need no machine code of their own."""
    rng = np.random.default_rng(0)
    coords = torch.from_numpy(rng.random((2, 4, 3)))
    cells = torch.from_numpy(np.stack([random_cell(rng, 3, 5, 0) for _ in range(2)]))
    mask = torch.ones(2, 4, dtype=torch.bool)
    plain = pair_features(coords, cells, mask)
    compiled = len(expand_images.dispatcher.signatures)
    odd = pair_features(
        coords.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        cells.transpose(1, 2).contiguous().transpose(1, 2),
        mask,
    )
    assert all(torch.equal(a, b) for a, b in zip(plain, odd, strict=True))
    assert len(expand_images.dispatcher.signatures) == compiled
    single = pair_features(coords.float(), cells.float(), mask)
    for a, b in zip(plain, single, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


NO_CACHE = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []  # as where package and home are both read-only
from crysjepa.nn import geometry
print(type(geometry.expand_images.dispatcher._cache).__name__)
"""


def test_it_can_be_imported_where_nothing_can_be_written(tmp_path):
    """Numba refuses to decorate when it finds no place for its cache."""
    code = NO_CACHE
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "NullCache"
