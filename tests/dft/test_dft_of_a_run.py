"""A run's short list out to DFT with all its columns, what competes with it, and back."""

import json

import pytest
from test_dft import call, total
from vasp_outputs import finish

from crysjepa import api
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.dft.candidates import competitors_of, rows_for_dft
from crysjepa.dft.vasp.manifest import RIVALS, Manifest
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.reference import Known
from crysjepa.io.cif.write import write_cif
from crysjepa.runtime.notes import UsageError


def phase(formula, id_, known):
    return {"formula": formula, "id": id_, "amount": 0.5, "known": known}


@pytest.fixture
def run(salts, tmp_path):
    """KCl and NaCl on the short list, the others rejected; LiF was searched for."""
    folder = tmp_path / "run"
    (folder / "shortlist").mkdir(parents=True)
    drawn = salts[[0, 1, 3]]
    nacl, kcl, mgo = drawn.ids
    mixtures = {
        nacl: [phase("LiF", "rival-0", False), phase("Na", None, True), phase("SrTiO3", "mp-4651", True)],
        kcl: [phase("LiF", "rival-0", False), phase("MgO", mgo, False), phase("MgO", "mp-1265", True),
              phase("NaCl", nacl, False)],
    }  # fmt: skip
    table = CandidateTable.from_crystals(drawn)
    table = table.with_column("shortlist_rank", {nacl: 2, kcl: 1, mgo: None}, "Int64")
    table = table.with_column("p_stable", {nacl: 0.25, kcl: 0.75, mgo: None}, "Float64")
    table = table.with_column("e_above_closed_hull", {nacl: 0.01, kcl: -0.02, mgo: 0.3}, "Float64")
    told = {i: json.dumps(m) for i, m in mixtures.items()}
    table = table.with_column("decomposes_to", {mgo: None, **told}, "string")
    table.decide("close", {mgo: "unstable"}, Status.REJECTED).write(folder / "candidates.parquet")
    rival = CandidateTable.from_crystals(salts[[2]].with_ids(["rival-0"]))
    rival.with_column("e_above_closed_hull", {"rival-0": 0.0}, "Float64").write(
        folder / "competitors.parquet"
    )
    (folder / "metrics.json").write_text("{}")
    return folder


def test_the_short_list_goes_out_with_its_columns_and_its_own_cells(run, salts):
    for source in (run, run / "shortlist"):
        table = rows_for_dft(source)
        assert table.ids == [salts.ids[1], salts.ids[0]], "the best first"
        assert table.column("p_stable") == [0.75, 0.25]
        assert table.crystals().num_atoms.tolist() == [2, 2], "primitive, as in the run"
    assert len(rows_for_dft(run, every_row=True)) == 3
    text = call("dft", "export", run, "--to", run.parent / "dft", "--as", "folders")
    assert "exported 2 of 2" in text and not (run.parent / "dft" / RIVALS).exists()
    manifest = Manifest.read(run.parent / "dft").table
    assert manifest.column("p_stable") == [0.75, 0.25]
    assert manifest.column("e_above_closed_hull") == [-0.02, 0.01]


def test_competitors_are_those_that_the_closed_hull_names(run, salts):
    table, notes = competitors_of(run, rows_for_dft(run))
    found = dict(zip(table.ids, table.column("competes_with"), strict=True))
    nacl, kcl, mgo = (salts.ids[k] for k in (0, 1, 3))
    assert found == {"rival-0": f"{kcl}, {nacl}", mgo: kcl, "mp-4651": nacl}
    assert dict(zip(table.ids, table.column("known"), strict=True)) == {
        "rival-0": False, mgo: False, "mp-4651": True,
    }  # fmt: skip
    assert table.ok_ids == table.ids, "also one that the run rejected"
    said = "1 of 4 competing compounds are not exported, for their structures are not at hand: MgO"
    assert said in notes
    with pytest.raises(UsageError, match="no run whose hull was closed"):
        competitors_of(run / "candidates.parquet", rows_for_dft(run))


def test_a_competitor_without_a_structure_is_named_with_the_way_to_it(run, salts):
    _, notes = competitors_of(run, rows_for_dft(run))
    (named,) = (n for n in notes if n.startswith("MgO (mp-1265)"))
    assert "https://materialsproject.org/materials/mp-1265" in named
    known = Known.load(NAME).crystals()
    of_formula = [i for i, f in zip(known.ids, known.reduced_formulas(), strict=True) if f == "MgO"]
    assert of_formula and f"other polymorphs at hand: {', '.join(of_formula[:5])}" in named
    assert "--structures FOLDER" in notes[-1]
    folder = run.parent / "downloaded"
    write_cif(salts[[0, 3]], folder, ["mp-1265", "MgO_mp-1265_symmetrized"])
    to = run.parent / "dft"
    text = call("dft", "export", run, "--to", to, "--as", "folders", "--competitors", "--structures", folder)
    assert "4 competing compounds are exported" in " ".join(text.split()) and "not at hand" not in text
    rivals = Manifest.read(to / RIVALS).table
    assert rivals.crystals(["mp-1265"]).reduced_formulas() == ["MgO"], "NaCl has the name, not the formula"
    text = call("dft", "export", run, "--to", run.parent / "no", "--structures", folder, status=2)
    assert "--structures does nothing without --competitors" in " ".join(text.split())


def test_competitors_go_out_and_come_back_into_the_hull(run, salts):
    to = run.parent / "dft"
    text = call("dft", "export", run, "--to", to, "--as", "folders", "--competitors")
    assert "3 competing compounds are exported" in " ".join(text.split())
    assert len(list((to / RIVALS / "inputs").iterdir())) == 3 and len(list((to / "inputs").iterdir())) == 2
    rivals = Manifest.read(to / RIVALS)
    folders = dict(zip(rivals.table.ids, rivals.table.column("dft_folder"), strict=True))
    finish(to / RIVALS / "inputs" / folders["rival-0"], total("LiF", -0.462 / 2))
    known = run.parent / "known.parquet"
    CandidateTable.from_crystals(salts[[0]]).write(known)
    done = api.dft_collect([to], reference=known)
    assert done.metrics["num_crystals"] == 2, "they are in no rate"
    assert any(
        "of 3 competing compounds that were exported 1 have an energy" in n for n in done.metrics["notes"]
    )
    assert done.metrics["hull"]["source"].endswith("+ 1 competing by DFT")
    back = CandidateTable.read(to / "collected" / "competitors.parquet")
    energies = dict(zip(back.ids, back.column("dft_formation_energy_per_atom"), strict=True))
    assert energies["rival-0"] == pytest.approx(-3.0) and energies["mp-4651"] is None


def test_an_export_with_competitors_that_was_interrupted_goes_on(run):
    to = run.parent / "dft"
    api.dft_export(run, to, write="folders", competitors=True)
    whole = sorted((p.relative_to(to), p.read_bytes()) for p in to.rglob("*") if p.is_file())
    (to / "manifest.parquet").unlink()
    api.dft_export(run, to, write="folders", competitors=True)
    assert sorted((p.relative_to(to), p.read_bytes()) for p in to.rglob("*") if p.is_file()) == whole


def test_nothing_is_exported_with_competitors_of_no_run(salts, tmp_path):
    CandidateTable.from_crystals(salts).write(tmp_path / "salts.parquet")
    with pytest.raises(UsageError, match="no run whose hull was closed"):
        api.dft_export(tmp_path / "salts.parquet", tmp_path / "dft", write="folders", competitors=True)
    assert not (tmp_path / "dft").exists()
