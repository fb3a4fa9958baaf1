"""The one way to moyo: symmetry and reduced cells of crystals that may be anything.

moyo (Rust) takes finite numbers for granted. On absurd ones it panics, with an exception that is no
``Exception``; on some cells it never returns, and cannot be interrupted. So a crystal is measured first
(:func:`misshapen`), and a panic that remains is an ordinary ValueError.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import moyopy
import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.core.limits import MAX_LENGTH, MAX_SITES

Found = moyopy.MoyoDataset
Cell = moyopy.Cell

MIN_LENGTH = 0.7
"""Å; of the shortest lattice vector. No bond is shorter than that of H₂, 0.74 Å."""
MIN_VOLUME = 1e-3
"""Å³."""
MAX_COORD = 1e6
"""Of a fractional coordinate: beyond, rounding alone moves a site by more than 1e-6 Å."""
MAX_SHEAR = 1e6
"""Product of the lengths of a, b and c over the volume."""
_MARGIN = 0.25
"""Of the tolerance from which moyo may search forever: it raises a tolerance by itself when it finds nothing.
Of random needles and plates one in ten hung at 0.9, 3 of 600 at 0.5, none of 6 000 at 0.25."""

# moyo warns of operations that a non-primitive cell cannot express; nobody here uses those.
logging.getLogger("moyo").setLevel(logging.ERROR)


def misshapen(crystal: Crystals) -> str | None:
    """Why a single crystal has no size or shape that a crystal can have; None where it does."""
    lattice, coords = crystal.lattices[0], crystal.frac_coords
    if not (np.isfinite(coords).all() and np.isfinite(lattice).all()):
        return "a coordinate or lattice entry is not a finite number"
    if len(coords) > MAX_SITES:
        return f"{len(coords)} sites (limit {MAX_SITES})"
    if (far := float(np.abs(coords).max())) > MAX_COORD:
        return f"a fractional coordinate of {far:.1e}"
    lengths = _lengths(lattice)
    if lengths.max() > MAX_LENGTH:
        return f"a lattice vector of {lengths.max():.1e} Å (limit {MAX_LENGTH:.0f} Å)"
    volume = abs(float(np.linalg.det(lattice)))
    if volume < MIN_VOLUME:
        return f"the cell's volume is {volume:.1e} Å³"
    if lengths.prod() > MAX_SHEAR * volume:
        return (
            f"the cell is flat: {volume:.1e} Å³ between vectors of {', '.join(f'{x:.4g}' for x in lengths)} Å"
        )
    if _least(lengths, volume) < MIN_LENGTH:
        try:
            shortest = float(_lengths(minkowski_reduce(lattice)).min())
        except ValueError:
            return "the cell is too skewed to be reduced"
        if shortest < MIN_LENGTH:
            return f"a lattice vector of {shortest:.2g} Å: sites overlap with their own images"
    return None


def symmetry_of(crystal: Crystals, symprec: float) -> Found:
    """What moyo finds of a single crystal within ``symprec`` (Å).

    Raises
    ------
    ValueError
        If it is :func:`misshapen`, or no symmetry can be settled on.
    """
    if (reason := misshapen(crystal)) is not None:
        raise ValueError(reason)
    lattice, coords = crystal.lattices[0], crystal.frac_coords
    if np.abs(coords).max() > 100:  # moyo counts cells in 32 bits
        coords = coords - np.floor(coords)
    cell = moyopy.Cell(lattice.tolist(), coords.tolist(), crystal.atomic_numbers.tolist())
    return _calmly(moyopy.MoyoDataset, cell, symprec=_tolerance(crystal, symprec))


def space_groups(crystals: Crystals, symprec: float) -> dict[str, int]:
    """The number of each crystal's space group, 1 to 230, by id; those without one are left out.

    ``symprec`` is the distance tolerance in Å. Atoms that lie closer together have no group at all.
    """
    found = {}
    for crystal in crystals:
        try:
            found[crystal.ids[0]] = int(symmetry_of(crystal, symprec).number)
        except ValueError:  # no group can be settled on; null says so
            continue
    return found


def niggli_reduce(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Niggli-reduced (3, 3) lattice, rows in Å. Raises ValueError where there is none.

    Takes time in proportion to the shear: for lattices of crystals that are not :func:`misshapen`.
    """
    return np.asarray(_calmly(moyopy.niggli_reduce, lattice.tolist())[0])


def minkowski_reduce(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Minkowski-reduced (3, 3) lattice, rows in Å. Raises ValueError where there is none."""
    return np.asarray(_calmly(moyopy.minkowski_reduce, lattice.tolist())[0])


def operations(number: int) -> moyopy.Operations:
    """Those of a space group, 1 to 230, in moyo's standard primitive cell."""
    return moyopy.operations_from_number(number, primitive=True)


@lru_cache(maxsize=230)
def symbol(number: int) -> str:
    """The short Hermann–Mauguin symbol of a space group, such as ``Fm-3m`` or ``P2_1/c``."""
    return str(moyopy.SpaceGroupType(number).hm_short).replace(" ", "")


def _calmly(call: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """A call into Rust whose panic is a ValueError; other BaseExceptions (Ctrl-C) pass."""
    try:
        return call(*args, **settings)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"moyo gave up: {str(error)[:200]}") from None


def _tolerance(crystal: Crystals, symprec: float) -> float:
    """``symprec``, or less where moyo would search forever.

    It takes lattice vectors for equivalent that differ in length by less than s, and pairs of them whose
    angles differ by δ with sin²δ · |u| |v| < s². For a short u and a long v, v + u passes for v when
    |u|³ < s² |v|: a shear, which it multiplies by itself for ever to complete the group. moyo finds the
    lattice itself, so every difference between equivalent sites might be such a u.
    """
    lattice, numbers = crystal.lattices[0], crystal.atomic_numbers
    lengths = _lengths(lattice)
    longest, volume = lengths.max(), abs(np.linalg.det(lattice))
    enough = float(np.cbrt(longest * (symprec / _MARGIN) ** 2))
    least = _least(lengths, volume)
    if least >= enough * len(numbers):  # no translation is shorter than a lattice vector by more than that
        return symprec
    reduced = minkowski_reduce(lattice)
    shortest = min(float(_lengths(reduced).min()), _nearest_alike(crystal, reduced))
    if shortest >= enough:
        return symprec
    if shortest < 1e-3:
        raise ValueError("two sites of one element are on one spot")
    return min(symprec, _MARGIN * float(np.sqrt(shortest**3 / longest)))


def _nearest_alike(crystal: Crystals, reduced: NDArray[np.float64]) -> float:
    """Å from a site of the rarest element to the nearest other one: a translation, perhaps.

    Every pure translation of a crystal takes a site of the rarest element to another one.
    """
    kinds, counts = np.unique(crystal.atomic_numbers, return_counts=True)
    sites = crystal.frac_coords[crystal.atomic_numbers == kinds[counts.argmin()]]
    if len(sites) < 2:
        return float("inf")
    steps = (sites[1:] - sites[0]) @ crystal.lattices[0] @ np.linalg.inv(reduced)
    return float(np.linalg.norm((steps - np.round(steps)) @ reduced, axis=1).min())


def _lengths(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt((lattice * lattice).sum(axis=1)))


def _least(lengths: NDArray[np.float64], volume: float) -> float:
    """Å that no lattice vector is shorter than."""
    return float(volume / lengths.prod() * lengths.min())
