"""AUC, precision and share found against brute force; the bootstrap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranking.metrics import Bootstrap, Ranked, judge_rankings, number_of, perfect_found, spearman, stable

cases = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, np.inf]), st.booleans()), min_size=2, max_size=6)


def arrays(case: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    scores, positive = zip(*case, strict=True)
    return np.array(scores), np.array(positive, dtype=bool)


def mean_over_orders(scores: np.ndarray, positive: np.ndarray, best: int) -> float:
    """Positives among the best, averaged over every order that the scores allow."""
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] <= scores[b] for a, b in itertools.pairwise(order))
    ]
    return float(np.mean([positive[list(order[:best])].sum() for order in orders]))


@given(cases)
def test_auc_is_the_chance_that_a_positive_comes_first(case: list[tuple[float, bool]]) -> None:
    scores, positive = arrays(case)
    pairs = [
        1.0 if scores[p] < scores[n] else 0.5 if scores[p] == scores[n] else 0.0
        for p in np.flatnonzero(positive)
        for n in np.flatnonzero(~positive)
    ]
    found = Ranked(scores, positive).steps().auc()
    assert found == pytest.approx(np.mean(pairs)) if pairs else np.isnan(found)


@given(cases, st.sampled_from([0.1, 0.3, 0.5, 1.0]))
def test_equal_scores_stand_for_all_their_orders(case: list[tuple[float, bool]], share: float) -> None:
    scores, positive = arrays(case)
    best = number_of(share, len(scores))
    hits = mean_over_orders(scores, positive, best)
    ranked = Ranked(scores, positive).steps()
    assert ranked.precision(share) == pytest.approx(hits / best)
    if positive.any():
        assert ranked.found(share) == pytest.approx(hits / positive.sum())
    else:
        assert np.isnan(ranked.found(share))


@given(cases, st.lists(st.integers(0, 3), min_size=6, max_size=6), st.sampled_from([0.2, 0.5]))
def test_a_weight_is_so_many_copies(case: list[tuple[float, bool]], weights: list[int], share: float) -> None:
    scores, positive = arrays(case)
    counts = np.array(weights[: len(scores)])
    if not counts.any():
        return
    one = Ranked(scores, positive).steps(counts[None].astype(float))
    many = Ranked(np.repeat(scores, counts), np.repeat(positive, counts)).steps()
    assert one.precision(share) == pytest.approx(many.precision(share))
    assert one.auc() == pytest.approx(many.auc(), nan_ok=True)
    assert one.found(share) == pytest.approx(many.found(share), nan_ok=True)


@given(cases)
def test_only_the_order_matters(case: list[tuple[float, bool]]) -> None:
    scores, positive = arrays(case)
    one, other = (Ranked(s, positive).steps() for s in (scores, np.exp(scores) - 7))
    assert one.auc() == pytest.approx(other.auc(), nan_ok=True)
    assert one.precision(0.3) == other.precision(0.3)


def test_curves_end_where_everything_is_ranked() -> None:
    ranked = Ranked(np.array([1.0, 2.0, 2.0, np.inf]), np.array([True, False, True, False])).steps()
    for x, y in (ranked.roc(), ranked.recall_curve()):
        assert (x[0], y[0], x[-1], y[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert np.trapezoid(*reversed(ranked.roc())) == pytest.approx(ranked.auc())


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="inf"):
        Ranked(np.array([1.0, np.nan]), np.array([True, False]))


def test_a_perfect_ranking_finds_what_there_is() -> None:
    truth = np.array([-0.2, 0.05, 0.3, 0.9, np.nan, 0.0, 2.0, 1.0, 1.0, 1.0])
    positive = stable(truth, 0.1)
    assert positive.sum() == 3
    scores = np.nan_to_num(truth, nan=np.inf)
    for share in (0.1, 0.2, 0.5):
        assert Ranked(scores, positive).steps().found(share) == pytest.approx(perfect_found(share, positive))
    assert perfect_found(0.2, positive) == pytest.approx(2 / 3)


def test_spearman_is_of_ranks() -> None:
    truth = np.array([0.1, 0.4, 0.2, 3.0])
    assert spearman(truth**3, truth) == pytest.approx(1)
    assert spearman(-truth, truth) == pytest.approx(-1)
    assert np.isnan(spearman(np.full(4, np.inf), truth))


def test_intervals_cover_what_they_should() -> None:
    """Of scores that know nothing, 95 % of the intervals hold 0.5."""
    covered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        ranked = Ranked(rng.normal(size=200), rng.random(200) < 0.4)
        bootstrap = Bootstrap(200, rounds=100, seed=seed)
        auc = bootstrap.estimate("any", lambda w, r=ranked: {"auc": r.steps(w).auc()})["auc"]
        assert auc.low is not None and auc.value is not None and auc.high is not None
        assert auc.low < auc.value < auc.high
        covered += auc.low <= 0.5 <= auc.high
    assert covered >= 33


def test_differences_are_over_the_same_resamples() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(100)
    good = truth + 0.01 * rng.random(100)
    scores = {"good": good, "same": good * 2 + 1, "bad": rng.random(100)}
    rows, bootstrap = judge_rankings(scores, truth, limits=(0.5,), shares=(0.1,), rounds=100)
    same = bootstrap.difference("same", "good", "auc_0.5")
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    better = bootstrap.difference("good", "bad", "auc_0.5")
    assert better.low is not None and better.low > 0
    base = float((truth <= 0.5).mean())
    assert rows["good"]["enrichment_0.5_best_0.1"] == pytest.approx(1 / base)


def test_failures_count_as_not_stable() -> None:
    truth = np.array([0.0, 0.2, np.nan, np.nan])
    rows, _ = judge_rankings(
        {"any": np.array([1.0, 2.0, 0.0, np.inf])}, truth, limits=(0.1,), shares=(0.5,), rounds=10
    )
    assert rows["any"]["auc_0.1"]["value"] == pytest.approx(2 / 3)
    assert rows["any"]["precision_0.1_best_0.5"]["value"] == 0.5
    assert rows["any"]["spearman"] == pytest.approx(1)
    assert rows["any"]["num_scored"] == 3
