"""The fast check may only spare the slow one, never overrule it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.core.min_distance import surely_valid
from crysjepa.core.validity import structure_reason, structure_validity


def slow(crystals):
    return np.array([structure_reason(c, 0.5, 0.1) is None for c in crystals])


def random_crystals(seed, num=40):
    """From dense to dilute, cubic to sheared, with sites that share a place up to a lattice vector."""
    rng = np.random.default_rng(seed)
    numbers, coords, cells, counts = [], [], [], []
    for _ in range(num):
        n = int(rng.integers(1, 6))
        cell = np.diag(rng.uniform(0.3, 6, 3)) + rng.normal(0, rng.choice([0.0, 0.5, 5.0]), (3, 3))
        x = rng.uniform(-2, 3, (n, 3))
        if n > 1 and rng.random() < 0.4:
            x[1] = x[0] + rng.integers(-2, 3, 3) + rng.normal(0, 0.1, 3)
        numbers += [6] * n
        coords.append(x)
        cells.append(cell)
        counts.append(n)
    ids = [str(i) for i in range(num)]
    return Crystals(np.array(numbers), np.concatenate(coords), np.stack(cells), np.array(counts), tuple(ids))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_surely_valid_is_valid(seed):
    crystals = random_crystals(seed)
    sure, valid = surely_valid(crystals, 0.5, 0.1), slow(crystals)
    assert not (sure & ~valid).any()
    reasons = structure_validity(crystals)
    assert [r is None for r in reasons.values()] == valid.tolist() and list(reasons) == list(crystals.ids)


def test_most_are_spared():
    crystals = random_crystals(0, 400)
    sure, valid = surely_valid(crystals, 0.5, 0.1), slow(crystals)
    assert valid.sum() > 100 and (sure & valid).sum() > 0.8 * valid.sum()
    known = datasets.load("flla").crystals()
    assert surely_valid(known, 0.5, 0.1).all()


def test_what_is_not_finite_or_too_large_is_never_sure():
    one = Crystals(
        np.array([6, 6]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), 4 * np.eye(3), np.array([2]), ("a",)
    )
    assert surely_valid(one, 0.5, 0.1).all()
    for where in ("frac_coords", "lattices"):
        for value in (np.nan, np.inf, 1e9):
            arrays = {
                n: getattr(one, n).copy() for n in ("atomic_numbers", "frac_coords", "lattices", "num_atoms")
            }
            arrays[where].reshape(-1)[4] = value
            assert not surely_valid(Crystals(**arrays, ids=("a",)), 0.5, 0.1).any()
    assert not surely_valid(one, 3.47, 0.1).any() and surely_valid(one, 3.46, 0.1).all()
    assert not surely_valid(one, 0.5, 64.0).any()
    assert surely_valid(one[:0], 0.5, 0.1).shape == (0,)
