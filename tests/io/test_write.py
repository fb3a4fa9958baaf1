"""Writing crystals in every format, and reading them again."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure
from typer.testing import CliRunner

from conftest import make_salts
from crysjepa.cli.main import app
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.io import ReadError, output_kind, read_crystals, write_cif, write_crystals
from crysjepa.io.cif.write import file_names

EVERY = ["a.parquet", "a.csv", "a.extxyz", "a.xyz", "a.cif", "a.json", "a.jsonl", "a.zip", "folder"]
PACKED = [
    f"a{kind}{end}" for kind in (".csv", ".extxyz", ".cif", ".json", ".jsonl") for end in (".gz", ".zst")
]
HOLD_COLUMNS = ("a.parquet", "a.csv", "a.json", "a.jsonl", "a.extxyz", "a.xyz")


def convert(*args, status=0):
    result = CliRunner().invoke(app, ["convert", *map(str, args)])
    assert result.exit_code == status, result.output + str(result.exception)
    return " ".join(result.output.split())


def same(one, other):
    np.testing.assert_array_equal(one.num_atoms, other.num_atoms)
    np.testing.assert_array_equal(one.atomic_numbers, other.atomic_numbers)
    difference = one.frac_coords - other.frac_coords
    np.testing.assert_allclose(difference - np.round(difference), 0, atol=1e-7)
    # of a CIF's lengths and angles the orientation is left off
    metric = [c.lattices @ c.lattices.transpose(0, 2, 1) for c in (one, other)]
    np.testing.assert_allclose(*metric, atol=1e-5)


@st.composite
def batches(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    counts = rng.integers(1, 6, draw(st.integers(1, 3)))
    cells = np.eye(3) * 4 + rng.normal(size=(len(counts), 3, 3)) * 0.4
    numbers = rng.integers(1, 119, counts.sum())
    coords = np.concatenate([(np.arange(n)[:, None] / n + rng.random(3)) % 1 for n in counts])
    ids = draw(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"))
                                | st.sampled_from(" .#/\\"), min_size=1, max_size=12)
                        .filter(lambda s: s == s.strip() and " " * 2 not in s),
                        min_size=len(counts), max_size=len(counts), unique=True))  # fmt: skip
    return Crystals(numbers, coords, cells, counts, tuple(ids))


@pytest.mark.filterwarnings("ignore:ids that are no names")
@pytest.mark.parametrize("name", EVERY + PACKED)
@settings(max_examples=15, deadline=None)
@given(crystals=batches(), value=st.floats(allow_nan=False, allow_infinity=False) | st.none())
def test_what_is_written_is_read_again(tmp_path_factory, name, crystals, value):
    out = tmp_path_factory.mktemp("round") / name
    table = CandidateTable.from_crystals(crystals)
    table = table.with_column("e_above_hull", dict.fromkeys(crystals.ids, value), "Float64")
    table = table.with_column("tag", dict.fromkeys(crystals.ids, 'a "b", c\\d'), "string")
    written = write_crystals(table, out)
    assert (written.num, written.failures) == (len(crystals), {})
    read = read_crystals(out)
    assert read.counts() == {"ok": len(crystals)}
    kind = name.removesuffix(".gz").removesuffix(".zst")
    if kind in HOLD_COLUMNS:
        same(read.crystals(), crystals)
        assert read.ids == list(crystals.ids)
        assert read.column("tag") == ['a "b", c\\d'] * len(crystals)
        assert value is None or read.column("e_above_hull") == [value] * len(crystals)
    else:
        assert set(written.left_out) == {"e_above_hull", "tag"}
        if kind == "a.cif":
            same(read.crystals(), crystals)
        assert sorted(read.crystals().num_atoms) == sorted(crystals.num_atoms)


def test_a_poscar_holds_one_crystal(tmp_path, salts):
    write_crystals(salts[2], tmp_path / "POSCAR")
    same(read_crystals(tmp_path / "POSCAR").crystals(), salts[2])
    with pytest.raises(ReadError, match="a POSCAR holds one crystal, not 7"):
        write_crystals(salts, tmp_path / "a.vasp")
    assert [p.name for p in tmp_path.iterdir()] == ["POSCAR"]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_pymatgen_reads_its_dictionaries(tmp_path, salts, name):
    import json

    write_crystals(salts, tmp_path / name)
    text = (tmp_path / name).read_text()
    found = json.loads(text) if name == "a.json" else [json.loads(line) for line in text.splitlines()]
    structures = [Structure.from_dict(data) for data in found]
    assert [s.properties["id"] for s in structures] == list(salts.ids)
    same(Crystals.from_structures(structures), salts)


def test_ase_reads_the_frames(tmp_path, salts):
    from ase.io import read

    write_crystals(salts, tmp_path / "a.extxyz")
    atoms = read(tmp_path / "a.extxyz", index=":")
    assert [a.info["id"] for a in atoms] == list(salts.ids)
    same(Crystals.from_atoms(atoms), salts)


@pytest.mark.parametrize("name", EVERY)
def test_rows_that_cannot_be_written_are_told(tmp_path, salts, name):
    table = CandidateTable.from_crystals(salts, {"torn": "the file is empty"})
    table = table.decide("novelty", {salts.ids[0]: "in the reference"}, Status.REJECTED)
    written = write_crystals(table, tmp_path / name)
    if name == "a.parquet":
        assert written.num == 8 and read_crystals(tmp_path / name).column("status") == table.column("status")
        return
    assert written.num == 7 and written.failures == {"torn": "the file is empty"}
    if name in HOLD_COLUMNS:
        assert read_crystals(tmp_path / name).column("source_status") == ["rejected"] + ["ok"] * 6


def test_same_crystals_same_bytes(tmp_path, salts):
    for name in ["a.zip", *PACKED]:
        write_crystals(salts, tmp_path / name)
        write_crystals(salts, tmp_path / "again" / name)
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("name, kind", [
    ("a.parquet", "parquet"), ("a.XYZ", "xyz"), ("a.cif.gz", "cif"), ("POSCAR", "poscar"), ("out", "folder"),
    ("v1.2/", "folder"), ("a.json.bz2", "json"), ("a.zip", "zip"),
])  # fmt: skip
def test_names_say_the_format(name, kind):
    assert output_kind(name) == kind


@pytest.mark.parametrize("name, reason", [
    ("a.doc", "no known kind"), ("a.pt", "only read"), ("a.traj", "only read"), ("a.gz", "no known kind"),
    ("a.parquet.gz", "no known kind"), ("there", "is a file"), ("home.cif", "is a folder"),
])  # fmt: skip
def test_names_that_say_none(tmp_path, monkeypatch, name, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("")
    (tmp_path / "home.cif").mkdir()
    with pytest.raises(ReadError, match=reason):
        output_kind(name)


def test_nothing_is_left_of_a_write_that_fails(tmp_path, salts, monkeypatch):
    write_crystals(salts[0], tmp_path / "a.cif")
    before = (tmp_path / "a.cif").read_bytes()
    monkeypatch.setattr("crysjepa.io.write.cif_text", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_crystals(salts, tmp_path / "a.cif")
    assert [p.name for p in tmp_path.iterdir()] == ["a.cif"] and (tmp_path / "a.cif").read_bytes() == before


# -- convert -----------------------------------------------------------------------------------------------


def test_convert(tmp_path, salts):
    table = CandidateTable.from_crystals(salts, {"torn": "the file is empty"})
    table.with_column("x", dict.fromkeys(salts.ids, 1.5), "Float64").write(tmp_path / "a.parquet")
    told = convert(tmp_path / "a.parquet", tmp_path / "a.csv.gz")
    assert "wrote 7 of 8 crystals to" in told and "not written: the file is empty" in told
    told = convert(tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert "wrote 7 of 8 crystals to" in told and "1 could not be read: their rows are there" in told
    assert "columns left out: x" in convert(tmp_path / "a.csv.gz", tmp_path / "folder")
    same(read_crystals(tmp_path / "a.csv.gz").crystals(), salts)
    assert len(list((tmp_path / "folder").glob("*.cif"))) == 7


def test_convert_refuses_before_any_work(tmp_path, salts):
    write_crystals(salts, tmp_path / "a.cif")
    (tmp_path / "b.cif").write_text("data_x")
    assert "of no known kind" in convert(tmp_path / "absent.cif", tmp_path / "a.doc", status=2)
    assert "there already: choose another name, or --overwrite" in convert(
        tmp_path / "a.cif", tmp_path / "b.cif", status=2
    )
    assert (tmp_path / "b.cif").read_text() == "data_x"
    convert(tmp_path / "a.cif", tmp_path / "b.cif", "--overwrite")
    assert len(read_crystals(tmp_path / "b.cif")) == 7
    assert "what is to be read" in convert(tmp_path / "a.cif", tmp_path / "a.cif", "--overwrite", status=2)
    (tmp_path / "c.cif").write_text("nothing")
    assert "none of 1 crystals can be written" in convert(tmp_path / "c.cif", tmp_path / "c.csv", status=1)
    assert not (tmp_path / "c.csv").exists()


def test_convert_takes_the_column_that_is_named(tmp_path, salts):
    import csv

    with (tmp_path / "a.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["before", "after", "e_above_hull"])
        rows.writerow([*(s.to(fmt="poscar") for s in salts[:2].to_structures()), "NA"])
    assert "--structure-column" in convert(tmp_path / "a.csv", tmp_path / "b.csv", status=1)
    told = convert(tmp_path / "a.csv", tmp_path / "b.csv", "--structure-column", "after")
    assert "note: column e_above_hull: 'NA' of a-0 is no number and is left empty" in told
    same(read_crystals(tmp_path / "b.csv").crystals(), salts[1])


NASTY = [
    "../x", "a/b", "a\\b", "NaCl", "nacl", "NACL", "x" * 255, "x" * 300, "CON", "nul", "com1.txt", "aux.",
    ".hidden", "..", ".", "", " ", "\n", "a\0b", "naïve", "結晶", "a:b*?<>|", "NaCl-2", "-rf", "~", "_CON",
    "a.",
]  # fmt: skip


def test_any_id_has_a_safe_file_of_its_own(tmp_path):
    names = file_names(NASTY)
    assert len({n.lower() for n in names}) == len(NASTY)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,130}", name) and not name.endswith(".")
        assert name.split(".")[0].lower() not in ("con", "prn", "aux", "nul", "com1", "lpt1")
    many = Crystals.concatenate([make_salts()[0]] * len(NASTY)).with_ids(NASTY)
    written, failures = write_cif(many, tmp_path / "out", symmetric=False)
    assert not failures and list(written) == NASTY
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(f"{n}.cif" for n in names)
    assert all(p.parent == tmp_path / "out" for p in written.values())


def test_many_repeated_names_take_no_quadratic_time():
    assert file_names(["a"] * 20_000)[-1] == "a-20000"
