"""Out to VASP and back: the round trip, with outputs as a cluster would place them."""

import gzip
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner
from vasp_outputs import finish, vasprun

from conftest import make_salts
from crysjepa import api
from crysjepa.cli.main import app
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.dft.vasp.corrections import vasp_references
from crysjepa.dft.vasp.manifest import Manifest, structure_hash
from crysjepa.dft.vasp.outputs import read_folder
from crysjepa.energy.elemental_references import ScaleMismatch
from crysjepa.energy.hull import Hull

SALTS = ("NaCl", "KCl", "LiF", "MgO", "CaO", "KBr", "SrTiO3")
E_F = {"NaCl": -2.0, "KCl": -2.2, "LiF": -3.0, "MgO": -3.1, "CaO": -3.3, "KBr": -2.0, "SrTiO3": -3.5}
"""Chosen formation energies (eV/atom) by DFT."""


def call(*args, status=0):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == status, result.output + str(result.exception)
    return result.output


@pytest.fixture(autouse=True)
def _no_potcars(monkeypatch):
    for name in ("PMG_VASP_PSP_DIR", "VASP_PSP_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def files(salts, tmp_path):
    """A short list with verdicts by force field, a hull, and known crystals (of which NaCl is one)."""
    table = CandidateTable.from_crystals(salts)
    for name in ("valid", "unique", "novel", "stable"):
        table = table.with_column(name, dict.fromkeys(table.ids, True), "boolean")
    table = table.with_column("e_above_hull", dict.fromkeys(table.ids, 0.02), "Float64")
    table.write(tmp_path / "shortlist.parquet")
    hull = CandidateTable.from_crystals(salts).with_column(
        "formation_energy_per_atom", {**E_F, "KCl": -2.5}, "Float64"
    )
    hull.write(tmp_path / "hull.parquet")
    CandidateTable.from_crystals(salts[[0]]).write(tmp_path / "known.parquet")
    return tmp_path


def total(salt, corrections=0.0):
    """VASP's energy (eV/atom) that gives the chosen formation energy."""
    composition = dict(zip(SALTS, make_salts().compositions(), strict=True))[salt]
    mu = vasp_references().energies
    fractions = composition.fractional_composition.get_el_amt_dict()
    return E_F[salt] + sum(f * mu[e] for e, f in fractions.items()) - corrections


def folders_of(to):
    manifest = Manifest.read(to)
    return {i: to / "inputs" / f for i, f in zip(SALTS, manifest.table.column("dft_folder"), strict=True)}


def test_folders_need_no_potcar_and_say_what_they_are(files, salts):
    text = call("dft", "export", files / "shortlist.parquet", "--to", files / "dft", "--as", "folders")
    assert "exported 7 of 7 crystals" in text
    folder = folders_of(files / "dft")["SrTiO3"]
    assert (folder / "relax_1" / "POTCAR.spec").read_text().split() == ["Sr_sv", "Ti_pv", "O"]
    assert (folder / "relax_1" / "POSCAR").exists() and not (folder / "static" / "POSCAR").exists()
    assert "NSW = 99" in (folder / "relax_2" / "INCAR").read_text()
    assert "NSW = 0" in (folder / "static" / "INCAR").read_text()
    assert "Gamma" in (folder / "static" / "KPOINTS").read_text()
    manifest = Manifest.read(files / "dft")
    assert manifest.table.column("structure_sha256") == [structure_hash(c) for c in salts]
    assert structure_hash(salts[0]) != structure_hash(salts[1]) == structure_hash(salts[1].with_ids(["x"]))
    assert manifest.settings["versions"]["pymatgen"] and manifest.settings["flow"] is None
    text = call("dft", "export", files / "shortlist.parquet", "--to", files / "dft", "--as", "folders",
                status=2)  # fmt: skip
    assert "choose another --to" in text


def test_transition_metal_oxides_have_u(tmp_path):
    rock_salt = Crystals([26, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], [4.3 * np.eye(3)], [2], ("Fe/O",))
    CandidateTable.from_crystals(rock_salt).write(tmp_path / "one.parquet")
    api.dft_export(tmp_path / "one.parquet", tmp_path / "dft", write="folders")
    incar = (tmp_path / "dft" / "inputs" / "00000_FeO" / "static" / "INCAR").read_text()
    assert "LDAU = True" in incar and "LDAUU = 5.3 0" in incar
    finish(tmp_path / "dft" / "inputs" / "00000_FeO", -6.0, gga="PE")
    done = api.dft_collect([tmp_path / "dft"])
    assert done.table.column("dft_state") == ["finished"] and done.table.column("dft_run_type") == ["PBE+U"]
    adjustments = json.loads(done.table.column("dft_adjustments")[0])
    assert {n.split("2020 ")[-1] for n in adjustments} == {"anion correction (oxide)",
                                                          "GGA/GGA+U mixing correction (Fe)"}  # fmt: skip


def test_one_bad_crystal_costs_no_other(files, salts):
    polonium = Crystals([84], [[0, 0, 0]], [3.3 * np.eye(3)], [1], ("Po",))
    table = CandidateTable.from_crystals(Crystals.concatenate([polonium, salts]), {"lost": "no such file"})
    table.write(files / "mixed.parquet")
    text = call("dft", "export", files / "mixed.parquet", "--to", files / "dft", "--as", "folders")
    assert "exported 7 of 9" in text and "no POTCAR for Po" in text and "1 failed: read" in text
    done = api.dft_collect([files / "dft"])
    rows = dict(zip(done.table.ids, done.table.column("reason"), strict=True))
    assert len(rows) == 9 and rows["lost"] == "no such file" and "Po" in rows["Po"]
    assert done.metrics["states"] == {"not exported": 2, "not started": 7}


def test_before_any_job_ran_there_is_no_rate(files):
    to = files / "dft"
    text = call("dft", "export", files / "shortlist.parquet", "--to", to, "--as", "folders")
    assert f"afterwards: crysjepa dft collect {to} (--hull FILE for another hull" in text
    given = ("dft", "collect", to, "--hull", files / "hull.parquet", "--reference", files / "known.parquet")
    text = " ".join(call(*given).split())
    assert "no calculation has ended yet (7 wait)" in text
    assert "not started" in text and "failed" not in text.partition("no calculation has ended")[0]
    told = json.loads((to / "collected" / "metrics.json").read_text())
    assert (told["num_waiting"], told["num_ended"]) == (7, 0)
    for name in ("valid", "stable", "unique", "novel", "sun", "vsun", "converged", "stable_at_0"):
        assert told["dft"][name] is None and told["dft"]["intervals"][name] is None, name
    assert "DFT 7 – – –" in text
    finish(folders_of(to)["NaCl"], total("NaCl") - 0.614 / 2, compress=True)
    text = " ".join(call(*given).split())
    assert "calculations that ended: 1; that wait: 6" in text
    told = json.loads((to / "collected" / "metrics.json").read_text())
    assert (told["num_waiting"], told["num_ended"]) == (6, 1)
    assert told["dft"]["stable"] == pytest.approx(1 / 7)


def test_round_trip(files):
    to = files / "dft"
    call("dft", "export", files / "shortlist.parquet", "--to", to, "--as", "folders")
    folder = folders_of(to)
    finish(folder["NaCl"], total("NaCl") - 0.614 / 2, compress=True)
    finish(folder["KCl"], total("KCl") + 0.614 / 2)
    finish(folder["LiF"], total("LiF"), until="static", electronic=False)
    finish(folder["MgO"], total("MgO"), until="relax_2", ionic=False)
    path = finish(folder["CaO"], total("CaO"))
    path.write_text(path.read_text()[:-700])
    (path.parent / "OUTCAR").write_text("killed")
    finish(folder["KBr"], total("KBr"), until="relax_1")
    # SrTiO3: somebody else's results, in its folder
    for stage in ("relax_1", "relax_2", "static"):
        text = (folder["NaCl"] / stage / "vasprun.xml.gz").read_bytes()
        (folder["SrTiO3"] / stage / "vasprun.xml.gz").write_bytes(text)
    text = call(
        "dft", "collect", to, "--hull", files / "hull.parquet", "--reference", files / "known.parquet"
    )
    assert "V.S.U.N." in text and "DFT " in text and "force" in text and "not converged ionically" in text
    table = CandidateTable.read(to / "collected" / "candidates.parquet")
    states = dict(zip(table.ids, table.column("dft_state"), strict=True))
    assert states == {
        "NaCl": "finished", "KCl": "finished", "LiF": "not converged electronically",
        "MgO": "not converged ionically", "CaO": "unreadable", "KBr": "unfinished",
        "SrTiO3": "wrong structure",
    }  # fmt: skip
    reasons = dict(zip(table.ids, table.column("reason"), strict=True))
    assert reasons["NaCl"] == "matches NaCl" and "above the hull" in reasons["KCl"]
    assert "VASP stopped before the end" in reasons["CaO"] and "relax_2 was not started" in reasons["KBr"]
    assert "Na1 Cl1" in reasons["SrTiO3"]
    above = dict(zip(table.ids, table.column("dft_e_above_hull"), strict=True))
    adjusted = json.loads(table.column("dft_adjustments", ["NaCl"])[0])
    assert adjusted == {"MP2020 anion correction (Cl)": pytest.approx(-0.614 / 2)}
    assert above["NaCl"] == pytest.approx(-0.614, abs=1e-6) and above["KCl"] == pytest.approx(0.3, abs=1e-6)
    assert [above[i] for i in ("LiF", "MgO", "CaO", "KBr", "SrTiO3")] == [None] * 5
    assert table.column("e_above_hull") == [0.02] * 7, "what the force field said stays"
    metrics = json.loads((to / "collected" / "metrics.json").read_text())
    assert metrics["force_field"]["vsun"] == 1.0 and metrics["dft"]["vsun"] == 0.0
    assert metrics["dft"]["stable"] == pytest.approx(1 / 7) and metrics["num_exported"] == 7


def test_results_in_the_folder_of_another_polymorph(tmp_path):
    rock = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    layered = Structure.from_spacegroup("P4/nmm", Lattice.tetragonal(5.6, 9.8), ["Na", "Cl"],
                                        [[0, 0.5, 0.2], [0, 0.5, 0.7]]) * [1, 1, 2]  # fmt: skip
    assert rock.composition == layered.composition
    table = CandidateTable.from_crystals(Crystals.from_structures([rock, layered], ["rock", "layered"]))
    table.write(tmp_path / "two.parquet")
    call("dft", "export", tmp_path / "two.parquet", "--to", tmp_path / "dft", "--as", "folders")
    names = Manifest.read(tmp_path / "dft").table.column("dft_folder")
    one, other = (tmp_path / "dft" / "inputs" / name for name in names)
    for folder, exported in ((one, rock), (other, layered)):
        finish(folder, -3.0)
        assert read_folder(folder, exported.composition, exported).state == "finished"
    for folder, exported in ((one, layered), (other, rock)):
        found = read_folder(folder, exported.composition, exported)
        assert found.state == "wrong structure" and "relax_1: VASP began from a cell of" in found.reason


def test_two_vasprun_in_one_folder(files):
    call("dft", "export", files / "shortlist.parquet", "--to", files / "dft", "--as", "folders")
    folder, salt = folders_of(files / "dft")["NaCl"], make_salts()[0]
    composition = salt.compositions()[0]
    finish(folder, -3.0)
    packed = folder / "static" / "vasprun.xml.gz"
    packed.write_bytes(gzip.compress((folder / "static" / "vasprun.xml").read_bytes()))
    assert read_folder(folder, composition).state == "finished"
    finish(folder, -3.5, compress=True)
    found = read_folder(folder, composition)
    assert found.state == "unreadable" and "vasprun.xml and vasprun.xml.gz hold different" in found.reason


def test_what_is_far_below_the_hull_is_warned_of_and_replacing_is_told(files):
    to = files / "dft"
    api.dft_export(files / "shortlist.parquet", to, write="folders")
    finish(folders_of(to)["NaCl"], total("NaCl") - 2.0)
    given = {"hull": files / "hull.parquet", "reference": files / "known.parquet"}
    first = api.dft_collect([to], **given)
    warned = dict(zip(first.table.ids, first.table.column("dft_hull_warning"), strict=True))
    assert "below the hull: a competing compound is missing" in warned["NaCl"] and warned["KCl"] is None
    assert "1 crystals lie more than 0.1 eV/atom below the hull" in " ".join(first.metrics["notes"])
    assert "replaced" not in " ".join(first.metrics["notes"])
    second = api.dft_collect([to], **given)
    assert f"the verdicts that were in {to / 'collected'} are replaced" in second.metrics["notes"]


def test_retry_of_what_failed(files):
    first, second = files / "dft", files / "retry"
    call("dft", "export", files / "shortlist.parquet", "--to", first, "--as", "folders")
    for id_, folder in folders_of(first).items():
        if id_ in ("LiF", "MgO"):
            finish(folder, total(id_), until="relax_1", electronic=False)
        elif id_ != "KBr":
            finish(folder, total(id_))
    text = call("dft", "export", "--failed-of", first, "--to", second, "--as", "folders",
                "--pre-relax", "chgnet", status=1)  # fmt: skip
    assert "run crysjepa dft collect" in text
    call("dft", "collect", first, "--reference", files / "known.parquet")
    assert "--pre-relax" in call("dft", "export", "--failed-of", first, "--to", second, "--as", "folders",
                                 status=1)  # fmt: skip
    text = call("dft", "export", "--failed-of", first, "--to", second, "--as", "folders", "--max-steps", 2,
                "--pre-relax", "ase.calculators.lj:LennardJones")  # fmt: skip
    assert "1 not started: left alone" in text and "exported 2 of 2" in text
    again = Manifest.read(second)
    assert again.table.ids == ["LiF", "MgO"] and again.settings["pre_relax"]["relaxation"]["max_steps"] == 2
    before = Manifest.read(first).table.column("structure_sha256", ["LiF", "MgO"])
    assert not set(before) & set(again.table.column("structure_sha256")), "other structures"
    finish(second / "inputs" / "00000_LiF", total("LiF"))
    done = api.dft_collect([first, second], hull=files / "hull.parquet", reference=files / "known.parquet")
    assert done.metrics["states"] == {"finished": 5, "not converged electronically": 1, "not started": 1}
    tries = dict(zip(done.table.ids, done.table.column("dft_try"), strict=True))
    assert tries["LiF"] == "retry" and tries["NaCl"] == tries["MgO"] == "dft"


def test_elements_hulls_and_settings_that_do_not_fit(files, salts):
    to = files / "dft"
    ytterbium = Crystals([70, 8], salts.frac_coords[:2], salts.lattices[:1], [2], ("YbO",))
    CandidateTable.from_crystals(Crystals.concatenate([ytterbium, salts[[0]]])).write(files / "two.parquet")
    api.dft_export(files / "two.parquet", to, write="folders")
    finish(to / "inputs" / "00000_YbO", -6.0)
    finish(to / "inputs" / "00001_NaCl", -3.0, symbols=["Na", "Cl"])
    hull, known = files / "hull.parquet", files / "known.parquet"
    done = api.dft_collect([to], hull=hull, reference=known)
    reasons = done.table.column("reason")
    assert "no energy of Yb by DFT" in reasons[0] and done.metrics["missing_elemental_references"] == {
        "Yb": 1
    }
    assert "incompatible settings" in reasons[1] and "POTCAR" in reasons[1]
    (files / "elements.json").write_text('{"Yb": -1.5}')
    done = api.dft_collect([to], hull=hull, reference=known, elements=files / "elements.json")
    assert done.table.column("dft_e_above_hull")[0] is not None
    (files / "elements.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no"):
        api.dft_collect([to], hull=hull, reference=known, elements=files / "elements.json")
    other = Hull.from_entries(["NaCl"], [-2.0], scale="materials_project_2015", source="old")
    write_hull(other, files / "old.parquet")
    with pytest.raises(ScaleMismatch):
        api.dft_collect([to], hull=files / "old.parquet", reference=known)
    assert vasp_references(computed={"Yb": -1.6, "O": -9.0}).energies["Yb"] == -1.6
    assert vasp_references(computed={"O": -9.0}).energies["O"] > -5, "a hull's own zero is kept"


def write_hull(hull, path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.table({"composition": ["NaCl"], "formation_energy_per_atom": list(hull.compounds.values())})
    pq.write_table(rows.replace_schema_metadata({"crysjepa": json.dumps({"scale": hull.scale})}), path)


def test_the_script_runs_the_stages_in_order(files):
    to = files / "dft"
    api.dft_export(files / "shortlist.parquet", to, write="folders")
    folder = folders_of(to)["NaCl"]
    environment = {**os.environ, "VASP_CMD": "cp POSCAR CONTCAR"}
    command = ["sh", "run_vasp.sh", str(folder.relative_to(to))]
    refused = subprocess.run(command, cwd=to, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode != 0 and "no POTCAR" in refused.stderr
    for stage in ("relax_1", "relax_2", "static"):
        (folder / stage / "POTCAR").write_text("content of your own")
    subprocess.run(command, cwd=to, env=environment, check=True)
    assert (folder / "static" / "POSCAR").read_text() == (folder / "relax_1" / "POSCAR").read_text()
    assert (folder / "static" / "CONTCAR").exists()


def test_flows_without_atomate2_name_the_extra(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "atomate2", None)
    monkeypatch.setitem(sys.modules, "atomate2.vasp.flows.mp", None)
    text = call("dft", "export", files / "shortlist.parquet", "--to", files / "dft", status=1)
    assert "crysjepa[dft]" in text and "--as folders" in text
    assert not (files / "dft").exists()


@pytest.mark.filterwarnings("ignore")  # of atomate2's own dependencies
def test_flows_and_their_documents(files):
    pytest.importorskip("atomate2.vasp.flows.mp")
    from atomate2.vasp.flows.mp import MPGGADoubleRelaxStaticMaker
    from monty.json import MontyEncoder
    from monty.serialization import loadfn

    to = files / "dft"
    api.dft_export(files / "shortlist.parquet", to)
    flow = loadfn(to / "flows" / "00000_NaCl.json")
    names = [job.name for job, _ in flow.iterflow()]
    assert names == ["MP GGA relax 1", "MP GGA relax 2", "MP GGA static"]
    table = Manifest.read(to).table
    jobs = json.loads(table.column("dft_jobs")[0])
    assert jobs == {job.uuid: s for (job, _), s in zip(flow.iterflow(), jobs.values(), strict=True)}
    assert all(job.metadata["crysjepa"]["id"] == "NaCl" for job, _ in flow.iterflow())
    direct = MPGGADoubleRelaxStaticMaker().make(make_salts()[0].to_structures()[0])
    direct.update_metadata({"crysjepa": {"id": "NaCl", "folder": "00000_NaCl"}})
    for (job, parents), (other, others) in zip(flow.iterflow(), direct.iterflow(), strict=True):
        assert anonymous(job) == anonymous(other), "as if the maker had made each"
        assert len(parents) == len(others) and set(parents) <= set(jobs)
    second = loadfn(to / "flows" / "00001_KCl.json")
    assert not {j.uuid for j, _ in second.iterflow()} & set(jobs)

    structure = make_salts()[0].to_structures()[0]
    documents = [document(uuid, structure, -3.0, stage) for uuid, stage in jobs.items()]
    lost = [document("other", structure, -3.0, "static")]
    (to / "outputs").mkdir()
    (to / "outputs" / "all.json").write_text(json.dumps([*documents, *lost], cls=MontyEncoder))
    (to / "outputs" / "bad.json").write_text("{")
    failing = json.loads(table.column("dft_jobs")[1])
    potassium = make_salts()[1].to_structures()[0]
    rows = [document(u, potassium, -3.0, s, has=s == "relax_1") for u, s in failing.items()]
    (to / "outputs" / "more.json").write_text(json.dumps(rows, cls=MontyEncoder))
    done = api.dft_collect([to], reference=files / "known.parquet")
    assert done.table.column("dft_state")[:3] == ["finished", "not converged ionically", "not started"]
    assert done.table.column("dft_energy_per_atom")[0] == pytest.approx(-1.5)
    assert done.table.column("status", ["NaCl"]) == [str(Status.REJECTED)]
    notes = " ".join(done.metrics["notes"])
    assert "1 documents" in notes and "bad.json" in notes


def anonymous(job):
    """The JSON of a job, with its uuids by the order in which they come."""
    from monty.json import MontyEncoder

    order = {}
    found = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    return json.loads(
        re.sub(found, lambda u: order.setdefault(u[0], f"uuid {len(order)}"), MontyEncoder().encode(job))
    )


def document(uuid, structure, energy, stage, has=True):
    """An output document of jobflow around emmet's TaskDoc, as far as it is read."""
    entry = {"energy": energy, "parameters": {
        "run_type": "GGA", "is_hubbard": False, "hubbards": {},
        "potcar_spec": [{"titel": f"PAW_PBE {s} 01Jan2000"} for s in
                        ({"Na": "Na_pv", "K": "K_sv"}.get(str(e), str(e)) for e in structure.elements)],
    }}  # fmt: skip
    nsw = 0 if stage == "static" else 99
    steps = [{"electronic_steps": [{}] * 5}] * max(nsw, 1)
    calculation = {"has_vasp_completed": "successful" if has else "failed", "vasp_version": "5.4.4",
                   "input": {"parameters": {"NSW": nsw, "NELM": 100}},
                   "output": {"ionic_steps": steps}}  # fmt: skip
    output = {"structure": structure.as_dict(), "entry": entry, "calcs_reversed": [calculation]}
    return {"uuid": uuid, "index": 1, "name": f"MP GGA {stage.replace('_', ' ')}", "output": output}


def test_a_static_calculation_of_another_structure_than_was_relaxed(files):
    call("dft", "export", files / "shortlist.parquet", "--to", files / "dft", "--as", "folders")
    folder, salt = folders_of(files / "dft")["SrTiO3"], make_salts()[6]
    exported, composition = salt.to_structures()[0], salt.compositions()[0]
    finish(folder, -3.0)
    assert read_folder(folder, composition, exported).state == "finished"
    static = folder / "static" / "vasprun.xml"
    unlike = exported.copy()
    unlike.scale_lattice(1.05 * exported.volume)
    moved = exported.copy()
    moved.translate_sites([0], [0.1, 0, 0])
    shuffled = exported.copy()
    shuffled.translate_sites(list(range(len(exported))), [0.25, 0.25, 0.25])
    for structure, state in ((unlike, "wrong structure"), (moved, "wrong structure"), (shuffled, "finished")):
        static.write_text(vasprun(folder / "static", structure, -3.0 * len(structure)))
        found = read_folder(folder, composition, exported)
        assert found.state == state
        assert state == "finished" or "not the one that relax_2 ended with" in found.reason


def test_results_that_are_of_no_crystal_are_named(files):
    to = files / "dft"
    call("dft", "export", files / "shortlist.parquet", "--to", to, "--as", "folders")
    folder = folders_of(to)["NaCl"]
    finish(folder, total("NaCl"))
    folder.rename(folder.with_name("NaCl_done"))
    (to / "outputs").mkdir()
    (to / "outputs" / "all.tar.gz").write_bytes(b"x")
    done = api.dft_collect([to], hull=files / "hull.parquet", reference=files / "known.parquet")
    told = " ".join(done.metrics["notes"])
    assert "of no crystal here, and are not read: NaCl_done" in told and "no .json: all.tar.gz" in told
    assert done.metrics["states"] == {"not started": 7}


def test_a_folder_with_other_crystals_of_the_same_ids_is_no_retry(files, salts):
    call("dft", "export", files / "shortlist.parquet", "--to", files / "dft", "--as", "folders")
    others = CandidateTable.from_crystals(salts[[1]].with_ids(["NaCl"]))
    others.write(files / "others.parquet")
    call("dft", "export", files / "others.parquet", "--to", files / "other", "--as", "folders")
    finish(files / "other" / "inputs" / "00000_KCl", total("KCl"))
    with pytest.raises(ValueError, match=r"is no retry of .*: 'NaCl' is KCl there, and NaCl here"):
        api.dft_collect([files / "dft", files / "other"], hull=files / "hull.parquet")


def test_one_calculation_that_did_not_relax_is_noted(files):
    call("dft", "export", files / "shortlist.parquet", "--to", files / "dft", "--as", "folders")
    folder, salt = folders_of(files / "dft")["NaCl"], make_salts()[0]
    structure = salt.to_structures()[0]
    text = vasprun(folder / "static", structure, -3.0 * len(structure))
    (folder / "vasprun.xml").write_text(text)
    found = read_folder(folder, salt.compositions()[0], structure)
    assert found.state == "finished" and "NSW 0: VASP did not relax the structure" in found.notes


def test_a_relaxation_that_goes_on_from_another_structure(files):
    call("dft", "export", files / "shortlist.parquet", "--to", files / "dft", "--as", "folders")
    folder, salt = folders_of(files / "dft")["NaCl"], make_salts()[0]
    exported, composition = salt.to_structures()[0], salt.compositions()[0]
    finish(folder, -3.0)
    swollen = exported.copy()
    swollen.scale_lattice(2 * exported.volume)
    for stage in ("relax_2", "static"):
        (folder / stage / "vasprun.xml").write_text(vasprun(folder / stage, swollen, -6.0))
    found = read_folder(folder, composition, exported)
    assert found.state == "wrong structure" and "relax_1 ended with a cell of" in found.reason


def test_energies_of_two_stages_that_differ_and_a_file_beside_them_are_noted(files):
    call("dft", "export", files / "shortlist.parquet", "--to", files / "dft", "--as", "folders")
    folder, salt = folders_of(files / "dft")["NaCl"], make_salts()[0]
    exported, composition = salt.to_structures()[0], salt.compositions()[0]
    finish(folder, -3.0)
    assert not read_folder(folder, composition, exported).notes
    text = vasprun(folder / "static", exported, -3.5 * len(exported))
    for path in (folder / "static", folder):
        (path / "vasprun.xml").write_text(text)
    told = read_folder(folder, composition, exported).notes
    assert told == (
        "static: -3.500 eV/atom, relax_2 ended at -3.000",
        "the vasprun.xml beside the stages is not read",
    )


def test_an_energy_of_an_element_that_is_not_finite(tmp_path):
    (tmp_path / "e.json").write_text('{"Na": NaN}')
    with pytest.raises(ValueError, match="the energy of Na is not finite"):
        vasp_references(tmp_path / "e.json")
