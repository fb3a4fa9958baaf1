"""What is no crystal, and how large one may be to be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

MAX_SITES = 10_000
"""Larger cells are neither read nor looked at for symmetry."""
MAX_LENGTH = 10_000.0
"""Å; of a lattice vector. Reduction is exact to some 1e-8 Å² of its square, which rounding exceeds beyond."""
MAX_COORDINATE = 10_000.0
"""Fractional coordinates beyond have lost their digits, and are not read."""


def why_no_structure(structure: Structure) -> str:
    """Why pymatgen's structure is no crystal, in a few words; nothing if it is one."""
    from pymatgen.core import DummySpecies

    if not structure.is_ordered:
        return "a site is partially occupied"
    for kind in structure.composition.elements:
        if isinstance(kind, DummySpecies):
            return f"{str(kind)!r} is not an element"
    return _why_none(structure.lattice.matrix, structure.frac_coords, structure.lattice.pbc)


def why_no_crystal(atoms: Atoms) -> str:
    """Why ASE's atoms are no crystal, in a few words; nothing if they are one."""
    if len(atoms) == 0:
        return "no atom sites"
    if reason := _why_none(atoms.cell.array, atoms.positions, atoms.pbc):
        return reason
    if not ((atoms.numbers >= 1) & (atoms.numbers <= 118)).all():
        return "an atomic number is not that of an element (1 to 118)"
    declared = atoms.info.get("occupancy")
    of_sites = declared.values() if isinstance(declared, dict) else []
    arrays = [atoms.arrays[n] for n in ("occupancy", "occupancies", "occ") if n in atoms.arrays]
    shares = [
        float(v) for site in of_sites for v in (site.values() if isinstance(site, dict) else [site])
    ] + [float(v) for a in arrays for v in np.ravel(a)]
    if any(not abs(share - 1) <= 1e-3 for share in shares):
        return "a site is partially occupied"
    return ""


def _why_none(cell: NDArray[Any], coords: NDArray[Any], periodic: Sequence[bool]) -> str:
    if not np.any(cell):
        return "no unit cell"
    if not all(periodic):
        return "not periodic in all three directions"
    if not (np.isfinite(cell).all() and np.isfinite(coords).all()):
        return "a coordinate or the lattice is not finite"
    if (longest := float(np.abs(cell).max())) > MAX_LENGTH:
        return f"a lattice vector of {longest:.2g} Å (limit {MAX_LENGTH:g})"
    if abs(np.linalg.det(cell)) < 1e-9:
        return "singular cell (volume 0)"
    return ""
