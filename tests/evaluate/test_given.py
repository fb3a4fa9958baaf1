"""Crystals that come with energies are judged anew, and nothing is relaxed for it."""

import json
from pathlib import Path

import pytest

from crysjepa import api
from crysjepa.candidates import CandidateTable
from crysjepa.evaluate.given import energies_of, is_run, read_given
from crysjepa.evaluate.presets import Protocol
from crysjepa.relax.relax import RelaxSettings
from crysjepa.run import RunError

THREE_STEPS = RelaxSettings(max_steps=3, chunk_size=4)


@pytest.fixture
def relaxed(tiny, tmp_path) -> Path:
    """What ``crysjepa relax`` leaves of six salts and a crystal that cannot be read."""
    table = CandidateTable.read(tiny.reference)
    torn = CandidateTable.from_crystals(table.crystals(), {"torn": "the file is empty"})
    torn.write(tmp_path / "drawn.parquet")
    out = tmp_path / "relaxed.parquet"
    api.relax(tmp_path / "drawn.parquet", out, force_field=tiny.protocol["force_field"], settings=THREE_STEPS)
    return out


@pytest.fixture
def protocol(tiny) -> Protocol:
    return Protocol.model_validate(tiny.protocol)


@pytest.fixture
def no_relaxation(monkeypatch):
    """Relaxing anything is an error."""

    def refuse(*args, **kwargs):
        raise AssertionError("something was relaxed")

    monkeypatch.setattr("crysjepa.evaluate.judge.relax_crystals", refuse)


def test_a_file_says_of_which_force_field_its_energies_are(relaxed, tiny):
    origin = energies_of(relaxed)
    assert origin is not None and origin.force_field == tiny.protocol["force_field"]
    assert origin.relaxation == THREE_STEPS
    assert energies_of(tiny.reference) is None and energies_of("known") is None


def test_relaxed_crystals_are_judged_as_they_are(relaxed, tiny, protocol, tmp_path, no_relaxation):
    metrics = api.evaluate(relaxed, tmp_path / "e", reference=tiny.reference, protocol=protocol)
    before, after = CandidateTable.read(relaxed), CandidateTable.read(tmp_path / "e" / "crystals.parquet")
    assert after.column("energy_per_atom") == before.column("energy_per_atom")
    assert after.column("stage", ["torn"]) == ["read"] and metrics["num_crystals"] == 8
    assert metrics["protocol"]["relaxation"]["max_steps"] == 3, "the file's own settings are told"
    assert metrics["hull"] == "known + known.parquet" and metrics["novelty_set"] == "known.parquet"
    assert metrics["judge"].startswith(str(tiny.protocol["force_field"]))
    assert {"novelty_grade", "hull_support", "hull_entries", "hull_warning"} <= set(after.frame.columns)


def test_another_force_field_relaxes(relaxed, tiny, protocol, tmp_path):
    other = protocol.model_copy(update={"force_field": "ase.calculators.emt:EMT"})
    assert not energies_of(relaxed).fits(other)  # type: ignore[union-attr]


def test_another_hull_or_threshold_costs_nothing(tiny, protocol, tmp_path, monkeypatch):
    out = tmp_path / "e"
    first = api.evaluate(tiny.reference, out, reference=tiny.reference, protocol=protocol)

    def refuse(*args, **kwargs):
        raise AssertionError("a worker was started")

    monkeypatch.setattr("crysjepa.relax.relax.WorkerPool", refuse)
    strict = protocol.model_copy(update={"e_above_hull_max": -50.0})
    second = api.evaluate(tiny.reference, out, reference=tiny.reference, hull=tiny.reference, protocol=strict)
    assert second["hull"] == "known.parquet" and first["hull"] == "known + known.parquet"
    kept = json.loads((out / "earlier-1" / "metrics.json").read_text())
    assert kept["hash"] == first["hash"] and (out / "earlier-1" / "crystals.parquet").is_file()
    again = api.evaluate(tiny.reference, out, reference=tiny.reference, hull=tiny.reference, protocol=strict)
    assert again == second and not (out / "earlier-2").exists()


def test_other_crystals_or_another_relaxation_still_need_another_folder(tiny, protocol, tmp_path):
    out = tmp_path / "e"
    api.evaluate(tiny.reference, out, reference=tiny.reference, protocol=protocol)
    longer = protocol.model_copy(update={"relaxation": RelaxSettings(max_steps=4, chunk_size=4)})
    with pytest.raises(RunError):
        api.evaluate(tiny.reference, out, reference=tiny.reference, protocol=longer)


def test_results_are_judged_again_from_their_folder(relaxed, tiny, protocol, tmp_path, no_relaxation):
    first = tmp_path / "e"
    api.evaluate(relaxed, first, reference=tiny.reference, protocol=protocol)
    assert is_run(first) and not is_run(tmp_path)
    given = read_given(first)
    assert given.origin == energies_of(relaxed)
    metrics = api.evaluate(first, first / "again", reference="known", protocol=protocol)
    assert metrics["novelty_set"] == "known" and metrics["num_crystals"] == 8
    assert "torn" in CandidateTable.read(first / "again" / "crystals.parquet").ids
