"""What is relaxed, learnt from and listed, where objectives are weighed with stability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_crystals import Told

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.grades import KnownFormulas
from crysjepa.properties.aims import Aims
from crysjepa.properties.base import How
from crysjepa.ranking.base import Score, chances_of
from crysjepa.ranking.selection import LEAST, ranked_vun, select_best, with_shortlist
from crysjepa.runtime.run_directory import Run
from crysjepa.stages.choosing import HOPELESS, narrowed, worth_relaxing
from crysjepa.stages.measure import Measure, first_chances
from crysjepa.stages.prescreen import Prescreen
from crysjepa.stages.stage import Runner

TYPES = {
    "score": "Float64", "merit": "Float64", "worth": "Float64", "e_above_hull": "Float64",
    "p_stable": "Float64", "hull_warning": "string", "novelty_grade": "string",
}  # fmt: skip


def rock_salt(one: int, other: int, id_: str) -> Crystals:
    lattice = 5.6 * (np.ones((3, 3)) - np.eye(3)) / 2
    coords = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    return Crystals(np.array([one, other]), coords, lattice[None], np.array([2]), (id_,))


def judged(num: int, **columns: Sequence[Any]) -> CandidateTable:
    """V.U.N. crystals c-000 and so on, with these columns."""
    made = [rock_salt(3 + i % 80, 17, f"c-{i:03d}") for i in range(num)]
    table = CandidateTable.from_crystals(Crystals.concatenate(made))
    flags = dict.fromkeys(("valid", "unique", "novel"), [True] * num)
    for name, values in {**flags, "score": [0.0] * num, **columns}.items():
        named = dict(zip(table.ids, values, strict=True))
        table = table.with_column(name, named, TYPES.get(name, "boolean"))
    return table


def names(*places: int) -> list[str]:
    return [f"c-{i:03d}" for i in places]


# -- what is learnt from -------------------------------------------------------------------------


def test_by_merit_and_not_by_score() -> None:
    table = judged(
        4, merit=[0.1, 0.9, None, 0.5], score=[-5.0, 3.0, -9.0, 1.0], stable=[True] * 4,
        meets_targets=[True, True, None, True],
    )  # fmt: skip
    assert ranked_vun(table) == select_best(table, 1.0) == names(1, 3, 0), "without merit, never"
    failed = table.decide("relax", {"c-001": "failed"}, Status.FAILED)
    assert select_best(failed, 1.0) == names(3, 0)


@pytest.mark.parametrize(("hits", "expected"), [(0, LEAST), (LEAST, LEAST), (50, 50), (100, 100)])
def test_as_many_as_are_hits(hits: int, expected: int) -> None:
    """Stable, and what was asked for; and no fewer than can be learnt from."""
    stable = [i < hits + 5 for i in range(100)]
    meets = [i < hits or i >= hits + 5 for i in range(100)]
    table = judged(100, merit=np.linspace(1, 0, 100), stable=stable, meets_targets=meets)
    assert select_best(table, 1.0) == names(*range(expected))
    assert len(select_best(table, 0.5)) == max(math.ceil(max(hits, 1) / 2), LEAST)


def test_the_best_quarter_where_there_is_no_target() -> None:
    none = [None] * 200
    table = judged(200, merit=np.linspace(1, 0, 200), stable=[True] * 200, meets_targets=none)
    assert select_best(table, 1.0) == names(*range(50))
    few = judged(40, merit=np.linspace(1, 0, 40), stable=[True] * 40, meets_targets=none[:40])
    assert select_best(few, 1.0) == names(*range(LEAST))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=60), st.floats(0.01, 1))
def test_never_more_than_there_are(rows: list[tuple[bool, bool, bool]], keep: float) -> None:
    num = len(rows) + 1
    listed = [(True, True, True), *rows]
    table = judged(
        num, merit=np.linspace(1, 0, num), stable=[s for s, _, _ in listed],
        meets_targets=[m for _, m, _ in listed], novel=[n for _, _, n in listed],
    )  # fmt: skip
    chosen, vun = select_best(table, keep), ranked_vun(table)
    assert chosen == vun[: len(chosen)] and len(chosen) >= 1
    hits = sum(s and m and n for s, m, n in listed)
    assert len(chosen) == min(max(math.ceil(keep * hits), LEAST), len(vun))


def test_without_objectives_all_is_as_it_was() -> None:
    table = judged(8, score=np.arange(8.0), stable=[True] * 8)
    assert select_best(table, 0.5) == names(0, 1, 2, 3)


# -- what is listed ------------------------------------------------------------------------------


def ranks(table: CandidateTable, longest: int = 10, *, front_first: bool = False) -> list[int | None]:
    return with_shortlist(table, longest, aimed=True, front_first=front_first).column("shortlist_rank")


def listable(**columns: Sequence[Any]) -> CandidateTable:
    num = len(columns["merit"])
    given: dict[str, Sequence[Any]] = {
        "e_above_hull": [0.0] * num, "p_stable": [0.5] * num, "hull_warning": [None] * num,
        "novelty_grade": ["new formula"] * num, "meets_targets": [True] * num,
    }  # fmt: skip
    return judged(num, **{**given, **columns})


def test_what_misses_a_target_is_not_listed() -> None:
    table = listable(
        merit=[0.2, 0.9, None, 0.4], meets_targets=[True, False, None, True], p_stable=[0.9, 0.9, 0.9, 0.1]
    )
    assert ranks(table) == [2, None, None, 1], "by merit, not by the chance of stability"
    assert ranks(table, 1) == [None, None, None, 1]
    without = listable(merit=[0.2, 0.9, None], meets_targets=[None] * 3)
    assert ranks(without) == [2, 1, None], "where there is no target, nothing misses it"


def test_what_was_not_looked_into_comes_after() -> None:
    table = listable(merit=[0.9, 0.1, 0.95], p_stable=[None, 0.5, None], e_above_hull=[0.1, 0.3, 0.1])
    assert ranks(table) == [3, 1, 2]


def test_the_front_comes_first_if_it_is_asked_for() -> None:
    table = listable(merit=[0.2, 0.9, 0.4], on_front=[True, False, True])
    assert ranks(table) == [3, 1, 2]
    assert ranks(table, front_first=True) == [2, 3, 1]
    blind = listable(merit=[0.2, 0.9, 0.4], on_front=[True, False, True], p_stable=[None] * 3)
    assert ranks(blind, front_first=True) == [2, 3, 1]


def test_warnings_and_known_formulas_still_come_later() -> None:
    table = listable(
        merit=[0.9, 0.8, 0.1, 0.2], hull_warning=["too low", None, None, None],
        novelty_grade=["new formula", "known formula", "new formula", "new formula"],
    )  # fmt: skip
    assert ranks(table) == [4, 3, 2, 1]
    assert ranks(listable(merit=[0.9], hull_warning=["too low"])) == [None], "no more than the others"


# -- what is relaxed -----------------------------------------------------------------------------


def scored(table: CandidateTable, values: Sequence[float]) -> Mapping[str, Score]:
    return {i: Score(v) for i, v in zip(table.ids, values, strict=True)}


@pytest.fixture
def drawn() -> CandidateTable:
    """NaCl, KCl, NaBr, KBr, LiF."""
    pairs = [(11, 17), (19, 17), (11, 35), (19, 35), (3, 9)]
    crystals = [rock_salt(*pair, f"gen-{i}") for i, pair in enumerate(pairs)]
    return CandidateTable.from_crystals(Crystals.concatenate(crystals))


def weighed(table: CandidateTable, worth: Sequence[float | None], merit: Sequence[float | None]) -> Any:
    for name, values in (("worth", worth), ("merit", merit)):
        table = table.with_column(name, dict(zip(table.ids, values, strict=True)), "Float64")
    return table


def test_merit_comes_before_score(drawn: CandidateTable) -> None:
    scores = scored(drawn, [0.0, 0.01, 0.02, 0.03, 0.04])
    table = weighed(drawn, [0.5, 0.6, 0.7, 0.8, 0.9], [0.1, 0.2, 0.3, 0.4, 0.5])
    assert worth_relaxing(drawn, scores, 2).ids == ["gen-0", "gen-1"]
    kept = worth_relaxing(table, scores, 2)
    assert kept.ids == ["gen-3", "gen-4"]
    whole = narrowed(table, kept, scores, "told")
    assert whole.column("merit") == table.column("merit") and whole.counts()["rejected: screen"] == 3


def test_what_hardly_meets_it_comes_later_but_before_what_is_known(drawn: CandidateTable) -> None:
    scores = scored(drawn, [0.0] * 5)
    low = HOPELESS / 2
    table = weighed(drawn, [low, None, HOPELESS, 0.9, 0.9], [0.9, None, 0.01, 0.02, 0.03])
    assert set(worth_relaxing(table, scores, 3).ids) == {"gen-2", "gen-3", "gen-4"}
    assert "gen-0" in worth_relaxing(table, scores, 4).ids
    known = KnownFormulas({((3, 1), (9, 1)): "mp-1138"})
    assert "gen-4" not in worth_relaxing(table, scores, 4, known=known).ids


def prescreened(table: CandidateTable, aims: Aims | None, folder: Path) -> tuple[list[str], CandidateTable]:
    told = Told(dict(zip(table.ids, [0.0, 0.01, 0.02, None, 0.04], strict=True)))
    runner = Runner(Run(folder, {}, {}), report=lambda stage, done, total: None)
    kept = runner(Prescreen(ranker=told, num=2, by="told", aims=aims), table)
    return kept.ids, CandidateTable.read(folder / "drawn.parquet")


def test_crystals_are_weighed_as_they_were_drawn(drawn: CandidateTable, tmp_path: Path) -> None:
    """In cells of one size the heavier ones are denser; what has no score has no merit."""
    kept, whole = prescreened(drawn, Aims.parse(["max:density"]), tmp_path / "a")
    assert kept == ["gen-1", "gen-2"] and whole.ids == drawn.ids
    assert whole.column("merit", ["gen-3"]) == [None] == whole.column("density", ["gen-3"])
    assert whole.column("worth", ["gen-2"]) == [0.875]
    plain, without = prescreened(drawn, None, tmp_path / "b")
    assert plain == ["gen-0", "gen-1"] and "merit" not in without


# -- measured after relaxation -------------------------------------------------------------------


def test_measured_are_valid_crystals_that_did_not_fail(tmp_path: Path) -> None:
    aims = Aims.parse(["density<=3", "min:price"], how=How(force_field="ase.calculators.emt:EMT"))
    assert aims is not None
    table = judged(
        4, valid=[True, False, True, True], stable=[True, True, False, None],
        e_above_hull=[0.0, 0.0, 0.5, None],
    )  # fmt: skip
    table = table.decide("relax", {"c-003": "failed"}, Status.FAILED)
    runner = Runner(Run(tmp_path / "run", {}, {}), report=lambda stage, done, total: None)
    done = runner(Measure(aims=aims, metadata={"judge": "x"}), table)
    assert [d is not None for d in done.column("density")] == [True, False, True, False]
    assert done.column("merit")[1] is None and done.column("meets_targets")[3] is None
    chances = first_chances(table, "ase.calculators.emt:EMT")
    expected = chances_of(np.array([0.0, 0.0, 0.5])).tolist()
    assert list(chances.values()) == [*(pytest.approx(e) for e in expected), None]
    for row in (0, 2):
        assert done.column("merit")[row] == pytest.approx(done.column("worth")[row] * expected[row])
    assert (tmp_path / "run" / "measured.parquet").exists()


def test_a_column_of_that_name_alone_changes_no_list() -> None:
    """Somebody's own ``merit`` is theirs, and what a run asked for is not asked of another's list."""
    table = listable(merit=[0.2, 0.9, None], p_stable=[0.9, 0.5, 0.7])
    assert with_shortlist(table, 10).column("shortlist_rank") == [1, 3, 2]
    own = CandidateTable(table.frame.drop(columns=["meets_targets"]))
    assert with_shortlist(own, 10).column("shortlist_rank") == [1, 3, 2]
