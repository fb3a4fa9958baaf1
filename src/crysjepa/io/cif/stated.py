"""What a CIF data block says of its symmetry, in the words of all dictionaries."""

from __future__ import annotations

import re

import gemmi

from crysjepa.io.cif.operations import listed_group
from crysjepa.io.cif.symmetry import Stated
from crysjepa.io.cif.text import Items, ReadError

MULTIPLICITY = ("_atom_site_site_symmetry_multiplicity", "_atom_site_symmetry_multiplicity")
"""Names of a site's multiplicity in the dictionaries."""


def stated_symmetry(items: Items) -> Stated:
    """What the file says of its symmetry.

    Raises ReadError where it contradicts itself, or does not list the operations that it speaks of.
    """
    known = items.known
    old, new = known("_symmetry_equiv_pos_as_xyz"), known("_space_group_symop_operation_xyz")
    magnetic = known("_space_group_symop_magn_operation_xyz")
    operations = magnetic or new or old
    if old and new and old != new and listed_group(old).key != listed_group(new).key:
        raise ReadError("two lists of symmetry operations contradict each other")
    unread = (
        "_space_group_symop_generator_xyz", "_space_group_generator", "_space_group_magn", "_magnetic_",
        "_parent_",
    )  # fmt: skip
    if not operations and any(tag.startswith(unread) for tag in items.values):
        raise ReadError("the symmetry operations are not listed")
    if magnetic:
        return Stated(magnetic, known("_space_group_symop_magn_centering_xyz"))
    return Stated(
        operations,
        (),
        known(
            "_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m",
            "_space_group_name_h-m_full", "_symmetry_space_group_name_h-m_full",
        ),
        known("_space_group_name_hall", "_symmetry_space_group_name_hall"),
        known("_space_group_it_number", "_symmetry_int_tables_number"),
        known("_space_group_it_coordinate_system_code"),
        _hints(items),
    )  # fmt: skip


def _hints(items: Items) -> tuple[str, ...]:
    """What speaks of symmetry without saying where."""
    systems = items.known("_space_group_crystal_system", "_symmetry_cell_setting")
    types = items.known("_space_group_name_schoenflies", "_symmetry_space_group_name_schoenflies")
    multiplicities = items.known(*MULTIPLICITY)
    letters = items.known(
        "_atom_site_wyckoff_symbol", "_atom_site_wyckoff_label", "_atom_site_wyckoff_letter"
    )
    orders = items.known("_atom_site_symmetry_order", "_atom_site_site_symmetry_order")
    return (
        *(f"the crystal system {s}" for s in systems if s.lower() not in ("triclinic", "anorthic")),
        *(f"the space group {s}" for s in types if s.replace("^", "").upper() not in ("C1", "C11")),
        *(f"a site's multiplicity {m}" for m in multiplicities if gemmi.cif.as_number(m) > 1),
        *(f"a site's symmetry of order {m}" for m in orders if gemmi.cif.as_number(m) > 1),
        *(f"the Wyckoff letter {w}" for w in letters if w.strip("1").lower() not in ("a", "")),
        *(
            f"{tag} {value}"
            for tag in items.values
            if tag.startswith(("_space_group_", "_symmetry_")) and not tag.startswith(_NOT_HINTS)
            for value in items.known(tag)
            if re.sub(r"[\s_^]", "", value).lower() not in _TRICLINIC
        ),
    )


_NOT_HINTS = (
    "_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m_full",
    "_space_group_name_hall", "_symmetry_space_group_name_hall", "_space_group_it_number",
    "_symmetry_int_tables_number", "_space_group_it_coordinate_system_code", "_space_group_crystal_system",
    "_symmetry_cell_setting", "_space_group_name_schoenflies", "_symmetry_space_group_name_schoenflies",
    "_space_group_symop", "_symmetry_equiv_pos", "_space_group_id", "_symmetry_entry_id",
    "_space_group_entry_id", "_space_group_wyckoff",
)  # fmt: skip
"""What is read elsewhere, or only numbers the rows of a loop."""
_TRICLINIC = ("p1", "1", "c1", "c11", "p", "ap", "-1", "p-1", "triclinic", "anorthic", "001:p1")
"""What any crystal without symmetry may say of its lattice, its Laue class or its Patterson function."""
