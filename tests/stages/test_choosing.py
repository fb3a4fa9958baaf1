"""Which crystals the loop relaxes and learns from."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.ranking.base import Score
from crysjepa.stages.choosing import (
    SHARES,
    finetuning_set,
    is_enough,
    narrowed,
    share_worth_keeping,
    with_replay,
    within_drift,
    worth_relaxing,
)


def rock_salt(one, other, id_, length=5.6):
    coords = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    lattice = length * (np.ones((3, 3)) - np.eye(3)) / 2
    return Crystals(np.array([one, other]), coords, lattice[None], np.array([2]), (id_,))


SALTS = [(11, 17), (19, 17), (11, 35), (19, 35), (3, 9), (3, 17), (12, 8), (20, 8)]


@pytest.fixture
def drawn():
    """Eight salts, NaCl again, a compound without balanced charges, a crushed cell, and one that failed."""
    crystals = [rock_salt(*pair, f"gen-{i}") for i, pair in enumerate(SALTS)]
    crystals += [
        rock_salt(11, 17, "gen-8", 5.7),
        rock_salt(57, 17, "gen-9"),
        rock_salt(11, 53, "gen-10", 0.3),
    ]
    order = [f"gen-{i}" for i in range(12)]
    joined = Crystals.concatenate(crystals)
    return CandidateTable.from_crystals(joined, {"gen-11": "astray"}, stage="generate", order=order)


def scored(table, values):
    return {i: Score(v) for i, v in zip(table.ids, values, strict=True)}


def test_the_best_are_relaxed_each_formula_first_once(drawn):
    scores = scored(drawn, [0.3, 0.2, 0.5, 0.4, None, 0.7, 0.8, 0.9, 0.1, -9.0, -9.0, None])
    kept = worth_relaxing(drawn, scores, 4)
    assert kept.ids == ["gen-1", "gen-2", "gen-3", "gen-8"], "NaCl once; not what is invalid, however good"
    whole = narrowed(drawn, kept, scores, "jepa-relaxed")
    assert whole.ids == drawn.ids and whole.counts() == {
        "ok": 4,
        "rejected: screen": 7,
        "failed: generate": 1,
    }
    assert whole.column("screen_score", ["gen-8", "gen-4"]) == [0.1, None]


def test_a_full_number_is_kept_while_there_is_something(drawn):
    scores = scored(drawn, range(12))
    nine = worth_relaxing(drawn, scores, 9).ids
    assert set(nine) == {f"gen-{i}" for i in range(9)}, "a formula twice comes before what is invalid"
    assert worth_relaxing(drawn, scores, 11).ids == [f"gen-{i}" for i in range(11)]
    assert worth_relaxing(drawn, scores, 12).ids == drawn.ids, "and what has no crystal comes last"


def judged_table(scores, stable, crystals=None):
    crystals = crystals or Crystals.concatenate(
        [rock_salt(3 + i % 80, 17, f"c-{i:03d}") for i in range(len(scores))]
    )
    table = CandidateTable.from_crystals(crystals)
    for name, values, dtype in (
        ("score", scores, "Float64"),
        ("stable", stable, "boolean"),
        *((flag, [True] * len(scores), "boolean") for flag in ("valid", "unique", "novel")),
    ):
        table = table.with_column(name, dict(zip(table.ids, values, strict=True)), dtype)
    return table


def test_the_share_to_keep_is_where_the_ranking_stops_to_help():
    rng = np.random.default_rng(0)
    first = [True] * 120 + [bool(v) for v in rng.random(280) < 0.2]
    assert share_worth_keeping(judged_table(np.arange(400.0), first), 0) == 0.3
    chance = [bool(v) for v in rng.random(400) < 0.5]
    assert share_worth_keeping(judged_table(rng.random(400), chance), 0) >= 0.5
    assert share_worth_keeping(judged_table([0.1, 0.2], [True, False]), 0) == SHARES[-1], "too few to say"


def test_lessons_are_the_best_of_vun():
    table = judged_table(np.arange(20.0)[::-1], [True] * 20)
    table = table.decide("relax", {"c-019": "failed"}, Status.FAILED)
    known = table.crystals()
    assert finetuning_set(table, 0.25, None, known, 0) == [f"c-{i:03d}" for i in range(18, 13, -1)]
    assert finetuning_set(table, "auto", None, known, 0)[0] == "c-018"


def test_no_element_takes_over():
    known = Crystals.concatenate([rock_salt(11 if i < 5 else 57, 17, f"k-{i}") for i in range(10)])
    many = Crystals.concatenate([rock_salt(57 + i % 3, 17, f"c-{i}") for i in range(20)])
    others = Crystals.concatenate([rock_salt(11, 17, f"o-{i}") for i in range(20)])
    both = Crystals.concatenate([many, others])
    kept = within_drift(both, 20, known, 1.0)
    lanthanides = [i for i in kept if i.startswith("c-")]
    assert len(kept) == 11 + 9 and kept[: len(lanthanides)] == lanthanides
    assert sum(z == 57 for z in many.select(lanthanides).atomic_numbers) <= 11
    assert len(lanthanides) <= 11, "one lanthanide for another is a drift too"
    one = Crystals.concatenate([rock_salt(57, 17, f"l-{i}") for i in range(20)])
    assert within_drift(one, 20, known, 2.0) == list(one.ids), "twice a half"
    assert len(within_drift(one, 20, known, 1.0)) == 11


@settings(deadline=None)  # known crystals are made canonical
@given(share=st.floats(0, 0.95), num=st.integers(1, 12), seed=st.integers(0, 100))
def test_replay_is_its_share(share, num, seed):
    known = Crystals.concatenate([rock_salt(11, 17, f"k-{i}") for i in range(40)])
    chosen = Crystals.concatenate([rock_salt(19, 17, f"k-{i}") for i in range(num)])
    mixed = with_replay(chosen, known, share, seed)
    again = len(mixed) - num
    assert again == min(round(share / (1 - share) * num), 40)
    assert len(set(mixed.ids)) == len(mixed) and mixed.ids[:num] == chosen.ids
    assert math.isclose(again / len(mixed), share, abs_tol=1 / len(mixed)) or again == 40


def test_when_to_stop():
    assert not is_enough([0.5, 0.4, 0.3], None)
    assert not is_enough([0.5], 1) and not is_enough([0.5, 0.6], 1)
    assert is_enough([0.5, 0.5], 1) and is_enough([0.5, 0.6, 0.55], 1)
    assert (
        not is_enough([0.5, 0.4], 2) and is_enough([0.5, 0.4, 0.5], 2) and not is_enough([0.5, 0.4, 0.6], 2)
    )


def test_what_is_known_and_where_the_hull_is_blind_comes_later(drawn):
    from crysjepa.energy.hull import Hull
    from crysjepa.energy.support import HullSupport
    from crysjepa.evaluation.grades import KnownFormulas

    formulas = ["KCl", "NaBr", "KBr", "LiF"]
    hull = Hull.from_entries(formulas, [-2.0] * 4, scale="s", source="h")
    elsewhere = {(17, 19): 1, (11, 35): 1, (19, 35): 1, (3, 9): 1, (3, 17): 1, (8, 12): 1, (8, 20): 1}
    support = HullSupport(hull, elsewhere)
    known = KnownFormulas({((11, 1), (17, 1)): "mp-22862", ((3, 1), (9, 1)): "mp-1138"})
    # NaCl and LiF are known; MgO, CaO and LiCl are where the hull has nothing and another set has.
    scores = scored(drawn, [-0.05, 0.0, -0.4, 0.03, -0.09, -0.08, -0.07, -2.0, -0.05, 0.0, 0.0, None])
    kept = worth_relaxing(drawn, scores, 3, known=known, support=support)
    assert kept.ids == ["gen-1", "gen-2", "gen-3"]  # KCl, KBr, and NaBr, the last by its score too low
    assert "gen-2" not in worth_relaxing(drawn, scores, 2, known=known, support=support).ids
    more = worth_relaxing(drawn, scores, 6, known=known, support=support)
    assert more.ids == ["gen-1", "gen-2", "gen-3", "gen-5", "gen-6", "gen-7"], "then the blind ones"
