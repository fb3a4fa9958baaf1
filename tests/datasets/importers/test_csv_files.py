"""MP-20 and Alex-MP-20: files of their publishers' form to Parquet."""

import csv
import io
import shutil
import zipfile
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from crysjepa.datasets.chunks import open_chunks
from crysjepa.datasets.importers import csv_files
from crysjepa.datasets.importers.convert import convert
from crysjepa.io import read_crystals
from crysjepa.runtime.download import DatasetError
from crysjepa.runtime.files import file_metadata

CIF = str(CifWriter(Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])))
HEADER = ["material_id", "reduced_formula", "num_sites", "cif", "energy_above_hull", "dft_band_gap"]


def text_of(rows, header=HEADER):
    out = io.StringIO()
    csv.writer(out).writerows([header, *rows])
    return out.getvalue()


def zip_of(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"alex_mp_20/{name}.csv", text)
        archive.writestr("__MACOSX/alex_mp_20/train.csv", b"\0\1")
        archive.writestr("ref.csv", "something,else\n1,2\n")
    return path


def test_mp_20_as_published(tmp_path):
    for split in ("train", "val", "test"):
        shutil.copy(Path(__file__).parent / "mp_20_rows.csv", tmp_path / f"{split}.csv")
    out = tmp_path / "mp_20.parquet"
    convert("csv", [tmp_path / f"{s}.csv" for s in ("train", "val", "test")], out, {"dataset": "mp_20"})
    table = read_crystals(out)
    assert table.counts() == {"ok": 9}
    assert table.ids[:4] == ["mp-1185360", "mp-1078776", "mp-1217581", "mp-1185360#2"]
    assert table.column("split")[::3] == ["train", "val", "test"]
    assert table.column("formation_energy_per_atom")[0] == -0.1937609628160919
    assert table.column("e_above_hull")[2] == 0.0
    assert table.column("spacegroup.number")[:3] == [225, 11, 65]
    assert table.column("elements")[0] == "['Ir', 'Li', 'Mn']"
    assert table.crystals().reduced_formulas()[:3] == ["LiMnIr2", "InBiS3", "TbAlNi4"]


def test_alex_mp_20(tmp_path):
    train = [["agm1", "CsCl", "2", CIF, "0.01", ""], ["mp-2", "CsCl", "", CIF, "nan", "1.5"]]
    path = zip_of(tmp_path / "alex_mp_20.zip", val=text_of([["agm3", "CsCl", "2", CIF, "0.02", ""]]),
                  train=text_of(train))  # fmt: skip
    steps = []
    out = tmp_path / "alex.parquet"
    convert("zip of csv", [path], out, {}, progress=lambda *step: steps.append(step))
    table = read_crystals(out)
    assert table.ids == ["agm1", "mp-2", "agm3"]
    assert table.column("split") == ["train", "train", "val"]
    assert table.column("e_above_hull") == [0.01, None, 0.02]
    assert table.column("dft_band_gap") == [None, 1.5, None]
    assert table.column("num_sites") == [2, None, 2]
    assert [len(t) for t in open_chunks(out).of(2)] == [2, 1]
    assert steps[-1][0] == steps[-1][1] > 0
    assert not list(tmp_path.glob(".*"))


def test_every_row_has_its_place_and_a_bad_one_its_reason(tmp_path):
    rows = [
        ["a", "CsCl", "2", CIF, "0.1", ""],
        ["b", "CsCl", "2", "", "0.1", ""],
        ["c", "CsCl", "2", "gibberish", "0.1", ""],
        ["d", "CsCl"],
        ["", "CsCl", "2", CIF.replace("Cl  Cl1", "Qq  Cl1"), "0.1", ""],
        ["f", "CsCl", "2", "\0", "0.1", ""],
        ["a", "CsCl", "2", CIF, "0.3", ""],
    ]
    out = tmp_path / "x.parquet"
    convert("zip of csv", [zip_of(tmp_path / "x.zip", train=text_of(rows))], out, {})
    table = read_crystals(out)
    assert table.ids == ["a", "b", "c", "train-3", "train-4", "f", "a#2"]
    assert table.counts() == {"ok": 2, "failed: read": 5}
    reasons = table.column("reason")
    assert reasons[1] == "the row has no CIF" and "not a CIF" in reasons[2]
    assert reasons[3] == "the row has 2 values under 6 names" and "'Qq' is not an element" in reasons[4]
    told = file_metadata(out)
    assert (told["rows"], told["num_failed"]) == (7, 5) and told["failed"]["the row has no CIF"] == 1


def test_the_bytes_depend_on_the_source_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "CHUNK_ROWS", 3)
    rows = [[f"m{i % 8}", "CsCl", "2", CIF if i % 5 else "broken", str(i), ""] for i in range(10)]
    path = zip_of(tmp_path / "x.zip", train=text_of(rows), val=text_of(rows))
    for processes in (1, 2):
        convert("zip of csv", [path], tmp_path / f"{processes}.parquet", {}, processes=processes)
    alone = (tmp_path / "1.parquet").read_bytes()
    assert alone == (tmp_path / "2.parquet").read_bytes()
    table = read_crystals(tmp_path / "1.parquet")
    assert len(set(table.ids)) == len(table) == 20
    assert table.column("e_above_hull")[10:] == [float(i) for i in range(10)]


def test_an_import_that_breaks_off_leaves_nothing_and_starts_anew(tmp_path, monkeypatch):
    path = zip_of(tmp_path / "x.zip", train=text_of([["a", "CsCl", "2", CIF, "0.1", ""]] * 5))
    out = tmp_path / "x.parquet"
    monkeypatch.setattr(csv_files, "CHUNK_ROWS", 2)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert("zip of csv", [path], out, {}, progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.zip"]
    (tmp_path / ".x.parquet.partial").write_bytes(b"what a process left that was killed")
    convert("zip of csv", [path], out, {})
    assert len(read_crystals(out)) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.parquet", "x.zip"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"other": "cif\n"}, "has no train.csv, val.csv, test.csv in it"),
        ({"train": "a,b\n"}, "no column cif in the CSV"),
        ({"train": "cif\n", "val": "cif,x\n"}, "have different columns"),
    ],
)
def test_another_file(tmp_path, files, message):
    with pytest.raises(DatasetError, match=message):
        convert("zip of csv", [zip_of(tmp_path / "x.zip", **files)], tmp_path / "x.parquet", {})


def test_a_damaged_zip(tmp_path):
    path = zip_of(tmp_path / "x.zip", train=text_of([[f"a{i}", CIF, "2", CIF, "", ""] for i in range(300)]))
    data = bytearray(path.read_bytes())
    data[400:420] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"x\.zip is damaged"):
        convert("zip of csv", [path], tmp_path / "x.parquet", {})
    path.write_bytes(b"<html>over quota</html>")
    with pytest.raises(DatasetError, match=r"x\.zip is not a zip file that can be read"):
        convert("zip of csv", [path], tmp_path / "x.parquet", {})
    assert not (tmp_path / "x.parquet").exists()
