"""What is asked of properties: read from text, and what values are worth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_crystals import table_of_formulas

from crysjepa.core.candidates import CandidateTable
from crysjepa.properties import find_property
from crysjepa.properties.aims import JUDGED, NOT_STABLE, REASON, Aims
from crysjepa.properties.base import How, PropertyError
from crysjepa.properties.objective import MISSED, Objective, front, merits, parse_objectives

VALUES = st.lists(st.one_of(st.floats(-1e3, 1e3), st.sampled_from([0.0, 5.0, 200.0]), st.just(float("nan"))))
SENSES = ("max:{}", "min:{}", "{}>=5", "{}<=5")
EXACT, UNSURE = "density", "bulk_modulus"


@pytest.mark.parametrize(
    ("text", "sense", "name", "target"),
    [
        ("bulk_modulus>=200", ">=", "bulk_modulus", 200),
        ("  density   <= 4.5 ", "<=", "density", 4.5),
        ("max:capacity:Li", "max", "capacity:Li", None),
        ("min: price", "min", "price", None),
        ("capacity:Li >= 1.5e2", ">=", "capacity:Li", 150),
        ("density>=-1", ">=", "density", -1),
    ],
)
def test_all_forms_are_read(text: str, sense: str, name: str, target: float | None) -> None:
    found = Objective.parse(text)
    assert (found.sense, found.of.name, found.target) == (sense, name, target)
    assert Objective.parse(str(found)) == found, "and what is written of it is read again"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "PROPERTY>=NUMBER"),
        ("density", "max:PROPERTY"),
        ("density>5", "PROPERTY>=NUMBER"),
        ("density=5", "PROPERTY>=NUMBER"),
        ("density>=", "PROPERTY>=NUMBER"),
        ("density>=five", "PROPERTY>=NUMBER"),
        ("density>=nan", "PROPERTY>=NUMBER"),
        ("density>=1-2", "1-2 is no number"),
        ("density>=1e999", "finite"),
        ("max:density>=5", "'max:density'|max:density"),
        ("most:density", "density"),
        ("beauty>=5", "choose from density"),
        ("max:beauty", "choose from density"),
        ("max:capacity:Xx", "no element 'Xx'"),
        ("4<=density<=5", "PROPERTY<=NUMBER"),
    ],
)
def test_what_cannot_be_read_is_said_with_what_could(text: str, word: str) -> None:
    with pytest.raises(PropertyError, match=word):
        parse_objectives([text])


@pytest.mark.parametrize(
    ("texts", "word"),
    [
        (["density>=5", "density>=6"], "density is asked for twice"),
        (["max:price", "max:price"], "price is asked for twice"),
        (["density>=5", "density<=4"], "no density is at least 5 and at most 4"),
        (["density<=4", "density>=5"], "no density is at least 5 and at most 4"),
        (["max:density", "min:density"], "the largest and the smallest"),
    ],
)
def test_objectives_that_exclude_each_other(texts: list[str], word: str) -> None:
    with pytest.raises(PropertyError, match=word):
        parse_objectives(texts)


def test_a_range_and_one_end_of_it() -> None:
    assert len(parse_objectives(["density>=4", "density<=4"])) == 2
    assert len(parse_objectives(["density>=4", "min:density"])) == 2
    assert parse_objectives([]) == () and Aims.parse([]) is None
    with pytest.raises(PropertyError, match="product or pareto"):
        Aims.parse(["min:price"], "sum")


@settings(max_examples=100, deadline=None)
@given(VALUES, st.sampled_from(SENSES), st.sampled_from([EXACT, UNSURE]))
def test_worth_is_a_share_that_grows_with_the_value(listed: list[float], form: str, name: str) -> None:
    """Or falls, if little is wanted."""
    one, values = Objective.parse(form.format(name)), np.array(listed, dtype=float)
    worth = one.worth(values, "chgnet")
    there = np.isfinite(values)
    assert (np.isnan(worth) == ~there).all()
    assert ((worth[there] >= 0) & (worth[there] <= 1)).all()
    if one.target is not None and name == UNSURE:
        there &= values > 0  # what is said to err in proportion
    order = np.argsort(values[there], kind="stable")
    steps = np.diff(worth[there][order]) * (1 if one.upward else -1)
    assert (steps >= -1e-9).all()
    same = np.diff(values[there][order]) == 0
    np.testing.assert_allclose(steps[same], 0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.sampled_from(["{}>=5", "{}<=5"]))
def test_an_exact_target_is_met_or_missed(listed: list[float], form: str) -> None:
    one, values = Objective.parse(form.format(EXACT)), np.array(listed, dtype=float)
    for value, worth in zip(values.tolist(), one.worth(values, "chgnet").tolist(), strict=True):
        if not np.isfinite(value):
            continue
        assert worth == 1 if one.met(value) else 0 < worth < MISSED <= 0.001
    assert one.met(None) is None and one.met(5.0) is True
    assert Objective.parse("max:density").met(5.0) is None


def test_an_uncertain_target_has_a_chance() -> None:
    """Half at the target itself, and 84 % one spread of the logarithm above."""
    one = Objective.parse("bulk_modulus>=200")
    spread = one.of.spread("chgnet")
    assert spread is not None
    worth = one.worth(np.array([200.0, 200 * np.exp(spread), 20.0, -5.0]), "chgnet")
    np.testing.assert_allclose(worth, [0.5, 0.8413, 0, 0], atol=1e-3)
    soft = Objective.parse("bulk_modulus<=200").worth(np.array([200 * np.exp(spread), 1e6, -5.0]), "chgnet")
    np.testing.assert_allclose(soft, [0.1587, 0, 1], atol=1e-3)
    unknown = one.worth(np.array([200.0, 199.0]), "another")
    np.testing.assert_allclose(unknown, [0.5, 0.49], atol=1e-2)  # who was not compared with DFT errs, too


def test_extremes_are_worth_their_place() -> None:
    values = np.array([3.0, 1.0, np.nan, 2.0, 2.0])
    np.testing.assert_allclose(
        Objective.parse("max:density").worth(values, ""), [0.875, 0.125, np.nan, 0.5, 0.5]
    )
    np.testing.assert_allclose(
        Objective.parse("min:density").worth(values, ""), [0.125, 0.875, np.nan, 0.5, 0.5]
    )


def test_merits_are_products() -> None:
    asked = parse_objectives(["density>=5", "max:price", "bulk_modulus<=100"])
    rng = np.random.default_rng(0)
    values = [rng.uniform(0, 10 if o.of.name == EXACT else 200, 50) for o in asked]
    values[1][3] = np.nan
    chances = rng.random(50)
    worth, merit = merits(asked, values, chances, "chgnet")
    expected = np.prod([o.worth(v, "chgnet") for o, v in zip(asked, values, strict=True)], axis=0)
    np.testing.assert_allclose(worth, expected)
    np.testing.assert_allclose(merit, expected * chances)
    assert np.isnan(merit[3]) and np.isfinite(merit).sum() == 49


GRID = st.one_of(st.integers(0, 3).map(float), st.floats(0, 3), st.just(float("nan")))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4).flatmap(lambda k: st.lists(st.lists(GRID, min_size=k, max_size=k), max_size=25)))
def test_the_front_is_what_nothing_dominates(rows: list[list[float]]) -> None:
    goods = np.array(rows, dtype=float).reshape(len(rows), len(rows[0]) if rows else 2)

    def dominated(row: np.ndarray) -> bool:
        return any(
            (other >= row).all() and (other > row).any() for other in goods if np.isfinite(other).all()
        )

    expected = [bool(np.isfinite(row).all()) and not dominated(row) for row in goods]
    assert front(goods).tolist() == expected


def test_elements_that_no_target_allows() -> None:
    asked = Aims.parse(["element_price<=50", "abundance>=1"])
    assert asked is not None
    beyond = asked.elements_beyond()
    assert {79, 78, 45, 76, 99} <= beyond, "gold, platinum, rhodium, osmium; and einsteinium has no price"
    assert not {8, 12, 13, 14, 26, 30} & beyond
    for z in sorted(beyond & set(range(1, 84))):
        allowed = [rule.values.get(z) for o in asked.objectives if (rule := o.of.by_element)]
        assert allowed[0] is None or allowed[0] > 50 or allowed[1] is None or allowed[1] < 1
    for text in ("element_price>=50", "abundance<=1", "min:element_price", "max:abundance", "price<=50"):
        assert not Objective.parse(text).elements_beyond(), f"{text} is met beside any element"


@settings(max_examples=20, deadline=None)
@given(st.floats(0.5, 1e4), st.sampled_from(["element_price<={}", "abundance>={}"]))
def test_no_crystal_of_these_elements_meets_the_target(bound: float, form: str) -> None:
    one = Objective.parse(form.format(f"{bound:.3g}"))
    table = table_of_formulas("NaCl", "AuNa", "SiO2", "PtCl2", "Li2O", "ReO3", "TiO2", "CsI", "EsCl3")
    found = one.of.measure(table, How()).values
    for id_, crystal in zip(table.ids, table.crystals(), strict=True):
        clear = not set(crystal.atomic_numbers.tolist()) & one.elements_beyond()
        assert clear == bool(id_ in found and one.met(found[id_]))


def judged(*texts: str, chances: Mapping[str, float | None]) -> tuple[Aims, CandidateTable]:
    aims = Aims.parse(texts, how=How(force_field="ase.calculators.emt:EMT"))
    assert aims is not None
    table = table_of_formulas("NaCl", "Au", "EsCl3", "SiO2")
    return aims, aims.judge(aims.measure(table, ["NaCl", "Au", "EsCl3"]), chances)


def test_a_table_has_values_merits_and_reasons() -> None:
    chances = {"NaCl": 0.5, "Au": 0.9, "EsCl3": 0.9, "SiO2": 0.9}
    aims, table = judged("element_price<=1000", "max:abundance", chances=chances)
    assert table.column("meets_targets") == [True, False, None, None]
    assert table.column("on_front") == [True, True, None, None]
    assert table.column("worth")[0] == 0.75 and table.column("merit")[0] == 0.375
    assert table.column("merit")[2:] == [None, None] and table.column("element_price")[3] is None
    reasons = table.column(REASON)
    assert reasons[:2] == [None, None] and reasons[3] is None
    assert "element_price of Es" in reasons[2] and "abundance: abundance of Es" in reasons[2]
    assert {*aims.columns, *JUDGED} <= set(table.frame.columns)
    _, unsure = judged("max:abundance", chances={"NaCl": None})
    assert unsure.column("merit") == [None] * 4 == unsure.column("meets_targets")


def test_seconds_a_crystal_are_only_for_the_stable() -> None:
    aims = Aims.parse(["shear_modulus>=1", "min:price"], how=How(force_field="ase.calculators.emt:EMT"))
    assert aims is not None
    table = aims.measure(table_of_formulas("Na", "Cl2"), ["Na", "Cl2"], stable=())
    assert table.column("shear_modulus") == [None, None]
    assert table.column(REASON)[0] == f"shear_modulus: {NOT_STABLE}"
    assert None not in table.column("price")
    before = aims.before_relaxation
    assert before is not None and [str(o) for o in before.objectives] == ["min:price"]
    alone = Aims.parse(["max:hardness"])
    assert alone is not None and alone.before_relaxation is None
    assert [p.name for p in aims.by("another").properties] == ["shear_modulus"]
    assert find_property("shear_modulus").at_rest
