"""Known prototypes whose stoichiometry is that of a formula, filled with its elements in every order."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from crysjepa.closed_hull.prototypes import MOST_ELEMENTS, Filling, Prototypes
from crysjepa.generators.substitution.element_similarity import (
    FRACTION_COST,
    MAX_ATOMIC_NUMBER,
    swap_costs,
)

SAME_ELEMENTS = 0.0
"""The cost of a filling that swaps nothing: a known crystal of the formula."""


def fillings_of(prototypes: Prototypes, counts: Mapping[int, int], *, variants: int = 1) -> list[Filling]:
    """All fillings that give a formula, likely first.

    Of each prototype and order of elements those from the ``variants`` parents whose elements are most alike;
    the cost is that of :meth:`Prototypes.fillings`. A known crystal of the formula is among them, with its
    own elements at cost 0. There are none for more than :data:`MOST_ELEMENTS` elements.

    Parameters
    ----------
    counts
        Atoms of each element (atomic number) in a formula unit.
    """
    if not 1 <= len(counts) <= MOST_ELEMENTS or max(counts) > MAX_ATOMIC_NUMBER:
        return []
    costs = np.where(np.isfinite(swap_costs()), swap_costs(), 1e6)
    np.fill_diagonal(costs, 0.0)
    unit, crystals = sum(counts.values()), prototypes.crystals
    found: dict[tuple[int, tuple[int, ...]], list[tuple[float, int]]] = defaultdict(list)
    for row, slots in enumerate(prototypes.slots):
        num = int(crystals.num_atoms[row])
        if len(slots) != len(counts) or num % unit:
            continue
        numbers = crystals.atomic_numbers[crystals.offsets[row] : crystals.offsets[row + 1]]
        amounts = [int((numbers == z).sum()) for z in slots]
        for order in itertools.permutations(sorted(counts)):
            if all(counts[z] * (num // unit) == n for z, n in zip(order, amounts, strict=True)):
                cost = sum(
                    float(costs[old, new]) + FRACTION_COST * n / num
                    for old, new, n in zip(slots, order, amounts, strict=True)
                    if old != new
                )
                found[int(prototypes.keys[row]), order].append((cost, row))
    best = sorted(
        (cost, row, order) for (_, order), rows in found.items() for cost, row in _least(rows, variants)
    )
    return [Filling(row, order, cost) for cost, row, order in best]


def _least(rows: list[tuple[float, int]], most: int) -> list[tuple[float, int]]:
    """The cheapest, and beside them all that swap nothing."""
    ordered = sorted(rows)
    same = sum(cost == SAME_ELEMENTS for cost, _ in ordered)
    return ordered[: max(most, same)]
