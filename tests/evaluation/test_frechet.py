"""The Fréchet distance against scipy's matrix root, and what has to hold of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.frechet import frechet_distance, frechet_jepa


def samples(seed, num, width, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, (num, width)) @ rng.normal(0, 1, (width, width))


@given(seed=st.integers(0, 2**32 - 1), num=st.integers(10, 60), width=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_against_the_matrix_root_of_scipy(seed, num, width):
    one, other = samples(seed, num, width), samples(seed + 1, 50, width, 0.5)
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (one, other))
    wanted = ((one.mean(0) - other.mean(0)) ** 2).sum()
    wanted += np.trace(first + second - 2 * np.atleast_2d(sqrtm(first @ second)).real)
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_gaussians_along_axes_have_it_in_closed_form():
    """‖μ₁ − μ₂‖² + Σ (σ₁ − σ₂)²."""
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * np.sqrt(3 / 4)  # covariance 1 over N − 1
    one, other = signs * [2, 3] + [1, 0], signs * [5, 1]
    assert frechet_distance(one, other) == pytest.approx(1 + 9 + 4)


@pytest.mark.parametrize("num", [5, 200])
def test_it_is_zero_for_the_same_set_and_knows_no_order(num):
    """Also with fewer rows than columns."""
    one, other = samples(1, num, 20), samples(2, 40, 20)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-4 * np.trace(np.cov(one, rowvar=False)))
    shuffled = np.random.default_rng(0).permutation(one)
    assert frechet_distance(shuffled, other) == pytest.approx(frechet_distance(one, other))
    assert frechet_distance(other, one) == pytest.approx(frechet_distance(one, other))
    with pytest.raises(ValueError, match="two crystals"):
        frechet_distance(one[:1], other)


def test_few_crystals_of_one_distribution_seem_farther_and_the_size_is_told():
    known = datasets.load("known").crystals()
    rows = np.random.default_rng(3).permutation(len(known))[:240]
    reference = known[rows[:200]]
    found = {num: frechet_jepa(known[rows[200 : 200 + num]], reference) for num in (5, 40)}
    assert found[5]["distance"] > found[40]["distance"] > 0
    assert found[40]["crystals"] == 40 == found[40]["reference_itself_crystals"]
    assert found[40]["reference_size"] == 200 and found[5]["reference_itself_crystals"] == 5
    assert found[5]["reference_itself"] > found[40]["reference_itself"] > 0


def test_what_cannot_be_embedded_or_is_alone_has_none():
    known = datasets.load("known").crystals()[:6]
    assert frechet_jepa(known[:1], known) is None
    heavy = Crystals([110], [[0, 0, 0]], [4 * np.eye(3)], [1], ("Ds",))
    assert frechet_jepa(Crystals.concatenate([heavy, known[:1]]), known) is None
    found = frechet_jepa(Crystals.concatenate([heavy, known[:2]]), known[2:5])
    assert found["crystals"] == 2 and found["reference_itself"] is None
