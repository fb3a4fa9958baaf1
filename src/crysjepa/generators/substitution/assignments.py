"""Substitution into a formula that is asked for: which element of a parent becomes which of its elements."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.validity import Formula
from crysjepa.generators.substitution.element_similarity import (
    FRACTION_COST,
    MAX_ATOMIC_NUMBER,
    isovalent,
    swap_costs,
)

Swaps = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Assignments:
    """The ways to turn one formula into another, each with what its swaps cost (K,)."""

    swaps: tuple[Swaps, ...]
    costs: NDArray[np.float64]

    @property
    def cost(self) -> float:
        """Of the cheapest."""
        return float(self.costs.min())

    @classmethod
    def of(
        cls, parent: Formula, wanted: Formula, charges: Mapping[int, int] | None, most: float
    ) -> Assignments | None:
        """Each element for one with the same count; None where there is no way.

        With ``charges`` (oxidation states by atomic number), only for one that is common in the same state.
        No swap may cost more than ``most``. To leave all as it is is no way: that crystal is known.
        """
        if sorted(n for _, n in parent) != sorted(n for _, n in wanted):
            return None
        if max(z for z, _ in (*parent, *wanted)) > MAX_ATOMIC_NUMBER:
            return None
        table, num = swap_costs(), sum(n for _, n in parent)
        found: dict[Swaps, float] = {}
        for targets in _bijections(parent, wanted):
            cost = 0.0
            for (element, count), target in zip(parent, targets, strict=True):
                if target == element:
                    continue
                own = float(table[element, target])
                if charges is not None and not isovalent(element, charges[element])[target]:
                    own = np.inf
                cost += own + FRACTION_COST * count / num if own <= most else np.inf
            swaps = tuple((z, t) for (z, _), t in zip(parent, targets, strict=True) if z != t)
            if swaps and np.isfinite(cost):
                found[swaps] = cost
        return cls(tuple(found), np.array([*found.values()])) if found else None


def _bijections(parent: Formula, wanted: Formula) -> Iterator[tuple[int, ...]]:
    """Elements of ``wanted`` in the order of the parent's, each with its count."""
    counts = sorted({n for _, n in parent})
    orders = [itertools.permutations([z for z, n in wanted if n == count]) for count in counts]
    for chosen in itertools.product(*orders):
        of_count = {count: iter(order) for count, order in zip(counts, chosen, strict=True)}
        yield tuple(next(of_count[n]) for _, n in parent)
