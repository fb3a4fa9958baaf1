"""Files that say one thing and could be read as another: each is read as it says, or has a reason."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory

from crysjepa.core.crystals import Crystals
from crysjepa.io import read_crystals, write_crystals

POSCAR = "x\n1.0\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"


def only_reason(path):
    """The reason of the one row in a file."""
    table = read_crystals(path)
    assert len(table) == 1 and table.column("status") == ["failed"]
    return table.column("reason")[0]


# -- POSCAR --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", ["1 0 0\n0 1 0\n0 0 1", "0 1 0\n1 0 0\n0 0 1"])
def test_a_volume_in_place_of_a_scale_goes_with_cartesian_coordinates(tmp_path, rows):
    text = f"CsCl\n-64\n{rows}\nCs Cl\n1 1\nCartesian\n0 0 0\n0.5 0.5 0.5\n"
    (tmp_path / "POSCAR").write_text(text)
    crystal = read_crystals(tmp_path / "POSCAR").crystals()
    assert abs(np.linalg.det(crystal.lattices[0])) == pytest.approx(64)
    np.testing.assert_allclose(crystal.frac_coords[1], 0.5, atol=1e-12)


@pytest.mark.parametrize(
    "text, reason",
    [
        (POSCAR + ".25 .25 .25\n", "counts 2 sites and lists more"),
        (POSCAR.replace("Cs Cl", "Cs Cl K"), "names 3 elements and counts 2"),
        (POSCAR + POSCAR, "a second POSCAR follows"),
        (POSCAR + "\n" + POSCAR, "a second POSCAR follows"),
    ],
)
def test_a_poscar_with_more_than_it_counts(tmp_path, text, reason):
    (tmp_path / "POSCAR").write_text(text)
    assert reason in only_reason(tmp_path / "POSCAR")


def test_a_poscar_with_velocities_and_selective_dynamics(tmp_path):
    text = POSCAR.replace("Direct", "Selective dynamics\nDirect") + "\n 0 0 0\n 0.1 0 0\n"
    (tmp_path / "POSCAR").write_text(text)
    assert read_crystals(tmp_path / "POSCAR").column("status") == ["ok"]


# -- left-handed cells ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.cif", "a.csv", "a.zip", "a.vasp", "a.extxyz", "a.json"])
def test_a_left_handed_cell_keeps_its_hand(tmp_path, name):
    lattice = np.array([[0, 5.1, 0.3], [4.2, 0, 0], [0.2, 0, 6.0]])
    frac = np.array([[0.05, 0.1, 0.2], [0.3, 0.25, 0.6], [0.7, 0.55, 0.85], [0.15, 0.8, 0.4]])
    assert np.linalg.det(lattice) < 0
    given = Crystals(np.array([11, 17, 8, 26]), frac, lattice[None], np.array([4]), ("a",))
    write_crystals(given, tmp_path / name)
    read = read_crystals(tmp_path / name).crystals()
    assert _hand(read) == pytest.approx(_hand(given), rel=1e-6)


def _hand(crystal):
    """The triple product (Å³) of vectors from the first atom to the others, which a mirror image negates."""
    difference = crystal.frac_coords[1:] - crystal.frac_coords[0]
    return np.linalg.det((difference - np.round(difference)) @ crystal.lattices[0])


# -- ASE -----------------------------------------------------------------------------------------------


def test_calculated_moments_come_before_initial_ones_in_a_trajectory(tmp_path):
    atoms = Atoms("Fe2", positions=[[0, 0, 0], [1.5, 1.5, 1.5]], cell=[3, 3, 3], pbc=True, magmoms=[5, 5])
    with Trajectory(tmp_path / "a.traj", "w") as trajectory:
        trajectory.write(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, magmoms=[2.2, -2.2])
        trajectory.write(atoms)
    assert [list(m) for m in read_crystals(tmp_path / "a.traj").column("magmoms")] == [[5, 5], [2.2, -2.2]]


def test_an_atomic_number_that_is_not_whole(tmp_path):
    atoms = Atoms("NaCl", positions=[[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True)
    atoms.arrays["numbers"] = np.array([11.0, 17.5])
    with Trajectory(tmp_path / "a.traj", "w") as trajectory:
        trajectory.write(atoms)
    (tmp_path / "a.extxyz").write_text(
        '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=Z:R:1:pos:R:3\n11 0 0 0\n17.5 2 2 2\n'
    )
    for name in ("a.traj", "a.extxyz"):
        assert only_reason(tmp_path / name) == "an atomic number is 17.5, which is not whole"
