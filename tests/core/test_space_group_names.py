"""Space groups by number, symbol and crystal system."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.symmetry.groups import SpaceGroup

from crysjepa.core.space_group_names import SYSTEMS, crystal_systems, parse_space_groups, spelled
from crysjepa.core.symmetry import symbol


@pytest.mark.parametrize("number", range(1, 231))
def test_numbers_and_symbols_are_moyos_and_pymatgens(number):
    other = SpaceGroup.from_int_number(number)
    assert parse_space_groups(number) == parse_space_groups(f" {number} ") == {number}
    assert parse_space_groups(symbol(number)) == parse_space_groups(other.symbol) == {number}
    assert number in crystal_systems()[other.crystal_system]


def test_crystal_systems_share_out_all_groups():
    assert tuple(crystal_systems()) == SYSTEMS
    assert sorted(n for numbers in crystal_systems().values() for n in numbers) == list(range(1, 231))


def test_other_settings_and_lists():
    assert parse_space_groups("Pbnm") == parse_space_groups("Pnma") == {62}
    assert parse_space_groups("F m -3 m, 62,Cubic") == {62, *range(195, 231)}


@pytest.mark.parametrize("text", ["", ",", "0", "231", "-1", "Fm-3n", "cubical", "m-3m", "62-64", "1.5"])
def test_what_is_no_space_group_is_refused(text):
    with pytest.raises(ValueError, match="no space group"):
        parse_space_groups(text)


groups = st.frozensets(st.integers(1, 230), min_size=1) | st.sampled_from(
    [frozenset(numbers) for numbers in crystal_systems().values()]
)


@given(groups, groups)
def test_different_groups_are_spelled_differently(one, other):
    assert (spelled(one) == spelled(other)) == (one == other)
