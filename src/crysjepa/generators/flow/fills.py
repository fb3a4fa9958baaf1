"""Elements for orbits such that constraints come out exactly: which may come next, orbit by orbit.

An orbit of a template has M sites, all of one element. A formula is met if the orbits can be shared out among
its elements so that the sites of each add up to its count times the formula units in the cell. An element may
come next only if what is left can still be shared out, so that nothing has to be thrown away in the end. The
network's probabilities choose among those that may.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crysjepa.generators.constraints import Constraints
from crysjepa.generators.flow.formula_rules import Counts, Targets


@lru_cache(maxsize=500_000)
def shared_out(sizes: Counts, room: Counts) -> bool:
    """Whether orbits of these ``sizes``, falling, can be shared out so that each ``room`` is full.

    Both add up to the same number of sites.
    """
    if not sizes or sizes[0] == 1:
        return sum(sizes) == sum(room)
    first, rest = sizes[0], sizes[1:]
    return any(
        shared_out(rest, tuple(sorted((*room[:k], room[k] - first, *room[k + 1 :]))))
        for k in range(len(room))
        if room[k] >= first and (k == 0 or room[k] != room[k - 1])
    )


@lru_cache(maxsize=500_000)
def shared_out_with(sizes: Counts, room: Counts, amounts: Counts) -> bool:
    """The same where elements have ``amounts`` of sites already, each in a room of its own, whichever."""
    return any(
        all(r >= a for r, a in zip(order, amounts, strict=False)) and shared_out(sizes, _left(order, amounts))
        for order in set(itertools.permutations(room))
    )


def _left(room: Counts, amounts: Counts) -> Counts:
    """Rising; rooms beyond the amounts are empty."""
    taken = (*amounts, *(0 for _ in range(len(room) - len(amounts))))
    return tuple(sorted(r - a for r, a in zip(room, taken, strict=True)))


def fits(wanted: Constraints, sizes: Iterable[int]) -> bool:
    """Whether a template whose orbits have these sizes can be given elements that obey."""
    orbits = tuple(sorted(sizes, reverse=True))
    if not wanted.allows_sites(sum(orbits)):
        return False
    if len(orbits) < wanted.fewest_elements:
        return False
    if wanted.formula is None:
        return True
    units = sum(orbits) // wanted.formula.num_atoms
    return shared_out(orbits, tuple(sorted(n * units for n in wanted.formula.counts)))


def is_needed(wanted: Constraints) -> bool:
    """Whether more is asked for of elements than that some may not come."""
    asked = (wanted.formula, wanted.system, wanted.max_elements, wanted.any_of)
    return bool(wanted.all_of) or any(one is not None for one in asked)


class Fill:
    """The elements that one crystal has so far, and those that may come next."""

    def __init__(self, wanted: Constraints, sizes: Iterable[int]) -> None:
        self.wanted = wanted
        self.left = Counter(sizes)
        self.have: dict[int, int] = {}
        units = 1 if wanted.formula is None else self.left_sites // wanted.formula.num_atoms
        self.room = () if wanted.formula is None else tuple(n * units for n in wanted.formula.counts)

    @property
    def left_sites(self) -> int:
        """Sites without an element."""
        return sum(size * num for size, num in self.left.items())

    @property
    def most(self) -> float:
        """Different elements, at most."""
        most, formula = self.wanted.max_elements, self.wanted.formula
        return min(math.inf if most is None else most, math.inf if formula is None else formula.num_elements)

    @property
    def named(self) -> Collection[int]:
        """Elements that are not like all others."""
        return self.have.keys() | self.wanted.all_of if self.others else self.wanted.required or ()

    @property
    def others(self) -> bool:
        """Whether there may be others."""
        return self.wanted.required is None

    def rest(self, size: int) -> Counts:
        """Sizes of the orbits that are left after one of that size, falling."""
        return tuple(sorted((self.left - Counter([size])).elements(), reverse=True))

    def may(self, element: int, size: int) -> bool:
        """Whether an orbit of that size may hold the element."""
        have, rest = {**self.have, element: self.have.get(element, 0) + size}, self.rest(size)
        wanted, formula = self.wanted, self.wanted.formula
        if wanted.max_elements is not None and len(have) > wanted.max_elements:
            return False
        if wanted.system is not None and len(wanted.system - have.keys()) > len(rest):
            return False
        lacking = len(wanted.all_of - have.keys()) + (not wanted.has_one(have.keys() | wanted.all_of))
        if lacking > len(rest) or len(have) + lacking > max(self.most, len(have)):
            return False
        if formula is None:
            return True
        if formula.elements is None:
            amounts = tuple(sorted(have.values()))
            return len(have) <= len(self.room) and shared_out_with(rest, tuple(sorted(self.room)), amounts)
        room = [r - have.get(z, 0) for z, r in zip(formula.elements, self.room, strict=True)]
        return element in formula.elements and min(room) >= 0 and shared_out(rest, tuple(sorted(room)))

    def choices(self, size: int, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(100,) of the elements ``allowed`` (100,), by atomic number − 1, those that may come next."""
        mask, named = np.zeros_like(allowed), self.named
        rest = [z for z in (np.flatnonzero(allowed) + 1).tolist() if z not in named]
        one = self.wanted.any_of or frozenset()
        for alike in ([z for z in rest if z in one], [z for z in rest if z not in one]):
            if alike and self.others and self.may(alike[0], size):
                mask[np.array(alike) - 1] = True
        for z in named:
            mask[z - 1] = z <= len(allowed) and bool(allowed[z - 1]) and self.may(z, size)
        return mask

    def take(self, element: int, size: int) -> None:
        """The orbit holds it."""
        self.have[element] = self.have.get(element, 0) + size
        self.left -= Counter([size])


class AimedFill(Fill):
    """The same where few elements are allowed, so that the formulas that will do can be told."""

    def __init__(self, targets: Targets, sizes: Iterable[int]) -> None:
        super().__init__(targets.wanted, sizes)
        self.elements = targets.elements
        self.aims = targets.of(tuple(sorted(self.left.elements(), reverse=True)))

    named = property(lambda self: self.elements)
    others = property(lambda self: False)

    def may(self, element: int, size: int) -> bool:
        """Whether an orbit of that size may hold the element."""
        rest = self.rest(size)
        return any(self._within(aim, rest, element, size) for aim in self.aims)

    def _within(self, aim: Counts, rest: Counts, element: int, size: int) -> bool:
        room = [
            n - self.have.get(z, 0) - size * (z == element) for z, n in zip(self.elements, aim, strict=True)
        ]
        return min(room) >= 0 and shared_out(rest, tuple(sorted(room)))

    def take(self, element: int, size: int) -> None:
        """The orbit holds it."""
        rest = self.rest(size)
        self.aims = tuple(aim for aim in self.aims if self._within(aim, rest, element, size))
        super().take(element, size)


class Fills:
    """The same for a batch: ``sizes`` (B, R) sites of each orbit, 0 in padding."""

    def __init__(self, wanted: Constraints, sizes: NDArray[np.int64], targets: Targets | None = None) -> None:
        self.sizes = sizes
        of_rows = [row[row > 0].tolist() for row in sizes]
        self.rows = [Fill(wanted, row) if targets is None else AimedFill(targets, row) for row in of_rows]

    def choices(
        self, rows: NDArray[np.int64], orbits: NDArray[np.int64], allowed: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """(M, 100) what may be on the orbits (M,) of these rows (M,); where nothing may, all."""
        found = np.tile(allowed, (len(rows), 1))
        for k, (row, orbit) in enumerate(zip(rows.tolist(), orbits.tolist(), strict=True)):
            if (mask := self.rows[row].choices(int(self.sizes[row, orbit]), allowed)).any():
                found[k] = mask
        return found

    def take(self, rows: NDArray[np.int64], orbits: NDArray[np.int64], elements: NDArray[np.int64]) -> None:
        """Elements (M,) were chosen for these orbits (M,) of these rows (M,)."""
        for row, orbit, element in zip(rows.tolist(), orbits.tolist(), elements.tolist(), strict=True):
            self.rows[row].take(element, int(self.sizes[row, orbit]))
