"""Elements that may come next on an orbit are exactly those with which the constraints can still hold."""

import itertools

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crysjepa.core.formula_patterns import FormulaPattern
from crysjepa.generators.constraints import ConstraintError, Constraints
from crysjepa.generators.flow.fills import AimedFill, Fill, Fills, fits, is_needed, shared_out
from crysjepa.generators.flow.formula_rules import Rules, Targets, formula_keys

ELEMENTS = (3, 8, 11, 15)
ALLOWED = np.isin(np.arange(1, 101), ELEMENTS)

sizes_of_orbits = st.lists(st.sampled_from((1, 1, 2, 2, 3, 4)), min_size=1, max_size=5)
formulas = st.sampled_from(
    ["LiO", "Li2O", "NaLiO2", "LiPO3", "Na3PO4", "AX", "AX2", "ABX3", "ABX2", "A2BX4", "ABCX4", "A2X3"]
)


def wanted_constraints():
    def made(formula, system, most, units, any_of, all_of):
        if formula is None:
            units = None
        try:
            return Constraints(
                only=frozenset(ELEMENTS), system=system, max_elements=most, formula_units=units,
                any_of=any_of, all_of=all_of,
                formula=None if formula is None else FormulaPattern.parse(formula),
            )  # fmt: skip
        except ConstraintError:
            return None

    systems = st.none() | st.frozensets(st.sampled_from(ELEMENTS), min_size=1, max_size=3)
    units = st.none() | st.sampled_from([(1, 1), (1, 2), (2, 4)])
    any_of = st.none() | st.frozensets(st.sampled_from(ELEMENTS), min_size=1, max_size=2)
    all_of = st.just(frozenset()) | st.frozensets(st.sampled_from(ELEMENTS), max_size=3)
    parts = (st.none() | formulas, systems, st.none() | st.integers(1, 4), units, any_of, all_of)
    return st.tuples(*parts).map(lambda p: made(*p)).filter(lambda c: c is not None)


def obeys(wanted, sizes, elements):
    """By itself: what the sites add up to."""
    totals = {}
    for size, element in zip(sizes, elements, strict=True):
        totals[element] = totals.get(element, 0) + size
    divisor = np.gcd.reduce([*totals.values()])
    if wanted.system is not None and set(totals) != wanted.system:
        return False
    if wanted.max_elements is not None and len(totals) > wanted.max_elements:
        return False
    if not wanted.all_of <= set(totals):
        return False
    if wanted.any_of is not None and not wanted.any_of & set(totals):
        return False
    if wanted.formula is None:
        return True
    if not wanted.formula.fits(sorted((z, n // divisor) for z, n in totals.items())):
        return False
    units = sum(sizes) // wanted.formula.num_atoms
    return wanted.formula_units is None or wanted.formula_units[0] <= units <= wanted.formula_units[1]


@given(wanted=wanted_constraints(), sizes=sizes_of_orbits, data=st.data())
@settings(max_examples=150, deadline=None)
def test_exactly_what_can_still_be_finished_may_come_next(wanted, sizes, data):
    """Against all assignments of elements to orbits: none is lost, and none that fails may be begun."""
    everything = [e for e in itertools.product(ELEMENTS, repeat=len(sizes)) if obeys(wanted, sizes, e)]
    assert fits(wanted, sizes) == bool(everything)
    assume(everything)
    fill, chosen = Fill(wanted, sizes), []
    for place, size in enumerate(sizes):
        good = {e[place] for e in everything if list(e[:place]) == chosen}
        assert set((np.flatnonzero(fill.choices(size, ALLOWED)) + 1).tolist()) == good
        chosen.append(data.draw(st.sampled_from(sorted(good))))
        fill.take(chosen[-1], size)
    assert obeys(wanted, sizes, chosen)


@given(sizes=sizes_of_orbits, num=st.integers(1, 3), data=st.data())
@settings(deadline=None)
def test_orbits_are_shared_out_as_by_trying_all(sizes, num, data):
    owners = data.draw(st.lists(st.integers(0, num - 1), min_size=len(sizes), max_size=len(sizes)))
    room = [sum(s for s, o in zip(sizes, owners, strict=True) if o == k) for k in range(num)]
    moved = data.draw(st.integers(0, room[0]))
    room = sorted([room[0] - moved, *room[1:-1], *([room[-1] + moved] if num > 1 else [])])
    found = any(
        sorted(sum(s for s, o in zip(sizes, way, strict=True) if o == k) for k in range(num)) == room
        for way in itertools.product(range(num), repeat=len(sizes))
    )
    assert shared_out(tuple(sorted(sizes, reverse=True)), tuple(room)) == found


@given(
    wanted=wanted_constraints(),
    sizes=sizes_of_orbits,
    known=st.lists(st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=5), max_size=12),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_where_elements_are_few_formulas_that_the_rules_refuse_are_never_begun(wanted, sizes, known, data):
    def formula_of(sizes, elements):
        totals = {z: sum(s for s, e in zip(sizes, elements, strict=True) if e == z) for z in set(elements)}
        return tuple(sorted((z, n // np.gcd.reduce([*totals.values()]).item()) for z, n in totals.items()))

    refused = {formula_of([1] * len(elements), elements) for elements in known}
    rules = Rules(frozenset(formula_keys(sorted(refused))), novel=True, balanced=False)
    targets = Targets(wanted, ELEMENTS, rules)
    everything = [
        e
        for e in itertools.product(ELEMENTS, repeat=len(sizes))
        if obeys(wanted, sizes, e) and formula_of(sizes, e) not in refused
    ]
    if wanted.allows_sites(sum(sizes)):
        assert bool(targets.of(tuple(sorted(sizes, reverse=True)))) == bool(everything)
    assume(everything)
    fill, chosen = AimedFill(targets, sizes), []
    for place, size in enumerate(sizes):
        good = {e[place] for e in everything if list(e[:place]) == chosen}
        assert set((np.flatnonzero(fill.choices(size, ALLOWED)) + 1).tolist()) == good
        chosen.append(data.draw(st.sampled_from(sorted(good))))
        fill.take(chosen[-1], size)


def test_weaker_rules_keep_less():
    oxide, salt = ((8, 1), (12, 1)), ((11, 1), (17, 2))
    rules = Rules(frozenset(formula_keys([oxide])), novel=True, balanced=True)
    told = [(r.refuse(oxide), r.refuse(salt)) for r in rules.weaker()]
    known, unbalanced = "formula of a training crystal", "composition not charge-balanced"
    assert told == [(known, unbalanced), (None, unbalanced), (None, None)]


def test_a_batch_has_padding():
    wanted = Constraints.parse(formula="LiO")
    fills = Fills(wanted, np.array([[1, 1], [2, 0]]))
    both = np.array([0, 1])
    first = fills.choices(both, np.array([0, 0]), ALLOWED)
    assert set((np.flatnonzero(first[0]) + 1).tolist()) == {3, 8}
    np.testing.assert_array_equal(first[1], ALLOWED)  # no element fits
    fills.take(both, np.array([0, 0]), np.array([3, 8]))
    second = fills.choices(np.array([0]), np.array([1]), ALLOWED)
    assert set((np.flatnonzero(second[0]) + 1).tolist()) == {8}
    assert is_needed(wanted) and not is_needed(Constraints.parse(elements="Li,O"))
