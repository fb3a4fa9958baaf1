"""The simplex method for many compositions against the linear programme for one."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from crysjepa import datasets
from crysjepa.core.chemical_systems import NUM_ELEMENTS, atomic_numbers, element_fractions
from crysjepa.energy.hull import Hull
from crysjepa.energy.lower_hull import LowerHull

ELEMENTS = ["Al", "Co", "Fe", "Li", "O", "S"]


def by_number(elements, fractions):
    """(M, k) fractions of these elements in the columns of their atomic numbers."""
    numbers = atomic_numbers()
    found = np.zeros((len(fractions), NUM_ELEMENTS + 1))
    found[:, [numbers[e] for e in elements]] = fractions
    return found


def random_hull(rng, elements, num_compounds, energies):
    """Compounds of two elements and more with small integers for amounts, as in nature: many on one line."""
    formulas = ["LiF"]  # a hull has at least one compound
    for _ in range(num_compounds):
        size = rng.integers(2, len(elements) + 1) if len(elements) > 1 else 0
        chosen = rng.choice(elements, size, replace=False)
        formulas.append("".join(f"{e}{rng.integers(1, 5)}" for e in chosen) or "LiF")
    return Hull.from_entries(formulas, [-3.0, *energies(num_compounds)], scale="x", source="test")


def by_highs(hull, composition):
    """Eq. 5 as a linear programme, by a library's solver."""
    elements = sorted(composition)
    points = [{e: 1.0} for e in elements] + [dict(p) for p in hull.entries(elements)]
    energies = [0.0] * len(elements) + list(hull.entries(elements).values())
    mixing = [[p.get(e, 0.0) for p in points] for e in elements]
    solved = linprog(energies, A_eq=mixing, b_eq=[composition[e] for e in elements], method="highs")
    assert solved.status == 0
    return min(solved.fun, 0.0)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@example(seed=3161, size=6, num=6, kind="equal")  # where an inverse that is only updated goes wrong
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
    heights, entries = LowerHull(hull).heights(by_number(elements, fractions))
    for row, height, num in zip(fractions, heights, entries, strict=True):
        composition = dict(zip(elements, row.tolist(), strict=True))
        found = hull.e_above_hull(composition, 0.0)
        assert -height == pytest.approx(-by_highs(hull, composition), abs=2e-7)
        assert found.e_above_hull == pytest.approx(-height, abs=1e-9) and num == found.num_entries
        mixed = dict.fromkeys(elements, 0.0)
        phases = hull.decomposition(composition)
        for phase, share in phases.items():
            for element, fraction in phase:
                mixed[element] += share * fraction
        assert mixed == pytest.approx(composition, abs=1e-6)
        depth = sum(share * hull.compounds.get(phase, 0.0) for phase, share in phases.items())
        assert depth == pytest.approx(height, abs=1e-6)


def test_where_there_are_few_compounds_or_none():
    hull = Hull.from_entries(["Li2O", "LiF"], [-2.0, -3.0], scale="x", source="test")
    fast = LowerHull(hull)
    assert fast.heights(by_number(["Li"], [[1.0]])) == (pytest.approx([0]), [0])
    assert fast.heights(by_number(["Na", "O"], [[0.5, 0.5]])) == (pytest.approx([0]), [0])
    asked = by_number(["Li", "O"], [[2 / 3, 1 / 3], [1 / 3, 2 / 3], [5 / 6, 1 / 6]])
    heights, entries = fast.heights(asked)
    assert heights == pytest.approx([-2, -1, -1]) and entries.tolist() == [1, 1, 1]
    assert fast.heights(asked[:0])[0].shape == (0,)
    above = Hull.from_entries(["LiO"], [0.5], scale="x", source="test")
    assert LowerHull(above).heights(asked)[0].tolist() == [0, 0, 0]


def test_what_has_no_atomic_number_is_left_out():
    hull = Hull.from_entries(["X2O", "Li2O"], [-5.0, -2.0], scale="x", source="test")
    heights, entries = LowerHull(hull).heights(by_number(["H", "Li", "O"], [[1 / 3, 1 / 3, 1 / 3]]))
    assert heights == pytest.approx([-1]) and entries == [1]


def test_compounds_of_one_line_do_not_send_it_round_in_circles():
    """Every composition here has many mixtures of the same energy."""
    formulas = [f"Li{a}O{b}" for a in range(1, 12) for b in range(1, 12)]
    energies = [-min(a, b) / (a + b) for a in range(1, 12) for b in range(1, 12)]
    hull = Hull.from_entries(formulas, energies, scale="x", source="test")
    share = np.linspace(0, 1, 41)
    heights, _ = LowerHull(hull).heights(by_number(["Li", "O"], np.column_stack([share, 1 - share])))
    np.testing.assert_allclose(heights, -np.minimum(share, 1 - share), atol=1e-9)


def test_the_bundled_hull():
    table = datasets.load("flla")
    hull = Hull.from_table(table, scale="materials_project_2015", source="flla")
    fast = LowerHull(hull)
    crystals = table.crystals()[::60]
    heights, _ = fast.heights(element_fractions(crystals))
    for composition, height in zip(crystals.compositions(), heights, strict=True):
        assert height == pytest.approx(hull.energy(composition), abs=1e-9)
