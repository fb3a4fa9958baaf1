"""The one description of a crystal that models see: primitive, Niggli-reduced, sites in order.

Training, embedding and screening all call :func:`canonicalise`, so a model never meets a cell
convention that it was not trained on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import misshapen, niggli_reduce, symmetry_of
from crysjepa.runtime.progress import Progress

MAX_ATOMIC_NUMBER = 100
"""The models know the first 100 elements (section 2 of the paper)."""

Cell = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


def canonicalise(
    crystals: Crystals, *, symprec: float = 0.01, progress: Progress | None = None
) -> tuple[Crystals, dict[str, str]]:
    """Primitive cell, Niggli reduction, right-handed, coordinates in [0, 1), sites sorted.

    The primitive cell is moyo's standard one (with its choice of origin; atoms moved by less than
    ``symprec`` onto their Wyckoff positions); where no symmetry can be settled on, the cell is taken as
    primitive. Sites are sorted by atomic number, then by coordinates
    rounded to 1e-4, so that noise does not reorder them.

    Parameters
    ----------
    symprec
        Å; how far atoms may be from a lattice translation of one another and still count as equivalent.

    Returns
    -------
    crystals, failures
        Those that have a canonical form, in their order, and ``{id: reason}`` for the rest.
    """
    good, failures = [], {}
    for done, crystal in enumerate(crystals):
        reason = unfit(crystal)
        if reason is None:
            cell = _reduce(crystal, symprec)
            if cell is None:
                reason = "the cell has no Niggli reduction"
            else:
                lattice, coords, numbers = _sort_sites(cell)
                good.append(Crystals(numbers, coords, lattice[None], np.array([len(numbers)]), crystal.ids))
        if reason is not None:
            failures[crystal.ids[0]] = reason
        if progress is not None:
            progress(done + 1, len(crystals))
    return Crystals.concatenate(good), failures


def unfit(crystal: Crystals) -> str | None:
    """Why the models cannot take a crystal: numbers, elements, size or shape; None where they can."""
    highest = int(crystal.atomic_numbers.max())
    if highest > MAX_ATOMIC_NUMBER or crystal.atomic_numbers.min() < 1:
        return f"atomic number {highest} is beyond the {MAX_ATOMIC_NUMBER} elements that the models know"
    return misshapen(crystal)


def _reduce(crystal: Crystals, symprec: float) -> Cell | None:
    lattice, coords, numbers = _primitive(crystal, symprec)
    try:
        reduced = niggli_reduce(lattice)
    except ValueError:
        return None
    return reduced, _wrap(coords @ lattice @ np.linalg.inv(reduced)), numbers


def _primitive(crystal: Crystals, symprec: float) -> Cell:
    try:
        found = symmetry_of(crystal, symprec).prim_std_cell
    except ValueError:  # no symmetry could be settled on (atoms too close, tolerance too loose)
        return crystal.lattices[0], crystal.frac_coords, crystal.atomic_numbers
    return np.asarray(found.basis), np.asarray(found.positions), np.asarray(found.numbers, dtype=np.int64)


def _wrap(coords: NDArray[np.float64]) -> NDArray[np.float64]:
    wrapped = coords - np.floor(coords)
    # -1e-17 wraps to exactly 1.0, and 0.99999999 stands for 0 in every convention of the field.
    return np.where(wrapped > 1 - 1e-8, 0.0, wrapped)


def _sort_sites(cell: Cell) -> Cell:
    lattice, coords, numbers = cell
    rounded = np.round(coords, 4) % 1.0
    order = np.lexsort((rounded[:, 2], rounded[:, 1], rounded[:, 0], numbers))
    return lattice, coords[order], numbers[order]
