"""The refinement experiment on six salts: every step, the tables, and that it goes on where it stood."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def refinement(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import refinement

    yield refinement
    for name in ("refinement", "figures", "steps"):
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
            "rankers": ["random"],
            "finetune": {"steps": 2, "batch_size": 2, "warmup": 1},
            "judging": {**tiny.protocol, "preset": "strict", "prototypes": True},
        }
    )

    def run():
        experiment = refinement.Experiment(plan, data, out, "cpu")
        experiment.base = lambda: tiny.generator
        return experiment.run()

    found = run()
    assert [r["name"] for r in found["rows"]] == ["base", "chosen by random", "refined by random"]
    assert all(r["num_crystals"] == 4 for r in found["rows"])
    text = (out / "refinement.md").read_text(encoding="utf-8")
    assert "12 crystals drawn by the base" in text and (out / "refinement.svg").stat().st_size > 1000
    chosen = pq.read_table(out / "chosen-random.parquet")["id"].to_pylist()
    lessons = pq.read_table(out / "lessons-random.parquet")["id"].to_pylist()
    assert set(lessons) <= set(chosen) <= set(pq.read_table(out / "candidates.parquet")["id"].to_pylist())
    saved = json.loads((out / "refinement.json").read_text(encoding="utf-8"))
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("*.safetensors")}
    assert run()["rows"] == saved["rows"]
    assert {p: p.stat().st_mtime_ns for p in out.glob("*.safetensors")} == stamps
    with pytest.raises(SystemExit, match="another experiment"):
        refinement.Experiment(plan.model_copy(update={"pool": 13}), data, out, "cpu")


def test_the_plans_that_ship_can_be_read(refinement):
    import tomllib

    plans = sorted(EXPERIMENTS.glob("*.toml"))
    assert plans
    for path in plans:
        refinement.Plan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
