"""DFT on this machine: a hull consistent within itself, everything kept, and GPAW itself where it is."""

import json

import emt_backend
import pytest
from ase.build import bulk
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition
from typer.testing import CliRunner

from crysjepa import api
from crysjepa.cli.main import app
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.dft.gpaw import backend, calculations
from crysjepa.dft.gpaw.backend import GpawSettings
from crysjepa.dft.gpaw.competing_phases import elements_of


def l1_2(one, three, a):
    atoms = bulk(three, "fcc", a=a, cubic=True)
    atoms.symbols[0] = one
    return atoms


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Cu-Au: a reference of two compounds (one large and near the hull), and candidates."""
    monkeypatch.setitem(calculations.BACKENDS, "emt", emt_backend)
    large = l1_2("Cu", "Au", 4.0).repeat((2, 2, 2))
    large.symbols[1] = "Cu"
    known = Crystals.from_atoms([l1_2("Au", "Cu", 3.75), large], ["AuCu3", "large"])
    table = CandidateTable.from_crystals(known).with_column(
        "formation_energy_per_atom", {"AuCu3": -0.05, "large": -0.04}, "Float64"
    )
    table.write(tmp_path / "known.parquet")
    tetragonal = bulk("Au", "fcc", a=3.9, cubic=True)
    tetragonal.symbols[:2] = "Cu"
    strained = l1_2("Au", "Cu", 3.75)
    strained.positions[0] += 0.1
    candidates = Crystals.from_atoms(
        [tetragonal, strained, bulk("Si"), large], ["CuAu", "AuCu3", "Si", "large"]
    )
    CandidateTable.from_crystals(candidates).write(tmp_path / "candidates.parquet")
    return tmp_path


def calculate(files, **changes):
    return api.dft_run(
        files / "candidates.parquet", files / "out", backend="emt", reference=files / "known.parquet",
        cache=files / "cache", **changes,
    )  # fmt: skip


def test_energies_above_hull_are_those_of_a_phase_diagram_of_what_was_calculated(files):
    done = calculate(files, processes=2)
    results = [json.loads(p.read_text()) for p in sorted((files / "cache").glob("*/*.json"))]
    energies = {r["formula"]: r for r in results if "trouble" not in r}
    rows = {i: r for i, r in zip(done.table.ids, done.table.frame.to_dict("records"), strict=True)}
    entries = [
        PDEntry(Composition(f), r["energy_per_atom"] * Composition(f).num_atoms)
        for f, r in energies.items()
        if f in ("Cu", "Au")
    ]
    strained = rows["AuCu3"]["dft_energy_per_atom"]
    lowest = min(r["energy_per_atom"] for r in results if r["formula"] == "Cu3Au")
    diagram = PhaseDiagram([*entries, PDEntry(Composition("AuCu3"), 4 * lowest)])
    for id_, formula in (("CuAu", "CuAu"), ("AuCu3", "AuCu3")):
        entry = PDEntry(
            Composition(formula), rows[id_]["dft_energy_per_atom"] * Composition(formula).num_atoms
        )
        _, above = diagram.get_decomp_and_e_above_hull(entry, allow_negative=True)
        assert rows[id_]["dft_e_above_hull"] == pytest.approx(above, abs=1e-9)
    assert rows["CuAu"]["dft_e_above_hull"] != 0 and strained == pytest.approx(lowest, abs=1e-3)
    # silicon is beyond EMT, the large cell beyond the limit: reasons, and a hull that says what it lacks
    assert rows["Si"]["status"] == "failed" and "No EMT-potential" in rows["Si"]["reason"]
    assert rows["large"]["status"] == "failed" and "more than 20" in rows["large"]["reason"]
    (missing,) = json.loads(rows["CuAu"]["dft_competing_missing"]).items()
    assert missing[1] == "32 sites, more than 20" and missing[0] in done.metrics["competing_missing"]
    assert rows["Si"]["dft_state"] == "not started" and rows["Si"]["dft_energy_per_atom"] is None
    assert [c["formula"] for c in done.metrics["competing"]] == ["Cu3Au"]
    assert done.metrics["dft"]["stable"] == pytest.approx(
        sum(r["dft_stable"] is True for r in rows.values()) / 4
    )


def test_nothing_is_calculated_twice_and_what_died_is_tried_again(files, monkeypatch):
    monkeypatch.setenv("EMT_KILLS", "1")
    done = calculate(files)
    reasons = dict(zip(done.table.ids, done.table.column("dft_reason"), strict=True))
    # gold is an element of both, and nothing else is tried once it has failed
    assert reasons["CuAu"] == reasons["AuCu3"] == "no energy of Au: process died (signal 9)"
    assert "process died" in done.metrics["competing_missing"]["Au"] and not done.metrics["competing"]
    kept = {p: p.stat().st_mtime_ns for p in (files / "cache").glob("*/*.json")}
    assert [json.loads(p.read_text())["formula"] for p in kept] == ["Cu"]
    monkeypatch.delenv("EMT_KILLS")
    again = calculate(files)
    assert again.table.column("dft_state", ["CuAu"]) == ["finished"]
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())
    other = calculate(files, settings=GpawSettings(fmax=0.2))
    assert len(list((files / "cache").iterdir())) == 2 and len(other.metrics["competing"]) == 1


def test_what_did_not_relax_has_failed_and_goes_on_where_more_steps_are_allowed(files):
    done = calculate(files, settings=GpawSettings(fmax=1e-4, max_steps=1))
    reasons = dict(zip(done.table.ids, done.table.column("dft_reason"), strict=True))
    assert reasons["AuCu3"] == "not relaxed after 1 steps"
    assert done.table.column("dft_state", ["AuCu3"]) == ["not converged ionically"]
    more = calculate(files, settings=GpawSettings(fmax=1e-4, max_steps=100))
    assert more.table.column("dft_state", ["AuCu3"]) == ["finished"]
    assert more.table.column("dft_steps", ["AuCu3"])[0] > 1 and len(list((files / "cache").iterdir())) == 1


def test_a_candidate_without_known_compounds_is_compared_with_its_elements(files):
    pair = bulk("Ag", "fcc", a=4.1, cubic=True)
    pair.symbols[:2] = "Pd"
    table = CandidateTable.from_crystals(
        Crystals.from_atoms([pair, pair, bulk("Ni")], ["AgPd", "again", "Ni"])
    )
    table.decide("test", {"Ni": "not wanted"}, "rejected").write(files / "candidates.parquet")
    done = calculate(files)
    rows = {i: r for i, r in zip(done.table.ids, done.table.frame.to_dict("records"), strict=True)}
    assert rows["AgPd"]["dft_e_above_hull"] == rows["AgPd"]["dft_formation_energy_per_atom"]
    assert rows["AgPd"]["dft_hull_entries"] == 0 and rows["again"]["dft_duplicate_of"] == "AgPd"
    assert rows["Ni"]["reason"] == "not wanted" and rows["Ni"]["dft_state"] == "not exported"
    assert len(list((files / "cache").glob("*/*.json"))) == 3  # Ag, Pd and the pair, once


@pytest.mark.slow
def test_crystals_that_are_given_compete_beside_those_known(files):
    # CuAu in its known order, a strained AuCu3 above the known one, one off the hull, one of another system
    tetragonal = bulk("Au", "fcc", a=3.9, cubic=True)
    tetragonal.symbols[:2] = "Cu"
    strained = l1_2("Au", "Cu", 4.4)
    large = l1_2("Cu", "Au", 4.0).repeat((2, 2, 2))
    rivals = Crystals.from_atoms(
        [tetragonal, strained, l1_2("Cu", "Au", 4.0), l1_2("Ag", "Au", 4.1), large],
        ["CuAu", "AuCu3", "off", "other", "large"],
    )
    on_hull = {i: i != "off" for i in rivals.ids}
    table = CandidateTable.from_crystals(rivals).with_column("on_closed_hull", on_hull, "boolean")
    table.write(files / "competitors.parquet")
    before = calculate(files)
    done = calculate(files, competing=files / "competitors.parquet")
    names = {c["formula"]: c["formation_energy_per_atom"] for c in done.metrics["competing"]}
    assert set(names) == {"Cu3Au", "CuAu"}
    # of one composition the lowest counts, and a candidate that competes with itself is at 0 or above
    known = {c["formula"]: c["formation_energy_per_atom"] for c in before.metrics["competing"]}
    assert names["Cu3Au"] == pytest.approx(known["Cu3Au"], abs=1e-9)
    assert done.table.column("dft_e_above_hull", ["CuAu"])[0] == pytest.approx(max(0.0, names["CuAu"]))
    assert "CuAu3" in done.metrics["competing_missing"]
    command = ["dft", "run", "--help"]
    assert "--competing" in CliRunner().invoke(app, command, env={"COLUMNS": "200"}).output


def test_elements_are_the_lowest_that_are_small_enough():
    salt = Crystals.from_atoms([bulk("NaCl", "rocksalt", a=5.6), bulk("P", "sc", a=3.0)], ["NaCl", "P"])
    found = elements_of(salt, 20)
    sizes = dict(zip(found.crystals.ids, found.crystals.num_atoms.tolist(), strict=True))
    assert sizes["Na"] <= 20 and found.left_out["P"].startswith("the smallest crystal of the element has 42")
    assert elements_of(salt, 50).crystals.ids[-1] == "P"


def test_errors_say_what_to_do(files, monkeypatch):
    bare = CandidateTable.read(files / "known.parquet").frame.drop(columns="formation_energy_per_atom")
    CandidateTable(bare).write(files / "bare.parquet")
    with pytest.raises(ValueError, match="no formation energies"):
        api.dft_run(
            files / "candidates.parquet", files / "o", backend="emt", reference=files / "bare.parquet"
        )
    assert calculate(files, max_sites=1).table.counts() == {"failed: dft": 4}
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    result = CliRunner().invoke(
        app, ["dft", "run", str(files / "candidates.parquet"), "-o", str(files / "o")]
    )
    assert result.exit_code == 1 and "crysjepa[gpaw]" in result.output


def test_gpaw_finds_an_element_on_its_own_hull(tmp_path):
    pytest.importorskip("gpaw", reason="GPAW is the extra gpaw")
    CandidateTable.from_crystals(Crystals.from_atoms([bulk("Al")], ["Al"])).write(tmp_path / "al.parquet")
    coarse = tmp_path / "coarse.toml"
    coarse.write_text("ecut = 200.0\nkdensity = 1.0\nfmax = 0.2\n")
    result = CliRunner().invoke(
        app, ["dft", "run", str(tmp_path / "al.parquet"), "-o", str(tmp_path / "out"), "-c", str(coarse),
              "--cache", str(tmp_path / "cache")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    table = CandidateTable.read(tmp_path / "out" / "candidates.parquet")
    assert table.column("dft_state") == ["finished"]
    assert table.column("dft_e_above_hull")[0] == pytest.approx(0.0, abs=0.01)
    assert list((tmp_path / "cache").glob("*/*-relax.txt"))
