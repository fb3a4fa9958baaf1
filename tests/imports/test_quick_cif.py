"""The quick reader gives, to the last bit, what the reader of all CIFs gives; or the same reason."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Species, Structure
from pymatgen.io.cif import CifWriter

from crysjepa import datasets
from crysjepa._cif import ReadError, read_block, split_blocks
from crysjepa.imports import quick_cif
from crysjepa.imports.quick_cif import read_quickly


def outcome(read, text):
    try:
        return [array.tolist() for array in read(text)]
    except ReadError as error:
        return str(error)


def slowly(text):
    return read_block(split_blocks(text)[0][1])


def written(structure, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(CifWriter(structure, **options))


SALT = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
HEXAGONAL = Structure(
    Lattice.hexagonal(3.25, 5.2), ["Zn", "Zn", "O", "O"],
    [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.38], [2 / 3, 1 / 3, 0.88]],
)  # fmt: skip


@pytest.fixture
def only_quick(monkeypatch):
    monkeypatch.setattr(quick_cif, "_slowly", lambda text: pytest.fail("went the slow way"))


def test_rows_as_published(only_quick):
    with (Path(__file__).parent / "mp_20_rows.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            found = read_quickly(row["cif"])
            for quick, slow in zip(found, slowly(row["cif"]), strict=True):
                np.testing.assert_array_equal(quick, slow)


def test_many_crystals_with_and_without_symmetry(only_quick):
    crystals = datasets.load("flla").crystals()[::150]
    for structure in [*crystals.to_structures(), SALT, HEXAGONAL]:
        for options in ({}, {"symprec": 0.01}):
            text = written(structure, **options)
            assert outcome(read_quickly, text) == outcome(slowly, text)


def test_no_header_and_more_digits(only_quick):
    text = written(SALT, significant_figures=12)
    assert outcome(read_quickly, text.split("\n", 1)[1]) == outcome(slowly, text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Cl1  1  0.50000000  0.50000000  0.50000000", "Cl1  1  0.001  0.0  1.0", "two atoms on one spot"),
        ("'Cs1 Cl1'", "'Cs1 Cl2'", "declares Cs1 Cl2 but has 2 sites"),
        ("Cs  Cs0", "Xx  Cs0", "'Xx' is not an element"),
        ("0.50000000  1\n", "0.50000000  0.5\n", "partially occupied"),
        ("_cell_length_a   4.12000000", "_cell_length_a   0.00000000", "length a is 0"),
        ("_cell_length_a   4.12000000\n", "", "no unit cell"),
        ("0.50000000  1\n", "0.50000000\n", ""),
        ("0.50000000  1\n", "0.5.0  1\n", "not a number"),
        ("data_CsCl", "CsCl", "not a CIF"),
        ("_cell_length_a   4.12000000", "_cell_length_a   4.12(3)", None),
        ("  Cs  Cs0", "\n\n  Cs  Cs0", None),
        ("_cell_volume", "_cell_secret  ?\n_cell_volume", None),
    ],
)
def test_whatever_differs_is_read_as_any_cif(old, new, message):
    text = written(SALT)
    assert old in text
    text = text.replace(old, new)
    found = outcome(read_quickly, text)
    assert found == outcome(slowly, text)
    if message is None:
        assert isinstance(found, list)
    else:
        assert isinstance(found, str) and message in found


def test_oxidation_states_and_two_blocks():
    text = written(Structure(SALT.lattice, [Species("Cs", 1), Species("Cl", -1)], SALT.frac_coords))
    assert outcome(read_quickly, text) == outcome(slowly, text)
    with pytest.raises(ReadError, match="holds 2 crystals"):
        read_quickly(written(SALT) + written(SALT))
