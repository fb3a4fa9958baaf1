"""Reading crystals: every format, and every way in which a source can be wrong."""

import argparse
import csv
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from ase import Atoms
from ase.io import write as ase_write
from cif_texts import SALT
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.io import ReadError, read_crystals, sha256_of, write_cif
from crysjepa.runtime.notes import ReadNote

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CESIUM = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
P1 = str(CifWriter(CESIUM))


def only(path: Path, text: str | bytes) -> tuple[str, str | None]:
    """Status and reason of the single crystal in a file with this text."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    table = read_crystals(path)
    assert len(table) == 1
    (status,), (stage,), (reason,) = (table.column(n) for n in ("status", "stage", "reason"))
    assert (stage, reason) == (None, None) if status == "ok" else stage == "read"
    assert (status == "ok") == (len(table.crystals()) == 1)
    return status, reason


# -- other text ----------------------------------------------------------------------------------------


def test_extxyz_loses_no_frame_to_a_bad_one(tmp_path):
    path = tmp_path / "run.extxyz"
    frames = []
    for i, symbol in enumerate(("Na", "K", "Rb", "Cs")):
        atoms = Atoms([symbol, "Cl"], positions=[[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True)
        atoms.info = {"formation_energy_per_atom": -1.5 - i, "tag": f"t{i}", "vector": np.zeros(4)}
        ase_write(tmp_path / "one.extxyz", atoms, format="extxyz")
        frames.append((tmp_path / "one.extxyz").read_text())
    header, comment, *_ = frames[1].splitlines()
    frames[1] = f"{header}\n{comment}\nK 0 0 0\nCl 2 NaN 2\n"
    truncated = "\n".join(frames[2].splitlines()[:-1]) + "\n"
    path.write_text(frames[0] + frames[1] + "garbage here\n" + truncated + frames[3].replace("Cs", "D ", 1))
    with pytest.warns(ReadNote, match="left out: vector"):
        table = read_crystals(path)
    assert table.ids == [f"run-{i}" for i in range(5)]
    assert table.column("status") == ["ok", "failed", "failed", "failed", "ok"]
    reasons = table.column("reason")
    assert reasons[1:4] == [
        "a coordinate or the lattice is not finite",
        "expected the number of atoms, found 'garbage here'",
        "the frame ends before its 2 atoms",
    ]
    assert table.column("formation_energy_per_atom") == [-1.5, -2.5, None, None, -4.5]
    assert table.column("tag") == ["t0", "t1", None, None, "t3"]
    assert "vector" not in table
    crystals = table.crystals()
    assert crystals.atomic_numbers.tolist() == [11, 17, 1, 17]
    np.testing.assert_allclose(crystals.frac_coords[1], 0.5)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "the file is empty"),
        ("1\nno lattice\nNa 0 0 0\n", "no unit cell"),
        ('1\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T F"\nNa 0 0 0\n', "not periodic in all three directions"),
        ('1\nLattice="4 0 0 4 0 0 0 0 4"\nNa 0 0 0\n', "singular cell"),
        ('1\nLattice="4 0 0 0 nan 0 0 0 4"\nNa 0 0 0\n', "a coordinate or the lattice is not finite"),
        ('1\nLattice="4 0 0 0 4 0 0 0 4"\nQq 0 0 0\n', "unparsable frame: 'Qq' is not an element"),
        ('1\nLattice="4 0 0 0 4 0 0 0 4"\nX 0 0 0\n', "an atomic number is not that of an element"),
        ('1\nLattice="4 0 0 0 4 0 0 0 4"\nNa 0 zero 0\n', "unparsable frame"),
        ('0\nLattice="4 0 0 0 4 0 0 0 4"\n', "no atom sites"),
        ('9999999999\nLattice="4 0 0 0 4 0 0 0 4"\nNa 0 0 0\n', "the frame ends before its 9999999999 atoms"),
    ],
)
def test_unreadable_frames(tmp_path, text, reason):
    status, given_reason = only(tmp_path / "a.xyz", text)
    assert status == "failed"
    assert given_reason.startswith(reason)


def test_overlapping_atoms_are_read_where_the_format_permits(tmp_path):
    """The verbs that judge crystals reject these; atoms on one spot are none."""
    xyz = '2\nLattice="4 0 0 0 4 0 0 0 4"\nNa 0 0 0\nCl 0.05 0 0\n'
    poscar = "two\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n0.0125 1 0\n"
    for name, text in (("a.xyz", xyz), ("POSCAR", poscar)):
        assert only(tmp_path / name, text)[0] == "ok"
        status, reason = only(tmp_path / name, text.replace("0.05", "4.00").replace("0.0125", "1"))
        assert status == "failed" and reason == "two atoms on one spot at (0.0, 0.0, 0.0)"


@pytest.mark.parametrize("name", ["POSCAR", "CONTCAR", "relaxed.vasp", "POSCAR_17"])
def test_poscar(tmp_path, name):
    CESIUM.to_file(str(tmp_path / "POSCAR"))
    text = (tmp_path / "POSCAR").read_text()
    (tmp_path / name).write_text(text)
    (read,) = read_crystals(tmp_path / name).crystals().to_structures()
    assert read == CESIUM


@pytest.mark.parametrize(
    "text, reason",
    [
        ("x\n1.0\n4 0 0\n0 4 0\n0 0 4\n1\nDirect\n0 0 0\n", "the POSCAR names no elements (VASP 4 format)"),
        ("x\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa\n2\nDirect\n0 0 0\n", "unparsable POSCAR"),
        ("x\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa\n1\nDirect\n0 nan 0\n", "a coordinate is not finite"),
        ("x\n1.0\n4 0 0\n4 0 0\n0 0 4\nNa\n1\nDirect\n0 0 0\n", "singular cell"),
        ("x\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa\n99999999999\nDirect\n0 0 0\n", "99999999999 sites (limit 10000)"),
        ("x\n1.0\n4 0 0\n", "unparsable POSCAR"),
    ],
)
def test_unreadable_poscar(tmp_path, text, reason):
    status, given_reason = only(tmp_path / "POSCAR", text)
    assert status == "failed"
    assert given_reason.startswith(reason)


def test_csv(tmp_path):
    rows = [
        ("0", "mp-1", "-1.25", "3", "NaCl", "True", SALT),
        ("1", "mp-2", "", "4", "", "False", SALT[:150]),
        ("2", "mp-1", "nan", "5", "KCl", "True", SALT),
        ("3", "", "0.5", "6", "KCl", "", ""),
    ]
    header = ",material_id,formation_energy_per_atom,number,pretty_formula,status,cif\n"
    text = header + "".join(",".join(f'"{v}"' for v in row) + "\n" for row in rows) + "4,mp-9,0.1\n"
    (tmp_path / "train.csv").write_text(text)
    with pytest.warns(ReadNote, match="pretty_formula names another compound .* in 1 of 5 rows"):
        table = read_crystals(tmp_path / "train.csv")
    assert table.ids == ["mp-1", "mp-2", "mp-1#2", "train-3", "mp-9"]
    assert table.column("status") == ["ok", "failed", "ok", "failed", "failed"]
    assert table.column("reason")[3] == "the row has no structure"
    assert table.column("formation_energy_per_atom") == [-1.25, None, None, 0.5, 0.1]
    assert str(table.frame["formation_energy_per_atom"].dtype) == "Float64"
    assert table.column("number") == [3, 4, 5, 6, None]
    assert table.column("pretty_formula") == ["NaCl", None, "KCl", "KCl", None]
    assert table.column("source_status") == [True, False, True, None, None]
    assert not {"", "cif", "Unnamed: 0"} & set(table.frame.columns)


def test_csv_without_cif_or_rows(tmp_path):
    (tmp_path / "a.csv").write_text("id,structure\n1,x\n")
    with pytest.raises(
        ReadError, match=r"a\.csv: no column of structures, such as cif \(there are id, structure\)"
    ):
        read_crystals(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("id,cif\n")
    with pytest.warns(ReadNote, match="no rows below its header"):
        assert len(read_crystals(tmp_path / "b.csv")) == 0


# -- folders and zips ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (home / "b.cif").write_text(SALT)
    (home / "a.cif").write_text(SALT[:90])
    (home / "b.xyz").write_text('1\nLattice="4 0 0 0 4 0 0 0 4"\nNa 0 0 0\n')
    (home / "sub" / "b.cif").write_text(SALT)
    (home / "sub" / "c.csv").write_text("formula\nNaCl\n")
    (home / "notes.txt").write_text("not a crystal")
    (home / ".hidden.cif").write_text(SALT)
    return home


def test_folder(folder):
    calls = []
    with (
        pytest.warns(ReadNote, match="1 file of no known kind"),
        pytest.warns(ReadNote, match=r"b\.cif and b\.xyz"),
    ):
        table = read_crystals(folder, progress=lambda done, total: calls.append((done, total)))
    assert table.ids == ["a", "b", "b#2", "sub/b", "sub/c"]
    assert table.column("status") == ["failed", "ok", "ok", "ok", "failed"]
    assert table.column("file") == ["a.cif", "b.cif", "b.xyz", "sub/b.cif", "sub/c.csv"]
    assert calls == [(i, 5) for i in range(1, 6)]


def test_zip(folder, tmp_path):
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.write(file, file.relative_to(folder))
        archive.writestr("../../outside.cif", SALT)
        archive.writestr("__MACOSX/b.cif", b"resource fork")
        archive.writestr("bomb.cif", b"\0" * 3_000_000)
        archive.writestr("inner.zip", b"PK")
        archive.writestr("rows.csv", "id,cif\nr1,\n")
    with (
        pytest.warns(ReadNote, match="1 file of no known kind"),
        pytest.warns(ReadNote, match=r"b\.cif and b\.xyz"),
    ):
        table = read_crystals(path)
    assert dict(zip(table.ids, table.column("status"), strict=True)) == {
        "../../outside": "ok",
        "a": "failed",
        "b": "ok",
        "b#2": "ok",
        "bomb": "failed",
        "inner": "failed",
        "r1": "failed",
        "sub/b": "ok",
        "sub/c": "failed",
    }
    reasons = dict(zip(table.ids, table.column("reason"), strict=True))
    assert reasons["bomb"].startswith("unpacks to 3 MB from ")
    assert reasons["inner"] == "a .zip file inside a zip is not read; unpack it first"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.zip", "home"]


def test_damaged_zip(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.cif", SALT)
        archive.writestr("worse.cif", SALT)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"0.5 0.5 0.5")] = ord("7")
    path.write_bytes(bytes(data))
    table = read_crystals(path)
    assert table.column("status") == ["ok", "failed"]
    assert "Bad CRC-32" in table.column("reason")[1]
    path.write_bytes(bytes(data[:60]))
    with pytest.raises(ReadError, match="not a zip file"):
        read_crystals(path)


def test_whole_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(ReadError, match=r"no such file or folder: .*absent\.cif.*extended XYZ"):
        read_crystals(tmp_path / "absent.cif")
    with pytest.raises(ReadError, match="nothing to read in the folder"):
        read_crystals(tmp_path)
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(ReadError, match=r"a\.doc is of no known kind: .*Parquet"):
        read_crystals(tmp_path / "a.doc")


# -- arrays --------------------------------------------------------------------------------------------


def tensors(**changes):
    return {
        "frac_coords": torch.tensor([[0.0, 0, 0], [1.5, -0.5, 0.5], [0.25, 0.25, -1e-9]]),
        "num_atoms": torch.tensor([2, 1]),
        "atom_types": torch.tensor([55, 17, 29]),
        "lengths": torch.tensor([[4.12, 4.12, 4.12], [3.6, 3.6, 3.6]]),
        "angles": torch.tensor([[90.0, 90, 90], [60, 60, 60]]),
    } | changes


@pytest.mark.parametrize("lead", [False, True])
@pytest.mark.parametrize("form", ["parameters", "lattices", "scores"])
def test_torch(tmp_path, lead, form):
    data = tensors()
    if form == "lattices":
        matrices = np.stack(
            [Lattice.cubic(4.12).matrix, Lattice.from_parameters(3.6, 3.6, 3.6, 60, 60, 60).matrix]
        )
        data = {k: v for k, v in data.items() if k not in ("lengths", "angles")} | {
            "lattices": torch.tensor(matrices)
        }
    if form == "scores":
        data["atom_types"] = torch.nn.functional.one_hot(data["atom_types"] - 1, 100).float() * 0.9
    torch.save({k: v[None] for k, v in data.items()} if lead else data, tmp_path / "gen.pt")
    crystals = read_crystals(tmp_path / "gen.pt").crystals()
    assert crystals.ids == ("gen-0", "gen-1")
    assert crystals.atomic_numbers.tolist() == [55, 17, 29]
    expected = [[0, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.25, 1 - 1e-9]]
    np.testing.assert_allclose(crystals.frac_coords, expected, atol=1e-12)
    assert (crystals.frac_coords >= 0).all() and (crystals.frac_coords < 1).all()
    np.testing.assert_allclose(crystals.volumes, [4.12**3, 3.6**3 / np.sqrt(2)], rtol=1e-6)


@pytest.mark.parametrize(
    "x, reason",
    [
        (1e300, "a fractional coordinate beyond 10000"),
        (123456789.25, "a fractional coordinate beyond 10000"),
        (float("inf"), "a coordinate is not finite"),
        (float("nan"), "a coordinate is not finite"),
    ],
)
def test_absurd_coordinates_are_not_wrapped_into_the_cell(tmp_path, x, reason):
    coords = tensors()["frac_coords"].double()
    coords[0, 2] = x
    torch.save(tensors(frac_coords=coords), tmp_path / "gen.pt")
    table = read_crystals(tmp_path / "gen.pt")
    assert table.column("status") == ["failed", "ok"]
    assert table.column("reason") == [reason, None]


def test_torch_with_several_evaluations(tmp_path):
    data = {k: torch.stack([v, v]) for k, v in tensors().items()}
    data["num_atoms"][1] = torch.tensor([1, 2])
    torch.save(data, tmp_path / "gen.pt")
    crystals = read_crystals(tmp_path / "gen.pt").crystals()
    assert crystals.ids == ("gen-0-0", "gen-0-1", "gen-1-0", "gen-1-1")
    assert crystals.num_atoms.tolist() == [2, 1, 1, 2]


def test_torch_rows_that_are_no_crystals(tmp_path):
    nan = torch.tensor([[4.12, 4.12, float("nan")], [3.6, 3.6, 3.6]])
    torch.save(tensors(lengths=nan, atom_types=torch.tensor([55, 17, 0])), tmp_path / "gen.pt")
    table = read_crystals(tmp_path / "gen.pt")
    assert table.column("reason") == [
        "the lattice has a number that is not finite",
        "an atomic number is not that of an element (1 to 118)",
    ]
    torch.save(tensors(num_atoms=torch.tensor([3, 0])), tmp_path / "gen.pt")
    assert read_crystals(tmp_path / "gen.pt").column("reason") == [None, "no atom sites"]


def test_torch_as_the_scripts_save_it(tmp_path):
    """CDVAE, DiffCSP and their descendants save the settings beside the tensors, and the time it took."""
    settings = argparse.Namespace(model_path="run", batch_size=500, label="", step_lr=1e-5)
    extra = {"eval_setting": settings, "time": 12.5, "spgs": [], "all_frac_coords_stack": []}
    torch.save(tensors() | extra, tmp_path / "eval_gen.pt")
    assert read_crystals(tmp_path / "eval_gen.pt").crystals().ids == ("eval_gen-0", "eval_gen-1")
    hostile = argparse.Namespace(model_path=Innocent())
    torch.save(tensors() | {"eval_setting": hostile}, tmp_path / "hostile.pt")
    with pytest.raises(ReadError, match="more than tensors"):
        read_crystals(tmp_path / "hostile.pt")


def test_torch_batches_of_predictions(tmp_path):
    """A list of dictionaries, one for each batch, as FlowMM's prediction writer saves them."""
    torch.save([tensors(), tensors(atom_types=torch.tensor([11, 17, 26]))], tmp_path / "predictions_00.pt")
    crystals = read_crystals(tmp_path / "predictions_00.pt").crystals()
    assert crystals.ids == tuple(f"predictions_00-{b}-{i}" for b in (0, 1) for i in (0, 1))
    assert crystals.atomic_numbers.tolist() == [55, 17, 29, 11, 17, 26]
    torch.save([tensors()], tmp_path / "predictions_00.pt")
    assert read_crystals(tmp_path / "predictions_00.pt").crystals().ids == (
        "predictions_00-0",
        "predictions_00-1",
    )
    torch.save([tensors(), {"loss": torch.tensor(1.0)}], tmp_path / "predictions_00.pt")
    with pytest.raises(ReadError, match="no tensor frac_coords"):
        read_crystals(tmp_path / "predictions_00.pt")


def test_samples_as_mattergen_writes_them(tmp_path):
    """generated_crystals.extxyz, and the same as CIFs in generated_crystals_cif.zip."""
    from ase.build import bulk

    salts = [bulk("NaCl", "rocksalt", a=5.64), bulk("MgO", "rocksalt", a=4.21)]
    ase_write(tmp_path / "generated_crystals.extxyz", salts, format="extxyz")
    with zipfile.ZipFile(tmp_path / "generated_crystals_cif.zip", "w") as archive:
        for i, atoms in enumerate(salts):
            (crystal,) = Crystals.from_atoms([atoms], [str(i)]).to_structures()
            archive.writestr(f"gen_{i}.cif", crystal.to(fmt="cif"))
    frames, cifs = (
        read_crystals(tmp_path / f"generated_crystals{end}").crystals() for end in (".extxyz", "_cif.zip")
    )
    assert frames.reduced_formulas() == cifs.reduced_formulas() == ["NaCl", "MgO"]
    assert frames.volumes == pytest.approx(cifs.volumes, rel=1e-4)


def test_samples_of_a_language_model(tmp_path):
    """The CSV of crystal-text-llm, which FlowLLM starts from: the text, the CIF made of it, the model."""
    with (tmp_path / "llm_samples.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["gen_str", "cif", "model_name"])
        writer.writerows([["5.6 5.6 5.6\n90 90 90\nNa", P1, "7b"], ["5.6 5.6", "", "7b"]])
    table = read_crystals(tmp_path / "llm_samples.csv")
    assert table.column("status") == ["ok", "failed"] and "no structure" in table.column("reason")[1]
    assert table.column("model_name") == ["7b", "7b"]


class Innocent:
    """Anything that is not a tensor."""


def test_torch_files_that_are_refused(tmp_path):
    path = tmp_path / "gen.pt"
    torch.save(tensors() | {"batch": Innocent()}, path)
    with pytest.raises(ReadError, match=r"more than tensors \(.*Innocent\).*Save only the tensors"):
        read_crystals(path)
    torch.save(tensors(num_atoms=torch.tensor([2, 2])), path)
    with pytest.raises(ReadError, match=r"num_atoms counts 2 crystals with 4 atoms; not so the others"):
        read_crystals(path)
    torch.save({k: v for k, v in tensors().items() if k != "angles"}, path)
    with pytest.raises(ReadError, match="no tensor lattices, nor lengths and angles"):
        read_crystals(path)
    torch.save([1, 2], path)
    with pytest.raises(ReadError, match="holds a list"):
        read_crystals(path)
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ReadError, match="not a file of tensors, or a truncated one"):
        read_crystals(path)


def crystal_columns():
    return {
        "id": ["a", "b", "b", "c", "d", "e"],
        "atomic_numbers": [[55, 17], [3], [3], None, [3], [3, 4]],
        "frac_coords": [[0, 0, 0, 0.5, 0.5, 0.5], [0, 0, 0], [np.nan, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
        "lattice": [list(np.eye(3).ravel() * 4)] * 4 + [[0.0] * 9, list(np.eye(3).ravel() * 4)],
    }


def test_parquet_of_crystals(tmp_path):
    types = [
        ("id", pa.string()),
        ("atomic_numbers", pa.list_(pa.uint8())),
        ("frac_coords", pa.list_(pa.float32())),
        ("lattice", pa.list_(pa.float64(), 9)),
        ("e_above_hull", pa.float32()),
        ("num_sites", pa.int16()),
        ("stage", pa.dictionary(pa.int8(), pa.string())),
    ]
    more = {
        "e_above_hull": [0.5, None, np.nan, 0, 0, 0],
        "num_sites": [2, 1, 1, None, 1, 2],
        "stage": ["s"] * 6,
    }
    pq.write_table(pa.table(crystal_columns() | more, schema=pa.schema(types)), tmp_path / "t.parquet")
    table = read_crystals(tmp_path / "t.parquet")
    assert table.ids == ["a", "b", "b#2", "c", "d", "e"]
    assert table.column("reason") == [
        None,
        None,
        "a coordinate is not finite",
        "the row has no structure",
        "singular cell (volume 0 Å³)",
        "2 sites, 3 coordinates and 9 lattice numbers disagree",
    ]
    assert table.column("e_above_hull") == [0.5, None, None, 0, 0, 0]
    assert table.column("num_sites") == [2, 1, 1, None, 1, 2]
    assert table.column("source_stage") == ["s"] * 6
    assert table.crystals().ids == ("a", "b")
    assert table.crystals().lattices.dtype == np.float64


def test_a_written_candidate_table_keeps_its_decisions(tmp_path):
    crystals = Crystals.from_structures([CESIUM, ROCKSALT, CESIUM], ["a", "b", "c"])
    table = CandidateTable.from_crystals(crystals, {"d": "no atom sites"})
    table = table.decide("novelty", {"b": "in the reference"}, Status.REJECTED)
    table = table.with_column("e_above_hull", {"a": 0.1}, "Float64").with_column("why", {"c": "x"}, "string")
    table.write(tmp_path / "t.parquet")
    read = read_crystals(tmp_path / "t.parquet")
    assert read.ids == table.ids
    for name in ("status", "stage", "reason", "e_above_hull", "why"):
        assert read.column(name) == table.column(name)
    assert read.crystals().content_hash() == table.crystals().content_hash()
    read.write(tmp_path / "again.parquet")
    assert sha256_of(tmp_path / "again.parquet") == sha256_of(tmp_path / "t.parquet")


def test_parquet_files_that_are_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": ["a"], "composition": ["NaCl"]}), path)
    with pytest.raises(ReadError, match="no column atomic_numbers, frac_coords, lattice"):
        read_crystals(path)
    pq.write_table(pa.table({k: ["x"] for k in ("id", "atomic_numbers", "frac_coords", "lattice")}), path)
    with pytest.raises(ReadError, match="not lists of numbers"):
        read_crystals(path)
    state = {"status": ["fine"] * 6, "stage": ["s"] * 6, "reason": ["r"] * 6}
    pq.write_table(pa.table(crystal_columns() | state), path)
    with pytest.raises(ReadError, match="the column status holds 'fine'"):
        read_crystals(path)
    path.write_bytes(b"PAR1 cut short")
    with pytest.raises(ReadError, match="not a Parquet file"):
        read_crystals(path)


# -- writing -------------------------------------------------------------------------------------------


def test_written_cifs_hold_the_same_crystals(tmp_path):
    slanted = Structure(
        Lattice.from_parameters(3.1, 4.2, 5.3, 77, 84, 69), ["Li", "O", "F"], np.eye(3) * 0.37
    )
    overlapping = Structure(Lattice.cubic(4), ["Li", "F"], [[0, 0, 0], [0, 0, 0]])
    names = ["../../etc/passwd", "mp-1", "MP-1", "a b/ü*"]
    structures = [ROCKSALT.get_primitive_structure(), CESIUM, slanted, overlapping]
    written, failures = write_cif(Crystals.from_structures(structures, names), tmp_path / "out")
    assert not failures
    files = [p.name for p in written.values()]
    assert list(written) == names
    assert files == ["_.._etc_passwd.cif", "mp-1.cif", "MP-1-2.cif", "a_b_.cif"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(files)
    assert "F m -3 m" in written[names[0]].read_text() or "Fm-3m" in written[names[0]].read_text()
    for name, structure in zip(names[:3], structures[:3], strict=True):
        (read,) = read_crystals(written[name]).crystals().to_structures()
        assert StructureMatcher().fit(read, structure)
    assert "two atoms on one spot" in read_crystals(written[names[3]]).column("reason")[0]


def test_a_crystal_that_cannot_be_written_has_a_reason(tmp_path):
    broken = Crystals(
        [11, 17], [[0, 0, 0], [np.nan, 0, 0]], np.stack([np.eye(3) * 4] * 2), [1, 1], ("a", "b")
    )
    written, failures = write_cif(broken, tmp_path)
    assert list(written) == ["a"]
    assert failures == {"b": "a coordinate is not finite"}


def test_sha256_of_a_folder_depends_on_names_and_contents_alone(tmp_path):
    for home in ("one", "two"):
        (tmp_path / home).mkdir()
    for home, names in (("one", "ab"), ("two", "ba")):
        for name in names:
            (tmp_path / home / name).write_text(name)
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two")
    (tmp_path / "two" / "a").rename(tmp_path / "two" / "c")
    assert sha256_of(tmp_path / "one") != sha256_of(tmp_path / "two")
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["a", "a#2", "b", "a#2#2", ""]), max_size=8))
def test_ids_are_made_unique_without_losing_any(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("ids") / "t.parquet"
    columns = {"atomic_numbers": [[3]], "frac_coords": [[0.0] * 3], "lattice": [list(np.eye(3).ravel())]}
    types = [("id", pa.string())] + [(n, pa.list_(pa.float64())) for n in columns]
    pq.write_table(
        pa.table({"id": names} | {k: v * len(names) for k, v in columns.items()}, pa.schema(types)), path
    )
    ids = read_crystals(path).ids
    assert len(ids) == len(set(ids)) == len(names)
    assert all(i.startswith(n) for i, n in zip(ids, names, strict=True))
