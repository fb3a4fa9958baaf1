import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysjepa import datasets
from crysjepa.core.chemical_systems import (
    SystemTable,
    element_fractions,
    keys_of_names,
    subsystems,
    system_keys,
    system_names,
)

SYMBOLS = ("H", "Cl", "Gd", "Tb", "Og", "U")
"""The words of a key part between Gd (64) and what is below it."""
systems = st.sets(st.sampled_from(SYMBOLS), min_size=1).map(lambda s: "-".join(sorted(s)))


def test_subsystems_are_the_power_set():
    assert set(subsystems("A-B-C")) == {"A", "B", "C", "A-B", "A-C", "B-C", "A-B-C"}
    assert list(subsystems("Na-Cl", 1)) == ["Cl", "Na"]


@settings(deadline=None)  # the first is compiled
@given(members=st.lists(systems, max_size=40), asked=st.lists(systems, min_size=1, max_size=5))
def test_what_is_within_a_system_is_counted(members, asked):
    table, order = SystemTable.of(keys_of_names(members))
    assert sorted(order.tolist()) == list(range(len(members)))
    assert [members[i] for i in order] == list(
        itertools.chain.from_iterable(
            [members[i] for i in order[a:b]] for a, b in itertools.pairwise(table.starts.tolist())
        )
    )
    wanted = [sum(set(m.split("-")) <= set(a.split("-")) for m in members) for a in asked]
    assert table.num_within(keys_of_names(asked)).tolist() == wanted


def test_names_and_fractions_are_what_pymatgen_says():
    crystals = datasets.load("flla").crystals()[::40]
    assert system_names(crystals) == crystals.chemical_systems()
    fractions = element_fractions(crystals)
    for row, composition in zip(fractions, crystals.compositions(), strict=True):
        found = {int(z): row[z] for z in np.flatnonzero(row)}
        assert found == pytest.approx({e.Z: composition.get_atomic_fraction(e) for e in composition})
    np.testing.assert_array_equal(system_keys(fractions), keys_of_names(system_names(crystals)))
    with pytest.raises(KeyError):
        keys_of_names(["Na-Xx"])


def test_counts(salts):
    table = SystemTable.of_crystals(salts)
    assert table.num_within(keys_of_names(["Cl-K", "Br-Cl-K-Na", "Fe"])).tolist() == [1, 3, 0]
    empty = SystemTable.of_crystals(salts[:0])
    assert empty.num_within(keys_of_names(["K"])).tolist() == [0]
    assert empty.content_hash != table.content_hash == SystemTable.of_crystals(salts).content_hash
