"""The whole of a prediction on tiny models, and its parts against what must hold."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import crysjepa as cj
from crysjepa import api
from crysjepa.cli.main import app
from crysjepa.cli.predicting import show_predicted
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.matching.uniqueness import unique
from crysjepa.prediction.predict import STEPS
from crysjepa.prediction.proposals import shared_out
from crysjepa.prediction.settings import PredictSettings
from crysjepa.prediction.target import Target
from crysjepa.runtime.errors import RunError
from crysjepa.runtime.notes import UsageError


@pytest.fixture(scope="module")
def settings(tiny) -> PredictSettings:
    protocol = tiny.protocol
    return PredictSettings.model_validate(
        {
            "num": 12, "static": 8, "relaxed": 6, "parents": str(tiny.reference), "hull": str(tiny.reference),
            "generator": str(tiny.generator), "jepa": str(tiny.jepa), **protocol,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def predicted(settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("predicted") / "KF"
    return out, api.predict("KF", out, settings=settings, processes=1)


def test_every_candidate_ends_somewhere_and_is_counted(predicted):
    out, found = predicted
    table = CandidateTable.read(out / "candidates.parquet")
    best = CandidateTable.read(out / "polymorphs.parquet")
    assert len(best) == found["polymorphs"] >= 1
    assert set(table.column("source")) == {"prototype", "flow"}
    assert [row["step"] for row in found["counts"]] == list(STEPS)
    assert found["counts"][0]["candidates"] == len(table)
    for before, after in zip(found["counts"], found["counts"][1:], strict=False):
        assert before["left"] == after["candidates"] == sum(after["by_source"].values())
    assert found["counts"][-1]["left"] == len(best)
    for status, reason in zip(table.column("status"), table.column("reason"), strict=True):
        assert (status == Status.OK) == (reason is None)
    assert set(table.crystals().reduced_formulas()) == {"KF"}
    assert table.metadata["counts"] == found["counts"]
    assert json.loads((out / "predict.json").read_text()) == found


def test_polymorphs_differ_and_rise_in_energy(predicted):
    out, _ = predicted
    best = CandidateTable.read(out / "polymorphs.parquet")
    energies = best.column("formation_energy_per_atom")
    assert energies == sorted(energies)
    assert best.column("rank") == list(range(1, len(best) + 1))
    assert best.column("e_above_lowest")[0] == 0
    assert sorted(best.column("likely_rank")) == best.column("rank")
    assert not any(unique(best.crystals()).matches.values())
    files = best.column("cif_file")
    assert sorted(p.name for p in (out / "cifs").glob("*.cif")) == sorted(f.split("/")[1] for f in files)
    read = cj.read(out / "cifs")
    assert set(read.crystals().reduced_formulas()) == {"KF"}


@pytest.mark.slow
def test_the_same_bytes_again_whatever_the_processes_and_after_a_stop(predicted, settings, tmp_path):
    out, _ = predicted
    api.predict("K2F2", tmp_path / "again", settings=settings, processes=2)
    stopped = tmp_path / "stopped"
    shutil.copytree(out, stopped)
    for name in ("steps/relaxed.parquet", "polymorphs.parquet"):
        (stopped / name).unlink()
    api.predict("KF", stopped, settings=settings, processes=1)
    for name in ("candidates.parquet", "polymorphs.parquet", "predict.json"):
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
        assert (out / name).read_bytes() == (stopped / name).read_bytes()


def test_a_folder_of_another_prediction_is_refused(predicted, settings):
    out, _ = predicted
    with pytest.raises(RunError, match="other settings"):
        api.predict("NaF", out, settings=settings)


@pytest.mark.slow
def test_known_crystals_are_candidates_or_take_no_part(settings, tmp_path):
    api.predict("NaCl", tmp_path / "known", settings=settings, processes=1)
    table = CandidateTable.read(tmp_path / "known" / "candidates.parquet")
    assert table.column("origin")[0] == "NaCl" and table.column("source").count("known") == 1
    best = CandidateTable.read(tmp_path / "known" / "polymorphs.parquet")
    assert "NaCl" in best.column("matches")
    api.predict("NaCl", tmp_path / "new", settings=settings.model_copy(update={"known": False}), processes=1)
    table = CandidateTable.read(tmp_path / "new" / "candidates.parquet")
    assert "NaCl" not in table.column("origin") and "known" not in table.column("source")
    assert "prototype" in table.column("source")


@pytest.mark.slow
def test_the_closed_hull_is_asked_if_wanted(settings, tiny, tmp_path):
    close = {
        "static": 2, "relaxed": 1, "rounds": 1, "proposals": 4, "margin": 50.0,
        "parents": str(tiny.reference), "relaxation": {"max_steps": 2},
    }  # fmt: skip
    wanted = PredictSettings.model_validate({**settings.model_dump(), "close": close})
    found = api.predict("KF", tmp_path / "out", settings=wanted, processes=1)
    best = CandidateTable.read(tmp_path / "out" / "polymorphs.parquet")
    assert found["closed_hull"]["num_competitors"] >= 1
    assert None not in best.column("e_above_closed_hull") and None not in best.column("decomposes_to")


@pytest.mark.slow
def test_in_memory_it_is_the_same(predicted, settings):
    out, found = predicted
    table = cj.predict("KF", settings=settings, processes=1)
    assert table.content_hash() == CandidateTable.read(out / "polymorphs.parquet").content_hash()
    assert table.metadata["counts"] == found["counts"]


@pytest.mark.slow
def test_the_command_says_what_each_step_had(settings, tmp_path, monkeypatch):
    config = tmp_path / "settings.toml"
    given = settings.model_dump(exclude_none=True, exclude={"relaxation"})
    lines = [f"{k} = {str(v).lower() if isinstance(v, bool) else json.dumps(v)}" for k, v in given.items()]
    config.write_text("\n".join([*lines, "[relaxation]", "max_steps = 3", "chunk_size = 4"]))
    out = tmp_path / "out"
    line = ["predict", "KF", "--num", "6", "--out", str(out), "--config", str(config), "--processes", "1"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    found = json.loads((out / "predict.json").read_text())
    assert found["counts"][0]["candidates"] <= 6
    for step in STEPS:
        assert step in result.output
    assert "ways to fill them" in result.output and "polymorphs.parquet" in result.output


def test_a_formula_that_nothing_gives_is_no_success(settings, tmp_path):
    found = api.predict("NaF3", tmp_path / "out", settings=settings, processes=1)
    assert found["polymorphs"] == 0 and [row["candidates"] for row in found["counts"]] == [0] * len(STEPS)
    assert len(CandidateTable.read(tmp_path / "out" / "polymorphs.parquet")) == 0
    with pytest.raises(RuntimeError, match="no structure of NaF3"):
        show_predicted(found, tmp_path / "out")


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("Xy2O", "Xy is no element"),
        ("nonsense", "no formula"),
        ("Li0.5CoO2", "write Li(CoO2)2"),
        ("NoCl", "beyond the first 100"),
        ("Ca10P6O26H2", "22 atoms, more than the 20"),
        ("CaSO4.2H2O", "no formula"),
    ],
)
def test_what_cannot_be_predicted_is_refused_before_any_work(formula, says, tmp_path):
    with pytest.raises(UsageError, match=re.escape(says)):
        Target.parse(formula, 20)
    result = CliRunner().invoke(app, ["predict", formula, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and says in " ".join(result.output.split())
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_formula_is_reduced():
    assert Target.parse("Li4Mn4P4O16", 20) == Target.parse("LiMnPO4", 20)
    assert Target.parse("Ca3(PO4)2", 20).counts == {8: 8, 15: 2, 20: 3}
    assert Target.parse("Ca3(PO4)2", 13).unit == 13


def test_an_element_without_a_reference_energy_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no chgnet reference energy for Po"):
        api.predict("PoO2", tmp_path / "out")


@given(st.lists(st.tuples(st.floats(-30, 5), st.integers(1, 6)), min_size=1, max_size=12), st.integers(0, 60))
def test_draws_are_shared_out_as_they_should(choices, num):
    logits, most = np.array([c[0] for c in choices]), np.array([c[1] for c in choices])
    times = shared_out(logits, most, num)
    assert (times >= 0).all() and (times <= most).all()
    assert times.sum() <= min(num, most.sum())
    if logits.max() - logits.min() < 20:
        assert times.sum() == min(num, most.sum())
    alike = np.full_like(most, 6)
    order = np.argsort(logits, kind="stable")
    assert (np.diff(shared_out(logits, alike, num)[order]) >= -1).all()
