"""What is put together over seeds."""

import numpy as np
import pytest

from crysjepa.reproduction.results import ratio_interval


def test_with_many_crystals_the_interval_is_that_of_the_logarithm():
    hits = [np.arange(4000) < 1600]
    ratio, low, high = ratio_interval(hits, 0.2, 5000, draws=20_000)
    error = np.sqrt(0.6 / (4000 * 0.4) + 0.8 / (5000 * 0.2))
    assert ratio == pytest.approx(2.0)
    assert low == pytest.approx(2 * np.exp(-1.96 * error), rel=0.01)
    assert high == pytest.approx(2 * np.exp(1.96 * error), rel=0.01)


def test_seeds_that_differ_widen_it():
    alike = [np.arange(300) < 90] * 3
    apart = [np.arange(300) < n for n in (30, 90, 150)]
    ratio, low, high = ratio_interval(alike, 0.3, 5000)
    other, lower, higher = ratio_interval(apart, 0.3, 5000)
    assert ratio == pytest.approx(other) and lower < low - 0.2 and higher > high + 0.2


def test_nothing_to_compare_with():
    assert ratio_interval([np.ones(3, dtype=bool)], 0.0, 10) is None


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_a_rare_base_has_a_wide_interval(rare):
    ratio, low, high = ratio_interval([np.arange(200) < 20], rare / 6250, 6250)
    assert ratio == pytest.approx(0.1 * 6250 / rare) and 0 < low < ratio < high < np.inf and high > 3 * low


@pytest.mark.parametrize("hits", [0, 200])
def test_no_hit_and_nothing_but_hits_are_no_certainty(hits):
    ratio, low, high = ratio_interval([np.arange(200) < hits], 0.05, 1200)
    assert ratio == pytest.approx(hits / 200 / 0.05) and low < high and high > 0.02
