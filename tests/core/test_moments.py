"""Initial magnetic moments travel from any input to the inputs of DFT, site by site."""

import json
import os
import subprocess
import warnings

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.db import connect
from pymatgen.core import Lattice, Species, Structure
from pymatgen.io.vasp.inputs import Incar

from crysjepa import api
from crysjepa.core.candidates import CandidateTable
from crysjepa.io import read_crystals
from crysjepa.runtime.notes import ReadNote

MOMENTS = [5.0, -5.0, 0.6, 0.6]


def nickel_oxide():
    """Antiferromagnetic NiO of four sites."""
    cell = 2.085 * np.array([[2.0, 1, 1], [1, 2, 1], [1, 1, 2]])
    coords = [[0] * 3, [0.5] * 3, [0.25] * 3, [0.75] * 3]
    atoms = Atoms("Ni2O2", scaled_positions=coords, cell=cell, pbc=True)
    atoms.set_initial_magnetic_moments(MOMENTS)
    return atoms


def structure(**properties):
    atoms = nickel_oxide()
    return Structure(
        Lattice(atoms.cell.array), ["Ni", "Ni", "O", "O"], atoms.get_scaled_positions(), **properties
    )


@pytest.mark.parametrize("name", ["a.extxyz", "a.traj", "a.db", "property.json", "spin.json", "cell.csv"])
def test_moments_are_read(tmp_path, name):
    path = tmp_path / name
    if name == "a.db":
        with connect(path) as db:
            db.write(nickel_oxide())
    elif name.startswith("a."):
        ase.io.write(path, nickel_oxide())
    elif name == "spin.json":
        made = structure()
        for i, (site, moment) in enumerate(zip(structure(), MOMENTS, strict=True)):
            made.replace(i, Species(site.specie.symbol, 0, spin=moment))
        path.write_text(json.dumps(made.as_dict()))
    else:
        text = json.dumps(structure(site_properties={"magmom": MOMENTS}).as_dict())
        doubled = text.replace('"', '""')
        path.write_text(text if name.endswith("json") else f'id,structure\na,"{doubled}"\n')
    (found,) = read_crystals(path).column("magmoms")
    assert list(found) == MOMENTS


def test_moments_come_to_the_inputs_and_the_static_step_goes_on_from_relaxed_ones(tmp_path):
    ase.io.write(tmp_path / "nio.extxyz", nickel_oxide())
    read_crystals(tmp_path / "nio.extxyz").write(tmp_path / "nio.parquet")
    api.dft_export(tmp_path / "nio.parquet", tmp_path / "dft", write="folders")
    (folder,) = (tmp_path / "dft" / "inputs").iterdir()
    for stage in ("relax_1", "relax_2", "static"):
        assert Incar.from_file(folder / stage / "INCAR")["MAGMOM"] == MOMENTS
        (folder / stage / "POTCAR").write_text("content of your own")
    rows = "".join(f"    {i}  0.0  0.0  1.0  {m}\n" for i, m in enumerate((1.7, -1.7, 0.0, 0.1), start=1))
    table = f"# of ion       s       p       d       tot\n-----\n{rows}-----\ntot  0.0  0.0  4.0  0.1\n"
    outcar = (
        f" magnetization (x)\n\n{table.replace('1.7', '9.9')}\n magnetization (x)\n\n{table}\n 7 other 8\n"
    )
    (tmp_path / "OUTCAR").write_text(outcar)
    vasp = f"cp {tmp_path / 'OUTCAR'} . ; cp POSCAR CONTCAR"
    (tmp_path / "vasp.sh").write_text(f"{vasp}\n")
    environment = {**os.environ, "VASP_CMD": f"sh {tmp_path / 'vasp.sh'}"}
    command = ["sh", "run_vasp.sh", str(folder.relative_to(tmp_path / "dft"))]
    subprocess.run(command, cwd=tmp_path / "dft", env=environment, check=True)
    assert Incar.from_file(folder / "relax_1" / "INCAR")["MAGMOM"] == MOMENTS
    for stage in ("relax_2", "static"):
        after = Incar.from_file(folder / stage / "INCAR")
        assert after["MAGMOM"] == [1.7, -1.7, 0.0, 0.1] and "NSW" in after


def test_moments_that_fit_no_site_are_left_out_with_a_note(tmp_path):
    atoms = nickel_oxide()
    atoms.set_initial_magnetic_moments(None)  # ASE keeps the shape of what is there
    atoms.set_initial_magnetic_moments([[0, 0, m] for m in MOMENTS])
    ase.io.write(tmp_path / "a.extxyz", atoms)
    with pytest.warns(ReadNote, match="one finite number a site"):
        assert "magmoms" not in read_crystals(tmp_path / "a.extxyz")


def test_moments_follow_a_relaxation_and_no_other_order(tmp_path):
    ase.io.write(tmp_path / "nio.extxyz", nickel_oxide())
    table = read_crystals(tmp_path / "nio.extxyz")
    same = table.with_structures(table.crystals())
    assert list(same.column("magmoms")[0]) == MOMENTS
    api.relax(tmp_path / "nio.extxyz", tmp_path / "r.parquet", force_field="ase.calculators.lj:LennardJones")
    assert list(CandidateTable.read(tmp_path / "r.parquet").column("magmoms")[0]) == MOMENTS
    (crystal,) = table.crystals()
    turned = crystal.from_structures([Structure.from_sites(structure()[::-1])], ["nio"])
    with pytest.warns(ReadNote, match="another order"):
        assert table.with_structures(turned).column("magmoms") == [None]


def test_nothing_is_added_where_there_are_none(tmp_path):
    atoms = nickel_oxide()
    atoms.set_initial_magnetic_moments(None)
    ase.io.write(tmp_path / "a.extxyz", atoms)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "magmoms" not in read_crystals(tmp_path / "a.extxyz")
