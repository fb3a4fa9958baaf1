"""Structures and entries of pymatgen as text or structs in the cells of a table."""

import csv
import json

import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from crysjepa.io import read_crystals
from crysjepa.runtime.notes import ReadNote

SALT = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def entry(number, **data):
    made = ComputedStructureEntry(SALT, -7.5, entry_id=f"mp-{number}", data={"e_form": -2.0, **data})
    return made.as_dict()


def write(path, rows):
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
        return path
    with path.open("w", newline="") as handle:
        table = csv.DictWriter(handle, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_an_entry_as_text_in_a_cell_has_its_id_and_energies(tmp_path, name):
    path = write(tmp_path / name, [{"entry": json.dumps(entry(i)), "note": "x"} for i in (4, 5)])
    table = read_crystals(path)
    assert table.ids == ["mp-4", "mp-5"]
    assert table.column("energy") == [-7.5, -7.5] and table.column("e_form") == [-2.0, -2.0]
    assert table.column("note") == ["x", "x"]


def test_an_entry_as_a_struct_in_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [entry(4), entry(5, more=1.5)]
    for row in rows:  # Arrow holds no objects without members
        row.pop("parameters"), row.pop("energy_adjustments"), row["structure"].pop("properties")
        for site in row["structure"]["sites"]:
            site.pop("properties")
    pd.DataFrame({"entry": rows}).to_parquet(path)
    table = read_crystals(path)
    assert table.ids == ["mp-4", "mp-5"] and table.column("status") == ["ok", "ok"]
    assert table.column("energy") == [-7.5, -7.5] and table.column("more") == [None, 1.5]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_value_of_the_row_and_another_of_the_entry(tmp_path, name):
    path = write(tmp_path / name, [{"material_id": "own", "entry": json.dumps(entry(4)), "energy": -1.0}])
    with pytest.warns(ReadNote, match="energy"):
        table = read_crystals(path)
    assert table.ids == ["own"] and table.column("energy") == [-1.0] and table.column("entry_id") == ["mp-4"]


def test_a_struct_without_a_key_that_others_have(tmp_path):
    lattices = [{"matrix": SALT.lattice.matrix.tolist(), "a": None}, {"a": 4.12, "b": 4.12, "c": 4.12}]
    lattices[1] |= {"alpha": 90.0, "beta": 90.0, "gamma": 90.0}
    sites = [
        {"species": [{"element": e, "occu": 1.0}], "abc": [x, x, x]} for e, x in (("Cs", 0.0), ("Cl", 0.5))
    ]
    path = tmp_path / "a.parquet"
    pd.DataFrame({"structure": [{"lattice": cell, "sites": sites} for cell in lattices]}).to_parquet(path)
    assert read_crystals(path).column("status") == ["ok", "ok"]


def test_a_name_twice_deep_in_a_structure(tmp_path):
    text = json.dumps(SALT.as_dict()).replace(
        '"abc": [0.5, 0.5, 0.5]', '"abc": [0, 0, 0.1], "abc": [0.5, 0.5, 0.5]'
    )
    (tmp_path / "a.json").write_text(f"[{text}]")
    assert "abc stands twice" in read_crystals(tmp_path / "a.json").column("reason")[0]
    path = write(tmp_path / "a.csv", [{"structure": text}])
    assert "abc stands twice" in read_crystals(path).column("reason")[0]
