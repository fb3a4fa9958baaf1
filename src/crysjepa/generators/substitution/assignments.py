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
Targets = dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]


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


def targets_of(
    parent: Formula, charges: Mapping[int, int] | None, allowed: NDArray[np.bool_], most: float
) -> Targets:
    """What each element of a parent may become, and at which cost; only those that may become another.

    ``allowed`` (119,) is by atomic number. With ``charges``, only what is common in the same oxidation state;
    no swap costs more than ``most``.
    """
    elements = [z for z, _ in parent]
    found: Targets = {}
    for element in elements:
        costs = np.where(allowed[: MAX_ATOMIC_NUMBER + 1], swap_costs()[element], np.inf)
        costs[elements] = np.inf
        if charges is not None:
            costs = np.where(isovalent(element, charges[element]), costs, np.inf)
        fit = np.flatnonzero(costs <= most)
        if len(fit):
            found[element] = (fit, costs[fit])
    return found


def brought_in(parent: Formula, targets: Targets, wanted: frozenset[int]) -> Targets | None:
    """The same where all of ``wanted`` are to be in the crystal: those that the parent has stay, and each of
    the others is what one of its elements becomes, which is then all that this one may become.

    Of the ways to bring them in, the one with the least costly swaps; None where there is none.
    """
    held = {z for z, _ in parent}
    lacking = sorted(wanted - held)
    free = {z: both for z, both in targets.items() if z not in wanted}
    costs = {z: dict(zip(*(a.tolist() for a in both), strict=True)) for z, both in free.items()}
    best: tuple[float, tuple[int, ...]] | None = None
    for places in itertools.permutations(free, len(lacking)):
        if all(new in costs[z] for z, new in zip(places, lacking, strict=True)):
            cost = sum(costs[z][new] for z, new in zip(places, lacking, strict=True))
            best = min(best or (np.inf, ()), (cost, places))
    if best is None:
        return None
    become = dict(zip(best[1], lacking, strict=True))
    found: Targets = {}
    for z, (others, theirs) in free.items():
        fit = others == become[z] if z in become else ~np.isin(others, lacking)
        if fit.any():
            found[z] = (others[fit], theirs[fit])
    return found


def _bijections(parent: Formula, wanted: Formula) -> Iterator[tuple[int, ...]]:
    """Elements of ``wanted`` in the order of the parent's, each with its count."""
    counts = sorted({n for _, n in parent})
    orders = [itertools.permutations([z for z, n in wanted if n == count]) for count in counts]
    for chosen in itertools.product(*orders):
        of_count = {count: iter(order) for count, order in zip(counts, chosen, strict=True)}
        yield tuple(next(of_count[n]) for _, n in parent)
