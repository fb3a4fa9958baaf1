"""Facets of a whole system against the linear programme for one composition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysjepa import datasets
from crysjepa.energy import lower_hull
from crysjepa.energy.hull import Hull
from crysjepa.energy.lower_hull import LowerHull

ELEMENTS = ["Al", "Co", "Fe", "Li", "O", "S"]


def random_hull(rng, elements, num_compounds, energies):
    """Compounds of two elements and more with small integers for amounts, as in nature: many on one line."""
    formulas = ["LiF"]  # a hull has at least one compound
    for _ in range(num_compounds):
        size = rng.integers(2, len(elements) + 1) if len(elements) > 1 else 0
        chosen = rng.choice(elements, size, replace=False)
        formulas.append("".join(f"{e}{rng.integers(1, 5)}" for e in chosen) or "LiF")
    return Hull.from_entries(formulas, [-3.0, *energies(num_compounds)], scale="x", source="test")


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 6),
    num=st.integers(0, 25),
    kind=st.sampled_from(["deep", "shallow", "above", "equal", "tiny"]),
)
def test_heights_are_those_of_the_linear_programme(seed, size, num, kind):
    rng = np.random.default_rng(seed)
    elements = sorted(rng.choice(ELEMENTS, size, replace=False).tolist())
    energies = {
        "deep": lambda n: -rng.gamma(2, 1, n),
        "shallow": lambda n: rng.normal(-0.05, 0.1, n),
        "above": lambda n: rng.uniform(0, 1, n),
        "equal": lambda n: np.full(n, -1.0),
        "tiny": lambda n: -(10.0 ** -rng.integers(1, 14, n)),
    }[kind]
    hull = random_hull(rng, elements, num, energies)
    fractions = rng.dirichlet(np.ones(size), 6)
    amounts = rng.integers(1, 5, (3, size))
    fractions = np.concatenate([fractions, amounts / amounts.sum(axis=1, keepdims=True)])
    heights, entries = LowerHull(hull).heights(elements, fractions)
    for row, height in zip(fractions, heights, strict=True):
        wanted = hull.e_above_hull(dict(zip(elements, row.tolist(), strict=True)), 0.0)
        assert wanted.e_above_hull is not None
        assert -height == pytest.approx(wanted.e_above_hull, abs=2e-7)
        assert entries == wanted.num_entries


def test_planes_are_found_where_there_are_few_compounds_or_none():
    hull = Hull.from_entries(["Li2O", "LiF"], [-2.0, -3.0], scale="x", source="test")
    fast = LowerHull(hull)
    assert fast.heights(["Li"], np.ones((2, 1)))[0].tolist() == [0, 0]
    assert fast.heights(["Na", "O"], np.full((1, 2), 0.5)) == (pytest.approx([0]), 0)
    heights, entries = fast.heights(["Li", "O"], np.array([[2 / 3, 1 / 3], [1 / 3, 2 / 3], [5 / 6, 1 / 6]]))
    assert heights == pytest.approx([-2, -1, -1]) and entries == 1
    assert all(planes is not None for planes, _ in fast._systems.values())


def test_a_system_with_too_many_facets_is_solved_one_by_one(monkeypatch):
    hull = random_hull(np.random.default_rng(0), ELEMENTS, 30, lambda n: np.full(n, -1.0))
    fractions = np.random.default_rng(1).dirichlet(np.ones(6), 4)
    fast, _ = LowerHull(hull).heights(ELEMENTS, fractions)
    monkeypatch.setattr(lower_hull, "MAX_FACETS", 1)
    slow = LowerHull(hull)
    assert slow.heights(ELEMENTS, fractions)[0] == pytest.approx(fast, abs=1e-7)
    assert [planes for planes, _ in slow._systems.values()] == [None]


def test_few_planes_are_kept_and_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    hull = random_hull(rng, ELEMENTS, 40, lambda n: -rng.gamma(2, 1, n))
    systems = [ELEMENTS[:4], ELEMENTS[1:5], ELEMENTS[2:]]
    fractions = rng.dirichlet(np.ones(4), 50)
    free = LowerHull(hull)
    wanted = [free.heights(s, fractions)[0] for s in systems]
    monkeypatch.setattr(lower_hull, "_KEPT", 100)
    tight = LowerHull(hull)
    for system, heights in zip(systems, wanted, strict=True):
        np.testing.assert_allclose(tight.heights(system, fractions)[0], heights, atol=1e-12)
    assert len(tight._systems) == 1


def test_the_bundled_hull():
    table = datasets.load("flla")
    hull = Hull.from_table(table, scale="materials_project_2015", source="flla")
    fast = LowerHull(hull)
    crystals = table.crystals()[::60]
    for composition in crystals.compositions():
        elements = sorted(e.symbol for e in composition.elements)
        fractions = np.array([[composition.get_atomic_fraction(e) for e in elements]])
        height = fast.heights(elements, fractions)[0][0]
        assert height == pytest.approx(hull.energy(composition), abs=1e-7)
