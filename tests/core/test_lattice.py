import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crysjepa.core.lattice import Scaler, from_vector, polar_decompose, to_vector


def random_lattices(seed, count=5):
    return np.random.default_rng(seed).normal(size=(count, 3, 3)) + 4 * np.eye(3)


@given(seed=st.integers(0, 2**32 - 1))
def test_polar_decomposition(seed):
    lattices = random_lattices(seed)
    symmetric, orthogonal = polar_decompose(lattices)
    np.testing.assert_allclose(symmetric @ orthogonal, lattices, atol=1e-10)
    np.testing.assert_allclose(symmetric, np.swapaxes(symmetric, 1, 2), atol=1e-12)
    assert (np.linalg.eigvalsh(symmetric) > 0).all()
    np.testing.assert_allclose(
        orthogonal @ np.swapaxes(orthogonal, 1, 2), np.eye(3) * np.ones((5, 1, 1)), atol=1e-10
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_the_symmetric_part_does_not_turn_with_the_crystal(seed):
    lattices = random_lattices(seed)
    turn = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(polar_decompose(lattices @ turn)[0], polar_decompose(lattices)[0], atol=1e-9)
    lengths = np.linalg.norm(lattices, axis=2)
    np.testing.assert_allclose(np.linalg.norm(polar_decompose(lattices)[0], axis=2), lengths, atol=1e-9)


def test_vector_round_trip():
    symmetric = polar_decompose(random_lattices(0))[0]
    assert to_vector(symmetric).shape == (5, 6)
    np.testing.assert_array_equal(from_vector(to_vector(symmetric)), symmetric)


def test_scaler():
    values = np.random.default_rng(0).normal(3, 2, (100, 6))
    values[:, 2] = 7.0
    scaler = Scaler.fit(values)
    scaled = scaler.transform(values)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(scaler.inverse(scaled), values)
    assert scaler.std[2] == 1.0
