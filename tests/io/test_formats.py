"""Files as people publish them, in every kind and compression; what is wrong with them is a row or a note."""

import bz2
import gzip
import json
import lzma
import os
import shutil
import sqlite3
import struct
import warnings
import zipfile
from pathlib import Path

import ase.db
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write as ase_write
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.cif import CifWriter

from crysjepa.core.crystals import Crystals
from crysjepa.io import ReadError, ReadNote, read_crystals

CASES = Path(__file__).parents[1] / "data" / "cases"
SALT = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
OTHER = Structure(Lattice.cubic(4.2), ["Rb", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CIF = str(CifWriter(SALT))
FRAME = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties={} pbc="T T T"\n'


def read(path, text, **options):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_crystals(path, **options)


def reasons(table):
    return table.column("reason")


# -- compression -----------------------------------------------------------------------------------------


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
TEXTS = {
    "a.cif": CIF,
    "a.extxyz": FRAME.format("species:S:1:pos:R:3") + "Cs 0 0 0\nCl 2 2 2\n",
    "POSCAR": "x\n1.0\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n",
    "a.csv": 'material_id,cif\na,"' + CIF.replace('"', '""') + '"\n',
    "a.json": json.dumps([SALT.as_dict()]),
    "a.jsonl": json.dumps(SALT.as_dict()) + "\n",
}


@pytest.mark.parametrize("end", [*PACK])
@pytest.mark.parametrize("name", [*TEXTS])
def test_compressed_texts(tmp_path, name, end):
    packed = PACK[end](TEXTS[name].encode())
    table = read(tmp_path / f"{name}{end}", packed)
    assert table.counts() == {"ok": 1} and table.ids == [name.partition(".")[0]]
    assert table.crystals().atomic_numbers.tolist() == [55, 17]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"{name}{end}", packed)
    assert read_crystals(tmp_path / "a.zip").counts() == {"ok": 1}
    (tmp_path / "a.zip").unlink()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / f"{name}{end}").write_bytes(packed[: len(packed) // 2])
    table = read_crystals(tmp_path)
    assert table.counts() == {"ok": 1, "failed: read": 1}, "a cut file fails alone"


def test_compressed_by_zstandard(tmp_path):
    from crysjepa.io import write_crystals

    write_crystals(Crystals.from_structures([SALT], ["a"]), tmp_path / "a.cif.zst")
    assert (tmp_path / "a.cif.zst").read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
    assert read_crystals(tmp_path / "a.cif.zst").crystals().atomic_numbers.tolist() == [55, 17]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["a.cif", "a.csv", "a.extxyz", "a.json", "a.jsonl"])
@pytest.mark.parametrize("end", [*PACK])
def test_what_unpacks_beyond_reason_is_refused(tmp_path, name, end):
    bomb = PACK[end](b"[" + b" " * 60_000_000 if "json" in name else b"\0" * 60_000_000)
    (tmp_path / f"{name}{end}").write_bytes(bomb)
    (tmp_path / "good.cif").write_text(CIF)
    table = read_crystals(tmp_path)
    assert table.column("status") == ["failed", "ok"]
    assert "unpacks to more than" in reasons(table)[0]


# -- CSV -------------------------------------------------------------------------------------------------


def csv_text(**columns):
    return pd.DataFrame(columns).to_csv(index=False)


CELLS = {
    "cif": CIF,
    "python": str(SALT.as_dict()),
    "json": json.dumps(SALT.as_dict()),
    "poscar": SALT.to(fmt="poscar"),
    "entry": json.dumps(ComputedStructureEntry(SALT, -7.0).as_dict()),
}


@pytest.mark.parametrize("form", [*CELLS])
def test_structures_in_any_column_and_form(tmp_path, form):
    table = read(tmp_path / "a.csv", csv_text(x=["k", "l"], relxed_structure=[CELLS[form], None]))
    assert table.ids == ["a-0", "a-1"] and table.column("x") == ["k", "l"]
    assert table.column("status") == ["ok", "failed"] and "relxed_structure" not in table
    assert table.crystals().atomic_numbers.tolist() == [55, 17]
    np.testing.assert_allclose(table.crystals().lattices[0], np.eye(3) * 4.12, atol=1e-12)


def test_of_several_columns_of_structures_the_first_known_is_read_and_said(tmp_path):
    both = csv_text(relaxed_structure=[CIF], structure=[str(OTHER.as_dict())])
    with pytest.warns(ReadNote, match="from the column structure, not from relaxed_structure"):
        table = read(tmp_path / "a.csv", both)
    assert table.crystals().reduced_formulas() == ["RbCl"]
    table = read(tmp_path / "a.csv", both, structure_column="relaxed_structure")
    assert table.crystals().reduced_formulas() == ["CsCl"]
    with pytest.raises(ReadError, match=r"columns before, after hold structures: .*--structure-column"):
        read(tmp_path / "a.csv", csv_text(before=[CIF], after=[CIF]))
    with pytest.raises(ReadError, match="no column sample"):
        read(tmp_path / "a.csv", both, structure_column="sample")


@pytest.mark.parametrize(
    "cell, reason",
    [
        ("{'lattice': __import__('os').getpid(), 'sites': []}", "neither JSON nor a Python dictionary"),
        ("{'lattice': " + "(" * 300 + ")" * 300 + ", 'sites': []}", "neither JSON nor a Python dictionary"),
        ("{'lattice': " + "-" * 100_000 + "1, 'sites': []}", "deeply|memory|neither JSON"),
        ("{'lattice': {'matrix': [[nan]]}, 'sites': []}", "neither JSON nor a Python dictionary"),
        ("{'lattice': {'matrix': 7}, 'sites': []}", "no atom sites"),
        (str(SALT.as_dict()) + " " * 5_000_000, "Python dictionary of 5 MB"),
    ],
)  # fmt: skip
def test_a_cell_that_is_no_literal_runs_nothing(tmp_path, cell, reason):
    table = read(tmp_path / "a.csv", csv_text(structure=[cell, str(SALT.as_dict())]))
    assert table.column("status") == ["failed", "ok"]
    assert any(part in reasons(table)[0] for part in reason.split("|"))


def test_a_comma_too_many_moves_no_number(tmp_path):
    quoted = CIF.replace('"', '""')
    table = read(tmp_path / "a.csv", f'cif,e_above_hull\n"{quoted}",1,5\n"{quoted}",0.5\n"{quoted}",0.25,\n')
    assert table.column("status") == ["failed", "ok", "ok"]
    assert reasons(table)[0] == "the row has 3 values under 2 names"
    assert table.column("e_above_hull") == [None, 0.5, 0.25]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_marks_between_values(tmp_path, mark):
    frame = pd.DataFrame({"ID": ["a"], "band_gap": ["1.5"], "CIF": [CIF]})
    table = read(tmp_path / "a.csv", frame.to_csv(index=False, sep=mark))
    assert table.ids == ["a"] and table.column("band_gap") == [1.5] and table.counts() == {"ok": 1}


@pytest.mark.parametrize("cell", ["NA", "None", "-", "1,5", "-2.0 eV", "inf", "1_000", "٣"])
def test_one_bad_cell_is_null_and_said(tmp_path, cell):
    cells = ["-1.5", cell, "0.5"]
    text = csv_text(id=["a", "b", "c"], e_above_hull=cells, tag=["x", "y", cell], cif=[CIF] * 3)
    with pytest.warns(ReadNote, match=r"column e_above_hull: .* of b is no number and is left empty"):
        table = read(tmp_path / "a.csv", text)
    assert table.column("e_above_hull") == [-1.5, None, 0.5]
    assert str(table.frame["e_above_hull"].dtype) == "Float64"
    assert table.column("tag") == ["x", "y", cell]
    records = [
        {"structure": SALT.as_dict(), "id": i, "e_above_hull": c} for i, c in zip("abc", cells, strict=True)
    ]
    with pytest.warns(ReadNote, match="e_above_hull"):
        assert read(tmp_path / "a.json", json.dumps(records)).column("e_above_hull") == [-1.5, None, 0.5]
    columns = (
        Crystals.from_structures([SALT] * 3, ["a", "b", "c"])
        .to_arrow()
        .append_column("e_above_hull", [cells])
    )
    pq.write_table(columns, tmp_path / "a.parquet")
    with pytest.warns(ReadNote, match="e_above_hull"):
        assert read_crystals(tmp_path / "a.parquet").column("e_above_hull") == [-1.5, None, 0.5]


def test_which_columns_are_numbers(tmp_path):
    columns = {
        "mostly": ["1.5"] * 18 + ["NA", "x"], "plain": ["-1.50", "1e-05", ".5", "2.5E3"] * 4 + ["NA"] * 4,
        "zeros": ["007"] + ["7"] * 19, "codes": ["12e3"] + ["12"] * 19, "half": ["1"] * 10 + ["a"] * 10,
        "missing": ["2"] * 10 + ["-"] * 10,
        "whole": ["3"] * 20, "energy": ["high"] * 20, "flag": ["True"] * 19 + ["NA"],
    }  # fmt: skip
    with pytest.warns(ReadNote) as notes:
        frame = read(tmp_path / "a.csv", csv_text(cif=[CIF] * 20, **columns)).frame
    assert {n: str(frame[n].dtype) for n in columns} == {
        "mostly": "string", "plain": "Float64", "zeros": "string", "codes": "string",
        "half": "string", "missing": "Int64", "whole": "Int64", "energy": "Float64",
        "flag": "boolean",
    }  # fmt: skip
    assert sorted(str(n.message).split(":")[0] for n in notes) == [
        "column energy", "column missing", "column plain"
    ]  # fmt: skip


@pytest.mark.parametrize("name, column, kept", [
    ("na_above.csv", "e_above_hull", 1), ("na_energy.csv", "formation_energy_per_atom", 2),
])  # fmt: skip
def test_the_cases_of_a_cell_that_is_no_number(name, column, kept):
    with pytest.warns(ReadNote, match=column):
        table = read_crystals(CASES / "energies" / name)
    values = table.column(column)
    assert table.counts() == {"ok": len(values)} and sum(v is not None for v in values) == kept
    assert values.count(None) == 1


# -- JSON ------------------------------------------------------------------------------------------------


def jarvis(data):
    elements, coords = ([site[k] for site in data["sites"]] for k in ("label", "abc"))
    return {
        "lattice_mat": data["lattice"]["matrix"],
        "elements": elements,
        "coords": coords,
        "cartesian": False,
    }


def forms():
    a, b = SALT.as_dict(), OTHER.as_dict()
    records = [{"material_id": n, "structure": s, "e_above_hull": 0.5} for n, s in (("a", a), ("b", b))]
    frame = pd.DataFrame(records)
    entries = [ComputedStructureEntry(s, -7.0, entry_id=n).as_dict() for n, s in (("a", SALT), ("b", OTHER))]
    return {
        "list": [a, b], "by id": {"a": a, "b": b}, "records": records, "entries": entries,
        "records by id": {"a": {"structure": a, "x": 1}, "b": {"structure": b, "x": 2}},
        "only structures by id": {"a": {"structure": a}, "b": {"structure": b}},
        "wrapped": {"@module": "m", "entries": entries, "version": 1}, "cifs": [CIF, str(CifWriter(OTHER))],
        "columns": json.loads(frame.to_json()), "split": json.loads(frame.to_json(orient="split")),
        "table": json.loads(frame.drop(columns="structure").assign(structure=[a, b]).to_json(orient="table")),
        "index": json.loads(frame.set_index("material_id").to_json(orient="index")),
        "column": {"structure": {"0": a, "1": b}},
        "jarvis": [{"jid": "a", "atoms": jarvis(a)}, {"jid": "b", "atoms": jarvis(b)}],
    }  # fmt: skip


def test_json_lines_under_the_name_of_json(tmp_path):
    lines = f"{json.dumps(SALT.as_dict())}\n{json.dumps(OTHER.as_dict())}\n"
    assert read(tmp_path / "x.json", lines).counts() == {"ok": 2}
    table = read(tmp_path / "x.json", json.dumps([SALT.as_dict()]) + "and more")
    assert table.column("status") == ["ok", "failed"]


def test_a_molecule_among_crystals(tmp_path):
    molecule = {"sites": [{"xyz": [0, 0, 0], "species": [{"element": "H", "occu": 1}]}], "charge": 0}
    table = read(tmp_path / "x.json", json.dumps([molecule, SALT.as_dict()]))
    assert table.column("status") == ["failed", "ok"]


@pytest.mark.parametrize("form", list(forms()))
def test_json_as_it_occurs(tmp_path, form):
    table = read(tmp_path / "x.json", json.dumps(forms()[form]))
    assert table.counts() == {"ok": 2} and table.crystals().reduced_formulas() == ["CsCl", "RbCl"]
    assert table.ids in (["a", "b"], ["x-0", "x-1"])
    assert table.ids == ["a", "b"] or form in ("list", "cifs", "column", "jarvis")
    if form in ("records", "columns", "split", "table", "index"):
        assert table.column("e_above_hull") == [0.5, 0.5]


OTHER_FORMS = {
    "ase.json": {"1": {"cell": [], "numbers": [11], "positions": [[0, 0, 0]], "pbc": [True] * 3}, "ids": [1]},
    "optimade.json": {
        "data": [{"id": "mp-1", "type": "structures", "attributes": {"nsites": 2}}],
        "meta": {},
    },
    "oqmd.json": {"data": [{"name": "NaCl", "unit_cell": [[1, 0, 0]], "sites": ["Na @ 0 0 0"]}]},
    "lemat.json": [{"lattice_vectors": [], "species_at_sites": [], "cartesian_site_positions": []}],
}


@pytest.mark.parametrize(
    "name, advice",
    [("ase.json", "ASE's database"), ("optimade.json", "OptimadeRester"), ("oqmd.json", "OQMD's"),
     ("lemat.json", "LeMat's")],
)  # fmt: skip
def test_other_forms_of_crystals_have_advice(tmp_path, name, advice):
    with pytest.raises(ReadError, match=advice):
        read(tmp_path / name, json.dumps(OTHER_FORMS[name]))


def test_objects_that_pandas_printed(tmp_path):
    for one in (SALT, bulk("Cu")):
        pd.DataFrame({"structure": [one], "e_form": [-2.1]}).to_csv(tmp_path / "a.csv")
        with pytest.raises(ReadError, match="structure holds structures as they are printed"):
            read_crystals(tmp_path / "a.csv")


def test_line_breaks_of_two_signs(tmp_path):
    pd.DataFrame({"cif": [CIF.replace("\n", "\\n"), CIF]}).to_csv(tmp_path / "a.csv")
    table = read_crystals(tmp_path / "a.csv")
    assert table.column("status") == ["failed", "ok"] and "line breaks" in reasons(table)[0]


def test_a_magnetic_cif_by_its_own_suffix(tmp_path):
    assert read(tmp_path / "a.mcif", CIF).crystals().reduced_formulas() == ["CsCl"]


def test_a_single_structure_and_json_lines(tmp_path):
    assert read(tmp_path / "x.json", json.dumps(SALT.as_dict(), indent=1)).ids == ["x"]
    assert read(tmp_path / "x.json", json.dumps(ComputedStructureEntry(SALT, -7).as_dict())).ids == ["x"]
    lines = f"{json.dumps(SALT.as_dict())}\n\n{{torn\n{json.dumps(OTHER.as_dict())}\n"
    table = read(tmp_path / "x.jsonl", lines)
    assert table.column("status") == ["ok", "failed", "ok"] and "unparsable JSON" in reasons(table)[1]


def test_json_that_is_cut_keeps_what_came_before(tmp_path):
    text = json.dumps([SALT.as_dict(), OTHER.as_dict()])
    table = read(tmp_path / "x.json", text[:-30])
    assert table.column("status") == ["ok", "failed"] and "truncated JSON" in reasons(table)[1]


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda d: d["lattice"].update(pbc=[True, True, False]), "not periodic in all three directions"),
        (lambda d: d["sites"][0].update(species=[{"element": "Cs", "occu": 0.5}]), "is partially occupied"),
        (lambda d: d["sites"][0].update(species=[{"element": "Cs", "occu": np.nan}]), "partially occupied"),
        (lambda d: d["sites"][0].update(species=[{"element": "X", "occu": 1}]), "not an element"),
        (lambda d: d["sites"][0].update(abc=["0", "0", "0"]), "in place of numbers"),
        (lambda d: d["sites"][0].update(abc=[None, 0, 0]), "in place of numbers"),
        (lambda d: d["sites"][0].update(abc=[float("inf"), 0, 0]), "a coordinate is not finite"),
        (lambda d: d["sites"][0].update(abc=[0, 0]), "not a structure of pymatgen"),
        (lambda d: d.update(sites=[]), "no atom sites"),
        (lambda d: d.update(lattice=dict.fromkeys(("a", "b", "c", "alpha", "beta", "gamma"), -4)), "a is -4"),
        (
            lambda d: d.update(
                lattice={"matrix": [[1e7, 0, 0], [0, 4, 0], [0, 0, 4]]},
                sites=[{"species": [{"element": "Cs", "occu": 1}], "abc": [0, 0, 0]}],
            ),
            "vector of 1e+07",
        ),
    ],
)  # fmt: skip
def test_dictionaries_that_are_no_crystals(tmp_path, change, reason):
    data = SALT.as_dict()
    change(data)
    table = read(tmp_path / "x.json", json.dumps([data, OTHER.as_dict()]))
    assert table.column("status") == ["failed", "ok"] and reason in reasons(table)[0]


def test_dictionaries_of_other_shapes(tmp_path):
    data = SALT.as_dict()
    for site in data["sites"]:
        del site["abc"]
    data["lattice"] = {k: data["lattice"][k] for k in ("a", "b", "c", "alpha", "beta", "gamma")}
    data["sites"][0]["species"] = [{"element": "Cs", "oxidation_state": 1, "occu": 1}]
    crystals = read(tmp_path / "x.json", json.dumps(data)).crystals()
    np.testing.assert_allclose(crystals.frac_coords, SALT.frac_coords, atol=1e-12)


@pytest.mark.parametrize("text, reason", [
    ("7", "neither a list nor an object"), ("[1, 2]", "no structures in the JSON"),
    ("[" * 100_000, "nested too deeply"), ('[{"a": 1}]', "no column of structures"), ("nonsense", "neither"),
])  # fmt: skip
def test_json_of_something_else(tmp_path, text, reason):
    with pytest.raises(ReadError, match=rf"x\.json: .*{reason}"):
        read(tmp_path / "x.json", text)


def test_nothing_that_json_names_is_imported(tmp_path):
    data = SALT.as_dict() | {"@module": "antigravity", "@class": "Anything"}
    assert read(tmp_path / "x.json", json.dumps([data])).counts() == {"ok": 1}


# -- ASE -------------------------------------------------------------------------------------------------


def salts():
    one, two = bulk("NaCl", "rocksalt", a=5.64), bulk("MgO", "rocksalt", a=4.21)
    one.info = {"tag": "first"}
    two.calc = SinglePointCalculator(two, energy=-11.5)
    return [one, two, Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7]])]


def test_trajectories_of_ase(tmp_path):
    ase_write(tmp_path / "run.traj", salts())
    table = read_crystals(tmp_path / "run.traj")
    assert table.ids == ["run-0", "run-1", "run-2"]
    assert reasons(table) == [None, None, "no unit cell"]
    assert table.column("energy") == [None, -11.5, None] and table.column("tag") == ["first", None, None]
    np.testing.assert_allclose(table.crystals().volumes, [a.cell.volume for a in salts()[:2]])
    moved = [bulk("Cu") for _ in range(3)]  # numbers are written with the first frame alone
    for i, atoms in enumerate(moved):
        atoms.positions += i
    ase_write(tmp_path / "md.traj", moved)
    crystals = read_crystals(tmp_path / "md.traj").crystals()
    assert crystals.atomic_numbers.tolist() == [29] * 3
    np.testing.assert_allclose(
        [c.to_atoms()[0].positions[0] for c in crystals], [a.positions[0] for a in moved]
    )


def test_a_damaged_trajectory(tmp_path):
    ase_write(tmp_path / "run.traj", salts()[:2])
    data = (tmp_path / "run.traj").read_bytes()
    big = data.replace(b'"positions.": {"ndarray": [[2, 3]', b'"positions.": {"ndarray": [[9, 3]')
    assert big != data
    table = read(tmp_path / "run.traj", big)
    assert table.column("status") == ["failed", "failed"]
    for cut in range(0, len(data), 37):
        try:
            table = read(tmp_path / "run.traj", data[:cut] or b"x")
        except ReadError:
            continue
        assert len(table) == 2
    with pytest.raises(ReadError, match="not a trajectory"):
        read(tmp_path / "run.traj", b"- of UlmASE-Trajectory  " + struct.pack("<3q", 3, 2**60, 48))


def test_databases_of_ase(tmp_path):
    with ase.db.connect(tmp_path / "a.db") as db:
        for atoms, values in zip(salts(), ({"tag": "x"}, {"material_id": "mp-1"}, {}), strict=True):
            db.write(atoms, **values)
    before = (tmp_path / "a.db").read_bytes()
    table = read_crystals(tmp_path / "a.db")
    assert table.ids == ["a-1", "mp-1", "a-3"] and reasons(table) == [None, None, "no unit cell"]
    assert table.column("energy") == [None, -11.5, None] and table.column("tag") == ["x", None, None]
    np.testing.assert_allclose(table.crystals().volumes, [a.cell.volume for a in salts()[:2]])
    assert (tmp_path / "a.db").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.db"]
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("UPDATE systems SET positions = ? WHERE id = 1", (b"torn",))
    db.close()
    assert read_crystals(tmp_path / "a.db").column("status") == ["failed", "ok", "failed"]


def test_databases_that_are_refused(tmp_path):
    with pytest.raises(ReadError, match="not a database of ASE"):
        read(tmp_path / "b.db", b"anything at all")
    db = sqlite3.connect(tmp_path / "c.db")
    db.execute(
        "CREATE VIEW systems AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n"
    )
    db.close()
    with pytest.raises(ReadError, match="no table systems"):
        read_crystals(tmp_path / "c.db")


# -- extended XYZ ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, reason", [
    ("ase_partial_occupancy.extxyz", "a site is partially occupied"), ("no_positions.extxyz", "no positions"),
])  # fmt: skip
def test_frames_that_would_be_wrong_crystals(name, reason):
    assert reasons(read_crystals(CASES / "structures" / name))[0].startswith(reason)


def test_deuterium_wherever_the_species_stand():
    crystals = read_crystals(CASES / "structures" / "deuterium_species_last.extxyz").crystals()
    assert crystals.atomic_numbers.tolist() == [1, 17]
    np.testing.assert_allclose(crystals.frac_coords[1], 0.5)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("properties, reason", [
    ("species:S:1:pos:R:3:foo:R:2000000000", "2000000004 values an atom are declared"),
    ("species:S:1:pos:R:3:foo:R:-1", "the property"), ("species:S:1:pos:R:3:foo:R:²", "the property"),
    ("species:S:1:pos:R:3:foo:Q:1", "the property"), ("species:S:1:pos:R:2", "no positions"),
    ("species:S:1:pos", "the properties"), ("pos:R:3", "a line has 4"),
    ("pos:R:3:charge:R:1", "an atomic number"),
])  # fmt: skip
def test_properties_that_ask_for_the_impossible(tmp_path, properties, reason):
    table = read(tmp_path / "a.extxyz", FRAME.format(properties) + "0 0 0 0\n0 1 1 1\n" + TEXTS["a.extxyz"])
    assert table.column("status") == ["failed", "ok"] and reason in reasons(table)[0]


def test_species_and_numbers_that_differ(tmp_path):
    text = FRAME.format("species:S:1:Z:I:1:pos:R:3")
    assert reasons(read(tmp_path / "a.extxyz", text + "Na 19 0 0 0\nCl 17 2 2 2\n")) == [
        "species and Z name other elements"
    ]
    assert read(tmp_path / "a.extxyz", text + "Na 11 0 0 0\nCl 17 2 2 2\n").counts() == {"ok": 1}


def test_a_frame_keeps_its_own_id_as_it_is_written(tmp_path):
    for written, id_ in (("007", "007"), ("mp-1", "mp-1"), ('"a \\"b\\" c"', 'a "b" c'), ("T", "T")):
        table = read(tmp_path / "x.extxyz", TEXTS["a.extxyz"].replace("pbc", f"id={written} pbc"))
        assert table.ids == [id_]


# -- each by itself --------------------------------------------------------------------------------------


def test_no_file_of_a_folder_ends_the_others(tmp_path):
    home = tmp_path / "home"
    shutil.copytree(CASES / "hostile" / "folder_killers", home)
    (home / "good.cif").write_text(CIF)
    with pytest.warns(ReadNote, match=r"sup2\.extxyz and sup2\.vasp"):
        table = read_crystals(home)
    state = {f: [] for f in sorted(p.name for p in home.iterdir())}
    for file, status, reason in zip(
        table.column("file"), table.column("status"), reasons(table), strict=True
    ):
        state[file].append(status)
        assert status == "ok" or (reason and len(reason) < 200 and "\n" not in reason)
    assert state.pop("good.cif") == ["ok"]
    for name in (
        "p_badutf8col.parquet",
        "p_badutf8id.parquet",
        "p_listid.parquet",
        "x_time.parquet",
        "x_u64.parquet",
    ):
        assert state.pop(name) == ["ok", "ok"], name
    assert state.pop("circ.xyz") == ["ok", "failed"] and state.pop("sup2.extxyz") == ["failed", "ok"]
    assert all(s == ["failed"] for s in state.values()) and len(state) == 5


@pytest.mark.parametrize("name", ["t_3d.pt", "t_huge.pt", "t_meta.pt", "t_sparse.pt"])
def test_such_a_file_alone_is_an_error(name):
    with pytest.raises(ReadError, match=rf"^{name}: "):
        read_crystals(CASES / "hostile" / "folder_killers" / name)


def test_a_panic_of_an_extension_module_is_a_row(tmp_path, monkeypatch):
    class PanicException(BaseException):
        """As pyo3 raises it."""

    def panic(*_):
        raise PanicException("called Option::unwrap() on a None value")

    monkeypatch.setattr("crysjepa.io.text_formats.read_block", panic)
    (tmp_path / "a.cif").write_text(CIF)
    (tmp_path / "b.extxyz").write_text(TEXTS["a.extxyz"])
    table = read_crystals(tmp_path)
    assert table.column("status") == ["failed", "ok"] and "PanicException" in reasons(table)[0]
    monkeypatch.setattr(
        "crysjepa.io.text_formats.read_block", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        read_crystals(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name, states, reason", [
    ("propbomb.extxyz", ["failed"], "values an atom are declared"),
    ("t_floatZ.pt", ["failed"] * 2, "an atomic number is 11.9, which is not whole"),
    ("p_floatZ.parquet", ["failed", "ok"], "an atomic number is 11.7, which is not whole"),
    ("t_1hotnan.pt", ["failed"] * 2, "an atomic number is nan"),
    ("../structures/negative_length.pt", ["ok", "failed", "failed"], "the cell's length a is -2.8"),
    ("moyo_panic_coord_1e300.parquet", ["ok", "failed"], "a fractional coordinate beyond 10000"),
    ("huge_cell_1e+11.parquet", ["ok", "failed", "failed"], "a lattice vector of 1.3e+11 Å (limit 10000)"),
])  # fmt: skip
def test_hostile_crystals_are_rows_with_reasons(name, states, reason):
    table = read_crystals(CASES / "hostile" / name)
    assert sorted(table.column("status")) == sorted(states) and reason in " ".join(
        filter(None, reasons(table))
    )


def test_tensors_of_more_numbers_than_the_file_holds():
    with pytest.raises(ReadError, match="1200000000 numbers of which the file holds 1"):
        read_crystals(CASES / "hostile" / "stride_bomb.pt")


def tensors(**changes):
    return {
        "frac_coords": torch.rand(4, 3), "num_atoms": torch.tensor([2, 2]),
        "atom_types": torch.tensor([55, 17, 55, 17]), "lengths": torch.full((2, 3), 4.0),
        "angles": torch.full((2, 3), 90.0),
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"frac_coords": torch.rand(3, 4)}, "not so the others"),  # as many numbers, in another order
        ({"lengths": torch.ones(3, 2)}, "not so the others"),
        ({"atom_types": torch.tensor([True] * 4)}, "true or false"),
        ({"atom_types": torch.zeros(4, 100)}, "an atomic number is nan"),
        ({"angles": torch.tensor([[90.0, 90, 270], [90, 90, -60]])}, "the cell's angle gamma is"),
        ({"frac_coords": torch.rand(4, 3, dtype=torch.complex64)}, "no dense tensor"),
    ],
)
def test_tensors_that_would_be_wrong_crystals(tmp_path, changes, reason):
    torch.save(tensors(**changes), tmp_path / "a.pt")
    (tmp_path / "good.cif").write_text(CIF)
    table = read_crystals(tmp_path)
    assert set(table.column("status")[:-1]) == {"failed"} and table.column("status")[-1] == "ok"
    assert all(reason in r for r in reasons(table)[:-1])


def test_a_view_of_few_numbers_is_read(tmp_path):
    tensors = {
        "frac_coords": torch.zeros(3, 3), "num_atoms": torch.ones(3, dtype=torch.int64),
        "atom_types": torch.tensor([29]).expand(3), "lengths": torch.tensor([3.6]).expand(3, 3),
        "angles": torch.tensor([90.0]).expand(3, 3),
    }  # fmt: skip
    torch.save(tensors, tmp_path / "a.pt")
    assert read_crystals(tmp_path / "a.pt").counts() == {"ok": 3}


def test_a_torch_file_that_was_packed_again_is_refused(tmp_path):
    torch.save({"frac_coords": torch.zeros(1_000_000)}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as old,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    with pytest.raises(ReadError, match=r"b\.pt: unpacks to 4 MB"):
        read_crystals(tmp_path / "b.pt")


@pytest.mark.timeout(60)
def test_a_cif_of_blocks_too_small_to_be_any(tmp_path):
    assert "too small to hold crystals" in reasons(read(tmp_path / "a.cif", "data_\n" * 2_000_000))[0]


def test_names_that_are_not_utf8(tmp_path):
    for name in (b"caf\xe9.cif", b"d\xff/x\xfe.cif"):
        path = tmp_path / "home" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CIF)
    with pytest.warns(ReadNote, match="names are not UTF-8"):
        table = read_crystals(tmp_path / "home")
    assert table.ids == ["caf\\xe9", "d\\xff/x\\xfe"] and table.counts() == {"ok": 2}
    table.write(tmp_path / "t.parquet")
    assert read_crystals(tmp_path / "t.parquet").ids == table.ids
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cafX.cif", CIF)
    data = (tmp_path / "a.zip").read_bytes().replace(b"cafX", b"caf\xe9")
    assert read(tmp_path / "a.zip", data).ids == ["cafΘ"]


def test_a_lone_surrogate_in_json(tmp_path):
    with pytest.warns(ReadNote):
        table = read(tmp_path / "a.json", json.dumps({"b\ud800": SALT.as_dict(), "a": SALT.as_dict()}))
    table.write(tmp_path / "t.parquet")
    assert table.ids == ["b\\ud800", "a"]


# -- Parquet ---------------------------------------------------------------------------------------------


TEXT = ["a", "b", None]
IDS = {
    "binary": pa.array([b"a", b"caf\xe9", None]),
    "int64": pa.array([1, 2, None]),
    "uint8": pa.array([1, 2, None], pa.uint8()),
    "list": pa.array([[1], [2, 3], None]),
    "null": pa.nulls(3),
    "large": pa.array(TEXT, pa.large_string()),
    "view": pa.array(TEXT, pa.string_view()),
    "dictionary": pa.array(TEXT).dictionary_encode(),
    "float": pa.array([1.5, 2.5, None]),
    "struct": pa.array([{"x": 1}, {"x": 2}, None]),
    "timestamp": pa.array([0, 1, None], pa.timestamp("ns")),
    "bool": pa.array([True, False, None]),
}


@pytest.mark.parametrize("kind", [*IDS])
def test_ids_of_any_type(tmp_path, kind):
    table = Crystals.from_structures([SALT] * 3).to_arrow()
    pq.write_table(table.set_column(0, "id", IDS[kind]), tmp_path / "a.parquet")
    read = read_crystals(tmp_path / "a.parquet")
    assert read.counts() == {"ok": 3} and len(set(read.ids)) == 3 and read.ids[2] == "row-2"
    if kind == "binary":
        assert read.ids == ["a", "caf\\xe9", "row-2"]

    from crysjepa.datasets.chunks import open_chunks

    assert [i for chunk in open_chunks(tmp_path / "a.parquet").of(2) for i in chunk.ids] == read.ids


OTHERS = {
    "uint64": (pa.array([1, 2**64 - 1], pa.uint64()), ["1", str(2**64 - 1)]),
    "decimal": (pa.array([1, None], pa.decimal128(5, 2)), [1.0, None]),
    "float16": (pa.array(np.array([1.5, np.nan], np.float16)), [1.5, None]),
    "date": (pa.array([0, None], pa.date32()), ["1970-01-01", None]),
    "timestamp": (pa.array([0, None], pa.timestamp("us", tz="UTC")), ["1970-01-01 00:00:00+00:00", None]),
    "time": (pa.array([1, None], pa.time64("us")), ["00:00:00.000001", None]),
    "dictionary of numbers": (pa.array([1, None]).dictionary_encode(), [1, None]),
    "large list": (pa.array([[1.0], None], pa.large_list(pa.float64())), [[1.0], None]),
    "fixed list": (pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2)), [[1.0, 2.0], None]),
    "null": (pa.nulls(2), [None, None]),
    "view": (pa.array(["x", None], pa.string_view()), ["x", None]),
}  # fmt: skip


@pytest.mark.parametrize("kind", [*OTHERS])
def test_other_columns_of_any_type_travel(tmp_path, kind):
    array, expected = OTHERS[kind]
    table = Crystals.from_structures([SALT] * 2).to_arrow().append_column("x", array)
    pq.write_table(table, tmp_path / "a.parquet")
    read = read_crystals(tmp_path / "a.parquet")
    assert [v.tolist() if isinstance(v, np.ndarray) else v for v in read.column("x")] == expected
    read.write(tmp_path / "b.parquet")
    assert read_crystals(tmp_path / "b.parquet").counts() == {"ok": 2}


@pytest.mark.parametrize("array", [
    pa.array([{"a": 1}, None]), pa.array([[[1]], None]), pa.array([b"\xff", None]),
    pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), pa.array([[b"x"], None]),
], ids=["struct", "nested list", "binary", "map", "list of binary"])  # fmt: skip
def test_other_columns_are_left_out_and_said(tmp_path, array):
    table = Crystals.from_structures([SALT] * 2).to_arrow().append_column("x", array)
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.warns(ReadNote, match=r"left out: x \("):
        read = read_crystals(tmp_path / "a.parquet")
    assert "x" not in read and read.counts() == {"ok": 2}


def test_a_column_of_structures_in_parquet(tmp_path):
    frame = pd.DataFrame(
        {"material_id": ["a", "b"], "structure": [json.dumps(SALT.as_dict()), None], "n": [1, 2]}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    table = read_crystals(tmp_path / "a.parquet")
    assert (
        table.ids == ["a", "b"] and table.column("status") == ["ok", "failed"] and table.column("n") == [1, 2]
    )


def test_numbers_of_atoms_in_parquet_are_whole(tmp_path):
    arrow = Crystals.from_structures([SALT] * 5).to_arrow()
    numbers = pa.array([[55, 17], [55.5, 17], [0, 17], [119, 17], [None, 17]], pa.list_(pa.float64()))
    pq.write_table(arrow.set_column(1, "atomic_numbers", numbers), tmp_path / "a.parquet")
    table = read_crystals(tmp_path / "a.parquet")
    assert [r and r.split(",")[0] for r in reasons(table)] == [
        None, "an atomic number is 55.5", "an atomic number is not that of an element (1 to 118)",
        "an atomic number is not that of an element (1 to 118)", "an atomic number is nan",
    ]  # fmt: skip


@pytest.mark.timeout(60)
def test_a_parquet_file_of_runs_is_not_unpacked(tmp_path):
    writer = pq.ParquetWriter(tmp_path / "a.parquet", pa.schema([("id", pa.int8())]))
    with writer:
        rows = pa.table({"id": pa.array(np.zeros(20_000_000, np.int8))})
        for _ in range(4):
            writer.write_table(rows)
    with pytest.raises(ReadError, match=r"8e\+07 values in a file of"):
        read_crystals(tmp_path / "a.parquet")


def test_nothing_is_said_of_a_clean_file(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, text in TEXTS.items():
            assert read(tmp_path / name, text).counts() == {"ok": 1}


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.extxyz", FRAME.format("species:S:1:pos:R:3") + "Na 0 0 0_25\nCl 2 2 2\n"),
        (
            "a.extxyz",
            FRAME.format("species:S:1:pos:R:3").replace("4 0 0", "0_4 0 0", 1) + "Na 0 0 0\nCl 2 2 2\n",
        ),
        ("a.extxyz", FRAME.format("Z:I:1:pos:R:3") + "1_1 0 0 0\n17 2 2 2\n"),
        ("a.vasp", "two\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0_5\n"),
        ("a.vasp", "two\n1_0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"),
    ],
)
def test_an_underscore_is_no_digit(tmp_path, name, text):
    """Python takes 0_25 for 25."""
    (reason,) = reasons(read(tmp_path / name, text))
    assert reason.endswith("is not a number") and "_" in reason


@pytest.mark.filterwarnings("ignore:values that a table does not hold are left out. kind")
def test_an_underscore_in_a_name_does_no_harm(tmp_path):
    frame = FRAME.format("species:S:1:pos:R:3:kind:S:1") + "Na 0 0 0 site_1\nCl 2 2 2 site_2\n"
    assert read(tmp_path / "a.extxyz", frame).column("status") == ["ok"]
    text = "a_1 b_2\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0 Na_1\n0.5 0.5 0.5 Cl_2\n"
    assert read(tmp_path / "a.vasp", text).column("status") == ["ok"]


def test_a_text_of_too_many_blocks_is_refused_before_any_is_parsed(tmp_path):
    block = "data_x\n" + "#" * 120 + "\n"
    (tmp_path / "a.cif").write_text(block * 200_001)
    table = read_crystals(tmp_path / "a.cif")
    assert table.column("reason") == ["200001 data blocks in one file (limit 200000): split it"]
