"""GenBench's validity: charges against a search of every choice, distances, densities, cells."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element, Lattice, Structure

from crysjepa.core.crystals import Crystals
from crysjepa.core.genbench_validity import (
    NO_CHARGES,
    _falls_with_electronegativity,
    _occurring,
    _reachable,
    charge_reason,
    distance_reason,
    genbench_validity,
    plausibility_reason,
)
from crysjepa.data.bundle import bundled_file


def crystal(structure: Structure) -> Crystals:
    return Crystals.from_structures([structure], ["a"])


def spread(formula: str, per_atom: float = 15.0) -> Crystals:
    """A crystal of a formula, sites on a grid."""
    symbols = [str(e) for e, n in Composition(formula).items() for _ in range(int(n))]
    side = int(np.ceil(len(symbols) ** (1 / 3)))
    places = np.array(list(itertools.product(range(side), repeat=3)))[: len(symbols)] / side
    return crystal(Structure(Lattice.cubic((per_atom * side**3) ** (1 / 3)), symbols, places))


def choices(symbol: str, num: int, states: tuple[int, ...]) -> set[int]:
    """Sums of every choice of states that differ by one at most, but for zero: all are listed."""
    every = itertools.combinations_with_replacement(states, num)
    return {sum(c) for c in every if max(c) - min(c) <= 1} - {0}


formulas = st.dictionaries(
    st.sampled_from(["Na", "Fe", "Cu", "Si", "O", "S", "Cl", "N"]), st.integers(1, 4), min_size=2, max_size=3
)


@given(formulas)
@settings(max_examples=60)
def test_charges_are_those_of_a_search_of_every_choice(formula: dict[str, int]) -> None:
    states = _occurring()
    sums = [choices(e, n, states[e]) for e, n in formula.items()]
    assert (0 in _reachable(formula, states)) == any(sum(x) == 0 for x in itertools.product(*sums))


@given(formulas)
@settings(max_examples=60)
def test_falling_with_electronegativity_is_a_negative_correlation(formula: dict[str, int]) -> None:
    sums = [choices(e, n, tuple(Element(e).oxidation_states)) for e, n in formula.items()]
    negativity = [Element(e).X for e in formula]
    amounts = np.array(list(formula.values()))
    found = False
    for x in itertools.product(*sums):
        mean = np.array(x) / amounts
        if sum(x) or np.ptp(mean) < 1e-9 or np.ptp(negativity) == 0:  # Cu and Si are alike
            continue
        if np.corrcoef(mean, negativity)[0, 1] < -1e-9:
            found = True
            break
    assert _falls_with_electronegativity(formula) == found


def test_ordinary_crystals_are_valid() -> None:
    salt = crystal(
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    )
    copper = crystal(Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.61), ["Cu"], [[0] * 3]))
    brass = crystal(Structure(Lattice.cubic(2.95), ["Cu", "Zn"], [[0] * 3, [0.5] * 3]))
    for good in (salt, copper, brass):
        assert genbench_validity(good) == ({"a": None}, {"a": None})


def test_what_cannot_be_neutral_is_not() -> None:
    assert charge_reason(spread("NaCl3")) == NO_CHARGES
    assert charge_reason(spread("Na3Cl")) == NO_CHARGES
    assert charge_reason(spread("CaF2")) is None
    assert charge_reason(spread("Fe3O4")) is None  # a mixed valence


@pytest.mark.parametrize("formula", ["CuSi", "CuSi64", "Cu7Si60", "Fe20Si20O40N20P20"])
def test_formulas_that_divided_by_zero_or_took_hours_get_an_answer(formula: str) -> None:
    assert charge_reason(spread(formula)) in (None, NO_CHARGES)


def test_copper_and_silicon_have_no_neighbouring_anion_or_no_charges() -> None:
    assert charge_reason(spread("CuSi64")) == NO_CHARGES
    assert charge_reason(spread("CuSi")) is None  # smact counts it as a metal


def test_distances_are_to_other_sites_only() -> None:
    assert distance_reason(crystal(Structure(Lattice.cubic(0.6), ["Na"], [[0] * 3]))) is None
    limit = 0.5 * (0.7 + Element("Na").atomic_radius + Element("Cl").atomic_radius)
    for distance, near in ((limit - 0.01, True), (limit + 0.01, False)):
        pair = Structure(Lattice.cubic(20), ["Na", "Cl"], [[0] * 3, [distance / 20, 0, 0]])
        assert (distance_reason(crystal(pair)) is not None) == near


@pytest.mark.parametrize(
    ("lattice", "said"),
    [
        (Lattice.cubic(0.9), "volume"),
        (Lattice.orthorhombic(0.9, 4, 4), "vector"),
        (Lattice.orthorhombic(101, 4, 4), "vector"),
        (Lattice.cubic(1.05), "sites per"),
        (Lattice.cubic(90), "sites per|g/cm³"),
    ],
)
def test_cells_that_are_implausible(lattice: Lattice, said: str) -> None:
    reason = plausibility_reason(crystal(Structure(lattice, ["W"], [[0] * 3])))
    assert reason is not None and any(words in reason for words in said.split("|"))


def test_the_density_is_pymatgens() -> None:
    for edge, fine in ((2.25, False), (2.35, True)):  # osmium in a cube of that edge: 27.7 and 24.3 g/cm³
        structure = Structure(Lattice.cubic(edge), ["Os"], [[0] * 3])
        assert (structure.density <= 25) == fine
        assert (plausibility_reason(crystal(structure)) is None) == fine


def test_the_table_of_states_says_where_it_is_from() -> None:
    table = json.loads(bundled_file("genbench_oxidation_states.json").read_text(encoding="utf-8"))
    assert "Apache-2.0" in table["source"] and len(table["states"]) > 80
    assert all(Element(e) and states == sorted(set(states)) for e, states in table["states"].items())
