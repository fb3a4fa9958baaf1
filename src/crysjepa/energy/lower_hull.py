"""The hull at many compositions at once.

Systems are looked up and solved in machine code (:mod:`crysjepa.energy.simplex`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import SystemTable, atomic_numbers, system_keys, systems_within
from crysjepa.energy.hull import Hull
from crysjepa.energy.simplex import height
from crysjepa.runtime.numba_jit import compiled


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
            As :meth:`Hull.e_above_hull` finds them, within 1e-8 eV/atom. NaN where the solver gives up, which
            should not happen.
        """
        systems = system_keys(fractions)
        amounts = np.zeros((len(fractions), max(1, int((fractions > 0).sum(axis=1).max(initial=0)))))
        rows, numbers = np.nonzero(fractions > 0)
        amounts[rows, np.arange(len(rows)) - np.searchsorted(rows, rows)] = fractions[rows, numbers]
        return self._lowest(systems, amounts), self._all.num_within(systems)

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
    """Fill ``heights`` (M,) for compositions of ``systems`` (M, 2), NaN where the solver gives up.

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
        heights[row] = height(points, depths, wanted[row, :size])
