"""CIFs for tests, and what comes of them."""

import itertools

from crysjepa.io.cif.blocks import ReadError, read_only_block

CELL = "_cell_length_{} {}\n" * 3 + "_cell_angle_{} {}\n" * 3


def block(*rows, cell=(4, 4, 4, 90, 90, 90), extra="", operations=(), columns="label type_symbol", name="x"):
    """A CIF of rows of ``columns`` and three coordinates."""
    keys = ("a", "b", "c", "alpha", "beta", "gamma")
    text = f"data_{name}\n" + CELL.format(*itertools.chain(*zip(keys, cell, strict=True))) + extra
    if operations:
        text += "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'{o}'\n" for o in operations)
    names = [*columns.split(), "fract_x", "fract_y", "fract_z"]
    return text + "loop_\n" + "".join(f"_atom_site_{n}\n" for n in names) + "\n".join(rows) + "\n"


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

PO = "Po1 Po 0.1 0.2 0.3"


def named(name, number=""):
    return f"_symmetry_space_group_name_H-M '{name}'\n" + (
        f"_symmetry_Int_Tables_number {number}\n" * bool(number)
    )


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
