"""The mixture of compounds and elements that has the least energy at a composition (paper, Eq. 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from crysjepa.energy.compositions import Fractions
from crysjepa.energy.simplex import mixture

_TRACE = 1e-6
"""A phase of which a mixture has no more than this fraction of the atoms is not in it."""


class CompetingPhases:
    """A hull's compounds by chemical system; the height at a composition is solved for once.

    ``compounds`` are formation energies in eV/atom.
    """

    def __init__(self, compounds: Mapping[Fractions, float]) -> None:
        self.compounds = compounds
        self._systems: dict[frozenset[str], list[Fractions]] = {}  # by exact set of elements, sorted
        for fractions in sorted(compounds):
            self._systems.setdefault(frozenset(e for e, _ in fractions), []).append(fractions)
        self._heights: dict[Fractions, tuple[float | None, int]] = {}

    def within(self, elements: Sequence[str]) -> Iterator[Fractions]:
        """Compounds in the chemical system and its subsystems."""
        if 2 ** len(elements) <= len(self._systems):
            for size in range(2, len(elements) + 1):
                for subset in combinations(elements, size):
                    yield from self._systems.get(frozenset(subset), ())
        else:
            wanted = frozenset(elements)
            for system, members in self._systems.items():
                if system <= wanted:
                    yield from members

    def height(self, target: Fractions) -> tuple[float | None, int]:
        """Of the hull in eV/atom, None where the solver gives up; how many compounds there are within."""
        if target not in self._heights:
            members = list(self.within([element for element, _ in target]))
            self._heights[target] = (self._lowest(target, self._below(members)), len(members))
        return self._heights[target]

    def decomposition(self, target: Fractions) -> dict[Fractions, float]:
        """Atomic fractions of the phases, which add up to 1; empty where the solver gives up."""
        elements = [element for element, _ in target]
        points = self._below(self.within(elements))
        amounts = self._mixture(target, points)
        if amounts is None:
            return {}
        phases: list[Fractions] = [*(((e, 1.0),) for e in elements), *points]
        return {p: float(a) for p, a in zip(phases, amounts, strict=True) if a > _TRACE}

    def _below(self, members: Iterable[Fractions]) -> list[Fractions]:
        """Those below 0: a compound at or above it is never preferred to its elements."""
        return [m for m in members if self.compounds[m] < 0]

    def _lowest(self, target: Fractions, points: list[Fractions]) -> float | None:
        if not points:
            return 0.0
        amounts = self._mixture(target, points)
        if amounts is None:
            return None
        height = float(amounts[len(target) :] @ np.array([self.compounds[p] for p in points]))
        # The solver's tolerance must not put a compound above itself.
        return min(height, self.compounds.get(target, 0.0), 0.0)

    def _mixture(self, target: Fractions, points: list[Fractions]) -> NDArray[np.float64] | None:
        """Eq. 5: min Σ λ_j E_j over λ ≥ 0 with Σ λ_j f_j = f. (Σ λ_j = 1 follows, as fractions sum to 1.)

        λ of the elements, then of the compounds ``points``; None where the solver gives up.
        """
        column = {element: i for i, (element, _) in enumerate(target)}
        amounts = np.zeros((len(points), len(target)))
        for row, point in enumerate(points):
            for element, fraction in point:
                amounts[row, column[element]] = fraction
        energies = np.array([self.compounds[p] for p in points], dtype=np.float64)
        wanted = np.array([fraction for _, fraction in target])
        energy, phases, shares = mixture(amounts, energies, wanted)
        if np.isnan(energy):
            return None
        found = np.zeros(len(target) + len(points))
        found[phases] = np.maximum(shares, 0.0)
        return found
