"""Reading CIF: right, or refused with a reason. The settings of space groups are in test_cif_settings."""

import itertools
import warnings
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifParser, CifWriter

from crysjepa import datasets
from crysjepa._cif import ReadError, atomic_number, read_only_block
from crysjepa.io import read_crystals

CASES = Path(__file__).parent / "data" / "cases" / "structures"
ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
P1 = str(CifWriter(Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])))

HEADER = """data_{name}
_cell_length_a {a}
_cell_length_b 4.0
_cell_length_c 4.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
"""
LOOP = """loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


def cif(*rows: str, name: str = "x", a: str = "4.0", extra: str = "") -> str:
    return HEADER.format(name=name, a=a) + extra + LOOP + "\n".join(rows) + "\n"


SALT = cif("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1")
NA = cif("Na1 Na 0 0 0 1")


def symmetric_cif(structure: Structure, **options: int) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spglib announces changes of its own to pymatgen
        return str(CifWriter(structure, symprec=0.01, **options))


def only(path: Path, text: str | bytes) -> tuple[str, str | None]:
    """Status and reason of the single crystal in a file with this text."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    table = read_crystals(path)
    assert len(table) == 1
    return table.column("status")[0], table.column("reason")[0]


def outcome(text: str) -> object:
    """Number of sites in a text of one block, or the reason for none."""
    try:
        return len(read_only_block(text).atomic_numbers)
    except ReadError as error:
        return str(error)


def is_so(found: object, expected: object) -> bool:
    """Whether an outcome is the number expected, or a reason with the words expected in it."""
    return (
        found == expected if isinstance(expected, int) else isinstance(found, str) and str(expected) in found
    )


# -- small files that once came out wrong ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("anatase_origin2", 12),
        ("bi2te3_rhombohedral", 5),
        ("data_in_text_field", 8),
        ("diamond_origin2", 8),
        ("endash_cp1252", r"a coordinate is '\ufffd0.30', not a number"),
        ("h2o_type_symbol", "'H2O' is not an element"),
        ("ho1_is_holmium", 4),
        ("loop_upper_case", 1),
        ("mixed_site_nb_zr", "'Nb/Zr' is not an element"),
        ("nacl_identity_only", 8),
        ("names_mixed_case", 1),
        ("nh4_is_nihonium", "'NH4' is not an element"),
        ("op_is_nonsense", "'foo,bar,baz' is not a symmetry operation"),
        ("ops_unquoted", "'x,' is not a symmetry operation"),
        ("p21n_name_and_number", 24),
        ("p422_hall_taken_for_hm", 8),
        ("t1_is_tritium", "'T1' is not an element"),
        ("unicode_minus", 2),
    ],
)
def test_small_cases(tmp_path, file, expected):
    table = read_crystals(CASES / f"{file}.cif")
    crystals = table.crystals()
    found = int(crystals.num_atoms[0]) if len(crystals) else table.column("reason")[0]
    assert is_so(found, expected), found


def test_every_small_case_is_tried():
    tried = next(m for m in test_small_cases.pytestmark if m.name == "parametrize").args[1]
    assert {name for name, _ in tried} == {path.stem for path in CASES.glob("*.cif")}


def test_what_the_small_cases_hold():
    def read(name):
        return read_crystals(CASES / f"{name}.cif").crystals()

    assert read("unicode_minus").frac_coords[1].tolist() == [-0.3, 0.25, 0.1]
    assert read("ho1_is_holmium").reduced_formulas() == ["AlHO2"]
    monazite = read("p21n_name_and_number").to_structures()[0]
    cerium, oxygen = (monazite.indices_from_symbol(symbol) for symbol in ("Ce", "O"))
    distances = monazite.distance_matrix[np.ix_(cerium, oxygen)]
    assert distances.min() == pytest.approx(2.45, abs=0.02)


# -- as tables of crystals ----------------------------------------------------------------------------------


def test_cif_keeps_order_and_coordinates(tmp_path):
    path = tmp_path / "my.crystal.cif"
    path.write_text(cif("O1 O2- 0.33335(2) 0.1 0.99 1", "Ti1 Ti4+ 0.66665 0.5 -0.2 1.0(1)"))
    crystals = read_crystals(path).crystals()
    assert crystals.ids == ("my.crystal",)
    assert crystals.atomic_numbers.tolist() == [8, 22]
    # no rounding of 0.33335 to 1/3: without symmetry there is nothing to make it coincide with
    np.testing.assert_array_equal(crystals.frac_coords, [[0.33335, 0.1, 0.99], [0.66665, 0.5, -0.2]])
    np.testing.assert_allclose(crystals.lattices[0], np.eye(3) * 4, atol=1e-12)


@pytest.mark.parametrize(
    "group, lattice, species, coords",
    [
        ("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        ("P6_3/mmc", Lattice.hexagonal(2.95, 4.68), ["Ti"], [[1 / 3, 2 / 3, 0.25]]),
        ("P6_3mc", Lattice.hexagonal(3.25, 5.2), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.38]]),
        ("P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]),
        ("R-3c", Lattice.hexagonal(4.76, 12.99), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]),
        (
            "P2_1/c",
            Lattice.monoclinic(5.1, 5.2, 5.3, 99.2),
            ["Zr", "O"],
            [[0.27, 0.04, 0.21], [0.07, 0.33, 0.34]],
        ),
    ],
)
def test_symmetric_cif_expands_as_pymatgen_does(tmp_path, group, lattice, species, coords):
    structure = Structure.from_spacegroup(group, lattice, species, coords)
    text = symmetric_cif(structure, significant_figures=4)
    (tmp_path / "a.cif").write_text(text)
    (read,) = read_crystals(tmp_path / "a.cif").crystals().to_structures()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (oracle,) = CifParser.from_str(text, check_cif=False).parse_structures(primitive=False)
    assert read.composition == oracle.composition == structure.composition
    assert StructureMatcher(primitive_cell=False, scale=False, stol=0.01).fit(read, oracle)


def test_space_group_symbol_alone_is_enough(tmp_path):
    text = cif("Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1", extra="_symmetry_space_group_name_H-M 'F m -3 m'\n")
    (tmp_path / "a.cif").write_text(text)
    assert read_crystals(tmp_path / "a.cif").crystals().num_atoms.tolist() == [8]


def test_cif_with_several_blocks(tmp_path):
    bibliography = "data_global\n_journal_name_full 'A journal'\n"
    blocks = [
        cif("Na1 Na 0 0 0 1", name="good"),
        cif("X1 X 0 0 0 1", name="bad"),
        cif("K1 K 0 0 0 1", name="last"),
    ]
    path = tmp_path / "many.cif"
    path.write_text(bibliography + "".join(blocks))
    table = read_crystals(path)
    assert table.ids == ["many-good", "many-bad", "many-last"]
    assert table.column("status") == ["ok", "failed", "ok"]
    path.write_text(
        "".join(
            b.replace(f"data_{n}", "data_same") for b, n in zip(blocks, ("good", "bad", "last"), strict=True)
        )
    )
    assert read_crystals(path).ids == ["many-0", "many-1", "many-2"]


@pytest.mark.parametrize(
    "text, reason",
    [
        (b"", "the file is empty"),
        ("  \n\n", "the file is empty"),
        ("nonsense", "no data block: not a CIF"),
        (b"\x00\xff\xfe\x80" * 50, "no data block: not a CIF"),
        ("data_x\n", "no atom sites"),
        (HEADER.format(name="x", a="4"), "no atom sites"),
        (SALT[: SALT.index("0.5 0.5 0.5")] + "0.5", "a loop is incomplete: the file seems truncated"),
        (SALT[: SALT.index("Na1")], "a loop is incomplete: the file seems truncated"),
        (P1[: P1.rindex("\n", 0, -1)], "the file declares Cs1 Cl1 (Z = 1) but the cell has Cs1"),
        (cif("Na1 Na nan 0 0 1"), "a coordinate is not finite (nan)"),
        (cif("Na1 Na 0 inf 0 1"), "a coordinate is not finite (inf)"),
        (cif("Na1 Na 0 ? 0 1"), "a coordinate is '?', not a number"),
        (cif("Na1 Na 0 0 0 1", a="nan"), "the cell's length a is not finite (nan)"),
        (cif("Na1 Na 0 0 0 1", a="1e999"), "the cell's length a is not finite (1e999)"),
        (cif("Na1 Na 0 0 0 1", a="0"), "the cell's length a is 0"),
        (cif("Na1 Na 0 0 0 1", a="-4"), "the cell's length a is -4"),
        (NA.replace("gamma 90", "gamma 180"), "singular cell"),
        (NA.replace("gamma 90", "gamma 10").replace("alpha 90", "alpha 170"), "singular cell"),
        (NA.replace("_cell_length_a 4.0\n", ""), "no unit cell"),
        (cif("Na1 Na 0 0 0 0.5"), "a site is partially occupied (0.5)"),
        (cif("Na1 Na 0 0 0 0.5", "K1 K 0 0 0 0.5"), "a site is partially occupied (0.5)"),
        (cif("X1 X 0 0 0 1"), "'X' is not an element"),
        (cif("Va1 Va 0 0 0 1"), "'Va' is not an element"),
        (cif("Wat1 Wat 0 0 0 1"), "'Wat' is not an element"),
        (cif("Na1 Na 0 0 0 1", "Cl1 Cl 0 0 0 1"), "two atoms on one spot at (0.0, 0.0, 0.0)"),
        (cif("Na1 Na 0.25 0 0 1", "Na2 Na 1.25 0 -1 1"), "two atoms on one spot at (0.25, 0.0, 0.0)"),
        (NA.replace("loop_", "_symmetry_space_group_name_H-M 'Q 7'\nloop_"), "the symmetry 'Q 7'"),
        ("data_x\n" + "#" * 2000 + "\n" + ("# " * 1000 + "\n") * 11_000, "22 MB of text"),
        (cif(*[f"Na{i} Na {i / 3000} 0 0 1" for i in range(2500)]), "2500 sites (limit 2000)"),
        (cif("Na1 Na 0 0 0 1", extra="_note 'a\n"), "unparsable CIF, line 8: unterminated 'string'"),
    ],
)  # fmt: skip
def test_unreadable_cif_is_a_failed_row_with_a_reason(tmp_path, text, reason):
    status, given_reason = only(tmp_path / "a.cif", text)
    assert status == "failed"
    assert given_reason.startswith(reason)


@pytest.mark.parametrize(
    "rows, numbers",
    [
        (["D1 D 0 0 0 1", "O1 O 0.5 0.5 0.5 ."], [1, 8]),
        (["Og1 Og 0 0 0 1", "Es1 Es3+ 0.5 0.5 0.5 ?"], [118, 99]),
        (["a FE 0 0 0 1", "b co 0.5 0.5 0.5 1"], [26, 27]),
    ],
)
def test_elements_that_are_readable(tmp_path, rows, numbers):
    (tmp_path / "a.cif").write_text(cif(*rows))
    assert read_crystals(tmp_path / "a.cif").crystals().atomic_numbers.tolist() == numbers


@pytest.mark.parametrize(
    "label, number", [("Fe1A", 26), ("OW2", 8), ("Ow2", 8), ("CA1", 20), ("D3", 1), ("O", 8)]
)
def test_elements_from_labels(tmp_path, label, number):
    text = cif(f"{label} 0 0 0 1").replace("_atom_site_type_symbol\n", "")
    (tmp_path / "a.cif").write_text(text)
    assert read_crystals(tmp_path / "a.cif").crystals().atomic_numbers.tolist() == [number]
    assert only(tmp_path / "b.cif", text.replace(f"{label} 0 0", "Vac1 0 0"))[0] == "failed"


def test_a_symmetric_cif_whose_atoms_meet_is_not_merged(tmp_path):
    symmetric = symmetric_cif(ROCKSALT)
    row = next(line for line in symmetric.splitlines() if line.strip().startswith("Cl"))
    status, reason = only(
        tmp_path / "a.cif", symmetric + row.replace("Cl1", "Br9").replace("Cl", "Br") + "\n"
    )
    assert status == "failed"
    assert reason.startswith("two atoms on one spot at (")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "tail, status",
    [
        (" \n" * 3_000_000, "ok"),
        ((" " * 2000 + "\n") * 2000, "ok"),
        (("'a" * 1000 + "\n") * 500, "failed"),
        ("_note '" + "a'" * 500_000 + "'\n", "ok"),
    ],
)
def test_a_pathological_cif_does_not_hang(tmp_path, tail, status):
    assert only(tmp_path / "a.cif", SALT + tail)[0] == status


def test_windows_and_utf16_text(tmp_path):
    assert only(tmp_path / "a.cif", b"\xef\xbb\xbf" + SALT.replace("\n", "\r\n").encode())[0] == "ok"
    assert only(tmp_path / "b.cif", SALT.encode("utf-16"))[0] == "ok"


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(P1) - 1), noise=st.binary(max_size=8))
def test_a_damaged_cif_never_raises_and_never_loses_its_row(tmp_path_factory, cut, noise):
    path = tmp_path_factory.mktemp("cut") / "a.cif"
    path.write_bytes(P1.encode()[:cut] + noise)
    table = read_crystals(path)
    assert len(table) >= 1
    assert all(
        r for r, s in zip(table.column("reason"), table.column("status"), strict=True) if s == "failed"
    )


# -- kinds of faults -------------------------------------------------------------------------------------


CELL = "_cell_length_{} {}\n" * 3 + "_cell_angle_{} {}\n" * 3


def block(*rows, cell=(4, 4, 4, 90, 90, 90), extra="", operations=(), columns="label type_symbol", name="x"):
    """A CIF of rows of ``columns`` and three coordinates."""
    keys = ("a", "b", "c", "alpha", "beta", "gamma")
    text = f"data_{name}\n" + CELL.format(*itertools.chain(*zip(keys, cell, strict=True))) + extra
    if operations:
        text += "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'{o}'\n" for o in operations)
    names = [*columns.split(), "fract_x", "fract_y", "fract_z"]
    return text + "loop_\n" + "".join(f"_atom_site_{n}\n" for n in names) + "\n".join(rows) + "\n"


PO = "Po1 Po 0.1 0.2 0.3"


def named(name, number=""):
    return f"_symmetry_space_group_name_H-M '{name}'\n" + (
        f"_symmetry_Int_Tables_number {number}\n" * bool(number)
    )


@pytest.mark.parametrize(
    ("cell", "operations", "expected"),
    [
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "z,x,y", "y,z,x"], 3),
        ((4, 4, 5, 90, 90, 90), ["x,y,z", "z,x,y", "y,z,x"], "z,x,y is no symmetry of this cell"),
        ((4, 4, 5, 90, 90, 90), ["x,y,z", "-y,x-y,z", "-x+y,-x,z"], "is no symmetry of this cell"),
        ((4, 4, 5, 90, 90, 120), ["x,y,z", "-y,x-y,z", "-x+y,-x,z"], 3),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "-y,x,z"], "no group"),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "x+1/3,y,z"], "no group"),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "-x,-y,z+1/4"], "no group"),
        ((4, 4, 4, 90, 90, 90), ["-x,-y,-z"], "the identity x, y, z is not among"),
        ((4, 4, 4, 90, 90, 90), ["x+1/2,y,z", "-x,-y,-z"], "the identity x, y, z is not among"),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "x,y,z", " -X, -Y , -Z"], 2),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "0.5-x,-y,1/2 - z"], 2),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "-x+617/2500,-y,-z"], 2),
        ((4, 4, 9, 90, 90, 120), ["x,y,z", "x+0.333,y+.667,z+.667", "x+0.667,y+.333,z+.333"], 3),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "2x,y,z"], "'2x,y,z' is not a symmetry operation"),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "x,x,z"], "'x,x,z' is not a symmetry operation"),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "1/2,y,z"], "'1/2,y,z' is not a symmetry operation"),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "-x+1/0,y,z"], "is not a symmetry operation"),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "--x,y,z"], "is not a symmetry operation"),
        ((4, 4, 4, 90, 90, 90), ["h,k,l"], "is not a symmetry operation"),
        ((4, 4, 4, 90, 90, 90), ["x,y,z", "\u2212x,\u2212y,\u2013z"], 2),
    ],
)  # fmt: skip
def test_operations_are_a_group_of_isometries_or_refused(cell, operations, expected):
    found = outcome(block(PO, cell=cell, operations=operations))
    assert is_so(found, expected), found


FCC = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]
WHOLE = [*(f"Na{i} Na {x} {y} {z}" for i, (x, y, z) in enumerate(FCC)),
         *(f"Cl{i} Cl {x + 0.5} {y} {z}" for i, (x, y, z) in enumerate(FCC))]  # fmt: skip
PAIR = ["Na1 Na 0 0 0", "Cl1 Cl 0.5 0.5 0.5"]
PRIMITIVE = (3.99, 3.99, 3.99, 60, 60, 60)


@pytest.mark.parametrize(
    ("rows", "cell", "said", "expected"),
    [
        (PAIR, (5.64, 5.64, 5.64, 90, 90, 90), "", "only the identity is listed"),
        (
            PAIR,
            (5.64, 5.64, 5.64, 90, 90, 90),
            "_chemical_formula_sum 'Na Cl'\n",
            "only the identity is listed",
        ),
        (
            PAIR,
            (5.64, 5.64, 5.64, 90, 90, 90),
            "_chemical_formula_sum 'Na4 Cl4'\n_cell_formula_units_Z 4\n",
            8,
        ),
        (PAIR, (5.64, 5.64, 5.64, 90, 90, 90), "_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z 1\n", 2),
        (WHOLE, (5.64, 5.64, 5.64, 90, 90, 90), "", 8),
        (
            WHOLE,
            (5.64, 5.64, 5.64, 90, 90, 90),
            "_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z 4\n",
            8,
        ),
        (WHOLE[1:5], (5.64, 5.64, 5.64, 90, 90, 90), "", "only the identity is listed"),
        (PAIR, PRIMITIVE, "", "the cell does not have the symmetry"),
        (PAIR, PRIMITIVE, "_chemical_formula_sum 'Na Cl'\n", 2),
    ],
)
def test_the_identity_alone_under_the_name_of_a_group(rows, cell, said, expected):
    said += named("F m -3 m", "225")
    found = outcome(block(*rows, cell=cell, extra=said, operations=["x,y,z"]))
    assert is_so(found, expected), found


@pytest.mark.parametrize(
    ("name", "number", "cell", "expected"),
    [
        ("F d -3 m Z", "227", (3.6, 3.6, 3.6, 90, 90, 90), 8),
        ("Fd-3mS", "227", (3.6, 3.6, 3.6, 90, 90, 90), 16),
        ("F d -3 m", "227", (3.6, 3.6, 3.6, 90, 90, 90), "may be F d -3 m:1, F d -3 m:2"),
        ("F m 3 m", "", (3.6, 3.6, 3.6, 90, 90, 90), 32),
        ("F m \u22123 m", "", (3.6, 3.6, 3.6, 90, 90, 90), 32),
        ("P m -3 m", "", (3.6, 3.7, 3.6, 90, 90, 90), "the cell does not have the symmetry"),
        ("P m -3 m", "225", (3.6, 3.6, 3.6, 90, 90, 90), "contradict each other"),
        ("P m -3 m", "0", (3.6, 3.6, 3.6, 90, 90, 90), "number is '0'"),
        ("P 41", "78", (3.6, 3.6, 5, 90, 90, 90), "contradict each other"),
        ("P 63/m m c", "", (3.6, 3.6, 5, 90, 90, 90), "the cell does not have the symmetry"),
        ("R -3 m", "166", (5, 5, 5, 50, 50, 50), 2),
        ("R -3 m", "166", (5, 5, 12, 90, 90, 120), 36),
        ("R -3 m H", "166", (5, 5, 12, 90, 90, 120), 36),
        ("R -3 m :R", "166", (5, 5, 12, 90, 90, 120), "the cell does not have the symmetry"),
        ("Q 7", "", (5, 5, 5, 90, 90, 90), "the symmetry 'Q 7' could not be read"),
        ("?", "", (5, 5, 5, 90, 90, 90), 1),
    ],
)
def test_names_of_groups(name, number, cell, expected):
    found = outcome(block("C1 C 0.125 0.125 0.125", cell=cell, extra=named(name, number)))
    assert is_so(found, expected), found


def test_the_formula_tells_the_origin():
    diamond = named("F d -3 m") + "_chemical_formula_sum C\n_cell_formula_units_Z "
    assert outcome(block("C1 C 0.125 0.125 0.125", extra=diamond + "8\n")) == 8
    assert outcome(block("C1 C 0.125 0.125 0.125", extra=diamond + "16\n")) == 16
    spinel = ["Mg1 Mg 0.125 0.125 0.125", "Al1 Al 0.5 0.5 0.5", "O1 O 0.2624 0.2624 0.2624"]
    cell = (8.08, 8.08, 8.08, 90, 90, 90)
    said = named("F d -3 m") + "_chemical_formula_sum 'Al2 Mg O4'\n"
    found = read_only_block(block(*spinel, cell=cell, extra=said))
    assert np.unique(found.atomic_numbers, return_counts=True)[1].tolist() == [32, 8, 16]


@pytest.mark.parametrize(
    ("short", "full", "hall"),
    [
        ("P 2", "P 1 2 1", "P 2y"), ("P 21", "P 1 21 1", "P 2yb"), ("A 2", "A 1 2 1", "A 2y"),
        ("I 2", "I 1 2 1", "I 2y"), ("P c", "P 1 c 1", "P -2yc"), ("P n", "P 1 n 1", "P -2yac"),
        ("P a", "P 1 a 1", "P -2ya"), ("A m", "A 1 m 1", "A -2y"), ("I m", "I 1 m 1", "I -2y"),
        ("C c", "C 1 c 1", "C -2yc"), ("A n", "A 1 n 1", "A -2yab"), ("I a", "I 1 a 1", "I -2ya"),
        ("P 2/m", "P 1 2/m 1", "-P 2y"), ("P 21/m", "P 1 21/m 1", "-P 2yb"), ("C 2/m", "C 1 2/m 1", "-C 2y"),
        ("A 2/m", "A 1 2/m 1", "-A 2y"), ("I 2/m", "I 1 2/m 1", "-I 2y"), ("P 2/c", "P 1 2/c 1", "-P 2yc"),
        ("P 2/n", "P 1 2/n 1", "-P 2yac"), ("P 2/a", "P 1 2/a 1", "-P 2ya"),
        ("P 21/c", "P 1 21/c 1", "-P 2ybc"),
        ("P 21/n", "P 1 21/n 1", "-P 2yn"), ("P 21/a", "P 1 21/a 1", "-P 2yab"),
        ("C 2/c", "C 1 2/c 1", "-C 2yc"),
        ("A 2/n", "A 1 2/n 1", "-A 2yab"), ("I 2/a", "I 1 2/a 1", "-I 2ya"), ("A 2/a", "A 1 2/a 1", "-A 2ya"),
        ("C 2/n", "C 1 2/n 1", "-C 2yac"), ("I 2/c", "I 1 2/c 1", "-I 2yc"), ("C 2", "C 1 2 1", "C 2y"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("beta", [90, 97])
def test_short_monoclinic_names(short, full, hall, beta):
    cell = (25, 30, 35, 90, beta, 90)
    number = gemmi.find_spacegroup_by_name(full).number
    found = read_only_block(block(PO, cell=cell, extra=named(short, number))).frac_coords
    operations = gemmi.symops_from_hall(hall)
    expected = {tuple(np.round(np.mod(o.apply_to_xyz([0.1, 0.2, 0.3]), 1), 6)) for o in operations}
    assert {tuple(x) for x in np.round(found % 1, 6).tolist()} == expected and len(found) == len(expected)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("\u22120.30", -0.30), ("\u20130.30", -0.30), ("\uff0d0.30", -0.30), ("-0.3(2)", -0.3), (".25", 0.25),
        ("1e-1", 0.1), ("+0.5", 0.5), ("0.5(", None), ("0.5(x)", None), ("\u20140.30", None),
        ("\ufffd0.30", None),
        ("\u0663", None), ("0\uff0e5", None), ("1_0", None), ("1/3", None), ("0,25", None), ("1.0D-1", None),
        ("0.3\u200b0", None), ("0x10", None), ("--0.3", None), ("0.30-", None), (".", None), ("?", None),
    ],
)  # fmt: skip
def test_no_sign_and_no_digit_is_lost(number, expected):
    text = block(f"Po1 Po {number} 0.2 0.3")
    if expected is None:
        with pytest.raises(ReadError, match=r"a coordinate is .*, not a number"):
            read_only_block(text)
    else:
        assert read_only_block(text).frac_coords[0, 0] == expected


def test_foreign_bytes_elsewhere_do_no_harm(tmp_path):
    text = "data_x\n_publ_author_name M\xfcller\n_other 'S\xf8ren'\n# \xe9\n" + block(PO).removeprefix(
        "data_x\n"
    )
    for encoding in ("utf-8", "latin-1", "utf-16"):
        assert only(tmp_path / "a.cif", text.encode(encoding)) == ("ok", None)
    assert outcome(block(PO.replace(" ", "\u00a0"))) == 1


@pytest.mark.parametrize(
    ("symbol", "z"),
    [
        ("Fe3+", 26), ("Fe+3", 26), ("Fe2+", 26), ("O2-", 8), ("O-2", 8), ("Cu+", 29), ("D", 1), ("T", 1),
        ("D+", 1),
        ("Fe0+", 26), ("Fe0", 26), ("FE", 26), ("fe", 26), ("Fe2.5+", 26), ("Fe++", 26), ("CO2+", 27),
        ("Og", 118),
        ("Nb/Zr", 0), ("NH4", 0), ("NH4+", 0), ("H2O", 0), ("OH", 0), ("OH-", 0), ("HO", 0), ("CN-", 0),
        ("NO3-", 0),
        ("SO4", 0), ("Fe,Ni", 0), ("(Fe,Ni)", 0), ("Fe0.5Ni0.5", 0), ("Xx", 0), ("X", 0), ("M", 0), ("Va", 0),
        ("Wat", 0), ("Fe3+(oct)", 0), ("O2", 0), ("13C", 0), ("", 0), ("Fe\u00b3", 0),
    ],
)  # fmt: skip
def test_the_whole_type_symbol_counts(symbol, z):
    if z:
        assert atomic_number(symbol) == z
    else:
        with pytest.raises(ReadError, match="is not an element"):
            atomic_number(symbol)


@pytest.mark.parametrize(
    ("labels", "formula", "expected"),
    [
        (["O(1)"], "", [8]), (["Ca_1"], "", [20]), (["O1'"], "", [8]), (["Si*"], "", [14]),
        (["Ti4+_1"], "", [22]),
        (["FE1A", "O1"], "", [26, 8]), (["Feoct1"], "", [26]), (["OAp1"], "", [8]), (["Hw1"], "", [1]),
        (["HO1"], "", "may mean two elements"), (["NH4"], "", "may mean two elements"),
        (["T1"], "", "'T1' is not"),
        (["CO1", "C1"], "", "may mean two elements"), (["CO1", "Al1"], "", "may mean two elements"),
        (["CO1"], "Co", [27]), (["CO1", "O1"], "C O", [6, 8]), (["HO1", "HO2", "O1"], "H2 O", [1, 1, 8]),
        (["Os1", "Al1"], "Al O", [8, 13]), (["Os1", "Al1"], "", [76, 13]),
        (["HO1", "O1"], "N O", "declares N O but"),
        (["M1"], "", "'M1' is not"), (["Nb/Zr1"], "", "is not"), (["Fe,Ni"], "", "is not"),
        (["H2O"], "", "is not"),
        (["Va1"], "", "is not"), (["Fe0.5Ni"], "", "is not"), (["1Fe"], "", "is not"),
    ],
)  # fmt: skip
def test_labels_without_type_symbols(labels, formula, expected):
    rows = [f'"{label}" 0.1 0.2 {0.3 * i}' for i, label in enumerate(labels)]
    text = block(*rows, columns="label", extra=f"_chemical_formula_sum '{formula}'\n" * bool(formula))
    if isinstance(expected, str):
        with pytest.raises(ReadError, match=expected):
            read_only_block(text)
    else:
        assert read_only_block(text).atomic_numbers.tolist() == expected


@pytest.mark.parametrize(
    ("formula", "units", "counts", "expected"),
    [
        ("Li0.5 Co O2", "", {"Li": 1, "Co": 2, "O": 4}, 7),
        ("Na0.33 Co O2", "", {"Na": 1, "Co": 3, "O": 6}, 10),
        ("Fe0.95 O", "", {"Fe": 1, "O": 1}, "declares Fe0.95 O but the cell has Fe1 O1"),
        ("D2 O", "", {"D": 2, "O": 1}, 3),
        ("H2 O", "1", {"D": 2, "O": 1}, 3),
        ("Ca H2 O2", "", {"Ca": 1, "O": 2}, "declares Ca H2 O2 but the cell has Ca1 O2"),
        ("Na Cl", "", {"Na": 1, "K": 1}, "declares"),
        ("Na Cl", "", {"Na": 2, "Cl": 1}, "declares"),
        ("Na Cl", "2", {"Na": 3, "Cl": 3}, "declares Na Cl (Z = 2) but the cell has Na3 Cl3"),
        ("Na2 Cl2", "2", {"Na": 2, "Cl": 2}, 4),
        ("(Fe, Mg)2 Si O4", "", {"Fe": 1, "O": 1}, 2),
        ("Qq2", "", {"Fe": 1, "O": 1}, 2),
        ("?", "?", {"Fe": 1}, 1),
    ],
)
def test_the_declared_formula_is_checked_element_by_element(formula, units, counts, expected):
    symbols = [symbol for symbol, n in counts.items() for _ in range(n)]
    rows = [f"{s}{i} {s} 0.1 0.5 {i / len(symbols)}" for i, s in enumerate(symbols)]
    extra = f"_chemical_formula_sum '{formula}'\n_cell_formula_units_Z {units or '?'}\n"
    found = outcome(block(*rows, extra=extra))
    assert is_so(found, expected), found


def with_column(name):
    """Old and new end of the names of an atom loop."""
    return "fract_z\n", f"fract_z\n_atom_site_{name}\n"


OTHER = PO.replace("0.1", "0.6")
TWO_OPERATIONS = ["x,y,z", "-x,-y,-z"]
MAGNETIC = """_space_group_magn.name_BNS 'P_I4/mmm'
loop_
_space_group_symop_magn_operation.id
_space_group_symop_magn_operation.xyz
1 x,y,z,+1
2 -x,-y,-z,-1
loop_
_space_group_symop_magn_centering.id
_space_group_symop_magn_centering.xyz
1 x,y,z,+1
2 x+1/2,y+1/2,z+1/2,-1
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (block(PO, extra=MAGNETIC), 4),
        (block(PO, extra=MAGNETIC.split("loop_")[0]), "operations are not listed"),
        (block(PO, extra="loop_\n_space_group_symop_generator_xyz\n'-x,-y,-z'\n"), "are not listed"),
        (block(PO, extra="_cell_modulation_dimension 1\n"), "incommensurate"),
        (block(PO, extra="_cell_modulation_dimension 0\n"), 1),
        (block(PO, extra="_symmetry_cell_setting cubic\n"), "the cell is cubic, but there is no space group"),
        (block(PO + " 1", OTHER + " 2").replace(*with_column("disorder_group")), "disorder"),
        (block(PO + " .", OTHER + " 1").replace(*with_column("disorder_group")), 2),
        (block(PO + " dum").replace(*with_column("calc_flag")), "dummy"),
        (block(PO + " 2").replace(*with_column("attached_hydrogens")), "hydrogens are declared"),
        (block(PO).replace("fract", "Cartn"), "only Cartesian ones"),
        (block(PO).replace("_atom_site_", "_atom_site.").replace("_cell_", "_cell."), 1),
        (block(PO).replace("_cell_angle_beta 90\n", ""), "the cell's angle beta is missing"),
        (block(PO, cell=(4, 4, 4, 90, "?", 90)), "the cell's angle beta is missing"),
        (block(PO, cell=(4, 4, 4, 90, 200, 90)), "the cell's angle beta is 200"),
        (block(PO, cell=(4, 4, 4, 30, 30, 120)), "singular cell"),
        (block(PO, cell=("1e300", 4, 4, 90, 90, 90)), "the cell's length a is 1e300"),
        (block(PO, cell=("4.0(2)", 4, 4, 90, "90.0(1)", 90)), 1),
        (block(PO) + "loop_" + block(OTHER).partition("loop_")[2], "two loops of atom sites"),
        (block(PO) + "loop_\n_atom_site_occupancy\n1\n1\n", 1),
        (block(PO, OTHER) + "loop_\n_atom_site_occupancy\n1\n1\n", "two loops of atom sites"),
        (block(PO, extra="_cell_length_A 5\n"), "_cell_length_a is there twice"),
        (block("Po1 ? 0.1 0.2 0.3"), 1),
        (block("Po 0.1 0.2 0.3", columns="type_symbol"), 1),
        (block(PO, extra=named("P m m m"), operations=TWO_OPERATIONS), "contradict"),
        (
            block(PO, operations=TWO_OPERATIONS)
            + "loop_\n_space_group_symop_operation_xyz\nx,y,z\n-x,-y,z\n",
            "two lists",
        ),
        ("Here is a CIF:\n" + block(PO), 1),
        (block(PO).replace("\n", "\r"), 1),
        (block(PO, extra="_note\n;\ndata_fake\n" + block(NA) + ";\n"), 1),
    ],
)  # fmt: skip
def test_what_a_file_may_say_besides(text, expected):
    found = outcome(text)
    assert is_so(found, expected), found


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (block("Po1 Po 0.1 0.2", name="b"), "a loop is incomplete: the file seems truncated"),
        (block(PO, name="b", extra="_note 'unclosed\n"), "line 8: unterminated 'string'"),
        (block(PO, name="b", extra="_note\n;unclosed\n"), "unterminated text field"),
        (block(PO, name="b", extra="_note two words\n"), "line 8: parse error"),
    ],
)
def test_a_malformed_block_fails_alone(tmp_path, bad, reason):
    field = "_note\n;\ndata_fake\n;\n"
    (tmp_path / "m.cif").write_text(block(PO, name="a", extra=field) + bad + block(PO, name="c"))
    table = read_crystals(tmp_path / "m.cif")
    assert table.ids == ["m-a", "m-b", "m-c"]
    assert table.column("status") == ["ok", "failed", "ok"]
    assert reason in table.column("reason")[1]


def test_what_is_written_is_read_alike():
    """Crystals in P1 to the last digit written; with symmetry, as pymatgen expands them."""
    for structure in datasets.load("flla").crystals()[::300].to_structures():
        listed = read_only_block(str(CifWriter(structure, significant_figures=12)))
        np.testing.assert_allclose(listed.frac_coords, structure.frac_coords, atol=1e-11)
        assert listed.atomic_numbers.tolist() == list(structure.atomic_numbers)
        np.testing.assert_allclose(
            listed.lattice @ listed.lattice.T, structure.lattice.metric_tensor, rtol=1e-9, atol=1e-9
        )
        for options in ({}, {"refine_struct": False}):
            text = symmetric_cif(structure, **options)
            read = read_only_block(text)
            found = Structure(read.lattice, read.atomic_numbers, read.frac_coords)
            assert found.composition.reduced_formula == structure.composition.reduced_formula
            assert StructureMatcher(scale=False, stol=0.05).fit(found, structure)
