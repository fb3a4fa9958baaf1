import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from crysjepa.jepa.augment import distort, rotate, rotation_from_uniform, translate


@given(seed=st.integers(0, 2**32 - 1))
def test_rotations_are_rotations(seed):
    u = rotation_from_uniform(torch.rand(8, 3, generator=torch.Generator().manual_seed(seed)).double())
    eye = torch.eye(3, dtype=torch.float64).expand(8, 3, 3)
    torch.testing.assert_close(u @ u.transpose(1, 2), eye, atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.linalg.det(u), torch.ones(8, dtype=torch.float64), atol=1e-9, rtol=0)


def test_rotations_are_haar_uniform():
    """Moments against scipy's sampler: E[tr U] = 0, E[(tr U)²] = 1, and entries of mean 0, variance 1/3."""
    u = rotation_from_uniform(torch.rand(40_000, 3, generator=torch.Generator().manual_seed(0)))
    other = Rotation.random(40_000, rng=np.random.default_rng(0)).as_matrix()
    for rotations in (u.numpy(), other):
        trace = np.trace(rotations, axis1=1, axis2=2)
        assert abs(trace.mean()) < 0.02 and abs((trace**2).mean() - 1) < 0.03
        np.testing.assert_allclose(rotations.mean(axis=0), 0, atol=0.015)
        np.testing.assert_allclose((rotations**2).mean(axis=0), 1 / 3, atol=0.01)


def test_translation_wraps_and_rotation_keeps_the_metric():
    x, t = torch.rand(3, 4, 3), torch.rand(3, 3)
    moved = translate(x, t)
    assert (moved >= 0).all() and (moved < 1).all()
    gap = (moved - x - t[:, None]).round() - (moved - x - t[:, None])
    torch.testing.assert_close(gap, torch.zeros_like(gap), atol=1e-5, rtol=0)
    cell = torch.randn(3, 3, 3) + 4 * torch.eye(3)
    turned = rotate(cell, torch.rand(3, 3))
    torch.testing.assert_close(
        turned @ turned.transpose(1, 2), cell @ cell.transpose(1, 2), atol=1e-4, rtol=1e-4
    )


def crystals(count, sites):
    noise = torch.Generator().manual_seed(3)
    cells = torch.randn(count, 3, 3, generator=noise) + 5 * torch.eye(3)
    return torch.rand(count, sites, 3, generator=noise), cells


def test_no_distortion_is_none():
    x, cells = crystals(4, 3)
    coords, same = distort(x, cells, torch.Generator().manual_seed(0), strain=0.0, displacement=0.0)
    torch.testing.assert_close(coords, x, rtol=0, atol=1e-6)
    torch.testing.assert_close(same, cells, rtol=0, atol=1e-6)


def test_distortions_are_as_large_as_they_say():
    x, cells = crystals(4000, 6)
    coords, strained = distort(x, cells, torch.Generator().manual_seed(0), strain=0.03, displacement=0.15)
    e = torch.linalg.solve(cells.double(), strained.double()) - torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(e, e.transpose(1, 2), rtol=0, atol=1e-5)  # no rotation in it
    diagonal, off = e.diagonal(dim1=1, dim2=2), e[:, [0, 0, 1], [1, 2, 2]]
    assert abs(float(diagonal.mean())) < 1e-3 and abs(float(off.mean())) < 1e-3
    assert abs(float(diagonal.std()) / 0.03 - 1) < 0.05
    assert abs(float(off.std()) / (0.03 / 2**0.5) - 1) < 0.05
    ratio = torch.linalg.det(strained) / torch.linalg.det(cells)
    assert abs(float(ratio.mean()) - 1) < 5e-3 and 0.045 < float(ratio.std()) < 0.06
    moves = (coords - x).double() @ strained.double()
    by_crystal = moves.square().mean(dim=(1, 2)).sqrt()
    assert abs(float(moves.mean())) < 1e-3
    # σ is uniform in [0, 0.15] Å: mean of squares 0.15² / 3, and every size occurs
    assert abs(float(moves.square().mean()) / (0.15**2 / 3) - 1) < 0.05
    assert float(by_crystal.min()) < 0.01 and float(by_crystal.max()) > 0.14


def test_a_distortion_follows_its_noise():
    x, cells = crystals(3, 2)
    first, again, other = (distort(x, cells, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])
