"""Uplift curves against counting, and the rows that are kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from uplift import HITS, KEPT, ORDERS, by_chance, decile_table, draw, hits_by, order_of, page, uplift_table


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "set": "a",
            "id": [f"c-{n}" for n in range(6)],
            "jepa-hull": [0.3, None, 0.1, 0.2, 0.0, 0.5],
            "jepa-relaxed": [0.3, None, 0.1, 0.2, 0.0, 0.5],
            "formula_is_new": [True, True, False, True, False, True],
            "stable": [False, True, True, True, True, False],
            "sun": [False, True, True, True, False, False],
            "vsun_new_formula": [False, True, False, True, False, False],
        }
    )


def test_the_lowest_scores_come_first_and_those_without_one_last() -> None:
    assert order_of(rows(), "jepa-hull").tolist() == [4, 2, 3, 0, 5, 1]
    assert order_of(rows(), "jepa-relaxed, new formulas first").tolist() == [3, 0, 5, 1, 4, 2]


def test_hits_are_counted_along_the_order() -> None:
    assert hits_by(rows(), order_of(rows(), "jepa-hull"), "stable").tolist() == [1, 2, 3, 3, 3, 4]


def test_chance_ends_where_all_are_relaxed() -> None:
    low, high = by_chance(100, 30)
    assert low[-1] == high[-1] == 30
    assert low[49] < 15 < high[49]
    drawn = [np.random.default_rng(s).permutation(100)[:50] < 30 for s in range(300)]
    inside = [low[49] <= d.sum() <= high[49] for d in drawn]
    assert 0.9 <= np.mean(inside) <= 1.0


def test_tables_have_a_row_for_each_hit_and_order() -> None:
    table = uplift_table(rows())
    twice = pd.concat([rows()] * 2, ignore_index=True)
    assert len(table) == len(decile_table(twice)) == 2 + len(HITS) * len(ORDERS)
    assert "| S | `jepa-hull` | 66.7 | 100.0 (21–100), ×1.50 |" in table[2]


def test_the_kept_rows_make_the_page_and_the_figure() -> None:
    kept = pd.read_parquet(KEPT)
    assert not kept.duplicated(["set", "id"]).any()
    assert kept[list(HITS)].notna().all().all()
    text = page(kept)
    assert text.count("hits per relaxation, %") == 1 + kept["set"].nunique()
    assert len(draw(kept).axes) == len(HITS)
    with pytest.raises(KeyError):
        order_of(kept, "composition")
