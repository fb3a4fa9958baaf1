"""What is in a source and is not read is named in a note; what is read stays what it was."""

import json
import warnings
import zipfile

import pytest
from pymatgen.core import Lattice, Structure

from crysjepa.io import read_crystals
from crysjepa.runtime.notes import ReadNote

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


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
    for name in ("a.mcif", "b.res", "c.xml", "d.txt", ".hidden"):
        (folder / name).write_text("x")
    source = folder
    if packed:
        source = tmp_path / "all.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name)
    table, told = read(source)
    assert len(table) == 1
    assert told == "4 files of no known kind are left out: a.mcif, b.res, c.xml and 1 more"


def test_a_second_list_of_structures_is_named(tmp_path):
    salt = SALT.as_dict()
    table, told = in_json(tmp_path / "two.json", {"structures": [salt], "entries": [{"structure": salt}]})
    assert len(table) == 1 and "from structures, not from entries" in told
    table, told = in_json(tmp_path / "one.json", {"structures": [salt], "entries": [1, 2], "source": "x"})
    assert len(table) == 1 and not told
