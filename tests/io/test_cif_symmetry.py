"""Symmetry in CIFs: operations and names that are right, wrong, missing, or contradict one another."""

import gemmi
import numpy as np
import pytest
from cif_texts import PO, block, is_so, named, outcome

from crysjepa.io.cif.blocks import read_only_block


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
