"""A CIF exactly as pymatgen writes it, read some twenty times faster than by a parser of all CIFs.

Data sets of millions of crystals are CIFs of this one form in a CSV. Whatever differs from it in any way goes
to :func:`crysjepa._cif.read_block`, which gives the same crystal for the same text, to the last bit.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crysjepa import _cif
from crysjepa._cif import RawCrystal, ReadError, atomic_number, read_block

_MAX_PAIRED = 128
"""Sites up to which all distances are taken at once."""

_NUMBER = r"(\d+\.?\d*)"
_FORM = re.compile(
    r"(?:\#[^\n]*\n)?data_[^\s]+\n"
    r"_symmetry_space_group_name_H-M +[^\n]+\n"
    + "".join(rf"_cell_length_{x} +{_NUMBER}\n" for x in "abc")
    + "".join(rf"_cell_angle_{x} +{_NUMBER}\n" for x in ("alpha", "beta", "gamma"))
    + r"_symmetry_Int_Tables_number +\d+\n"
    r"_chemical_formula_structural +[^\n]+\n"
    r"_chemical_formula_sum +(?:'([^'\n]+)'|(\w+))\n"
    r"_cell_volume +[\d.]+\n"
    r"_cell_formula_units_Z +(\d+)\n"
    r"loop_\n _symmetry_equiv_pos_site_id\n _symmetry_equiv_pos_as_xyz\n"
    r"((?: +\d+ +'[^'\n]+'\n)+)"
    r"loop_\n _atom_site_type_symbol\n _atom_site_label\n _atom_site_symmetry_multiplicity\n"
    r" _atom_site_fract_x\n _atom_site_fract_y\n _atom_site_fract_z\n _atom_site_occupancy\n"
    r"((?: +[A-Za-z]+ +\S+ +\d+ +-?[\d.]+ +-?[\d.]+ +-?[\d.]+ +1(?:\.0*)?\n?)+)\s*"
)


def read_quickly(text: str) -> RawCrystal:
    """The crystal in the one data block of ``text``; its lattice as pymatgen orients it, in Å.

    Raises
    ------
    ReadError
        With the reason why there is none.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        return _slowly(text)
    *parameters, quoted, bare, units, operations, atoms = found.groups()
    cell = [float(x) for x in parameters]
    rows = atoms.split()
    if min(cell) <= 0 or len(rows) % 7 or len(rows) > 7 * _cif.MAX_SITES:
        return _slowly(text)
    try:
        numbers = [atomic_number(symbol) for symbol in rows[::7]]
        coords = np.array([[float(x) for x in rows[axis::7]] for axis in (3, 4, 5)]).T
        lattice = _lattice(*cell)
    except (ReadError, ValueError):
        return _slowly(text)  # which says in its own words what is wrong
    crystal = _expanded(numbers, coords, _operations(operations), lattice)
    formula = {"_chemical_formula_sum": quoted or bare, "_cell_formula_units_Z": units}
    _cif.check_declared(formula, len(crystal.atomic_numbers))
    return crystal


def _slowly(text: str) -> RawCrystal:
    blocks = _cif.split_blocks(text)
    if len(blocks) > 1:
        raise ReadError(f"the row's CIF holds {len(blocks)} crystals")
    return read_block(blocks[0][1])


def _lattice(*parameters: float) -> NDArray[np.float64]:
    from pymatgen.core import Lattice

    return np.array(Lattice.from_parameters(*parameters).matrix)


@lru_cache(maxsize=1024)
def _operations(block: str) -> NDArray[np.float64]:
    """(O, 4, 4) affine operations; crystals of one space group share the text."""
    from pymatgen.core import SymmOp

    return np.array([SymmOp.from_xyz_str(s).affine_matrix for s in re.findall(r"'([^']+)'", block)])


def _expanded(
    numbers: list[int],
    coords: NDArray[np.float64],
    operations: NDArray[np.float64],
    lattice: NDArray[np.float64],
) -> RawCrystal:
    plain = len(operations) == 1 and bool((operations[0] == np.eye(4)).all())
    if plain and len(numbers) <= _MAX_PAIRED and not _touching(coords, lattice):
        return RawCrystal(np.array(numbers), coords, lattice)
    if len(operations) > 1:
        coords = _cif.exact_thirds(coords)
    return RawCrystal(*_cif.expand(numbers, coords, operations, lattice), lattice)


def _touching(coords: NDArray[np.float64], lattice: NDArray[np.float64]) -> bool:
    """Whether two sites stand on one spot; which ones, :func:`crysjepa._cif.expand` will say."""
    first, second = _pairs(len(coords))
    gaps = coords[first] - coords[second]
    gaps = (gaps - np.round(gaps)) @ lattice
    return bool((np.einsum("ij,ij->i", gaps, gaps) < (2 * _cif.SAME_SPOT) ** 2).any())


@lru_cache(maxsize=_MAX_PAIRED + 1)
def _pairs(num: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.triu_indices(num, 1)
