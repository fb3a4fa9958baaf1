"""Validity: known answers, other libraries as oracles, and bad crystals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element
from smact.screening import smact_validity

from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import composition_validity, structure_validity


def crystal(
    lattice: object, frac_coords: object, numbers: list[int] | None = None, id_: str = "c"
) -> Crystals:
    frac = np.asarray(frac_coords, dtype=float)
    return Crystals(numbers or [3] * len(frac), frac, np.asarray(lattice, dtype=float), [len(frac)], (id_,))


def of_formulas(*formulas: str) -> Crystals:
    """One crystal a formula; only their compositions are meant to be looked at."""
    batches = []
    for formula in formulas:
        numbers = [e.Z for e, n in Composition(formula).items() for _ in range(int(n))]
        batches.append(
            crystal(np.eye(3) * 30, np.linspace(0, 0.9, len(numbers))[:, None] * [1, 1, 1], numbers, formula)
        )
    return Crystals.concatenate(batches)


def rock_salt(a: float, anion: int = 17, id_: str = "c") -> Crystals:
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return crystal(np.eye(3) * a, np.concatenate([fcc, fcc + 0.5]), [11] * 4 + [anion] * 4, id_)


# -- structure -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lattice", "frac", "reason"),
    [
        (np.eye(3) * 4, [[0, 0, 0], [0.5, 0.5, 0.5]], None),
        (np.eye(3) * 4, [[0.2, 0.2, 0.2], [0.2, 0.2, 0.2]], "shortest distance 0.00 Å"),
        (np.eye(3) * 4, [[0.01, 0, 0], [0.95, 1, 3]], "shortest distance 0.24 Å"),
        (np.diag([0.4, 5, 5]), [[0, 0, 0]], "shortest distance 0.40 Å"),
        (np.diag([0.6, 5, 5]), [[0, 0, 0]], None),
        ([[4, 0, 0], [0, 4, 0], [4, 0.3, 4e-3]], [[0, 0, 0]], "Å³"),
        ([[4, 0, 0], [4000.3, 0.3, 0], [0, 0, 9]], [[0, 0, 0]], "shortest distance"),
        (np.eye(3) * 0.46, [[0, 0, 0]], "cell volume"),
        (np.zeros((3, 3)), [[0, 0, 0]], "cell volume"),
        (np.diag([np.nan, 1, 1]), [[0, 0, 0]], "lattice is not finite"),
        (np.diag([np.inf, 1, 1]), [[0, 0, 0]], "lattice is not finite"),
        (np.eye(3) * 1e200, [[0, 0, 0]], "not finite"),
        (np.eye(3) * 4, [[0, np.nan, 0]], "coordinate is not finite"),
        (np.eye(3) * 1e6, [[0, 0, 0], [0.5, 0.5, 0.5]], None),
        (-np.eye(3) * 4, [[0, 0, 0], [0.5, 0.5, 0.5]], None),
    ],
)
def test_structure_validity(lattice: object, frac: object, reason: str | None) -> None:
    found = structure_validity(crystal(lattice, frac))["c"]
    assert (found is None) == (reason is None), found
    assert reason is None or reason in str(found)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.floats(0.3, 1.5),
    st.lists(st.tuples(st.permutations([0, 1, 2]), st.integers(-6, 6)), max_size=6),
)
def test_shortest_distance_is_right_in_any_cell(
    seed: int, sites: int, min_distance: float, shears: list[tuple[list[int], int]]
) -> None:
    rng = np.random.default_rng(seed)
    lattice = rng.normal(size=(3, 3)) * rng.uniform(0.5, 3, (3, 1))
    crystals = crystal(lattice, rng.uniform(size=(sites, 3)))
    found = structure_validity(crystals, min_distance=min_distance, min_volume=1e-6)["c"]

    points = crystals.frac_coords @ lattice
    images = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3), -1).reshape(-1, 3) @ lattice
    lengths = [np.linalg.norm(p - q + images, axis=1) for i, p in enumerate(points) for q in points[i:]]
    shortest = min(length[length > 1e-9].min() for length in lengths)
    if abs(shortest - min_distance) > 1e-6 and abs(np.linalg.det(lattice)) > 0.3:
        assert (found is None) == (shortest > min_distance)

    sheared, coords = lattice.copy(), crystals.frac_coords.copy()
    for (i, j, _), n in shears:  # the same crystal, another cell
        sheared[i] += n * sheared[j]
        coords[:, j] -= n * coords[:, i]
    again = structure_validity(crystal(sheared, coords), min_distance=min_distance, min_volume=1e-6)["c"]
    if abs(shortest - min_distance) > 1e-6:
        assert (again is None) == (found is None)


def test_a_large_cell_is_checked_in_little_memory() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(20)] * 3), -1).reshape(-1, 3) / 20
    assert structure_validity(crystal(np.eye(3) * 50, grid)) == {"c": None}
    grid[77] = grid[4000] + 1e-4
    assert "shortest distance 0.01 Å" in str(structure_validity(crystal(np.eye(3) * 50, grid))["c"])


def test_one_bad_crystal_does_not_disturb_the_others() -> None:
    good, bad = rock_salt(5.6, id_="good"), crystal(np.diag([np.nan, 1, 1]), [[0, 0, 0]], id_="bad")
    seen: list[tuple[int, int]] = []
    found = structure_validity(
        Crystals.concatenate([bad, good]), progress=lambda done, total: seen.append((done, total))
    )
    assert found["good"] is None
    assert found["bad"]
    assert seen == [(1, 2), (2, 2)]
    assert structure_validity(Crystals.empty()) == {}


# -- composition -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("NaCl", None),
        ("Fe3O4", "no charge-neutral"),  # no one oxidation state of Fe does it
        ("Fe2O3", None),
        ("Na2Cl", "cation more electronegative"),
        ("O2", None),
        ("Xe", None),
        ("FeCoNi", None),
        ("ArO", "smact knows no oxidation state of Ar"),
        ("PmO", "smact knows no electronegativity of Pm"),
        ("OgO", "smact knows no oxidation state of Og"),
    ],
)
def test_composition_validity(formula: str, reason: str | None) -> None:
    found = composition_validity(of_formulas(formula))[formula]
    assert (found is None) == (reason is None), found
    assert reason is None or reason in str(found)


known = st.sampled_from([Element.from_Z(z).symbol for z in range(1, 104)])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(known, st.integers(1, 6), min_size=1, max_size=4))
def test_composition_validity_is_smacts(amounts: dict[str, int]) -> None:
    composition = Composition(amounts)
    formula = "".join(f"{e}{n}" for e, n in amounts.items())
    expected = smact_validity(composition, oxidation_states_set="smact14")
    assert (composition_validity(of_formulas(formula))[formula] is None) == expected


def test_many_elements_are_checked_at_once() -> None:
    # The enumeration would be longer than 10^10 combinations.
    formula = "".join(Element.from_Z(z).symbol for z in [*range(21, 31), *range(39, 49), 82]) + "O30"
    assert composition_validity(of_formulas(formula)) == {formula: None}
