"""The refinement experiment on six salts: every step, the tables, and that it goes on where it stood."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.result_files import read_result
from crysjepa.generators.base import load_generator
from crysjepa.runtime.errors import RunError

pytestmark = pytest.mark.slow

EXPERIMENTS = Path(__file__).parents[2] / "reproduce"


@pytest.fixture
def refinement():
    return importlib.import_module("refinement")


@pytest.fixture
def data(tiny, salts, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(tiny.reference, folder / "mp20_bt.parquet")
    shutil.copy(tiny.reference, folder / "mp20_hull.parquet")
    return folder


def test_every_stage_ends_in_the_table_and_is_done_once(refinement, tiny, data, tmp_path):
    out = tmp_path / "out"
    plan = refinement.Plan.model_validate(
        {
            "generator": str(tiny.generator),
            "pool": 12,
            "select": 4,
            "sample": 4,
            "arms": [{"ranker": "random", "rounds": 2}],
            "finetune": {"steps": 2, "batch_size": 2, "warmup": 1},
            # at these forces all of them have converged, and are learnt from
            "judging": {**tiny.protocol, "preset": "strict", "relaxation": {"fmax": 1e4, "max_steps": 1}},
        }
    )

    def run(plan=plan):
        return refinement.Experiment(plan, data, out, "cpu").run()

    found = run()
    assert [r["name"] for r in found["rows"]] == [
        "base",
        "chosen by random",
        "chosen by random, 2 rounds, round 2",
        "refined by random, 2 rounds",
    ]
    assert all(r["num_crystals"] == 4 for r in found["rows"])
    text = (out / "refinement.md").read_text(encoding="utf-8")
    assert "12 crystals drawn by the base" in text and (out / "refinement.svg").stat().st_size > 1000
    assert list(found["seconds"]) == ["random, base"]

    def ids(path):
        return pq.read_table(out / path)["id"].to_pylist()

    chosen, learning = "random-4-of-12", "base/random-4-of-12/2-steps"
    first, second = f"base/{chosen}/chosen.parquet", f"{learning}/{chosen}/chosen.parquet"
    fit = CandidateTable.read(out / "base/as-drawn.parquet").ok_ids
    earlier = ids(f"{learning}/finetuning_set.parquet")
    assert set(earlier) <= set(ids(first)) <= set(fit) and len(earlier) > 1
    last = f"{learning}/{chosen}/2-steps"
    both = ids(f"{last}/finetuning_set.parquet")
    later = both[len(earlier) :]
    assert both[: len(earlier)] == earlier and later and set(later) <= {f"round-2-{i}" for i in ids(second)}
    (judged,) = read_result(out / last / "sample")
    assert judged.protocol["finetuning_set_size"] == len(both)
    once, twice = (load_generator(out / f / "generator.safetensors") for f in (learning, last))
    assert twice.origin["finetuned_from"] == once.origin

    def stamps():
        return {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}

    before = stamps()
    assert run() == found and stamps() == before
    (out / last / "sample" / "relaxed.parquet").unlink()
    assert run()["rows"] == found["rows"] and stamps() == before, "what is missing is made again, and no more"
    more = {**plan.model_dump(), "arms": [*plan.model_dump()["arms"], {"ranker": "random", "select": 2}]}
    added = run(refinement.Plan.model_validate(more))
    assert [r["name"] for r in added["rows"][4:]] == [
        "chosen by random, 2 chosen",
        "refined by random, 2 chosen",
    ]
    assert added["rows"][:4] == found["rows"] and before.items() < stamps().items()
    assert (out / "sweep.svg").exists() is False  # the two differ in rounds as well
    distinct = {**plan.model_dump(), "arms": [{"ranker": "random", "rounds": 2, "distinct": True}]}
    again = run(refinement.Plan.model_validate(distinct))["rows"]
    assert again[0] == found["rows"][0]
    assert [r["name"] for r in again] == [
        "base",
        "base, no formula twice",
        *(r["name"] for r in found["rows"][1:3]),
        "refined by random, 2 rounds, no formula twice",
    ]
    with pytest.raises(RunError, match=r"other settings \(pool\)"):
        refinement.Experiment(plan.model_copy(update={"pool": 13}), data, out, "cpu")


def test_a_smaller_pool_is_the_first_of_a_larger_one(salts):
    best = importlib.import_module("steps").best
    table, ids = CandidateTable.from_crystals(salts[:4]), salts.ids
    table = table.with_column("screen_rank", dict(zip(ids, [4, None, 2, 1], strict=False)), "Int64")
    assert best(table, 2).ids == [ids[3], ids[2]]
    assert best(table, 2, pool=3).ids == [ids[2], ids[0]]
    with pytest.raises(ValueError, match="only 2 are fit"):
        best(table, 3, pool=3)


def test_arms_are_named_by_what_they_differ_in(refinement, tmp_path):
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
    assert plan.arms[3].choice == "random"
    assert len({f"{arm.folder(0)}/{arm.chosen}" for arm in plan.arms}) == 3  # the last goes on from the first
    assert refinement.Plan.model_validate(plan.model_dump()) == plan
    interval = {"vsun": [0.2, 0.4]}
    rows = [
        {"name": f"refined by {arm.label}", "arm": arm.model_dump(), "vsun": 0.3, "intervals": interval}
        for arm in plan.arms
    ]
    (line,) = refinement.sweep_lines(rows, "select")
    assert [row["arm"]["select"] for row in line] == [20, 40]
    assert refinement.sweep_lines(rows, "pool") == []
    refinement.draw_sweep(rows, tmp_path / "sweep.svg")
    assert (tmp_path / "sweep.svg").stat().st_size > 1000
    with pytest.raises(ValueError, match="at most 4000"):
        refinement.Plan.model_validate({"arms": [{"ranker": "random", "pool": 4001}]})


def test_the_plans_that_ship_can_be_read(refinement):
    import tomllib

    plans = sorted(EXPERIMENTS.glob("*.toml"))
    assert plans
    for path in plans:
        refinement.Plan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
