"""The run on a GPU, at toy size on the CPU: every stage, from the files of the one before."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crysjepa.core.candidates import CandidateTable
from crysjepa.generators.registry import load_checkpoint
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.runtime.download import DatasetError

pytestmark = pytest.mark.slow

RUN = Path(__file__).parents[2] / "reproduce" / "gpu" / "run.py"


@pytest.fixture
def run(monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu_run", RUN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: (
        monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments), "--device", "cpu", "--toy"]),
        module.main(),
    )


@pytest.fixture
def data(tiny, tmp_path):
    """A table as the Materials Project's, under the three names."""
    table = pq.read_table(tiny.reference)
    extra = {"num_sites": pa.array([len(v) for v in table["atomic_numbers"].to_pylist()])}
    extra |= {"e_above_hull": pa.array([0.0] * len(table)), "split": pa.array(["train"] * len(table))}
    for name, column in extra.items():
        table = table.append_column(name, column) if name not in table.column_names else table
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("mp20_bt", "mpts52", "mp20_hull"):
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def test_crys_jepa_is_trained_for_some_minutes_and_goes_on_from_itself(run, data, tmp_path):
    table = pq.read_table(data / "mp20_bt.parquet")
    energies = table["formation_energy_per_atom"]
    sites = [
        [e] * len(v) for e, v in zip(energies.to_pylist(), table["atomic_numbers"].to_pylist(), strict=True)
    ]
    table = table.append_column("relaxed_formation_energy_per_atom", energies)
    table = table.append_column("site_energies", pa.array(sites, pa.list_(pa.float32())))
    packed, first, second = (tmp_path / name for name in ("packed.parquet", "a.safetensors", "b.safetensors"))
    pq.write_table(table, packed)
    run("jepa", packed, "--out", first, "--minutes", 0.002, "--large")
    found = json.loads(first.with_suffix(".steps.json").read_text())
    assert found["steps"] > 0 and found["ms_a_step"] > 0
    run("jepa", packed, "--out", second, "--steps", 3, "--init", first)
    once, twice = CrysJepa.load(first), CrysJepa.load(second)
    assert twice.origin["init"]["steps"] == once.origin["steps"] == found["steps"]
    assert twice.origin["steps"] == 3


def test_every_stage(run, data, tiny, tmp_path):
    out = tmp_path / "out"
    run("measure", "--data", data, "--out", out)
    speed = json.loads((out / "speed.json").read_text())
    assert len(speed["models"]) == 4 and all(m["trained_per_s"] > 0 for m in speed["models"])
    run("train", "--data", data, "--out", out, "--minutes", 0.002, "--after", out / "speed.json")
    assert json.loads((out / "steps.json").read_text())["steps"] > 0
    model, samples = out / "flow.safetensors", out / "samples.parquet"
    run("sample", "--model", model, "--num", 6, "--out", samples)
    assert len(CandidateTable.read(samples).ids) == 6
    rounds, chosen = out / "rounds", out / "rounds" / "round-0" / "chosen.parquet"
    # what a toy draws Crys-JEPA never keeps; of 64 random scores, four are low enough
    beside = ("--model", tiny.generator, "--data", data, "--beside", data / "mpts52.parquet", "--out", rounds)
    options = (*beside, "--by", "random", "--num", 64, 64, "--keep", 3, "--replay", 4, "--steps", 2)
    run("rounds", *options)
    num = len(CandidateTable.read(chosen))
    again = len(CandidateTable.read(rounds / "round-1" / "chosen.parquet"))
    assert 0 < num <= 3 and again <= 3
    once, twice = (load_checkpoint(rounds / f"round-{n}" / "generator.safetensors") for n in (1, 2))
    assert (once.origin["num_crystals"], twice.origin["num_crystals"]) == (4 + 7 + num, 4 + 7 + num + again)
    assert once.origin["finetuned_from"] == load_checkpoint(tiny.generator).origin
    assert twice.origin["finetuned_from"]["steps"] == once.origin["steps"] == 2
    learnt = CandidateTable.read(rounds / "round-2" / "finetuning_set.parquet").ids
    assert len(learnt) == 7 + num + again and learnt[0] == "beside-0-NaCl"
    stamps = {p: p.stat().st_mtime_ns for p in rounds.rglob("*.parquet")}
    run("rounds", *options)
    assert stamps == {p: p.stat().st_mtime_ns for p in rounds.rglob("*.parquet")}, "nothing is made again"
    (rounds / "round-1" / "chosen.parquet").unlink()
    run("rounds", *options)
    made = {p for p, stamp in stamps.items() if p.stat().st_mtime_ns != stamp}
    assert made == {rounds / "round-1" / "chosen.parquet"}
    shards = out / "judged.shards"
    run("relax", chosen, "--out", shards, "--processes", 1)
    before = sorted(p.name for p in shards.glob("*.parquet"))
    run("judge", chosen, "--data", data, "--out", out / "judged", "--processes", 1)
    assert before and before == sorted(p.name for p in shards.glob("*.parquet")), "nothing is relaxed twice"
    run("page", out / "judged", "--out", out)
    page = (out / "training_on_a_gpu.md").read_text()
    assert (
        f"| judged | {num} |" in page
        and "`round-2`: 2 steps" in page
        and (out / "vsun.svg").stat().st_size > 1000
    )
    with pytest.raises(DatasetError, match=r"no\.parquet"):
        run("rounds", "--model", model, "--data", data, "--beside", out / "no.parquet", "--out", rounds)


def test_duplicates_count_among_a_batch_alone(run, tiny):
    page = importlib.import_module("page")
    row = CandidateTable.read(tiny.reference).frame.head(1)
    rows = pd.concat([row] * (page.BATCH + 4), ignore_index=True)
    rows["id"] = [str(i) for i in range(len(rows))]
    rows = rows.assign(valid=True, stable=True, novel=True, duplicate_of=None)
    rows.loc[page.BATCH, "duplicate_of"] = "0"  # of another batch
    rows.loc[[1, 2], "duplicate_of"] = "0"
    rows.loc[[page.BATCH + 1, page.BATCH + 2], "duplicate_of"] = "3"  # the first of its batch counts
    rows.loc[4, "stable"] = False
    hits = page.BATCH + 4 - 2 - 1 - 1
    assert page.vsun_by_batch(CandidateTable(rows)) == pytest.approx(hits / len(rows))
