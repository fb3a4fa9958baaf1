"""Chances that DFT agrees, with the model that ships, and fits beside scikit-learn's."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.support import Support
from crysjepa.evaluation.judge_names import above_hull_column
from crysjepa.evaluation.probability import (
    HIGHEST,
    LIMITS,
    LOWEST,
    RIDGE,
    LogisticModel,
    ProbabilityModel,
    expected_confirmations,
    fit_logistic,
    with_probability,
)

SECOND = above_hull_column("sevennet-l3i5")
SHIPPED = ProbabilityModel.read()
ENERGY = st.floats(-1, 2)
VERDICTS = [*map(str, Support), None]


def crystals_with(salts: Crystals, **columns: list) -> CandidateTable:
    """The first salts with these columns."""
    count = len(next(iter(columns.values())))
    table = CandidateTable.from_crystals(salts[np.arange(count)])
    for name, values in columns.items():
        dtype = {"hull_support": "string", "hull_entries": "Int64"}.get(name, "Float64")
        table = table.with_column(name, dict(zip(table.ids, values, strict=True)), dtype)
    return table


def some_rows(seed: int = 0, count: int = 800):
    """Energies of two judges, entries, and labels that follow them."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0.1, 0.15, count)
    above = truth[:, None] + rng.normal(0, [0.06, 0.03], (count, 2))
    return above, rng.integers(0, 30, count).astype(float), truth


@pytest.mark.parametrize("judge", ["chgnet", "sevennet-l3i5"])
@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("target", list(LIMITS))
def test_there_is_a_model_for_each_case(judge, verdict, target):
    assert SHIPPED.get(target, (judge,), verdict) is not None
    both = SHIPPED.get(target, ("chgnet", "sevennet-l3i5"), verdict)
    assert (
        both is not None and min(*both.weights, both.highest) <= 0 and max(*both.weights, both.highest) <= 0
    )


@given(ENERGY, ENERGY, st.floats(0, 2), st.integers(0, 1), st.sampled_from(VERDICTS), st.integers(0, 300))
def test_a_chance_never_rises_with_an_energy(first, second, more, which, verdict, entries):
    known = np.full(2, float(entries))
    for model in SHIPPED.models:
        if model.support != verdict:
            continue
        above = np.array([[first, second], [first, second]])[:, : len(model.judges)]
        above[1, min(which, above.shape[1] - 1)] += more
        before, after = model.probability(above, known)
        assert 0 <= after <= before + 1e-12 <= 1 + 1e-12


@given(st.floats(0, 5), st.sampled_from(VERDICTS))
def test_nothing_is_extrapolated(beyond, verdict):
    entries = np.full(4, 7.0)
    energies = np.array([[LOWEST], [LOWEST - beyond], [HIGHEST], [HIGHEST + beyond]])
    for model in SHIPPED.models:
        if model.support == verdict and len(model.judges) == 1:
            low, lower, high, higher = model.probability(energies, entries)
            assert low == lower and high == higher
            many = model.probability(energies, np.full(4, model.most_entries))
            assert (
                model.probability(energies, np.full(4, model.most_entries + beyond)).tolist() == many.tolist()
            )


@given(st.lists(st.tuples(ENERGY, ENERGY | st.none(), st.sampled_from(VERDICTS)), min_size=1, max_size=6))
def test_on_the_hull_is_never_likelier_than_near_it(rows):
    first, second, verdicts = zip(*rows, strict=True)
    salts = Crystals.concatenate(
        [
            Crystals(np.array([3]), np.zeros((1, 3)), np.eye(3)[None] * 3, np.array([1]), (f"c{i}",))
            for i in range(6)
        ]
    )
    columns = {"e_above_hull": list(first), SECOND: list(second), "hull_support": list(verdicts)}
    table = with_probability(crystals_with(salts, **columns, hull_entries=[5] * len(rows)))
    pairs = list(zip(table.column("p_on_hull"), table.column("p_stable"), strict=True))
    assert all(0 <= hull <= stable <= 1 for hull, stable in pairs)


def test_what_is_missing(salts):
    table = crystals_with(
        salts,
        e_above_hull=[0.02, 0.02, None, None, 0.02],
        hull_support=["supported", "supported", "supported", None, None],
        hull_entries=[9, 9, 9, None, 9],
        **{SECOND: [0.01, None, 0.01, None, 0.01]},
    )
    found = with_probability(table)
    assert found.column("p_from") == [
        "chgnet, sevennet-l3i5; hull supported",
        "chgnet; hull supported",
        "sevennet-l3i5; hull supported",
        None,
        "chgnet, sevennet-l3i5; hull of unknown support",
    ]
    chances = found.column("p_stable")
    assert chances[3] is None and found.column("p_on_hull")[3] is None
    one = SHIPPED.get("p_stable", ("chgnet",), "supported").probability(np.array([[0.02]]), np.array([9.0]))
    assert chances[1] == pytest.approx(float(one[0]), abs=1e-12)

    bare = with_probability(crystals_with(salts, e_above_hull=[0.02, 0.5]))
    assert bare.column("p_from") == ["chgnet; hull of unknown support"] * 2
    assert bare.column("p_stable")[0] > 0.5 > bare.column("p_stable")[1]
    other = with_probability(crystals_with(salts, e_above_hull=[0.02]), first="mace")
    assert other.column("p_stable") == [None]  # nobody knows how far to trust it
    swapped = with_probability(crystals_with(salts, e_above_hull=[0.02]), first="sevennet-l3i5")
    assert swapped.column("p_from") == ["sevennet-l3i5; hull of unknown support"]


def test_a_gap_in_the_hull_costs_a_low_energy_its_certainty(salts):
    columns = {"e_above_hull": [0.0] * 3, SECOND: [0.0] * 3, "hull_entries": [9] * 3}
    table = with_probability(crystals_with(salts, **columns, hull_support=["supported", "thin", "blind"]))
    supported, thin, blind = table.column("p_stable")
    assert supported > max(thin, blind)


def test_a_fit_is_scikit_learns_where_no_bound_is_in_the_way():
    from sklearn.linear_model import LogisticRegression

    above, entries, truth = some_rows()
    features, labels = np.column_stack([-above, np.log1p(entries)]), truth <= 0.1
    mine = fit_logistic(features, labels, np.zeros(3, dtype=bool))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = LogisticRegression(C=1 / (RIDGE * len(labels)), tol=1e-10, max_iter=10_000).fit(
            features, labels
        )
    np.testing.assert_allclose(mine, [*theirs.coef_[0], *theirs.intercept_], rtol=1e-3, atol=1e-3)
    bounded = fit_logistic(features, labels, np.ones(3, dtype=bool))  # of which the first two want to rise
    assert bounded[:2].tolist() == [0.0, 0.0]


def test_a_fitted_model_is_calibrated_on_other_rows(tmp_path):
    above, entries, truth = some_rows()
    judges = ("chgnet", "sevennet-l3i5")
    models = [LogisticModel.fit(t, judges, None, above, entries, truth) for t in LIMITS]
    above, entries, truth = some_rows(seed=1)
    for model in models:
        chances = model.probability(above, entries)
        assert chances.mean() == pytest.approx((truth <= LIMITS[model.target]).mean(), abs=0.03)
        assert model.entries == 0.0 and model.num == 800
    written = ProbabilityModel(tuple(models), {"n": 800})
    (tmp_path / "model.json").write_text(written.to_json(), encoding="utf-8")
    again = ProbabilityModel.read(tmp_path / "model.json")
    assert again == written
    assert [asdict(m) for m in again.models] == [asdict(m) for m in models]


def test_what_cannot_be_fitted_or_read(tmp_path):
    above, entries, truth = some_rows(count=20)
    with pytest.raises(ValueError, match="same outcome"):
        LogisticModel.fit("p_stable", ("chgnet",), None, above[:, :1], entries, truth + 5)
    (tmp_path / "other.json").write_text(json.dumps({"models": [{}]}), encoding="utf-8")
    with pytest.raises(ValueError, match="no model of probabilities"):
        ProbabilityModel.read(tmp_path / "other.json")


def test_the_card_says_what_it_was_fitted_on():
    card = SHIPPED.card
    assert card["num_crystals"] >= 1000 and card["num_rows"] >= 5 * card["num_crystals"]
    assert set(card["judges"]) == {"chgnet", "sevennet-l3i5"} and "numpy" in card["versions"]


@given(st.lists(st.floats(0, 1), max_size=7))
def test_expected_confirmations(chances):
    salts = Crystals.concatenate(
        [
            Crystals(np.array([3]), np.zeros((1, 3)), np.eye(3)[None] * 3, np.array([1]), (f"c{i}",))
            for i in range(8)
        ]
    )
    table = CandidateTable.from_crystals(salts)
    table = table.with_column("p_stable", dict(zip(table.ids, chances, strict=False)), "Float64")
    found = expected_confirmations(table)
    assert (found["num"], found["num_without"]) == (len(chances), 8 - len(chances))
    assert found["expected"] == pytest.approx(sum(chances))
    assert found["low"] <= math.ceil(found["expected"]) and found["high"] >= math.floor(found["expected"])
    assert 0 <= found["low"] <= found["high"] <= len(chances)


def test_expected_confirmations_of_coins(salts):
    from scipy.stats import binom

    table = crystals_with(salts, p_stable=[0.5] * 7)
    found = expected_confirmations(table, table.ids[:6])
    assert (found["low"], found["high"]) == (binom.ppf(0.025, 6, 0.5), binom.ppf(0.975, 6, 0.5))
    assert expected_confirmations(CandidateTable.from_crystals(salts))["num"] == 0
