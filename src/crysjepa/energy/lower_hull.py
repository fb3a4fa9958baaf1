"""The hull at many compositions at once.

Eq. 5 is a linear programme with one row for each of the k elements of a composition: the least energy of any
mixture of compounds that has it. The simplex method starts from the elements themselves and brings in one
compound after another, whichever lies furthest below the chemical potentials so far; some k exchanges later
none does, and the potentials give the height of the hull. In machine code that takes microseconds, less than
it takes to build the facets of a chemical system that is asked for once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import (
    SystemTable,
    atomic_numbers,
    element_symbols,
    system_keys,
    systems_within,
)
from crysjepa.energy.hull import Hull
from crysjepa.runtime.numba_jit import compiled

TOLERANCE = 1e-10
"""eV/atom; how far below the chemical potentials a compound may lie and not be brought in."""
_PATIENCE = 100
"""Exchanges after which they are chosen such that none can come round again (Bland's rule)."""
_GIVE_UP = 10_000
_SMALLEST = 1e-9
"""A compound takes the place of one of which it would need more than this."""


class LowerHull:
    """Heights of a :class:`~crysjepa.energy.hull.Hull`, for arrays of compositions.

    ``min_entries``: compounds that the hull must know in a chemical system before :meth:`above` compares a
    compound with it. Where it knows none, the elements alone compete, and almost everything is below them.
    """

    def __init__(self, hull: Hull, *, min_entries: int = 0) -> None:
        self.hull = hull
        self.min_entries = min_entries
        numbers = atomic_numbers()
        # What is no element here (a dummy species, say) is in no composition that is asked for.
        known = [c for c in sorted(hull.compounds) if all(e in numbers for e, _ in c)]
        energies = np.array([hull.compounds[c] for c in known])
        amounts = np.zeros((len(known), max(map(len, known), default=1)))
        systems = np.zeros((len(known), 2), dtype=np.uint64)
        for row, compound in enumerate(known):
            by_number = sorted((numbers[element], fraction) for element, fraction in compound)
            amounts[row, : len(compound)] = [fraction for _, fraction in by_number]
            for z, _ in by_number:
                systems[row, z // 64] |= np.uint64(1 << z % 64)
        self._all, _ = SystemTable.of(systems)
        # A compound at or above 0 is never preferred to its elements.
        self._use(systems, amounts, energies, energies < 0)
        # Nor is one above the hull of the others preferred to them.
        heights = self._lowest(systems, amounts)
        self._use(systems, amounts, energies, (energies < 0) & (energies <= heights + 1e-9))

    @property
    def key(self) -> str:
        """What its answers depend on."""
        return f"{self.hull.content_hash} {self.min_entries}"

    def heights(self, fractions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Height of the hull in eV/atom (M,), at most 0, and how many compounds it knows there (M,).

        Parameters
        ----------
        fractions
            (M, 119) atomic fractions, as :func:`crysjepa.core.chemical_systems.element_fractions` has them.

        Returns
        -------
        heights, num_entries
            As :meth:`Hull.e_above_hull` finds them, within 1e-8 eV/atom. NaN where no solver gets through.
        """
        systems = system_keys(fractions)
        amounts = np.zeros((len(fractions), max(1, int((fractions > 0).sum(axis=1).max(initial=0)))))
        rows, numbers = np.nonzero(fractions > 0)
        amounts[rows, np.arange(len(rows)) - np.searchsorted(rows, rows)] = fractions[rows, numbers]
        found = self._lowest(systems, amounts)
        for row in np.flatnonzero(np.isnan(found)).tolist():
            symbols = element_symbols()
            present = np.flatnonzero(fractions[row]).tolist()
            solved = self.hull.energy({symbols[z]: fractions[row, z] for z in present})
            found[row] = np.nan if solved is None else solved
        return found, self._all.num_within(systems)

    def above(
        self, energies: NDArray[np.float64], fractions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Energies above the hull (M,) of formation energies (M,) in eV/atom, at ``fractions`` (M, 119).

        NaN, with a reason by row, where there is no energy or nothing to compare it with.
        """
        heights, entries = self.heights(fractions)
        found = energies - heights
        few = (entries < self.min_entries) & ((fractions > 0).sum(axis=1) > 1)
        reasons = dict.fromkeys(np.flatnonzero(~np.isfinite(found)).tolist(), "no finite energy above hull")
        for row in np.flatnonzero(few).tolist():
            reasons[row] = (
                f"the hull knows {entries[row]} compounds of these elements, and {self.min_entries} are asked"
                " for: there is nothing to compare it with"
            )
        return np.where(few, np.nan, found), reasons

    def _use(
        self,
        systems: NDArray[np.uint64],
        amounts: NDArray[np.float64],
        energies: NDArray[np.float64],
        chosen: NDArray[np.bool_],
    ) -> None:
        self._table, order = SystemTable.of(systems[chosen])
        self._amounts, self._energies = amounts[chosen][order], energies[chosen][order]

    def _lowest(self, systems: NDArray[np.uint64], amounts: NDArray[np.float64]) -> NDArray[np.float64]:
        heights = np.zeros(len(systems))
        if len(self._energies):
            table = self._table
            _heights(systems, amounts, table.keys, table.starts, self._amounts, self._energies, heights)
        return heights


@compiled
def _heights(
    systems: NDArray[np.uint64],
    wanted: NDArray[np.float64],
    keys: NDArray[np.uint64],
    starts: NDArray[np.int64],
    amounts: NDArray[np.float64],
    energies: NDArray[np.float64],
    heights: NDArray[np.float64],
) -> None:
    """Fill ``heights`` (M,) for compositions of ``systems`` (M, 2), NaN where :func:`_height` gives up.

    Compounds are sorted by system. Amounts, those ``wanted`` and the compounds', are atomic fractions of the
    system's elements by rising atomic number, then zeros.
    """
    elements, found = np.zeros(128, dtype=np.int64), np.zeros(len(keys) + 1, dtype=np.int64)
    for row in range(len(systems)):
        size, num = systems_within(systems[row], keys, elements, found)
        total = 0
        for s in found[:num]:
            total += starts[s + 1] - starts[s]
        points, depths, at = np.zeros((total, size)), np.empty(total), 0
        for s in found[:num]:
            own = 0
            for i in range(size):
                z = elements[i]
                if not (keys[s, z // 64] >> np.uint64(z % 64)) & np.uint64(1):
                    continue
                for compound in range(starts[s], starts[s + 1]):
                    points[at + compound - starts[s], i] = amounts[compound, own]
                own += 1
            for compound in range(starts[s], starts[s + 1]):
                depths[at] = energies[compound]
                at += 1
        heights[row] = _height(points, depths, wanted[row, :size])


@compiled
def _height(points: NDArray[np.float64], energies: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Eq. 5 at ``target`` (k,), from compounds (n, k) below 0 eV/atom; NaN if it takes too long.

    The revised simplex method [Dantzig and Orchard-Hays, Math. Tables Aids Comput. 8, 64 (1954)].
    """
    num, size = points.shape
    mixture = np.eye(size)  # the compositions of the present mixture, in columns
    inverse = np.eye(size)
    exact = True
    depths = np.zeros(size)
    names = np.arange(size)  # elements first, then compounds
    weights = target.copy()
    potentials = np.zeros(size)
    direction = np.zeros(size)
    for turn in range(_GIVE_UP):
        for i in range(size):
            potentials[i] = 0.0
            for j in range(size):
                potentials[i] += depths[j] * inverse[j, i]
        entering, lowest = -1, -TOLERANCE
        for name in range(size + num):
            if name < size:
                below = -potentials[name]
            else:
                below = energies[name - size]
                for i in range(size):
                    below -= potentials[i] * points[name - size, i]
            if below < lowest:
                entering, lowest = name, below
                if turn > _PATIENCE:
                    break
        if entering < 0 and exact:
            return _mixed(weights, depths)
        if entering < 0:
            # Each exchange adds to the rounding of the inverse: the last word is said with a fresh one.
            inverse[:], exact = np.linalg.inv(mixture), True
            weights = inverse @ target
            continue
        column = np.zeros(size)
        if entering < size:
            column[entering] = 1.0
        else:
            column[:] = points[entering - size]
        leaving, least = -1, np.inf
        for i in range(size):
            direction[i] = 0.0
            for j in range(size):
                direction[i] += inverse[i, j] * column[j]
        for i in range(size):
            if direction[i] > _SMALLEST:
                ratio = max(weights[i], 0.0) / direction[i]
                if ratio < least or (ratio == least and names[i] < names[leaving]):
                    leaving, least = i, ratio
        if leaving < 0:
            return np.nan
        for j in range(size):
            inverse[leaving, j] /= direction[leaving]
        weights[leaving] = least
        for i in range(size):
            if i != leaving:
                weights[i] -= least * direction[i]
                for j in range(size):
                    inverse[i, j] -= direction[i] * inverse[leaving, j]
        mixture[:, leaving], exact = column, False
        depths[leaving] = 0.0 if entering < size else energies[entering - size]
        names[leaving] = entering
    return np.nan


@compiled
def _mixed(weights: NDArray[np.float64], depths: NDArray[np.float64]) -> float:
    """Energy of a mixture (k,); NaN where a weight is negative by more than rounding."""
    energy = 0.0
    for i in range(len(weights)):
        if weights[i] < -1e-9:
            return np.nan
        energy += weights[i] * depths[i]
    return min(energy, 0.0)
