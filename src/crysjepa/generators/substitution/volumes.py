"""How large a crystal should be after its elements were swapped."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals

if TYPE_CHECKING:
    from crysjepa.jepa.crys_jepa import CrysJepa

NUM_ELEMENTS = 119
_PRIOR = 0.3
"""Weight of the tabulated radius against one crystal of that element alone."""
_AT_ONCE = 64
"""Crystals whose energies are read together; fixed, so that rounding is the same however work is split."""


def element_sizes(known: Crystals) -> NDArray[np.float64]:
    """(119,) lengths in Å whose mean over a crystal's atoms is the cube root of its volume per atom.

    Least squares on known crystals (relative errors), with pymatgen's atomic radii, scaled, for a prior. A
    ratio of such means predicts the ratio of volumes of two MP-20 crystals of one prototype that differ in
    one element of like radius to 3.4 % (mean error; plain atomic radii: 5.1 %).
    """
    fractions = np.zeros((len(known), NUM_ELEMENTS))
    owner = np.repeat(np.arange(len(known)), known.num_atoms)
    np.add.at(fractions, (owner, known.atomic_numbers), 1.0 / known.num_atoms[owner])
    lengths = np.cbrt(known.volumes / known.num_atoms)
    usable = np.isfinite(lengths) & (lengths > 0.5)
    rows = fractions[usable] / lengths[usable, None]
    radii = _radii()
    prior = radii * ((rows @ radii).sum() / ((rows @ radii) ** 2).sum() if usable.any() else 1.8)
    # Ridge towards the prior: minimise |rows (prior + d) − 1|² + w |d / prior|².
    scaled = rows * prior
    left = scaled.T @ scaled + _PRIOR * np.eye(NUM_ELEMENTS)
    change = np.linalg.solve(left, scaled.T @ (1 - rows @ prior))
    return prior * (1 + np.clip(change, -0.5, 0.5))


def length_scales(old: Crystals, new: Crystals, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) factors of the lattice vectors for swaps of the elements of ``old`` for those of ``new``."""
    starts = old.offsets[:-1]
    before, after = (np.add.reduceat(sizes[c.atomic_numbers], starts) for c in (old, new))
    return np.asarray(after / before)


def swapped(
    parents: Crystals, swaps: Sequence[Sequence[tuple[int, int]]], sizes: NDArray[np.float64]
) -> Crystals:
    """The parents with elements swapped, all at once, at the volumes that the elements' sizes ask for.

    ``swaps`` are pairs of atomic numbers, before and after, for each crystal; ``sizes`` (119,) are those of
    :func:`element_sizes`.
    """
    numbers = parents.atomic_numbers.copy()
    for k, pairs in enumerate(swaps):
        sites = slice(parents.offsets[k], parents.offsets[k + 1])
        for before, after in pairs:
            numbers[sites][parents.atomic_numbers[sites] == before] = after
    new = Crystals(numbers, parents.frac_coords, parents.lattices, parents.num_atoms, parents.ids)
    return scaled(new, length_scales(parents, new, sizes))


def scaled(crystals: Crystals, factors: NDArray[np.float64]) -> Crystals:
    """The same crystals with lattice vectors ``factors`` (B,) times as long."""
    return Crystals(
        crystals.atomic_numbers,
        crystals.frac_coords,
        crystals.lattices * factors[:, None, None],
        crystals.num_atoms,
        crystals.ids,
    )


def best_scales(
    crystals: Crystals, jepa: CrysJepa, factors: Sequence[float], device: str = "cpu"
) -> NDArray[np.float64]:
    """(B,) the lattice factor with the least energy that Crys-JEPA reads out, for each crystal."""
    chosen = np.ones(len(crystals))
    for start in range(0, len(crystals), _AT_ONCE):
        part = crystals[start : start + _AT_ONCE]
        energies = np.full((len(factors), len(part)), np.inf)
        for row, factor in enumerate(factors):
            embedded, _ = jepa.embed_each(scaled(part, np.full(len(part), factor)), device=device)
            found = jepa.energies(embedded)
            energies[row] = np.where(np.isfinite(found), found, np.inf)
        best = np.asarray(factors)[energies.argmin(axis=0)]
        chosen[start : start + len(part)] = np.where(np.isfinite(energies).any(axis=0), best, 1.0)
    return chosen


@lru_cache(maxsize=1)
def _radii() -> NDArray[np.float64]:
    from pymatgen.core import Element

    found = np.full(NUM_ELEMENTS, 1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of each value that it does not know
        for z in range(1, NUM_ELEMENTS):
            found[z] = float(Element.from_Z(z).atomic_radius or 1.5)
    return found
