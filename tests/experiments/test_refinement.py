"""The refinement experiment on six salts: every step, the tables, and that it goes on where it stood."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crysjepa.candidates import CandidateTable

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def refinement(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import refinement

    yield refinement
    for name in ("refinement", "figures", "plan", "steps", "tables"):
        sys.modules.pop(name, None)


@pytest.fixture
def data(tiny, salts, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(tiny.reference, folder / "mp20_bt.parquet")
    shutil.copy(tiny.reference, folder / "mp20_hull.parquet")
    return folder


def test_every_step_ends_in_the_table_and_is_done_once(refinement, tiny, data, tmp_path):
    out = tmp_path / "out"
    plan = refinement.Plan.model_validate(
        {
            "pool": 12,
            "select": 4,
            "sample": 4,
            "arms": [{"ranker": "random", "rounds": 2}],
            "finetune": {"steps": 2, "batch_size": 2, "warmup": 1},
            "judging": {**tiny.protocol, "preset": "strict", "prototypes": True},
        }
    )

    def run():
        experiment = refinement.Experiment(plan, data, out, "cpu")
        experiment.base = lambda: tiny.generator
        return experiment.run()

    found = run()
    assert [r["name"] for r in found["rows"]] == [
        "base",
        "chosen by random, 2 rounds, round 1",
        "chosen by random, 2 rounds, round 2",
        "refined by random, 2 rounds",
    ]
    assert all(r["num_crystals"] == 4 for r in found["rows"] if r["name"][:6] != "chosen")
    text = (out / "refinement.md").read_text(encoding="utf-8")
    assert "12 crystals drawn by the base" in text and (out / "refinement.svg").stat().st_size > 1000

    def ids(path):
        return pq.read_table(out / path)["id"].to_pylist()

    first, second = "chosen/random-4-of-12", "chosen/random-4-of-12-2-steps-round-2"
    chosen = ids(f"{first}/chosen.parquet")
    assert set(ids(f"{first}/lessons.parquet")) <= set(chosen) <= set(ids("pools/base-12/candidates.parquet"))
    earlier, lessons = ids(f"{first}/lessons.parquet"), ids(f"{second}/lessons.parquet")
    again = ids(f"{second}/chosen.parquet")
    assert again and lessons[: len(earlier)] == earlier
    assert set(lessons[len(earlier) :]) <= {f"round-2-{i}" for i in again}
    saved = json.loads((out / "refinement.json").read_text(encoding="utf-8"))
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    assert run()["rows"] == saved["rows"]
    assert stamps
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")} == stamps
    with pytest.raises(SystemExit, match="another experiment"):
        refinement.Experiment(plan.model_copy(update={"pool": 13}), data, out, "cpu")


def test_a_smaller_pool_is_the_first_of_a_larger_one(refinement, salts, tmp_path):
    crystals = salts[:4]
    pool, ranked, out = (tmp_path / f"{name}.parquet" for name in ("pool", "ranked", "out"))
    CandidateTable.from_crystals(crystals).write(pool)
    ids = list(crystals.ids)
    pq.write_table(pa.table({"id": ids, "rank": [4, None, 2, 1]}), ranked)
    refinement.keep_best(pool, ranked, 2, out)
    assert CandidateTable.read(out).ids == [ids[3], ids[2]]
    refinement.keep_best(pool, ranked, 2, out, among=pool, num_drawn=3)
    assert CandidateTable.read(out).ids == [ids[2], ids[0]]


def test_arms_are_named_by_what_they_differ_in(refinement):
    plan = refinement.Plan.model_validate(
        {
            "select": 40,
            "arms": [
                {"ranker": "random"},
                {"ranker": "random", "select": 10, "source": "substitution"},
                {"ranker": "random", "select": 20},
                {"ranker": "random", "rounds": 2},
            ],
        }
    )
    labels = [arm.label for arm in plan.arms]
    assert labels == [
        "random",
        "random, substitution, 10 chosen",
        "random, 20 chosen",
        "random, 2 rounds",
    ]
    assert len({arm.slug(0) for arm in plan.arms}) == 3  # the last goes on from the first
    assert refinement.Plan.model_validate(plan.model_dump()) == plan
    interval = {"vsun": [0.2, 0.4]}
    rows = [
        {"name": f"refined by {arm.label}", "arm": arm.model_dump(), "vsun": 0.3, "intervals": interval}
        for arm in plan.arms
    ]
    (line,) = refinement.sweep_lines(rows, "select")
    assert [row["arm"]["select"] for row in line] == [20, 40]
    assert refinement.sweep_lines(rows, "pool") == []


def test_the_plans_that_ship_can_be_read(refinement):
    import tomllib

    plans = sorted(EXPERIMENTS.glob("*.toml"))
    assert plans
    for path in plans:
        refinement.Plan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
