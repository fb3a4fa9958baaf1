"""The 530 settings of space groups, named in every way, against the operations of spglib's Hall database."""

import warnings
from functools import cache

import gemmi
import numpy as np
import pytest
import spglib

from crysjepa.io.cif.blocks import ReadError, read_block

GENERAL = (0.1234, 0.2871, 0.4419)
CELLS = {
    "": (25.0, 30.5, 36.5, 83.0, 95.0, 101.0),
    "a": (25.0, 30.5, 36.5, 97.0, 90.0, 90.0),
    "b": (25.0, 30.5, 36.5, 90.0, 97.0, 90.0),
    "c": (25.0, 30.5, 36.5, 90.0, 90.0, 97.0),
    "orthorhombic": (25.0, 30.5, 36.5, 90.0, 90.0, 90.0),
    "tetragonal": (25.0, 25.0, 36.5, 90.0, 90.0, 90.0),
    "hexagonal": (25.0, 25.0, 36.5, 90.0, 90.0, 120.0),
    "rhombohedral": (25.0, 25.0, 25.0, 75.0, 75.0, 75.0),
    "cubic": (25.0, 25.0, 25.0, 90.0, 90.0, 90.0),
}


@cache
def kind(hall):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return spglib.get_spacegroup_type(hall)


@cache
def operations(hall):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = spglib.get_symmetry_from_database(hall)
    return found["rotations"], found["translations"]


def cell(hall):
    number, choice = kind(hall).number, kind(hall).choice
    if number < 3:
        return CELLS[""]
    if number < 16:
        return CELLS[choice.strip("-")[0]]
    bounds = ((75, "orthorhombic"), (143, "tetragonal"), (195, "hexagonal"), (231, "cubic"))
    system = next(name for end, name in bounds if number < end)
    return CELLS["rhombohedral" if choice == "R" else system]


def suffix(hall):
    """The origin or the axes, where a setting is named with them."""
    choice = kind(hall).choice
    return f":{choice[0]}" if choice[:1] in ("1", "2", "H", "R") else ""


def full(hall):
    return kind(hall).international_full


def short(hall):
    """``P 21/n``: monoclinic symbols without their ones, all others as they are."""
    if 3 <= kind(hall).number <= 15:
        return " ".join(part for part in full(hall).split() if part != "1")
    return kind(hall).international


def plain(name):
    return name.replace("_", "")


def setting(hall):
    """gemmi's name, such as ``R -3 c:H``."""
    rotations, translations = operations(hall)
    listed = [gemmi.Op(text) for text in triplets(rotations, translations)]
    return gemmi.find_spacegroup_by_ops(gemmi.GroupOps(listed)).xhm()


def triplets(rotations, translations):
    found = []
    for rotation, translation in zip(rotations, translations, strict=True):
        op = gemmi.Op()
        op.rot, op.tran = (rotation * 24).tolist(), np.rint(translation * 24).astype(int).tolist()
        found.append(op.triplet())
    return found


OLD_NAME, NEW_NAME = "_symmetry_space_group_name_H-M", "_space_group_name_H-M_alt"
OLD_HALL, NEW_HALL = "_symmetry_space_group_name_Hall", "_space_group_name_Hall"
OLD_NUMBER, NEW_NUMBER = "_symmetry_Int_Tables_number", "_space_group_IT_number"
CODE = "_space_group.IT_coordinate_system_code"

WAYS = {
    "short with suffix": lambda h: {NEW_NAME: plain(short(h)) + suffix(h)},
    "short with suffix and blank, old": lambda h: {OLD_NAME: f"{plain(short(h))} {suffix(h)}"},
    "short and number": lambda h: {OLD_NAME: plain(short(h)), OLD_NUMBER: kind(h).number},
    "short with suffix and number": lambda h: {
        NEW_NAME: plain(short(h)) + suffix(h), NEW_NUMBER: kind(h).number,
    },
    "short without blanks": lambda h: {OLD_NAME: plain(short(h)).replace(" ", "") + suffix(h)},
    "short with underscores": lambda h: {OLD_NAME: short(h) + suffix(h)},
    "short in capitals": lambda h: {OLD_NAME: plain(short(h)).upper() + suffix(h)},
    "short, number and code": lambda h: {
        NEW_NAME: plain(short(h)), NEW_NUMBER: kind(h).number, CODE: kind(h).choice or ".",
    },
    "full": lambda h: {NEW_NAME: plain(full(h)) + suffix(h)},
    "full and number": lambda h: {"_space_group_name_H-M_full": plain(full(h)), NEW_NUMBER: kind(h).number},
    "full and number, old": lambda h: {OLD_NAME: full(h), OLD_NUMBER: kind(h).number},
    "Hall": lambda h: {NEW_HALL: kind(h).hall_symbol},
    "Hall, old": lambda h: {OLD_HALL: kind(h).hall_symbol},
    "Hall and number": lambda h: {NEW_HALL: kind(h).hall_symbol, NEW_NUMBER: kind(h).number},
    "Hall, short and number": lambda h: {
        OLD_HALL: kind(h).hall_symbol, OLD_NAME: plain(short(h)), OLD_NUMBER: kind(h).number,
    },
    "Hall and the name of the type": lambda h: {
        NEW_HALL: kind(h).hall_symbol, NEW_NAME: kind(h).international_short, NEW_NUMBER: kind(h).number,
    },
    "number": lambda h: {OLD_NUMBER: kind(h).number},
    "number, new": lambda h: {"_space_group.IT_number": kind(h).number},
    "number and code": lambda h: {NEW_NUMBER: kind(h).number, CODE: kind(h).choice or "."},
    "gemmi's name": lambda h: {NEW_NAME: setting(h)},
    "everything": lambda h: {
        NEW_NAME: plain(short(h)) + suffix(h), "_space_group_name_H-M_full": plain(full(h)),
        NEW_HALL: kind(h).hall_symbol, NEW_NUMBER: kind(h).number, OLD_NAME: plain(short(h)),
    },
}  # fmt: skip
SHORT = 10
"""C m m e, C c c e and their permutations stand for two settings each (C m m a and C m m b)."""
ORIGINS = 72
"""Names without their origin, where there are two; and the ten."""
NUMBER = 361
OPEN = {
    "short with suffix": SHORT, "short with suffix and blank, old": SHORT, "short with underscores": SHORT,
    "short with suffix and number": SHORT, "short without blanks": SHORT, "short in capitals": SHORT,
    "short and number": ORIGINS, "full": 12, "full and number": ORIGINS, "full and number, old": ORIGINS,
    "short, number and code": 1, "number and code": 46, "number": NUMBER, "number, new": NUMBER,
}  # fmt: skip
"""How many of the 530 a way leaves open; none where it is not here."""


def cif(hall, names, sites=(GENERAL,), listed=None):
    keys = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x", *(f"_cell_{k} {v}" for k, v in zip(keys, cell(hall), strict=True))]
    lines += [f"{tag} '{value}'" for tag, value in names.items()]
    if listed:
        lines += ["loop_", *("_space_group_symop_id", "_space_group_symop_operation_xyz")]
        lines += [f"{i} '{text}'" for i, text in enumerate(listed, 1)]
    lines += ["loop_", "_atom_site_label", *(f"_atom_site_fract_{x}" for x in "xyz")]
    lines += [f"{label} {x} {y} {z}" for label, (x, y, z) in zip(("Fe1", "O1"), sites, strict=False)]
    return "\n".join(lines) + "\n"


def expected(hall, site):
    rotations, translations = operations(hall)
    return (rotations @ np.array(site) + translations) % 1.0


def same(found, wanted, tolerance=1e-6):
    found, wanted = found % 1.0, wanted % 1.0
    gaps = found[:, None] - wanted[None]
    near = np.abs(gaps - np.round(gaps)).max(axis=2) < tolerance
    return len(found) == len(wanted) and (near.sum(axis=0) == 1).all() and (near.sum(axis=1) == 1).all()


@pytest.mark.parametrize("way", WAYS)
def test_every_setting_is_right_or_refused(way):
    refused = []
    for hall in range(1, 531):
        try:
            crystal = read_block(cif(hall, WAYS[way](hall)))
        except ReadError as error:
            assert "may be" in str(error), (hall, WAYS[way](hall), str(error))
            refused.append(hall)
            continue
        assert same(crystal.frac_coords, expected(hall, GENERAL)), (hall, WAYS[way](hall))
    counted = len(refused), [WAYS[way](hall) for hall in refused][:9]
    assert counted[0] == OPEN.get(way, 0), counted


@pytest.mark.parametrize("way", ["nothing", "short and number", "number", "everything"])
def test_listed_operations_say_all(way):
    for hall in range(1, 531):
        names = {} if way == "nothing" else WAYS[way](hall)
        crystal = read_block(cif(hall, names, listed=triplets(*operations(hall))))
        assert same(crystal.frac_coords, expected(hall, GENERAL)), hall


SPOTS = [(0, 0, 0), (0.125, 0.125, 0.125), (0.25, 0.25, 0.3), (0.3333, 0.6667, 0.25)]


@pytest.mark.parametrize("spot", SPOTS)
def test_special_positions(spot):
    exact = np.where(np.abs(np.array(spot) * 3 % 1 - 0.5) > 0.49, np.round(np.array(spot) * 3) / 3, spot)
    for hall in range(1, 531):
        crystal = read_block(cif(hall, WAYS["gemmi's name"](hall), (GENERAL, spot)))
        iron = crystal.atomic_numbers == 26
        assert same(crystal.frac_coords[iron], expected(hall, GENERAL)), hall
        images = {tuple(row) for row in np.round(expected(hall, exact), 6) % 1.0}
        assert same(crystal.frac_coords[~iron], np.array(sorted(images)), 1e-4), hall


def test_names_and_operations_of_another_group_are_refused():
    """Of each group with the operations of the next that has the same cell."""
    for hall in range(1, 530):
        names = WAYS["gemmi's name"](hall) | {NEW_NUMBER: kind(hall).number}
        if cell(hall) != cell(hall + 1) or kind(hall).number == kind(hall + 1).number:
            continue
        with pytest.raises(ReadError, match="contradict"):
            read_block(cif(hall, names, listed=triplets(*operations(hall + 1))))


def test_a_setting_and_operations_of_another_setting():
    listed = triplets(*operations(81))
    for name in ("P 1 21/n 1", "P 21/a"):
        with pytest.raises(ReadError, match=f"space group '{name}' contradict"):
            read_block(cif(81, {NEW_NAME: name}, listed=listed))
    with pytest.raises(ReadError, match="operations and the space group 'F d -3 m:2' contradict"):
        read_block(cif(525, {NEW_NAME: "F d -3 m:2"}, listed=triplets(*operations(525))))
    # spglib and pymatgen name the type alone
    assert len(read_block(cif(82, {NEW_NAME: "P2_1/c"}, listed=triplets(*operations(82)))).frac_coords) == 4
