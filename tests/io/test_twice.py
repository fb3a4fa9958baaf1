"""One crystal that stands in a source several times is counted once, or told."""

import io
import warnings
import zipfile

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from ase.io.trajectory import Trajectory

from crysjepa.io import read_crystals
from crysjepa.runtime.notes import ReadNote

ROCKSALT = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
PERICLASE = bulk("MgO", "rocksalt", a=4.212, cubic=True)


def read(path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ReadNote)
        table = read_crystals(path)
    return table, [str(w.message) for w in told]


def text(frames, kind):
    into = io.StringIO()
    write(into, frames, format=kind)
    return into.getvalue()


def path_of(atoms, steps=5):
    """Frames on the way to ``atoms``, as a relaxation leaves them."""
    rng = np.random.default_rng(0)
    away, strain = rng.normal(0, 0.2, (len(atoms), 3)), rng.normal(0, 0.02, (3, 3))
    frames = []
    for part in np.linspace(1, 0, steps):
        frame = atoms.copy()
        frame.positions += part * away
        frame.set_cell(frame.cell @ (np.eye(3) + part * strain), scale_atoms=True)
        frames.append(frame)
    return frames


@pytest.fixture
def mattergen(tmp_path):
    """The three files that its ``mattergen-generate`` leaves for two crystals."""
    folder = tmp_path / "results"
    folder.mkdir()
    crystals = [ROCKSALT, PERICLASE]
    write(folder / "generated_crystals.extxyz", crystals, format="extxyz")
    with zipfile.ZipFile(folder / "generated_crystals_cif.zip", "w") as archive:
        for i, atoms in enumerate(crystals):
            cif = io.BytesIO()
            write(cif, atoms, format="cif")
            archive.writestr(f"gen_{i}.cif", cif.getvalue())
    with zipfile.ZipFile(folder / "generated_trajectories.zip", "w") as archive:
        for i, atoms in enumerate(crystals):
            archive.writestr(f"gen_{i}.extxyz", text(path_of(atoms), "extxyz"))
    return folder


@pytest.mark.parametrize("gone", [None, "generated_crystals.extxyz"])
def test_a_folder_of_mattergen_holds_each_crystal_once(mattergen, gone):
    if gone:
        (mattergen / gone).unlink()
    table, notes = read(mattergen)
    assert [sorted(set(z)) for z in table.frame["atomic_numbers"]] == [[11, 17], [8, 12]]
    (told,) = notes
    assert "generated_trajectories.zip" in told
    assert ("generated_crystals_cif.zip" in told) == (gone is None)


def test_trajectories_alone_are_read_and_told(mattergen):
    table, notes = read(mattergen / "generated_trajectories.zip")
    assert len(table) == 10
    (told,) = notes
    assert "gen_0.extxyz (5 frames)" in told and "gen_1.extxyz (5 frames)" in told


def test_a_relaxation_of_ase_is_told(tmp_path):
    with Trajectory(tmp_path / "relax.traj", "w") as out:
        for frame in path_of(ROCKSALT, steps=4):
            out.write(frame)
    table, notes = read(tmp_path / "relax.traj")
    assert len(table) == 4 and ["relax.traj (4 frames)" in told for told in notes] == [True]


def test_polymorphs_are_no_steps(tmp_path):
    frames = [bulk("NaCl", kind, a=a) for kind, a in (("rocksalt", 5.64), ("cesiumchloride", 3.4))]
    frames += [bulk("NaCl", "zincblende", a=6.5), bulk("NaCl", "rocksalt", a=5.64, orthorhombic=True)[:2]]
    write(tmp_path / "sets.extxyz", [*frames, PERICLASE], format="extxyz")
    write(tmp_path / "same.extxyz", frames[:3], format="extxyz")
    assert read(tmp_path / "sets.extxyz")[1] == [] == read(tmp_path / "same.extxyz")[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [("NaCl.cif", "NaCl.vasp"), ("POSCAR", "CONTCAR"), ("POSCAR.gz", "CONTCAR.gz"), ("a.cif", "a.cif.gz")],
)
def test_a_crystal_in_two_files_is_told(tmp_path, one, other):
    inside = tmp_path / "set" / "mp-1"
    inside.mkdir(parents=True)
    write(tmp_path / "set" / "MgO.cif", PERICLASE)
    for name in (one, other):
        write(inside / name, ROCKSALT, format="cif" if ".cif" in name else "vasp")
    table, notes = read(tmp_path / "set")
    assert len(table) == 3
    (told,) = notes
    assert f"mp-1/{one}" in told and f"mp-1/{other}" in told and "MgO" not in told
