"""Reading CIF: right, or refused with a reason. The settings of space groups are in test_cif_settings."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from cif_texts import HEADER, NA, PO, SALT, block, cif, is_so, named, outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifParser, CifWriter

from crysjepa import datasets
from crysjepa.io import read_crystals
from crysjepa.io.cif.blocks import ReadError, read_only_block

CASES = Path(__file__).parents[1] / "data" / "cases" / "structures"
ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
P1 = str(CifWriter(Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])))


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


# -- small files that once came out wrong ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("anatase_origin2", 12),
        ("bi2te3_rhombohedral", 5),
        ("data_in_text_field", 8),
        ("diamond_origin2", 8),
        ("endash_cp1252", r"a coordinate is '\x960.30', not a number"),
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
        (cif(*[f"Na{i} Na {i / 11_000} 0 0 1" for i in range(10_500)]), "10500 sites (limit 10000)"),
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


@pytest.mark.parametrize("label, number", [("Fe1A", 26), ("OA2", 8), ("CA1", 20), ("D3", 1), ("O", 8)])
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


def with_column(name):
    """Old and new end of the names of an atom loop."""
    return "fract_z\n", f"fract_z\n_atom_site_{name}\n"


OTHER = PO.replace("0.1", "0.6")
TWO_OPERATIONS = ["x,y,z", "-x,-y,-z"]
CUBIC = "_symmetry_cell_setting cubic\n"
ONE_UNIT = "_chemical_formula_sum Po\n_cell_formula_units_Z {}\n"
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
        (block(PO, extra=CUBIC), "the crystal system cubic is given, but no space group"),
        (block(PO + " 1", OTHER + " 2").replace(*with_column("disorder_group")), "disorder"),
        (block(PO + " .", OTHER + " 1").replace(*with_column("disorder_group")), 2),
        (block(PO + " dum").replace(*with_column("calc_flag")), "dummy"),
        (block(PO + " 2").replace(*with_column("attached_hydrogens")), "hydrogens are declared"),
        (block(PO, extra=CUBIC + "_chemical_formula_sum Po\n"), "the crystal system cubic"),
        (block(PO, extra=CUBIC + ONE_UNIT.format(1)), 1),
        (block(PO, extra=ONE_UNIT.format(4)), "declares Po (Z = 4) but the cell has Po1"),
        (block(PO, extra="_space_group_name_Schoenflies Oh^5\n"), "the space group Oh^5 is given"),
        (block(PO, extra="_parent_space_group.name_H-M_alt 'F m -3 m'\n"), "operations are not listed"),
        (block(PO + " 4").replace(*with_column("symmetry_multiplicity")), "a site's multiplicity 4"),
        (block(PO + " 1").replace(*with_column("symmetry_multiplicity")), 1),
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


LONG = 200_000


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (block(PO, extra=f"_chemical_formula_sum '{'C ' * LONG}!'\n"), 1),
        (block(PO, extra=named("P" + " " * LONG + "H")), "could not be read"),
        (block(PO, extra=named("P 1", "1" * LONG)), "number is"),
        (block(PO, operations=["x,y,z", "x" + "+1" * LONG + ",y,z"]), "is not a symmetry operation"),
        (block(PO, operations=[f"x+{i}/1601,y,z" for i in range(1700)]), "1700 symmetry operations"),
        (block(f"'{'1.' * LONG}' 0.1 0.2 0.3", columns="label"), "is not an element"),
        (block(f"Po1 Po {'1(' * LONG} 0.2 0.3"), "not a number"),
        (block("Po1 Po 1e300 0.2 0.3"), "far outside the cell"),
        (block(PO, cell=("1e-9", 4, 4, 90, 90, 90)), "length a is 1e-9"),
        (
            block(*(f"Po{i} Po {i / 1500} 0.2 0.3" for i in range(1500)), extra=named("P m -3 m")),
            "more than 10000",
        ),
        ("data_ x 'y\n" * 50_000, "unparsable CIF"),
    ],
    ids=range(11),
)
def test_absurd_files_end_soon(text, expected):
    found = outcome(text)
    assert is_so(found, expected), found


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
