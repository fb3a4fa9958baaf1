"""Elements for a template's orbits, against all that there are, gone through one by one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysjepa.generators.flow.assignments import Assignments


def brute_force(multiplicities, counts, kinds):
    """Every choice of an element for every orbit that adds up; of those alike by kinds, once."""
    found = {}
    for chosen in itertools.product(range(len(counts)), repeat=len(multiplicities)):
        sites = [0] * len(counts)
        for element, multiplicity in zip(chosen, multiplicities, strict=True):
            sites[element] += multiplicity
        if sites == list(counts):
            alike = tuple(sorted(zip(multiplicities, kinds, chosen, strict=True)))
            found.setdefault(alike, chosen)
    return set(found)


templates = st.lists(
    st.tuples(st.sampled_from([1, 1, 2, 2, 3, 4, 6]), st.integers(0, 2)), min_size=1, max_size=7
)


@settings(max_examples=200, deadline=None)
@given(templates, st.lists(st.integers(1, 8), min_size=1, max_size=4), st.data())
def test_they_are_those_of_brute_force(orbits, counts, data):
    multiplicities, kinds = zip(*orbits, strict=True)
    if data.draw(st.booleans()):  # counts that add up, so that there mostly is an assignment
        chosen = data.draw(st.lists(st.integers(0, 3), min_size=len(orbits), max_size=len(orbits)))
        sites = {e: 0 for e in chosen}
        for element, multiplicity in zip(chosen, multiplicities, strict=True):
            sites[element] += multiplicity
        counts = list(sites.values())
    found = Assignments(multiplicities, tuple(counts), kinds)
    alike = [tuple(sorted(zip(multiplicities, kinds, a, strict=True))) for a in found]
    assert len(alike) == len(set(alike)) == len(found)
    assert set(alike) == brute_force(multiplicities, counts, kinds)
    assert all(
        [sum(m for m, e in zip(multiplicities, a, strict=True) if e == i) for i in range(len(counts))]
        == list(counts)
        for a in found
    )


def test_a_perovskite_has_its_two_orders():
    # Pm-3m with 1a, 1b and 3c
    assert list(Assignments((1, 1, 3), (1, 1, 3))) == [(0, 1, 2), (1, 0, 2)]


def test_orbits_of_one_kind_are_not_told_apart():
    assert Assignments((1,) * 10, (4, 6)).num == 210
    assert Assignments((1,) * 10, (4, 6), ("x",) * 10).num == 1


def test_what_does_not_add_up_has_none():
    assert list(Assignments((2, 2), (1, 3))) == []
    assert list(Assignments((2, 2), (2, 3))) == []
    assert list(Assignments((4, 4), (2, 6))) == []


def test_some_are_drawn_with_equal_chances_and_the_same_for_a_seed():
    every = Assignments((1,) * 10, (4, 6))
    assert every.some(500) == list(every)
    drawn = every.some(30, seed=1)
    assert drawn == every.some(30, seed=1) != every.some(30, seed=2)
    assert len(set(drawn)) == 30
    times = [0] * 10
    for seed in range(300):
        for orbit, element in enumerate(every.some(1, seed=seed)[0]):
            times[orbit] += element == 0
    assert all(80 < t < 160 for t in times)  # 120 is expected, and 8.5 the deviation


def test_there_may_be_more_than_can_be_gone_through():
    many = Assignments((1,) * 60, (20, 20, 20))
    assert many.num == 577831214478475823831865900
    assert len(set(many.some(5))) == 5


@pytest.mark.parametrize(
    ("multiplicities", "counts", "kinds"),
    [((0, 1), (1,), None), ((1,), (0, 1), None), ((1, 1), (2,), ("a",))],
)
def test_what_makes_no_sense_is_refused(multiplicities, counts, kinds):
    with pytest.raises(ValueError, match=r"at least 1|kinds for"):
        Assignments(multiplicities, counts, kinds)
