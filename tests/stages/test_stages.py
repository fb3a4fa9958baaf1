"""Single stages, and how the runner keeps what they leave."""

from __future__ import annotations

import dataclasses
from functools import partial

import pyarrow.parquet as pq
import pytest

from crysjepa import api
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.ranking.random_control import Random
from crysjepa.runtime.run_directory import Run
from crysjepa.stages.choosing import at_random
from crysjepa.stages.keep import Keep
from crysjepa.stages.round import Round, one_round
from crysjepa.stages.score import Score
from crysjepa.stages.stage import Runner


@pytest.fixture
def table(salts):
    """Seven salts, one of them rejected, and one whose atoms lie on one another."""
    crushed = dataclasses.replace(salts[:1], ids=("crushed",), lattices=salts[:1].lattices / 20)
    found = CandidateTable.from_crystals(Crystals.concatenate([salts, crushed]))
    return found.decide("novelty", {"KCl": "known"}, Status.REJECTED)


@pytest.fixture
def runner(tmp_path):
    return Runner(Run(tmp_path / "run", {}, {}), "round-0")


def test_ranks_are_those_of_crysjepa_screen(table, runner, tmp_path):
    scored = runner(Score(ranker=partial(Random, 5)), table)
    source, out = tmp_path / "table.parquet", tmp_path / "ranked.parquet"
    table.write(source)
    api.screen(source, source, out, by="random", seed=5)
    ranked = {r["id"]: (r["score"], r["rank"]) for r in pq.read_table(out).to_pylist()}
    assert scored.ids == table.ids and scored.counts() == table.counts()
    columns = (scored.column("screen_score"), scored.column("screen_rank"))
    assert {i: (s, r) for i, s, r in zip(scored.ids, *columns, strict=True)} == ranked
    assert ranked["KCl"] == ranked["crushed"] == (None, None)
    assert sorted(r for _, r in ranked.values() if r is not None) == [1, 2, 3, 4, 5, 6]


def test_a_round_is_done_once_in_folders_of_its_own(table, runner):
    made = []

    def all_of_it(_):
        made.append("generated")
        return table

    round_ = Round(
        generate=Keep(output="generated.parquet", pick=all_of_it),
        choose=[Keep(output="few/chosen.parquet", pick=partial(at_random, num=3, seed=(1,)))],
        judge=[Score(output="few/scored.parquet", ranker=Random)],
    )
    found = one_round(runner, round_)
    assert len(found) == 3 and [i for i in table.ids if i in found.ids] == found.ids
    assert runner.path("few/scored.parquet") == runner.directory.folder / "round-0/few/scored.parquet"
    assert runner.path("few/scored.parquet").exists()
    again = one_round(runner, round_)
    assert again.content_hash() == found.content_hash() and made == ["generated"]
    runner.path("generated.parquet").unlink()
    one_round(runner, round_)
    assert made == ["generated"] * 2
