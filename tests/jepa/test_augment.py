import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from crysjepa.jepa.augment import rotate, rotation_from_uniform, translate


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
