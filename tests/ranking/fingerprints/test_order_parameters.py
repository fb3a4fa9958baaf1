"""Quick vectors give NumPy's numbers to the last bit, and change nothing for anyone else."""

import math

import numpy as np
import pytest

from crysjepa.ranking.fingerprints.order_parameters import (
    SHORT_ARRAYS,
    VECTORS,
    Vector,
    gramschmidt,
    with_names,
)

SCALES = np.array([3.0, 1e-6, 1e6])[:, None, None]
PAIRS = list((SCALES * np.random.default_rng(0).normal(size=(200, 3, 2, 3))).reshape(-1, 2, 3))


def test_short_arrays_are_numpys() -> None:
    for a, b in PAIRS:
        assert SHORT_ARRAYS.dot(a, b) == np.dot(a, b)
        assert SHORT_ARRAYS.linalg.norm(a) == np.linalg.norm(a)
        assert np.array_equal(SHORT_ARRAYS.cross(a, b), np.cross(a, b))
    assert SHORT_ARRAYS.arctan is np.arctan, "all else is NumPy itself"


def test_vectors_are_numpys_the_first_time_and_again() -> None:
    for a, b in PAIRS:
        u, v = Vector(a), Vector(b)
        rest = a - (np.inner(a, b) / np.inner(b, b)) * b
        for _ in range(2):
            assert VECTORS.inner(u, v) == VECTORS.inner(v, u) == np.inner(a, b)
            assert VECTORS.linalg.norm(u) == np.linalg.norm(a)
            assert np.array_equal((u - v).array, a - b)
            assert np.array_equal((u / u.length).array, a / np.linalg.norm(a))
            assert np.array_equal((u / 3.0).array, a / 3.0)
            assert np.array_equal(gramschmidt(u, v).array, rest)
        assert [u[i] for i in range(3)] == a.tolist()


def test_what_a_vector_remembers_is_of_the_vectors_asked_about() -> None:
    a, b, c = (Vector(np.array(x, dtype=float)) for x in ([1, 2, 3], [0, 1, 0], [0, 0, 1]))
    assert [VECTORS.inner(a, x) for x in (b, c, b)] == [2, 3, 2]
    assert [(a - x).array.tolist() for x in (b, c, b)] == [[1, 1, 3], [1, 2, 2], [1, 1, 3]]
    assert [gramschmidt(a, x).array.tolist() for x in (b, c, b)] == [[1, 0, 3], [1, 2, 0], [1, 0, 3]]


def test_nothing_is_orthogonal_to_nothing() -> None:
    with pytest.raises(ValueError, match="inner product"):
        gramschmidt(Vector(np.ones(3)), Vector(np.zeros(3)))


def test_other_names_are_for_the_copy_alone() -> None:
    changed = with_names(hypotenuse, math=VECTORS)
    assert VECTORS.sqrt is np.sqrt and isinstance(changed(3, b=4), np.floating)
    assert changed(3, b=4) == hypotenuse(3, b=4) == 5 and isinstance(hypotenuse(3, b=4), float)
    assert not isinstance(hypotenuse(3, b=4), np.floating)
    with pytest.raises(KeyError, match="has no mathematics"):
        with_names(hypotenuse, mathematics=np)
    with pytest.raises(TypeError, match="written in Python"):
        with_names(len, math=np)


def hypotenuse(a: float, *, b: float = 1) -> float:
    return math.sqrt(a * a + b * b)
