"""Crystals that come with energies are judged anew, and nothing is relaxed for it."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import crysjepa as cj
from crysjepa import api, datasets
from crysjepa.cli import console, show
from crysjepa.core.candidates import CandidateTable
from crysjepa.datasets.chunks import open_chunks
from crysjepa.energy.known_hull import known_hull
from crysjepa.evaluation.criteria import NOT_CONVERGED
from crysjepa.evaluation.given import (
    energies_of,
    is_run,
    listed,
    protocol_of,
    read_given,
    reference_of,
    run_of,
)
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.reference import Known
from crysjepa.relaxation.relax import RelaxSettings
from crysjepa.runtime.errors import RunError
from crysjepa.runtime.notes import ReadNote

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

    monkeypatch.setattr("crysjepa.evaluation.evaluator.relax_crystals", refuse)


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


def test_a_short_list_whose_stability_was_not_judged_has_no_rate(tiny, protocol, tmp_path, no_relaxation):
    table = CandidateTable.read(tiny.reference)
    ranks = {i: k + 1 for k, i in enumerate(table.ids[:3])}
    table.with_column("shortlist_rank", ranks, "Int64").write(tmp_path / "listed.parquet")
    asked = protocol.model_copy(update={"relax": False, "trust": None})
    metrics = api.evaluate(
        tmp_path / "listed.parquet", tmp_path / "e", reference=tiny.reference, protocol=asked
    )
    held = metrics["shortlist"]
    for name in ("stable", "vsun", "vsun_new_formula"):
        assert held[name] is held["intervals"][name] is held["control"][name] is None
    assert held["num"] == 3 and held["new_formula"] == 0.0
    with console.output.capture() as said:
        show.show_judged("listed", metrics)
    assert "of the short list of 3: stability was not judged" in " ".join(said.get().split())


def test_a_relaxed_file_has_no_energies_of_before(tiny, tmp_path):
    table, names = CandidateTable.read(tiny.reference), ("energy", "free_energy")
    for name in names:
        table = table.with_column(name, dict.fromkeys(table.ids, -11.0), "Float64")
    table.with_column("band_gap", dict.fromkeys(table.ids, 4.0), "Float64").write(tmp_path / "g.parquet")
    with pytest.warns(
        ReadNote, match="formation_energy_per_atom, energy, free_energy of relaxed crystals left"
    ):
        api.relax(
            tmp_path / "g.parquet", tmp_path / "r.parquet", force_field=tiny.protocol["force_field"],
            settings=THREE_STEPS,
        )  # fmt: skip
    after = CandidateTable.read(tmp_path / "r.parquet")
    was_relaxed = after.frame["energy_per_atom"].notna()
    assert was_relaxed.any()
    for name in ("formation_energy_per_atom", *names):
        assert after.frame[name].isna().tolist() == was_relaxed.tolist()
    assert after.frame["band_gap"].notna().all()


def test_another_force_field_relaxes(relaxed, tiny, protocol, tmp_path):
    other = protocol.model_copy(update={"force_field": "ase.calculators.emt:EMT"})
    assert not energies_of(relaxed).fits(other)  # type: ignore[union-attr]


def test_another_hull_or_threshold_costs_nothing(tiny, protocol, tmp_path, monkeypatch):
    out = tmp_path / "e"
    first = api.evaluate(tiny.reference, out, reference=tiny.reference, protocol=protocol)

    def refuse(*args, **kwargs):
        raise AssertionError("a worker was started")

    monkeypatch.setattr("crysjepa.relaxation.relax.open_pool", refuse)
    strict = protocol.model_copy(update={"e_above_hull_max": -50.0})
    second = api.evaluate(tiny.reference, out, reference=tiny.reference, hull=tiny.reference, protocol=strict)
    assert second["hull"] == "known.parquet" and first["hull"] == "known + known.parquet"
    kept = json.loads((out / "earlier-1" / "metrics.json").read_text())
    assert kept["hash"] == first["hash"] and (out / "earlier-1" / "crystals.parquet").is_file()
    again = api.evaluate(tiny.reference, out, reference=tiny.reference, hull=tiny.reference, protocol=strict)
    assert again == second and not (out / "earlier-2").exists()


def test_results_are_judged_by_another_hull_in_their_own_folder(
    relaxed, tiny, protocol, tmp_path, no_relaxation
):
    out = tmp_path / "e"
    first = api.evaluate(relaxed, out, reference=tiny.reference, protocol=protocol)
    second = api.evaluate(out, out, reference=tiny.reference, hull=tiny.reference, protocol=protocol)
    assert second["hull"] == "known.parquet" and second["num_crystals"] == 8
    assert json.loads((out / "earlier-1" / "metrics.json").read_text())["hash"] == first["hash"]
    kept = CandidateTable.read(out / "earlier-1" / "crystals.parquet")
    after = CandidateTable.read(out / "crystals.parquet")
    assert after.column("energy_per_atom") == kept.column("energy_per_atom")


@pytest.mark.parametrize("name", ["energy/atom", "e_form", "Formation Energy"])
def test_columns_that_may_be_formation_energies_are_named(tiny, protocol, tmp_path, name):
    table = CandidateTable.read(tiny.reference)
    frame = table.frame[["id", "status", "stage", "reason", "atomic_numbers", "frac_coords", "lattice"]]
    CandidateTable(frame.assign(**{name: -1.0})).write(tmp_path / "a.parquet")
    asked = protocol.model_copy(update={"relax": False, "trust": None})
    with pytest.raises(ValueError, match=f"they have no energies.*is it {name}"):
        api.evaluate(tmp_path / "a.parquet", tmp_path / "e", hull=tiny.reference, protocol=asked)


def test_given_energies_on_another_scale_than_the_hull(tiny, protocol, tmp_path):
    CandidateTable.read(tiny.reference).write(tmp_path / "a.parquet", {"scale": "oqmd"})
    asked = protocol.model_copy(update={"relax": False, "trust": None})
    with pytest.raises(ValueError, match="the crystals' formation energies are on the scale 'oqmd'"):
        api.evaluate(tmp_path / "a.parquet", tmp_path / "e", hull=tiny.reference, protocol=asked)


def test_nothing_is_moved_while_another_process_is_at_work(tiny, protocol, tmp_path):
    out = tmp_path / "e"
    api.evaluate(tiny.reference, out, reference=tiny.reference, protocol=protocol)
    before = sorted(p.name for p in out.iterdir())
    gc.collect()  # and with it the lock of the evaluation that has ended
    code = (
        "import sys, time; from pathlib import Path; from crysjepa.runtime.run_directory import locked; "
        "held = locked(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    try:
        strict = protocol.model_copy(update={"e_above_hull_max": -50.0})
        with pytest.raises(RunError, match="another process is at work"):
            api.evaluate(tiny.reference, out, reference=tiny.reference, protocol=strict)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert sorted(p.name for p in out.iterdir()) == before


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


def test_results_are_not_judged_by_another_reference_without_a_word(relaxed, tiny, protocol, tmp_path):
    first = tmp_path / "e"
    api.evaluate(relaxed, first, reference=tiny.reference, protocol=protocol)
    with pytest.raises(ValueError, match=r"judged by the reference known.parquet, .*--reference"):
        api.evaluate(first, tmp_path / "f", hull=tiny.reference)
    assert not (tmp_path / "f").exists()
    api.evaluate(first, tmp_path / "g", reference="known", protocol=protocol)
    assert reference_of(tmp_path / "g") == "known" and reference_of(relaxed) is None
    (first / "config.json").write_text(json.dumps({"reference": str(tiny.reference)}))
    assert reference_of(first) == str(tiny.reference)
    (first / "config.json").write_text(json.dumps({"reference": str(tmp_path / "gone.cif")}))
    with pytest.raises(ValueError, match=r"gone\.cif, which is no longer there"):
        reference_of(first)


def test_a_relaxation_that_went_astray_stays_failed(relaxed, tiny, protocol, tmp_path, no_relaxation):
    """It has the energy of where it went, and is judged by none."""
    table = CandidateTable.read(relaxed)
    frame = table.frame.copy()
    for row, reason in ((0, "the cell grew"), (2, NOT_CONVERGED)):
        frame.loc[row, ["status", "stage", "reason"]] = ["failed", "relax", reason]
    told = json.loads(pq.read_schema(relaxed).metadata[b"crysjepa"])
    CandidateTable(frame).write(tmp_path / "astray.parquet", told)
    api.evaluate(tmp_path / "astray.parquet", tmp_path / "e", reference=tiny.reference, protocol=protocol)
    after = CandidateTable.read(tmp_path / "e" / "crystals.parquet")
    first, _, second = table.ids[:3]
    assert after.column("reason", [first]) == ["the cell grew"] and after.column("stable", [first]) == [None]
    assert after.column("stage", [second]) != ["relax"], "what merely stopped early is judged by these rules"


def test_relaxing_anew_is_another_result(relaxed, tiny, protocol, tmp_path):
    out = tmp_path / "e"
    api.evaluate(relaxed, out, reference=tiny.reference, protocol=protocol)
    with pytest.raises(RunError, match="energies"):
        api.evaluate(relaxed, out, reference=tiny.reference, protocol=protocol, anew=True)


def test_a_judgement_that_fails_moves_nothing(relaxed, tiny, protocol, tmp_path):
    out = tmp_path / "e"
    api.evaluate(relaxed, out, reference=tiny.reference, protocol=protocol)
    hull = pa.table({"composition": ["NaCl"], "formation_energy_per_atom": [-2.0]})
    hull = hull.replace_schema_metadata({b"crysjepa": b'{"scale": "another"}'})
    pq.write_table(hull, tmp_path / "hull.parquet")
    with pytest.raises(ValueError, match="another"):
        api.evaluate(
            relaxed, out, reference=tiny.reference, hull=tmp_path / "hull.parquet", protocol=protocol
        )
    assert (out / "metrics.json").is_file() and not (out / "earlier-1").exists()


def test_energies_of_another_version_are_refused(relaxed, tiny, protocol, tmp_path):
    told = json.loads(pq.read_schema(relaxed).metadata[b"crysjepa"])
    told["energies"]["version"] = "0.0.1"
    CandidateTable.read(relaxed).write(tmp_path / "old.parquet", told)
    with pytest.raises(ValueError, match=r"0\.0\.1"):
        api.evaluate(tmp_path / "old.parquet", tmp_path / "e", reference=tiny.reference, protocol=protocol)


def test_a_run_is_judged_by_its_own_rules_and_columns_of_others_are_gone(relaxed, tiny, protocol, tmp_path):
    own = protocol.model_copy(update={"min_hull_entries": 2, "prototypes": True})
    api.evaluate(relaxed, tmp_path / "e", reference=tiny.reference, protocol=own, finetuned_on=tiny.reference)
    assert protocol_of(tmp_path / "e") == own.model_copy(update={"relaxation": THREE_STEPS})
    again = api.evaluate(tmp_path / "e", tmp_path / "f", reference=tiny.reference)
    assert again["protocol"]["min_hull_entries"] == 2
    plain = api.evaluate(tmp_path / "e", tmp_path / "g", reference=tiny.reference, protocol=protocol)
    assert plain["new_prototype"] is None
    assert "matches_finetuning" not in CandidateTable.read(tmp_path / "g" / "crystals.parquet")


def test_a_force_fields_own_energies_do_not_join_the_hull(relaxed, tiny, protocol, tmp_path):
    api.evaluate(relaxed, tmp_path / "e", reference=tiny.reference, protocol=protocol)
    judged = Known.load(tmp_path / "e" / "crystals.parquet")
    assert judged.computed and "formation_energy_per_atom" in judged.table
    assert judged.hull_or_default(None) is known_hull()
    assert not Known.load(tiny.reference).hull_or_default(None).scale_stated, "its scale was assumed"
    assert Known.load("known").hull_or_default(None) is known_hull()


def test_a_folder_called_known_is_not_the_data_set(salts, tmp_path, monkeypatch):
    CandidateTable.from_crystals(salts[:1]).write(tmp_path / "known" / "mine.parquet")
    monkeypatch.chdir(tmp_path)
    assert len(datasets.load("known")) == 27_708 and len(datasets.load("./known")) == 1
    assert Known.load("./known").name == "./known" and len(open_chunks("known")) == 27_708


@pytest.mark.parametrize("text", ["[]", "3", '{"protocol": []}', '{"protocol": {"relax": true}}'])
def test_a_folder_of_somebody_elses_is_no_origin_of_energies(relaxed, tmp_path, text):
    folder = tmp_path / "theirs"
    CandidateTable(CandidateTable.read(relaxed).frame).write(folder / "crystals.parquet")
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    (folder / "config.json").write_text("[]", encoding="utf-8")
    assert read_given(folder).origin is None and protocol_of(folder) is None
    (folder / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="not valid JSON"):
        read_given(folder)


@pytest.mark.parametrize(
    "column, text, reason",
    [
        ("functional", "r2SCAN", "on the scale 'r2scan' but the hull is on 'materials_project'"),
        ("unit", "Ha/atom", "unit of the crystals says 'Ha/atom'"),
        ("run_type", "GGA+U", None),
        ("unit", "eV/atom", None),
    ],
)
def test_what_the_crystals_say_of_their_energies(column, text, reason, tiny, tmp_path, no_relaxation):
    table = CandidateTable.read(tiny.reference)
    source, asked = tmp_path / "given.parquet", Protocol(relax=False)
    table = table.with_column("formation_energy_per_atom", dict.fromkeys(table.ids, -2.0), "Float64")
    table.with_column(column, dict.fromkeys(table.ids, text), "string").write(source)
    if reason is None:
        metrics = api.evaluate(source, tmp_path / "e", hull="known", protocol=asked)
        assert metrics["protocol"]["stability_judged"]
        return
    with pytest.raises(ValueError, match=reason):
        api.evaluate(source, tmp_path / "e", hull="known", protocol=asked)


def test_a_reference_of_another_functional_joins_no_hull(tiny, tmp_path):
    table = CandidateTable.read(tiny.reference)
    table = table.with_column("formation_energy_per_atom", dict.fromkeys(table.ids, -5.0), "Float64")
    table.with_column("functional", dict.fromkeys(table.ids, "r2SCAN"), "string").write(
        tmp_path / "r.parquet"
    )
    found = Known.load(tmp_path / "r.parquet")
    assert (found.scale, found.scale_stated) == ("r2scan", True)
    assert found.hull_or_default(None).content_hash == known_hull().content_hash


def test_a_polymorph_in_a_candidates_place_is_on_the_short_list_and_in_no_rate(relaxed, tmp_path):
    table = CandidateTable.read(relaxed)
    first, second, third, *_ = table.ids
    table = table.with_column("in_place_of", {**dict.fromkeys(table.ids), second: third}, "string")
    table = table.with_column("shortlist_rank", {**dict.fromkeys(table.ids), first: 2, second: 1}, "Int64")
    run = tmp_path / "run"
    (run / "shortlist").mkdir(parents=True)
    table.write(run / "candidates.parquet")
    (run / "metrics.json").write_text("{}", encoding="utf-8")
    assert cj.read(run).ids == table.ids and listed(cj.read(run)).ids == [second, first]
    drawn = [i for i in table.ids if i != second]
    cj.read(run).write(tmp_path / "again.parquet")
    for source in (run, tmp_path / "again.parquet"):
        assert read_given(source).table.ids == drawn
    listed(cj.read(run)).write(tmp_path / "listed.parquet")
    assert read_given(tmp_path / "listed.parquet").table.ids == [second, first], "nothing that it replaces"
    assert run_of(run) == run == run_of(run / "shortlist") and run_of(relaxed) is None
    assert listed(CandidateTable.read(relaxed)).ids == table.ids
