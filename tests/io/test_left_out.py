"""What is in a source and is not read is named in a note; what is read stays what it was."""

import json
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io.trajectory import Trajectory
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from typer.testing import CliRunner

from crysjepa.cli.main import app
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.io import read_crystals, write_crystals
from crysjepa.runtime.files import file_metadata
from crysjepa.runtime.notes import ReadNote

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CESIUM = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def read(path):
    """The table, and its notes in one text."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ReadNote)
        table = read_crystals(path)
    return table, " ".join(str(w.message) for w in told)


def in_json(path, data):
    path.write_text(json.dumps(data))
    return read(path)


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_no_known_kind_are_named_in_one_note(tmp_path, packed):
    folder = tmp_path / "folder"
    folder.mkdir()
    SALT.to(folder / "salt.cif")
    for name in ("a.cell", "b.res", "c.xml", "d.txt", ".hidden"):
        (folder / name).write_text("x")
    source = folder
    if packed:
        source = tmp_path / "all.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name)
    table, told = read(source)
    assert len(table) == 1
    assert told == "4 files of no known kind are left out: a.cell, b.res, c.xml and 1 more"


def test_a_csv_without_rows_says_so(tmp_path):
    (tmp_path / "a.csv").write_text("material_id,cif\n")
    table, told = read(tmp_path / "a.csv")
    assert len(table) == 0 and told == "the CSV has no rows below its header"


def test_a_second_list_of_structures_is_named(tmp_path):
    salt = SALT.as_dict()
    table, told = in_json(tmp_path / "two.json", {"structures": [salt], "entries": [{"structure": salt}]})
    assert len(table) == 1 and "from structures, not from entries" in told
    table, told = in_json(tmp_path / "one.json", {"structures": [salt], "entries": [1, 2], "source": "x"})
    assert len(table) == 1 and not told


def test_lists_beside_the_structures_are_their_values_or_are_named(tmp_path):
    salt = SALT.as_dict()
    for key in ("structures", "structure"):
        given = {key: [salt, salt], "names": ["a", "b"], "formation_energy_per_atom": [-2.1, -3.0]}
        table, told = in_json(tmp_path / "lists.json", given)
        assert not told and table.column("names") == ["a", "b"]
        assert table.column("formation_energy_per_atom") == [-2.1, -3.0]
    mixed = {"structures": [salt, salt], "energies": [-2.1, -3.0], "of": ["me"], "code": "VASP"}
    table, told = in_json(tmp_path / "mixed.json", mixed)
    assert len(table) == 2 and "lists beside structures are not read: energies." in told


def test_columns_beside_the_cif_and_codes_with_zeros_are_kept(tmp_path):
    path = tmp_path / "a.csv"
    cif = SALT.to(fmt="cif").replace('"', "'")
    path.write_text(f'material_id,cif,cif_source,code,gap\na,"{cif}",icsd,00123,1.10\nb,"{cif}",cod,17,2\n')
    table, told = read(path)
    assert table.column("cif_source") == ["icsd", "cod"] and not told
    assert table.column("code") == ["00123", "17"] and table.column("gap") == [1.1, 2.0]


def test_text_in_json_is_text_and_an_id_is_a_text(tmp_path):
    salt = SALT.as_dict()
    rows = [{"id": 101.0, "structure": salt, "code": "7", "band_gap": "1.5", "n": 3, "tags": ["a"]},
            {"id": True, "structure": salt | {"charge": 2}, "code": "8", "band_gap": 2, "n": 4}]  # fmt: skip
    rows[0]["structure"] = Structure.from_dict(salt).add_site_property("charge", [1.0] * len(SALT)).as_dict()
    table, told = in_json(tmp_path / "a.json", rows)
    assert table.ids == ["101", "true"]
    assert table.column("code") == ["7", "8"] and table.column("n") == [3, 4]
    assert table.column("band_gap") == [1.5, 2.0]
    assert told == "values that a table does not hold are left out: tags, charge of the sites, charge"


def test_quoted_text_among_numbers_in_json_stays_text(tmp_path):
    rows = [{"structure": SALT.as_dict(), "code": 12}, {"structure": SALT.as_dict(), "code": "007"}]
    table, told = in_json(tmp_path / "a.json", rows)
    assert table.column("code") == ["12", "007"] and not told


def test_data_of_an_entry_become_columns(tmp_path):
    data = {"formation_energy_per_atom": -2.1, "e_above_hull": 0.01, "material_id": "mp-1", "oxide": {"a": 1}}
    entry = {"structure": SALT.as_dict(), "energy": -27.0, "composition": {"Na": 4, "Cl": 4}, "data": data}
    table, told = in_json(tmp_path / "entry.json", [entry])
    assert table.ids == ["mp-1"] and table.column("energy") == [-27.0]
    assert table.column("formation_energy_per_atom") == [-2.1] and table.column("e_above_hull") == [0.01]
    assert told == "values that a table does not hold are left out: data.oxide"


def test_vectors_of_frames_are_named_in_one_note(tmp_path):
    more = 'stress="1 0 0 0 1 0 0 0 1" virial="9 0 0 0 9 0 0 0 9" weird="1 2 3"'
    columns = "species:S:1:pos:R:3:forces:R:3:momenta:R:3:charge:R:1:magmoms:R:1"
    frame = f'1\nLattice="5 0 0 0 5 0 0 0 5" Properties={columns} energy=-3.5 {more}\n'
    (tmp_path / "a.extxyz").write_text(2 * (frame + "Fe 0 0 0 1 1 1 .1 .2 .3 1 2.2\n"))
    table, told = read(tmp_path / "a.extxyz")
    assert told.startswith("values that a table does not hold are left out: ") and told.count("left out") == 1
    names = told.partition(": ")[2].split(", ")
    assert set(names) == {"virial", "weird", "forces", "charges", "stress", "momenta"}
    assert table.column("energy") == [-3.5, -3.5] and list(table.column("magmoms")[0]) == [2.2]


def test_arrays_and_ids_of_a_trajectory(tmp_path):
    atoms = bulk("Fe", cubic=True)
    atoms.info["id"] = 3.0
    atoms.calc = SinglePointCalculator(atoms, energy=-16.0, forces=np.ones((2, 3)))
    with Trajectory(tmp_path / "a.traj", "w") as trajectory:
        trajectory.write(atoms)
    table, told = read(tmp_path / "a.traj")
    assert table.ids == ["3"] and told == "values that a table does not hold are left out: forces"


def test_a_crystal_whose_id_is_structure(tmp_path):
    salt, cesium = SALT.as_dict(), CESIUM.as_dict()
    table, told = in_json(tmp_path / "a.json", {"mp-1": salt, "structure": cesium, "entries": salt})
    assert table.ids == ["mp-1", "structure", "entries"] and not told
    record = {"structure": salt, "initial_structure": cesium, "id": "x"}
    table, told = in_json(tmp_path / "b.json", record)
    assert table.ids == ["x"] and "not from initial_structure" in told


def test_ids_that_a_cif_writes_as_others_are_named(tmp_path):
    crystals = Crystals.from_structures([SALT, CESIUM], ["mp-1", "a b/c"])
    for name in ("a.cif", "a.zip", "folder"):
        with pytest.warns(ReadNote, match="written as others: 'a b/c' as a_b_c"):
            write_crystals(crystals, tmp_path / name)


def test_objects_in_memory_keep_what_files_keep():
    import crysjepa as cj

    atoms = bulk("Fe", cubic=True)
    atoms.info = {"material_id": "mp-13", "energy": -16.5}
    atoms.set_array("magmoms", np.array([2.2, -2.2]))
    salt = SALT.copy()
    salt.properties = {"id": "salt", "e_above_hull": 0.0}
    table = cj.read([atoms, salt, CESIUM])
    assert table.ids == ["mp-13", "salt", "crystal-2"]
    assert table.column("energy") == [-16.5, None, None]
    assert table.column("e_above_hull") == [None, 0.0, None]
    assert list(table.column("magmoms")[0]) == [2.2, -2.2]


def test_convert_keeps_what_a_file_says_of_its_energies(tmp_path):
    source = tmp_path / "a.parquet"
    told = {"scale": "oqmd", "made": {"verb": "relax"}}
    CandidateTable.from_crystals(Crystals.from_structures([SALT], ["a"])).write(source, told)
    done = CliRunner().invoke(app, ["convert", str(source), str(tmp_path / "b.parquet")])
    assert done.exit_code == 0 and file_metadata(tmp_path / "b.parquet") == {"scale": "oqmd"}, done.output
    done = CliRunner().invoke(app, ["convert", str(source), str(tmp_path / "b.csv")])
    assert "cannot hold the scale of energies" in " ".join(done.output.split())


def test_what_objects_in_memory_lose_is_told():
    import crysjepa as cj

    atoms = bulk("Fe", cubic=True)
    atoms.info = {"material_id": "a", "id": "b", "dos": np.ones(3)}
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((2, 3)))
    salt = SALT.copy(site_properties={"coordination": [6] * 8})
    salt.properties = {"spectrum": [1, 2]}
    with pytest.warns(ReadNote, match="left out: dos, forces, spectrum, coordination of the sites"):
        table = cj.read([atoms, salt])
    assert table.ids == ["a", "crystal-1"] and table.column("source_id") == ["b", None]


def test_data_of_rows_in_a_database_are_told(tmp_path):
    with connect(tmp_path / "a.db") as database:
        database.write(bulk("Fe", cubic=True), kind="x")
    assert read(tmp_path / "a.db")[1] == ""
    with connect(tmp_path / "a.db") as database:
        database.write(bulk("Fe", cubic=True), data={"dos": [1, 2]})
    table, told = read(tmp_path / "a.db")
    assert told == "values that a table does not hold are left out: data"
    assert table.column("kind") == ["x", None]


@pytest.mark.parametrize("name", ["formula", "Formula", "composition", "pretty_formula", "Reduced Formula"])
def test_formulas_of_other_compounds_are_told(name, tmp_path):
    def told(formulas):
        frame = pd.DataFrame({"material_id": ["a", "b"], name: formulas, "cif": [str(CifWriter(SALT))] * 2})
        frame.to_csv(tmp_path / "a.csv")
        return read(tmp_path / "a.csv")[1]

    formula = SALT.composition.reduced_formula
    for same in (formula, SALT.formula, "A2B", "(Na)Cl", None, "salt"):
        assert told([formula, same]) == "", same
    assert f"{name} names another compound than the structure in 1 of 2 rows (RbBr of b)" in told(
        [formula, "RbBr"]
    )
    assert "in 2 of 2 rows" in told([f"{formula}2", "D2O"])


def test_names_behind_the_coordinates_of_a_poscar(tmp_path):
    head = "x\n1.0\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\n"
    for body, other in (
        ("Direct\n0 0 0 Cl\n.5 .5 .5 Cs\n", True),
        ("Selective\nDirect\n0 0 0 T T F Cs\n.5 .5 .5 T T T Br\n", True),
        ("Direct\n0 0 0 Cs1\n.5 .5 .5 Cl-\n", False),
        ("Selective\nDirect\n0 0 0 T T F\n.5 .5 .5 F F F # site\n", False),
        ("Direct\n0 0 0 ! first\n.5 .5 .5 Cl1- second\n", False),
    ):
        (tmp_path / "a.vasp").write_text(head + body)
        table, told = read(tmp_path / "a.vasp")
        assert table.crystals().reduced_formulas() == ["CsCl"], "as VASP does"
        assert ("are of other elements than those above its counts" in told) == other, body
