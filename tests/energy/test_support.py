"""What a hull's answer is worth: gaps, verdicts, warnings."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crysjepa.core.chemical_systems import element_symbols
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import known_hull
from crysjepa.energy.support import ORDER, HullSupport, Support, systems_of, warning

F, SR, HF = 9, 38, 72


def hull_of(*formulas: str) -> Hull:
    return Hull.from_entries(formulas, [-1.0] * len(formulas), scale="s", source="h", elements_alone=True)


ELSEWHERE = {(F, SR): 1, (F, HF): 1, (F, SR, HF): 2}


@pytest.mark.parametrize(
    ("formulas", "verdict", "gaps"),
    [
        (("SrF2", "HfF4", "SrHfF6"), Support.SUPPORTED, []),
        (("SrF2", "HfF4", "SrHf2"), Support.THIN, [(F, SR, HF)]),
        (("SrF2", "HfF4"), Support.BLIND, [(F, SR, HF)]),  # one gap, but hardly anything else to compare with
        (("SrF2", "SrHf2", "SrHf3"), Support.BLIND, [(F, HF), (F, SR, HF)]),
        ((), Support.BLIND, [(F, SR), (F, HF), (F, SR, HF)]),
    ],
)
def test_verdicts(formulas, verdict, gaps):
    found = HullSupport(hull_of(*formulas), ELSEWHERE).of((F, SR, HF))
    assert found.verdict == verdict
    assert found.gaps == gaps
    assert found.num_entries == len(formulas)


def test_nothing_known_anywhere_is_thin_and_an_element_is_supported():
    support = HullSupport(hull_of(), {})
    assert support.of((F, SR)).verdict == Support.THIN
    assert support.of((F,)).verdict == Support.SUPPORTED


def test_it_is_told_in_words_the_gaps_first():
    found = HullSupport(hull_of("SrF2"), ELSEWHERE).of((F, SR, HF))
    assert str(found).startswith(
        "F-Hf: 0 here, 1 in LeMat-Bulk; F-Hf-Sr: 0 here, 2 in LeMat-Bulk; F-Sr: 1 here"
    )


@given(
    st.lists(st.sampled_from(["SrF2", "HfF4", "SrHfF6", "Sr2HfF8", "SrHf2", "HfF3"]), unique=True), st.data()
)
def test_a_compound_more_never_makes_a_verdict_worse(formulas, data):
    more = data.draw(st.sampled_from(["SrF2", "HfF4", "SrHfF6", "SrHf2"]))
    before, after = (
        HullSupport(hull_of(*f), ELSEWHERE).of((F, SR, HF)).verdict for f in (formulas, [*formulas, more])
    )
    assert ORDER[after] <= ORDER[before]


def test_entries_are_those_that_the_hull_counts():
    hull = known_hull()
    for formula, system in (("BaTiO3", (8, 22, 56)), ("SrHfF6", (F, SR, HF))):
        assert HullSupport(hull).of(system).num_entries == hull.e_above_hull(formula, 0.0).num_entries


def test_where_the_bundled_hull_is_blind():
    support = HullSupport(known_hull())
    assert support.of((F, SR, HF)).verdict == Support.BLIND  # HfF4 is missing
    assert support.of((8, 20, 22)).verdict == Support.SUPPORTED  # Ca-O-Ti


def test_a_warning_is_for_what_lies_further_below_than_discoveries_do():
    assert warning(None) is None
    assert warning(-0.1) is None
    assert "0.35 eV/atom below the hull" in (warning(-0.35) or "")


def test_systems_of_formulas():
    assert systems_of([((3, 2), (8, 1)), ((26, 1),)]) == [(3, 8), (26,)]


def test_a_system_of_many_elements_takes_no_time_and_the_same_verdict():
    support = HullSupport(known_hull())
    many = support.of(tuple(range(3, 30)))  # 2^27 subsystems
    assert len(many.entries) > 500 and many.verdict == Support.BLIND and len(str(many)) < 1_000_000
    system = (8, 20, 22, 38, 39, 40, 56, 57, 58)
    listed = {s for k in range(2, 10) for s in combinations(system, k)}
    few = {s: n for s in listed if (n := len([c for c in _within(s)]))}
    assert {s: n for s, n in support.of(system).entries.items() if n} == few


def _within(system):
    """Compounds of the hull in exactly this chemical system."""
    names = {element_symbols()[z] for z in system}
    return [c for c in known_hull().entries(sorted(names)) if {e for e, _ in c} == names]
