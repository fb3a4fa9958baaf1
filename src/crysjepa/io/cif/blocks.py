"""One CIF data block to arrays. Nothing is guessed, merged or dropped: whatever cannot be read has a reason.

gemmi parses the text and knows the space groups; what a file must say, and what may follow from it, is here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import gemmi
import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import MAX_COORDINATE, MAX_LENGTH, MAX_SITES
from crysjepa.io.cif.elements import Declared, atomic_number, composition, elements_of, label_readings
from crysjepa.io.cif.operations import Group
from crysjepa.io.cif.sites import expand, maps_onto_itself, pairs_within
from crysjepa.io.cif.stated import MULTIPLICITY, stated_symmetry
from crysjepa.io.cif.symmetry import Possible, possible_groups
from crysjepa.io.cif.text import (
    MAX_CRYSTAL_BYTES,
    Content,
    Items,
    ReadError,
    brief,
    is_null,
    items_of,
    number,
    parse_block,
    split_blocks,
)
from crysjepa.runtime.notes import note

__all__ = [
    "MAX_CRYSTAL_BYTES",
    "MAX_SITES",
    "RawCrystal",
    "ReadError",
    "atomic_number",
    "brief",
    "read_block",
    "read_only_block",
    "split_blocks",
]

MIN_LENGTH = 1e-3
"""Å. Cells with shorter sides are not read."""
_TOO_CLOSE = 0.6
"""Å. No two atoms of a crystal are closer than this; tells the sensible reading of an ambiguous file."""


_OTHER_VOLUME = 1.5
"""Ratio of a stated volume to the cell's beyond which it is another cell's, of a primitive one, say, and not
left from before a strain."""
_NEAR_VOLUME = 0.02
"""Of the cell's volume: by less, a stated one differs by rounding."""
_ANGSTROM = ("angstrom", "angstroms", "ang", "a", "å", "ångström", "ångstrom", "ångströms")
_DEGREES = ("degree", "degrees", "deg", "°")


class RawCrystal(NamedTuple):
    """``atomic_numbers`` (N,), ``frac_coords`` (N, 3) and ``lattice`` (3, 3) in Å, rows a, b, c; initial
    ``magmoms`` in Bohr magnetons, a number a site, where the source states them."""

    atomic_numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    lattice: NDArray[np.float64]
    magmoms: tuple[float, ...] | None = None


class _Rows(NamedTuple):
    labels: list[str]
    readings: list[tuple[int, ...]]
    """Atomic numbers that each row may mean."""
    coords: NDArray[np.float64]
    multiplicities: NDArray[np.float64]
    """NaN where a row states none."""


def read_only_block(text: str) -> RawCrystal:
    """The crystal in a text with one data block that could hold one.

    Raises
    ------
    ReadError
        With the reason why there is none, or if there are several.
    """
    blocks = split_blocks(text)
    if len(blocks) > 1:
        raise ReadError(f"the row's CIF holds {len(blocks)} crystals")
    return read_block(blocks[0][1])


def read_block(block: Content) -> RawCrystal:
    """The crystal in one CIF data block, parsed or as text. Its lattice is oriented as pymatgen orients it.

    Raises
    ------
    ReadError
        With the reason why there is none.
    """
    items = items_of(parse_block(block) if isinstance(block, str) else block)
    if any(tag.startswith("_atom_site_moment") for tag in items.values):
        note("the magnetic moments in a CIF (_atom_site_moment) are not read")
    rows = _rows(items)
    lattice = _lattice(items)
    possible = possible_groups(stated_symmetry(items), lattice @ lattice.T)
    declared = Declared.of(items)
    if possible.doubt:
        return _without_doubt(rows, possible, lattice, declared)
    return _crystal(rows, possible.groups[0], lattice, declared)


def _crystal(
    rows: _Rows, group: Group, lattice: NDArray[np.float64], declared: Declared | None
) -> RawCrystal:
    origin, frac = expand(rows.coords, group, lattice, rows.multiplicities)
    weights = np.bincount(origin, minlength=len(rows.labels))
    # without symmetry all atoms are listed: one formula unit where there are Z is not the crystal
    least = 2 if group.is_trivial and declared and declared.units else 1
    elements = elements_of(rows.readings, rows.labels, weights.tolist(), declared, least)
    numbers = np.array(elements, dtype=np.int64)
    if group.is_trivial and not (declared and declared.fits(composition(elements, weights.tolist())) == 2):
        _check_listed(numbers, rows.multiplicities)
    return RawCrystal(numbers[origin], frac, lattice)


def _check_listed(numbers: NDArray[np.int64], multiplicities: NDArray[np.float64]) -> None:
    """Raise where sites without symmetry say that there are more of them than are listed."""
    for kind in {(z, m) for z, m in zip(numbers.tolist(), multiplicities.tolist(), strict=True) if m > 1}:
        listed = int(((numbers == kind[0]) & (multiplicities == kind[1])).sum())
        if listed % kind[1]:
            raise ReadError(
                f"sites of {gemmi.Element(kind[0]).name} have the multiplicity {kind[1]:g}, "
                f"but without symmetry {listed} are listed"
            )


def _without_doubt(
    rows: _Rows, possible: Possible, lattice: NDArray[np.float64], declared: Declared | None
) -> RawCrystal:
    """The one reading that makes sense: its atoms are those declared, and none overlap.

    Raises
    ------
    ReadError
        If none does, or several.
    """
    sound: list[tuple[Group, RawCrystal, int]] = []
    for group in possible.groups:
        try:
            crystal = _crystal(rows, group, lattice, declared)
        except ReadError:
            continue
        if not len(pairs_within(crystal.frac_coords, lattice, _TOO_CLOSE)):
            counts = composition(crystal.atomic_numbers.tolist(), [1] * len(crystal.atomic_numbers))
            sound.append((group, crystal, declared.fits(counts) if declared else 0))
    only_identity = possible.groups[0].is_trivial
    if only_identity and sound and sound[0][0].is_trivial:
        listed = sound[0][1]
        if any(
            maps_onto_itself(listed.atomic_numbers, listed.frac_coords, group, lattice)
            for group in possible.groups[1:]
        ):
            return listed  # all atoms are listed, so both readings give the same
    best = [crystal for _, crystal, fit in sound if fit == 2] or [crystal for _, crystal, _ in sound]
    if possible.units_must_tell:
        best = [crystal for _, crystal, fit in sound if fit == 2]
    if len(best) == 1 and (declared is not None or not only_identity):
        return best[0]
    raise ReadError(possible.doubt)


# -- what the file says ------------------------------------------------------------------------


def _rows(items: Items) -> _Rows:
    """Labels, elements and coordinates of the atom loop."""
    name = "_atom_site_"
    types = items.values.get(f"{name}type_symbol", [])
    labels = items.values.get(f"{name}label") or items.values.get(f"{name}label_atom_id") or types
    if not labels:
        if any(tag.startswith(name) for tag in items.values):
            raise ReadError("a loop is incomplete: the file seems truncated")
        raise ReadError("no atom sites")
    if len(labels) > MAX_SITES:
        raise ReadError(f"{len(labels)} sites (limit {MAX_SITES})")
    columns = [items.values.get(f"{name}fract_{axis}", []) for axis in "xyz"]
    if any(len(column) != len(labels) for column in columns):
        cartesian = f"{name}cartn_x" in items.values
        raise ReadError(f"no fractional coordinates{', only Cartesian ones' * cartesian}")
    used = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
    if len({items.loops[name + tag] for tag in used if name + tag in items.loops}) > 1 and len(labels) > 1:
        raise ReadError("two loops of atom sites: which one holds?")
    _check_order(items)
    coords = np.array([[number(text, "a coordinate") for text in column] for column in columns]).T
    if (np.abs(coords) > MAX_COORDINATE).any():
        raise ReadError(f"a coordinate is {coords.flat[np.abs(coords).argmax()]:g}: far outside the cell")
    readings = [
        label_readings(label) if is_null(symbol) or symbol == label else (atomic_number(symbol),)
        for symbol, label in zip(types or ["?"] * len(labels), labels, strict=True)
    ]
    if not items.known("_chemical_formula_sum") and not any(1 in numbers for numbers in readings):
        for formula in items.known("_chemical_formula_moiety", "_chemical_formula_structural"):
            if {"H", "D"} & set(re.findall(r"[A-Z][a-z]?", formula)):
                raise ReadError(f"hydrogens are declared without coordinates ({formula[:60]})")
    return _Rows(labels, readings, coords, _multiplicities(items, len(labels)))


def _multiplicities(items: Items, sites: int) -> NDArray[np.float64]:
    """What each site says of its multiplicity; NaN for nothing, zero, and text such as ``4a``."""
    for tag in MULTIPLICITY:
        if len(texts := items.values.get(tag, [])) == sites:
            found = np.array([gemmi.cif.as_number(text) for text in texts])
            return np.where(found == 0, np.nan, found)
    return np.full(sites, np.nan)


def _check_order(items: Items) -> None:
    """Raise where sites are shared, alternatives, without atoms, or without coordinates."""
    known = items.known
    for text in known("_atom_site_occupancy"):
        if abs((occupancy := number(text, "an occupancy")) - 1) > 1e-3:
            partial = f"a site is partially occupied ({occupancy:g})"
            raise ReadError(partial if occupancy < 1 else f"an occupancy is {text[:40]}")
    if any(number(text, "a count of hydrogens") for text in known("_atom_site_attached_hydrogens")):
        raise ReadError("hydrogens are declared without coordinates")
    if "dum" in (flag.lower() for flag in known("_atom_site_calc_flag")):
        raise ReadError("a dummy site is not an element")
    groups = set(known("_atom_site_disorder_group")) - {"0"}
    if len(groups) > 1 or any(group.startswith("-") for group in groups):
        raise ReadError("the sites are alternatives of one another (disorder groups)")
    if len(known("_atom_site_label_alt_id")) > 1:
        raise ReadError("the sites are alternatives of one another (label_alt_id)")
    modulated = ("_cell_wave_vector", "_space_group_ssg", "_space_group_symop_ssg", "_atom_site_fourier")
    dimensions = [number(text, "a dimension") for text in known("_cell_modulation_dimension")]
    if any(dimensions) or any(tag.startswith(modulated) or "magn_ssg" in tag for tag in items.values):
        raise ReadError("an incommensurate structure has no unit cell")


def _lattice(items: Items) -> NDArray[np.float64]:
    from pymatgen.core import Lattice

    parameters = []
    for key in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"):
        words = key.replace("_", " ")
        text = items.one(f"_cell_{key}")
        if text is None:
            raise ReadError("no unit cell" if key.startswith("length") else f"the cell's {words} is missing")
        parameters.append(value := number(text, f"the cell's {words}"))
        least, most = (MIN_LENGTH, MAX_LENGTH) if key.startswith("length") else (0.0, 180.0)
        if value <= 0 or not least <= value <= most:
            raise ReadError(f"the cell's {words} is {text[:40]}")
    cosines = np.cos(np.radians(parameters[3:]))
    if 1 + 2 * cosines.prod() - (cosines**2).sum() < 1e-12:
        angles = ", ".join(f"{angle:g}°" for angle in parameters[3:])
        raise ReadError(f"singular cell: there is none with the angles {angles}")
    lattice = np.array(Lattice.from_parameters(*parameters).matrix)
    _check_units(items)
    for text in items.known("_cell_volume"):
        stated, volume = number(text, "the cell's volume"), float(np.linalg.det(lattice))
        if stated > 0 and not 1 / _OTHER_VOLUME < stated / volume < _OTHER_VOLUME:
            raise ReadError(f"the file states a volume of {stated:g} Å³, and its cell has {volume:g}")
        if stated > 0 and abs(stated / volume - 1) > _NEAR_VOLUME:
            note("the volume that a CIF states differs from its cell's by more than 2 %: the cell is taken")
    return lattice


def _check_units(items: Items) -> None:
    """Raise where the file says that its cell is in other units than Å and degrees."""
    for tag in items.values:
        if re.fullmatch(r"_cell(_\w+)?_units?", tag):
            for text in items.known(tag):
                usual = _DEGREES if "angle" in tag else _ANGSTROM
                if text.strip(" .").lower() not in usual:
                    raise ReadError(f"{tag} is {text[:40]!r}: lengths are read in Å, angles in degrees")
