"""Matbench Discovery's numbers against scikit-learn; weights, thresholds and the cascade against counting."""

from __future__ import annotations

import numpy as np
import pytest
from judging.board import (
    NUMBERS,
    board_numbers,
    cascade,
    halves,
    judged_by_board,
    with_threshold_of_the_other_half,
)
from sklearn import metrics
from wbm import JUDGES, ON_SCALE, SHARES, distorted, page, published_table

from crysjepa.core.crystals import Crystals

RNG = np.random.default_rng(3)
TRUTH = RNG.normal(0.08, 0.1, 400)
PREDICTED = TRUTH + RNG.normal(0.0, 0.06, 400)


def one(predicted: np.ndarray, truth: np.ndarray, prevalence: float | None = None) -> dict[str, float]:
    return {name: float(v[0]) for name, v in board_numbers(predicted, truth, prevalence).items()}


def test_numbers_are_those_of_scikit_learn() -> None:
    found, actual, said = one(PREDICTED, TRUTH), TRUTH <= 0, PREDICTED <= 0
    assert found["F1"] == pytest.approx(metrics.f1_score(actual, said))
    assert found["precision"] == pytest.approx(metrics.precision_score(actual, said))
    assert found["recall"] == pytest.approx(metrics.recall_score(actual, said))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(actual, said))
    assert found["FPR"] == pytest.approx(1 - metrics.recall_score(~actual, ~said))
    assert found["DAF"] == pytest.approx(metrics.precision_score(actual, said) / actual.mean())
    assert found["MAE"] == pytest.approx(metrics.mean_absolute_error(TRUTH, PREDICTED))
    assert found["RMSE"] == pytest.approx(metrics.root_mean_squared_error(TRUTH, PREDICTED))
    assert found["R2"] == pytest.approx(metrics.r2_score(TRUTH, PREDICTED))


def test_no_prediction_counts_as_unstable_and_not_as_an_error() -> None:
    some = PREDICTED.copy()
    some[:50] = np.nan
    found = one(some, TRUTH)
    assert found["F1"] == pytest.approx(one(np.where(np.isnan(some), 1.0, some), TRUTH)["F1"])
    assert found["MAE"] == pytest.approx(np.abs(PREDICTED - TRUTH)[50:].mean())


def test_another_prevalence_is_as_if_the_unstable_were_there_more_often() -> None:
    unstable = TRUTH > 0
    truth = np.concatenate([TRUTH, TRUTH[unstable], TRUTH[unstable]])
    predicted = np.concatenate([PREDICTED, PREDICTED[unstable], PREDICTED[unstable]])
    weighed = one(PREDICTED, TRUTH, float((truth <= 0).mean()))
    repeated = one(predicted, truth)
    assert weighed == pytest.approx(repeated)
    assert weighed["recall"] == pytest.approx(one(PREDICTED, TRUTH)["recall"])
    assert weighed["precision"] < one(PREDICTED, TRUTH)["precision"]


def test_intervals_hold_the_values() -> None:
    found = judged_by_board({"a": PREDICTED}, TRUTH, 0.155, rounds=100)["a"]
    assert set(found) == set(NUMBERS)
    for estimate in found.values():
        assert estimate.low is not None and estimate.high is not None and estimate.value is not None
        assert estimate.low < estimate.value < estimate.high


def test_the_cascade_replaces_the_nearest_to_the_hull() -> None:
    first, second = np.array([0.5, -0.01, np.nan, 0.02, -0.4]), np.array([9.0, 1.0, 2.0, np.nan, 9.0])
    np.testing.assert_array_equal(cascade(first, second, 0.4), [0.5, 1.0, 2.0, 0.02, -0.4])
    np.testing.assert_array_equal(cascade(first, second, 0.6), [0.5, 1.0, 2.0, 0.02, -0.4])
    np.testing.assert_array_equal(cascade(first, second, 0.0), first)
    np.testing.assert_array_equal(cascade(first, second, 1.0), [9.0, 1.0, 2.0, 0.02, 9.0])


def test_a_threshold_comes_from_the_other_half_alone() -> None:
    half = halves([f"system-{n}" for n in range(len(TRUTH))])
    assert 0.4 < half.mean() < 0.6
    moved, (first, second) = with_threshold_of_the_other_half(PREDICTED + 0.2, TRUTH, half, None)
    assert first == pytest.approx(0.2, abs=0.05) and second == pytest.approx(0.2, abs=0.05)
    other = TRUTH.copy()
    other[half] = RNG.permutation(TRUTH[half])  # what the first half's own labels are does not matter to it
    again, _ = with_threshold_of_the_other_half(PREDICTED + 0.2, other, half, None)
    np.testing.assert_array_equal(moved[half], again[half])


def test_distorted_crystals_keep_their_composition() -> None:
    crystals = Crystals(
        atomic_numbers=np.array([11, 17, 14]),
        frac_coords=np.array([[0.0, 0, 0], [0.5, 0.5, 0.5], [0, 0, 0]]),
        lattices=np.stack([4 * np.eye(3), 3 * np.eye(3)]),
        num_atoms=np.array([2, 1]),
        ids=("a", "b"),
    )
    found = distorted(crystals)
    assert found.chemical_systems() == crystals.chemical_systems()
    moved = (found.frac_coords - crystals.frac_coords + 0.5) % 1 - 0.5
    assert 0 < np.abs(moved).max() * 4.5 < 0.6
    assert not np.allclose(found.volumes, crystals.volumes)


def test_the_page_has_every_number() -> None:
    row = {name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in NUMBERS}
    numbers = dict.fromkeys(NUMBERS, 0.5)
    curves = {judge: {f"{share:g}": numbers for share in SHARES} for judge in JUDGES}
    judged = {
        "all": {"rows": {"jepa-hull": row}, "thresholds": [0.001, -0.002]},
        "evaluated": {"rows": {"chgnet": row}, "curves": curves},
    }
    found = {
        "num": 10,
        "num_evaluated": 7,
        "undecided": 1,
        "board_prevalence": 0.155,
        "undecided_without": {"chgnet": 2},
        "labels": {ON_SCALE: {"prevalence": 0.2, "tables": {"as it is": judged}}},
    }
    text = page(found)
    assert "| jepa-hull | 0.500 (0.400–0.600) |" in text
    assert "2 without chgnet" in text and "+1 and -2 meV/atom" in text
    assert all(line in text for line in published_table())
