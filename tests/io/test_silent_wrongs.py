"""Files that say one thing and could be read as another: each is read as it says, or has a reason."""

import bz2
import json
import lzma

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io.trajectory import Trajectory

from crysjepa.core.crystals import Crystals
from crysjepa.io import ReadError, read_crystals, write_crystals
from crysjepa.runtime.notes import ReadNote

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
        (POSCAR + "Direct configuration=     2\n0 0 0\n.4 .5 .5\n", "several configurations"),
    ],
)
def test_a_poscar_with_more_than_it_counts(tmp_path, text, reason):
    (tmp_path / "POSCAR").write_text(text)
    assert reason in only_reason(tmp_path / "POSCAR")


@pytest.mark.parametrize(
    "old, new, reason",
    [
        ("1.0\n", "1.0 ! scale\n", None),
        ("1 1\n", "1 1 ! counts\n", None),
        ("4 0 0\n", "4 0 0 # a\n", None),
        ("\n", "\r", None),
        ("\n", "\r\n", None),
        ("x\n", "\nx\n", "line 2 of the POSCAR is 'x', where its scale stands"),
        ("x\n", "x\n\n", "line 2 of the POSCAR is blank"),
        ("Direct", "\nDirect", "line 8 of the POSCAR is blank"),
        ("4 0 0\n", "4 0 0 0\n", "line 3 of the POSCAR is '4 0 0 0', where the three numbers"),
    ],
)
def test_the_head_of_a_poscar(tmp_path, old, new, reason):
    (tmp_path / "POSCAR").write_bytes(POSCAR.replace(old, new).encode())
    (found,) = read_crystals(tmp_path / "POSCAR").column("reason")
    assert (found or "").startswith(reason or "") and bool(found) == bool(reason)


def test_a_poscar_with_velocities_and_selective_dynamics(tmp_path):
    text = POSCAR.replace("Direct", "Selective dynamics\nDirect") + "\n 0 0 0\n 0.1 0 0\n"
    (tmp_path / "POSCAR").write_text(text)
    assert read_crystals(tmp_path / "POSCAR").column("status") == ["ok"]


def test_three_scales_and_fortran_exponents_in_a_poscar(tmp_path):
    text = POSCAR.replace("\n1.0\n", "\n1.0 1.5D0 2\n").replace("4 0 0", "4.0D+00 0 0.5", 1)
    (tmp_path / "POSCAR").write_text(text)
    crystal = read_crystals(tmp_path / "POSCAR").crystals()
    np.testing.assert_allclose(crystal.lattices[0], [[4, 0, 1], [0, 6, 0], [0, 0, 8]])
    (tmp_path / "POSCAR").write_text(text.replace("Direct", "Cartesian"))
    assert "three scales with Cartesian" in only_reason(tmp_path / "POSCAR")


def test_fortran_exponents_and_brackets_in_a_frame(tmp_path):
    header = 'Lattice="4.0D+00 0 0 -2 3.5 0 0 0 6" energy=-1.0D+01'
    text = f"2\n{header}\nZn 0 0 0\nS 0 2.0D+00 3.0\n"
    (tmp_path / "a.extxyz").write_text(text)
    table = read_crystals(tmp_path / "a.extxyz")
    assert table.column("status") == ["ok"] and table.column("energy") == [-10.0]
    crystal = table.crystals()
    np.testing.assert_allclose(crystal.lattices[0], [[4, 0, 0], [-2, 3.5, 0], [0, 0, 6]])
    np.testing.assert_allclose((crystal.frac_coords @ crystal.lattices[0])[1], [0, 2, 3])
    brackets = text.replace('"4.0D+00 0 0 -2 3.5 0 0 0 6"', "[[4,0,0],[-2,3.5,0],[0,0,6]]")
    (tmp_path / "a.extxyz").write_text(brackets)
    assert only_reason(tmp_path / "a.extxyz").startswith("the lattice is in brackets")


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


@pytest.mark.parametrize("pbc", ['pbc="f f f"', 'pbc="no no no"', "pbc=none", 'PBC="F F F"', 'pbc="T T F"'])
def test_spellings_of_not_periodic(tmp_path, pbc):
    (tmp_path / "a.extxyz").write_text(f'1\nLattice="3 0 0 0 3 0 0 0 3" {pbc}\nFe 0 0 0\n')
    assert only_reason(tmp_path / "a.extxyz") == "not periodic in all three directions"


def test_a_lattice_twice_in_a_header(tmp_path):
    two = 'Lattice="3 0 0 0 3 0 0 0 3" Lattice="9 0 0 0 9 0 0 0 9"'
    (tmp_path / "a.extxyz").write_text(f"1\n{two}\nFe 0 0 0\n")
    assert only_reason(tmp_path / "a.extxyz") == "the lattice is there twice: which one holds?"


def test_a_database_with_rows_that_wait_beside_it(tmp_path):
    atoms = Atoms("Fe", cell=[3, 3, 3], pbc=True)
    with connect(tmp_path / "a.db") as database:
        database.write(atoms)
    assert read_crystals(tmp_path / "a.db").column("status") == ["ok"]
    (tmp_path / "a.db-wal").write_bytes(b"rows")
    with pytest.raises(ReadError, match=r"rows may stand in a\.db-wal"):
        read_crystals(tmp_path / "a.db")


# -- CIF -----------------------------------------------------------------------------------------------


def cif(*rows, head="", columns="label type_symbol fract_x fract_y fract_z"):
    """A CIF of a cube of 5.64 Å."""
    names = ["length_a 5.64", "length_b 5.64", "length_c 5.64", *(f"angle_{a} 90" for a in GREEK)]
    cell = "".join(f"_cell_{name}\n" for name in names)
    loop = "".join(f"_atom_site_{name}\n" for name in columns.split())
    return "data_x\n" + cell + head + "loop_\n" + loop + "\n".join(rows) + "\n"


GREEK = ("alpha", "beta", "gamma")
SALT = ("Na1 Na 0 0 0", "Cl1 Cl 0.5 0.5 0.5")


@pytest.mark.parametrize(
    "line",
    [
        "_space_group.name_H-M_ref 'F m -3 m'",
        "_space_group.centring_type F",
        "_space_group_Laue_class m-3m",
        "_space_group_Bravais_type cF",
        "_space_group_point_group_H-M m-3m",
        "_space_group.reference_setting '225:-F 4 2 3'",
        "_space_group.Patterson_name_H-M 'F m -3 m'",
        "_symmetry_space_group_name_HM 'F m -3 m'",
        "_symmetry_IT_number 225",
        "_symmetry_space_group_number 225",
        "loop_\n_space_group_generator.key\n_space_group_generator.xyz\n1 x,y,z\n2 -x,-y,-z",
    ],
)
def test_symmetry_in_other_words(tmp_path, line):
    (tmp_path / "a.cif").write_text(cif(*SALT, head=f"{line}\n"))
    reason = only_reason(tmp_path / "a.cif")
    assert "no space group and no operation" in reason or reason == "the symmetry operations are not listed"


@pytest.mark.parametrize("column, value", [("Wyckoff_symbol", "c"), ("site_symmetry_order", "48")])
def test_sites_that_speak_of_symmetry(tmp_path, column, value):
    rows = [f"{row} {value}" for row in SALT]
    (tmp_path / "a.cif").write_text(cif(*rows, columns=f"label type_symbol fract_x fract_y fract_z {column}"))
    assert "no space group and no operation" in only_reason(tmp_path / "a.cif")


@pytest.mark.parametrize(
    "line",
    [
        "_space_group.crystal_system triclinic",
        "_space_group_Laue_class -1",
        "_space_group_Bravais_type aP",
        "_space_group_name_H-M_ref 'P 1'",
        "_symmetry_space_group_name_H-M 'P 1'\n_space_group_Bravais_type cF",
    ],
)
def test_words_of_no_symmetry(tmp_path, line):
    (tmp_path / "a.cif").write_text(cif(*SALT, head=f"{line}\n"))
    assert read_crystals(tmp_path / "a.cif").column("status") == ["ok"]


def test_a_tag_twice_in_one_loop(tmp_path):
    rows = [f"{row} 0.7" for row in SALT]
    columns = "label type_symbol fract_x fract_y fract_z fract_Y"
    (tmp_path / "a.cif").write_text(cif(*rows, columns=columns))
    assert "_atom_site_fract_y is there twice in one loop" in only_reason(tmp_path / "a.cif")


def test_alternative_sites(tmp_path):
    rows = ("K1 K 0 0 0 .", "O1 O .5 .5 .5 A", "O2 O .5 .5 .6 B")
    columns = "label type_symbol fract_x fract_y fract_z label_alt_id"
    (tmp_path / "a.cif").write_text(cif(*rows, columns=columns))
    assert "label_alt_id" in only_reason(tmp_path / "a.cif")


def test_moments_in_a_cif_are_left_out_with_a_note(tmp_path):
    moments = "loop_\n_atom_site_moment.label\n_atom_site_moment.crystalaxis_z\nNa1 4.5\n"
    (tmp_path / "a.cif").write_text(cif(*SALT, head=moments))
    with pytest.warns(ReadNote, match="moments in a CIF"):
        assert read_crystals(tmp_path / "a.cif").column("status") == ["ok"]


ORTHORHOMBIC = "_symmetry_space_group_name_H-M 'P m m m'\n"
MULTIPLE = "label type_symbol symmetry_multiplicity fract_x fract_y fract_z"


@pytest.mark.parametrize("z", ["0.5", "0.494(12)", "0.488"])
def test_a_site_near_a_mirror_is_on_it_where_its_multiplicity_says_so(tmp_path, z):
    text = cif("Na1 Na 1 0 0 0", f"Cl1 Cl 1 0.5 0.5 {z}", head=ORTHORHOMBIC, columns=MULTIPLE)
    (tmp_path / "a.cif").write_text(text)
    if z == "0.5":
        crystal = read_crystals(tmp_path / "a.cif").crystals()
    else:
        with pytest.warns(ReadNote, match="moved to it"):
            crystal = read_crystals(tmp_path / "a.cif").crystals()
    assert crystal.num_atoms.tolist() == [2]
    np.testing.assert_allclose(crystal.frac_coords[1], 0.5, atol=1e-12)


@pytest.mark.parametrize(
    "sites, number",
    [
        (("1 0 0 0", "2 0.5 0.5 0.3"), 3),
        (("8 0 0 0", "4 0.5 0.5 0.3"), 3),  # SHELX writes the order of the site's symmetry
        (("1 0 0 0", "? 0.5 0.5 0.3"), 3),
    ],
)
def test_multiplicities_that_agree_with_the_symmetry(tmp_path, sites, number):
    rows = [f"{name} {site}" for name, site in zip(("Na1 Na", "Cl1 Cl"), sites, strict=True)]
    (tmp_path / "a.cif").write_text(cif(*rows, head=ORTHORHOMBIC, columns=MULTIPLE))
    assert read_crystals(tmp_path / "a.cif").crystals().num_atoms.tolist() == [number]


@pytest.mark.parametrize(
    "head, site, reason",
    [
        (ORTHORHOMBIC, "1 0.5 0.5 0.3", "has the multiplicity 1, but 2 images under the symmetry"),
        (ORTHORHOMBIC, "8 0.5 0.5 0.3", "has the multiplicity 8, but 2 images"),
        ("_symmetry_space_group_name_H-M 'P 1'\n", "4 0.5 0.5 0.5", "multiplicity 4, but without symmetry 1"),
    ],
)
def test_multiplicities_against_the_symmetry(tmp_path, head, site, reason):
    rows = ("Na1 Na 1 0 0 0", f"Cl1 Cl {site}")
    (tmp_path / "a.cif").write_text(cif(*rows, head=head, columns=MULTIPLE))
    assert reason in only_reason(tmp_path / "a.cif")


def test_sites_that_are_listed_with_their_images(tmp_path):
    head = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,-z\n"
    rows = ("Na1 Na 0.124 0.217 0.338", "Na2 Na 0.876 0.782 0.663")
    (tmp_path / "b.cif").write_text(cif(*rows, head=head).replace("5.64", "30"))
    assert "two atoms 0.042 Å apart" in only_reason(tmp_path / "b.cif")


def test_many_atoms_in_a_tiny_cell(tmp_path):
    places = np.random.default_rng(0).random((10_000, 3)).round(6)
    rows = [f"H{i} H {x} {y} {z}" for i, (x, y, z) in enumerate(places)]
    (tmp_path / "a.cif").write_text(cif(*rows, head="").replace("5.64", "0.005"))
    assert only_reason(tmp_path / "a.cif").startswith("10000 atoms in 1.3e-07")


# -- tensors, dictionaries, compression ----------------------------------------------------------------


def tensors(**more):
    """Caesium chloride in a cube of 4 Å as CDVAE writes it."""
    return {
        "frac_coords": torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0.5]]),
        "atom_types": torch.tensor([55, 17]),
        "num_atoms": torch.tensor([2]),
        "lengths": torch.full((1, 3), 4.0),
        "angles": torch.full((1, 3), 90.0),
    } | more


@pytest.mark.parametrize("kinds", [101, 117, 119])
def test_scores_of_other_kinds_than_elements(tmp_path, kinds):
    torch.save(tensors(atom_types=torch.eye(kinds)[[55, 17]]), tmp_path / "a.pt")
    with pytest.raises(ReadError, match=f"scores of {kinds} kinds"):
        read_crystals(tmp_path / "a.pt")


@pytest.mark.parametrize("kinds", [100, 118])
def test_scores_of_the_elements(tmp_path, kinds):
    torch.save(tensors(atom_types=torch.eye(kinds)[[54, 16]]), tmp_path / "a.pt")
    assert read_crystals(tmp_path / "a.pt").crystals().atomic_numbers.tolist() == [55, 17]


def test_angles_in_radians(tmp_path):
    torch.save(tensors(angles=torch.full((1, 3), np.pi / 2)), tmp_path / "a.pt")
    with pytest.raises(ReadError, match="they are in radians"):
        read_crystals(tmp_path / "a.pt")


def test_lattices_against_lengths_and_angles(tmp_path):
    torch.save(tensors(lattices=8 * torch.eye(3)[None]), tmp_path / "a.pt")
    assert only_reason(tmp_path / "a.pt").startswith("the lattice contradicts the lengths and angles")
    torch.save(tensors(lattices=4 * torch.eye(3)[None]), tmp_path / "a.pt")
    assert read_crystals(tmp_path / "a.pt").column("status") == ["ok"]


def test_other_values_of_crystals_are_told(tmp_path):
    torch.save(tensors(energy=torch.tensor([-7.0]), steps=torch.zeros(5, 2)), tmp_path / "a.pt")
    with pytest.warns(ReadNote, match="not read from the tensors: energy$"):
        read_crystals(tmp_path / "a.pt")


def test_truth_as_text(tmp_path):
    atoms = {"lattice_mat": (4 * np.eye(3)).tolist(), "elements": ["Cs", "Cl"]}
    rows = [
        atoms | {"coords": [[0, 0, 0], [0.5, 0.5, 0.5]], "cartesian": "False"},
        atoms | {"coords": [[0, 0, 0], [2, 2, 2]], "cartesian": "True"},
        atoms | {"coords": [[0, 0, 0], [2, 2, 2]], "cartesian": "perhaps"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    table = read_crystals(tmp_path / "a.json")
    assert table.column("status") == ["ok", "ok", "failed"]
    np.testing.assert_allclose(table.crystals().frac_coords[1::2], 0.5)


@pytest.mark.parametrize("suffix, pack", [("bz2", bz2.compress), ("xz", lzma.compress)])
def test_junk_between_compressed_streams(tmp_path, suffix, pack):
    frame = b'1\nLattice="3 0 0 0 3 0 0 0 3"\nFe 0 0 0\n'
    path = tmp_path / f"a.extxyz.{suffix}"
    path.write_bytes(pack(frame) + pack(frame))
    assert read_crystals(path).column("status") == ["ok", "ok"]
    for wrong in (pack(frame) + b"junk" + pack(frame), pack(frame) + b"junk and more"):
        path.write_bytes(wrong)
        assert "ok" not in read_crystals(path).column("status")


# -- dictionaries ------------------------------------------------------------------------------------


def structure(metal="Na"):
    sites = [
        {"species": [{"element": e, "occu": 1}], "abc": x} for e, x in ((metal, [0] * 3), ("Cl", [0.5] * 3))
    ]
    return {"lattice": {"matrix": (4 * np.eye(3)).tolist()}, "sites": sites}


def in_json(tmp_path, data):
    (tmp_path / "a.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return read_crystals(tmp_path / "a.json")


def test_energies_of_an_entry_inside_a_record(tmp_path):
    entry = {"energy": -7.0, "correction": -0.5, "entry_id": "wbm-1", "structure": structure()}
    table = in_json(tmp_path, [{"material_id": "m", "computed_structure_entry": entry, "gap": 1.5}])
    assert table.ids == ["m"]
    assert [table.column(n) for n in ("energy", "correction", "entry_id", "gap")] == [
        [-7.0], [-0.5], ["wbm-1"], [1.5],
    ]  # fmt: skip


def test_a_name_twice_in_an_object(tmp_path):
    one = json.dumps(structure())
    text = (
        f'[{{"id": "a", "energy": -1, "energy": -2, "structure": {one}}}, {{"id": "b", "structure": {one}}}]'
    )
    table = in_json(tmp_path, text)
    assert table.column("status") == ["failed", "ok"]
    assert table.column("reason")[0].startswith("energy stands twice")
    with pytest.raises(ReadError, match="structures stands twice"):
        in_json(tmp_path, f'{{"structures": [{one}], "structures": [{one}]}}')
    assert in_json(tmp_path, f'{{"a": {one}, "a": {one}}}').ids == ["a", "a#2"]


@pytest.mark.parametrize(
    "data",
    [
        {"index": ["mp-1", "mp-2"], "columns": ["structure"], "data": [[structure()], [structure("K")]]},
        {"structures": {"mp-1": structure(), "mp-2": structure("K")}},
        {"schema": {}, "data": [{"index": f"mp-{i}", "structure": structure()} for i in (1, 2)]},
    ],
)
def test_ids_in_the_index_of_a_table(tmp_path, data):
    assert in_json(tmp_path, data).ids == ["mp-1", "mp-2"]


def test_a_second_id_is_kept(tmp_path):
    table = in_json(tmp_path, [{"id": "run-3", "material_id": "mp-1", "structure": structure()}])
    assert table.ids == ["mp-1"]
    assert table.column("source_id") == ["run-3"]


@pytest.mark.parametrize(
    "species, reason", [("Na", "the species of a site are 'Na', not"), ([{"element": "Na"}], 'no "occu"')]
)
def test_species_in_another_form(tmp_path, species, reason):
    data = structure()
    data["sites"][0]["species"] = species
    assert reason in in_json(tmp_path, [data]).column("reason")[0]


def test_a_list_of_structures_with_a_gap(tmp_path):
    table = in_json(tmp_path, {"structures": [structure(), None]})
    assert table.column("status") == ["ok", "failed"]


@pytest.mark.parametrize("angle, status", [(np.pi / 2, "failed"), (90, "ok")])
def test_a_lattice_with_angles_in_radians(tmp_path, angle, status):
    lattice = dict.fromkeys("abc", 4.0) | dict.fromkeys(("alpha", "beta", "gamma"), angle)
    table = in_json(tmp_path, [structure() | {"lattice": lattice}])
    assert table.column("status") == [status]
    assert status == "ok" or "they are in radians" in table.column("reason")[0]


def test_sites_in_two_places(tmp_path):
    data = structure()
    data["sites"][0]["xyz"], data["sites"][1]["xyz"] = [0, 0, 0], [2.001, -2, 6]
    assert in_json(tmp_path, [data]).column("status") == ["ok"]
    data["sites"][1]["xyz"] = [1, 1, 1]
    assert in_json(tmp_path, [data]).column("reason")[0].startswith("the sites' abc contradict")


@pytest.mark.parametrize("length, status", [(4.0, "ok"), (8.0, "failed")])
def test_a_matrix_against_lengths_and_angles(tmp_path, length, status):
    data = structure()
    angles = dict.fromkeys(("alpha", "beta", "gamma"), 90.0)
    data["lattice"] |= dict.fromkeys("abc", length) | angles
    assert in_json(tmp_path, [data]).column("status") == [status]
    jarvis = {"lattice_mat": data["lattice"]["matrix"], "elements": ["Cs", "Cl"], "cartesian": False}
    jarvis |= {"coords": [[0, 0, 0], [0.5] * 3], "abc": [length] * 3, "angles": [90.0] * 3}
    assert in_json(tmp_path, [jarvis]).column("status") == [status]


# -- CSV ---------------------------------------------------------------------------------------------


def test_a_csv_without_names_of_columns(tmp_path):
    (tmp_path / "a.csv").write_text(f'a,-1,"{POSCAR}"\nb,-1,"{POSCAR}"\n')
    with pytest.raises(ReadError, match="not the names of columns"):
        read_crystals(tmp_path / "a.csv")


def test_blanks_around_names_of_columns(tmp_path):
    (tmp_path / "a.csv").write_text(f'id, energy , poscar\na,-1,"{POSCAR}"\n')
    table = read_crystals(tmp_path / "a.csv")
    assert (table.ids, table.column("energy")) == (["a"], [-1.0])


def test_another_column_of_structures_is_told(tmp_path):
    salt = cif("Na1 Na 0 0 0")
    (tmp_path / "a.csv").write_text(f'id,cif,cif.conv\na,"{salt}","{salt}"\n')
    with pytest.warns(ReadNote, match="not from cif.conv"):
        read_crystals(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "volume, status", [("179.4(2)", "ok"), ("176.5", "ok"), ("?", "ok"), ("44.85", "failed")]
)
def test_the_volume_of_another_cell(tmp_path, volume, status):
    (tmp_path / "a.cif").write_text(cif("Na1 Na 0 0 0", head=f"_cell_volume {volume}\n"))
    assert read_crystals(tmp_path / "a.cif").column("status") == [status]


def test_a_volume_that_is_somewhat_off_is_told(tmp_path):
    (tmp_path / "a.cif").write_text(cif("Na1 Na 0 0 0", head="_cell_volume 170\n"))
    with pytest.warns(ReadNote, match="differs from its cell's by more than 2 %"):
        assert read_crystals(tmp_path / "a.cif").column("status") == ["ok"]


@pytest.mark.parametrize(
    "line, reason",
    [
        ("_cell_length_units pm", "_cell_length_units is 'pm'"),
        ("_cell_units nm", "_cell_units is 'nm'"),
        ("_cell_angle_units radians", "_cell_angle_units is 'radians'"),
        ("_cell_length_units Angstroms", None),
        ("_cell_angle_units deg", None),
    ],
)
def test_units_of_a_cell(tmp_path, line, reason):
    (tmp_path / "a.cif").write_text(cif("Na1 Na 0 0 0", head=f"{line}\n"))
    (found,) = read_crystals(tmp_path / "a.cif").column("reason")
    assert (found or "").startswith(reason or "") and bool(found) == bool(reason)


@pytest.mark.parametrize(
    "label, more, status",
    [
        ("OH1", "", "failed"), ("Ow1", "", "failed"), ("O1W", "", "failed"), ("CH1", "", "failed"),
        ("Oh", "", "failed"), ("O1", "", "ok"), ("OA1", "", "ok"), ("Ho1", "", "ok"),
        ("OH1", "_chemical_formula_sum 'Na O'\n", "ok"),
    ],
)  # fmt: skip
def test_labels_that_speak_of_hydrogens(tmp_path, label, more, status):
    columns = "label fract_x fract_y fract_z"
    (tmp_path / "a.cif").write_text(cif("Na1 0 0 0", f"{label} .5 .5 .5", columns=columns, head=more))
    table = read_crystals(tmp_path / "a.cif")
    assert table.column("status") == [status]
    (tmp_path / "a.cif").write_text(cif("Na1 0 0 0", f"{label} .5 .5 .5", "H1 .2 .2 .2", columns=columns))
    assert read_crystals(tmp_path / "a.cif").column("status") == ["ok"]


def test_a_link_to_nothing_is_a_row(tmp_path):
    (tmp_path / "a.cif").write_text(cif("Na1 Na 0 0 0"))
    (tmp_path / "b.cif").symlink_to("gone.cif")
    (tmp_path / "c.cif").symlink_to("c.cif")
    table = read_crystals(tmp_path)
    assert (table.ids, table.column("status")) == (["a", "b", "c"], ["ok", "failed", "failed"])
    assert table.column("reason")[1] == "a link to a file that is not there"


@pytest.mark.parametrize(
    "more, reason",
    [
        ("energy=-7 energy=-8", "energy is there twice"),
        ("energy=-7 Energy=-8", None),
        ('note="a=1 a=2" energy=-7', None),
        ("id=a id=b", "id is there twice"),
    ],
)
def test_a_value_twice_in_a_header(tmp_path, more, reason):
    head = 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3'
    (tmp_path / "a.extxyz").write_text(f"1\n{head} {more}\nNa 0 0 0\n")
    (found,) = read_crystals(tmp_path / "a.extxyz").column("reason")
    assert (found or "").startswith(reason or "") and bool(found) == bool(reason)


def test_occupancies_under_a_short_name(tmp_path):
    head = 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:occ:R:1'
    (tmp_path / "a.extxyz").write_text(f"1\n{head}\nNa 0 0 0 0.5\n")
    assert only_reason(tmp_path / "a.extxyz") == "a site is partially occupied"


@pytest.mark.parametrize("formula, reason", [("Na (O H)", "hydrogens are declared"), ("Hf O2", None)])
def test_hydrogens_in_a_structural_formula(tmp_path, formula, reason):
    head = f"_chemical_formula_structural '{formula}'\n"
    (tmp_path / "a.cif").write_text(cif("Na1 Na 0 0 0", "O1 O .5 .5 .5", head=head))
    (found,) = read_crystals(tmp_path / "a.cif").column("reason")
    assert (found or "").startswith(reason or "") and bool(found) == bool(reason)


def test_water_is_not_tungsten(tmp_path):
    columns = "label fract_x fract_y fract_z"
    (tmp_path / "a.cif").write_text(cif("Ca1 0 0 0", "Wa1 .5 .5 .5", columns=columns))
    assert only_reason(tmp_path / "a.cif") == "'Wa1' is not an element"


# -- frames of extended XYZ ----------------------------------------------------------------------------

TEXTS = (
    "1 2 3", "T T F", "007", "1.10", "T", "True", "12", "_JSON [1]", 'say "x"', "a\nb", "nan", "a\\b", "'",
)  # fmt: skip


def test_texts_come_back_from_a_frame_as_they_were(tmp_path):
    Atoms("CsCl", scaled_positions=[[0] * 3, [0.5] * 3], cell=[4, 4, 4], pbc=True).write(tmp_path / "a.cif")
    for i, text in enumerate(TEXTS):
        table = read_crystals(tmp_path / "a.cif")
        write_crystals(table.with_column("label", {table.ids[0]: text}), tmp_path / f"{i}.xyz")
        back = read_crystals(tmp_path / f"{i}.xyz")
        assert back.column("label") == [text] and back.ids == table.ids


FRAME = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 pbc="T T T" %s\nCs 0 0 0%s\nCl 2 2 2\n'


@pytest.mark.parametrize(
    "written, value", [("007", "007"), ("12e3", "12e3"), ("7", 7), ("1.5", 1.5), ("T", True), ("nan", None)]
)
def test_values_in_a_header(tmp_path, written, value):
    (tmp_path / "a.xyz").write_text(FRAME % (f"label={written}", ""))
    (found,) = read_crystals(tmp_path / "a.xyz").column("label")
    assert found == value and type(found) is type(value)


def test_values_beyond_those_declared(tmp_path):
    (tmp_path / "a.xyz").write_text(FRAME % ("", " 0.5"))
    assert "4 values an atom are declared in Properties, a line has 5" in only_reason(tmp_path / "a.xyz")
    (tmp_path / "a.xyz").write_text(FRAME.replace("Properties=species:S:1:pos:R:3 ", "") % ("", " 0.5"))
    with pytest.warns(ReadNote, match="values behind the positions"):
        read_crystals(tmp_path / "a.xyz")


# -- names and values that are kept -----------------------------------------------------------------------


def test_names_of_rows_in_pandas_index_are_ids(tmp_path):
    cif = "data_x\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n_cell_angle_alpha 90\n"
    cif += "_cell_angle_beta 90\n_cell_angle_gamma 90\nloop_\n_atom_site_type_symbol\n_atom_site_fract_x\n"
    cif += "_atom_site_fract_y\n_atom_site_fract_z\nPo 0 0 0\n"
    for head in ("", "Unnamed: 0"):
        (tmp_path / "a.csv").write_text(f'{head},cif\nmp-1,"{cif}"\nmp-22862,"{cif}"\n')
        assert read_crystals(tmp_path / "a.csv").ids == ["mp-1", "mp-22862"]
        (tmp_path / "b.csv").write_text(f'{head},cif\n0,"{cif}"\n1,"{cif}"\n')
        assert read_crystals(tmp_path / "b.csv").ids == ["b-0", "b-1"]


def test_letters_of_another_encoding_stay_apart(tmp_path):
    frame = b'1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 id=K%sfig\nPo 0 0 0\n'
    (tmp_path / "a.extxyz").write_bytes(frame % b"\xe4" + frame % b"\xf6")
    assert read_crystals(tmp_path / "a.extxyz").ids == [r"K\xe4fig", r"K\xf6fig"]


def test_a_frame_that_is_no_crystal_keeps_its_values(tmp_path):
    text = (
        '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 id=slab REF_energy=-1.3 pbc="F F F"\n'
    )
    (tmp_path / "a.extxyz").write_text(text + "Po 0 0 0\n")
    table = read_crystals(tmp_path / "a.extxyz")
    assert table.ids == ["slab"] and table.column("status") == ["failed"]
    assert table.column("REF_energy") == [-1.3]


def test_properties_of_a_structure_in_a_record_are_kept(tmp_path):
    cell = {"@class": "Structure", "lattice": {"matrix": [[4, 0, 0], [0, 4, 0], [0, 0, 4]]},
            "sites": [{"species": [{"element": "Po", "occu": 1}], "abc": [0, 0, 0]}]}  # fmt: skip
    inner = {"properties": {"material_id": "s", "formation_energy_per_atom": -2.0, "energy": -7.0}}
    record = {"structure": cell | inner, "energy": -6.0}
    (tmp_path / "a.json").write_text(json.dumps([record]))
    table = read_crystals(tmp_path / "a.json")
    assert table.ids == ["s"] and table.column("energy") == [-6.0]
    assert table.column("formation_energy_per_atom") == [-2.0]
    record["structure"]["sites"][0]["abc"] = [True, False, 0.25]
    (tmp_path / "b.json").write_text(json.dumps([record]))
    assert "in place of numbers" in only_reason(tmp_path / "b.json")


@pytest.mark.parametrize("word", ["H.75", "H1.25", "H.5", "H.", "H.5_pv/0a1b"])
def test_hydrogens_of_a_fractional_charge_are_no_hydrogens(word, tmp_path):
    text = f"ZnS\n1.0\n5 0 0\n0 5 0\n0 0 9\nZn S {word}\n1 1 1\nDirect\n0 0 0\n.5 .5 .2\n0 0 .8\n"
    (tmp_path / "slab.vasp").write_text(text)
    (reason,) = read_crystals(tmp_path / "slab.vasp").column("reason")
    assert repr(word) in reason and "no element" in reason
    (tmp_path / "slab.vasp").write_text(text.replace(word, "Fe2.5+"))
    assert read_crystals(tmp_path / "slab.vasp").frame["atomic_numbers"][0][2] == 26
