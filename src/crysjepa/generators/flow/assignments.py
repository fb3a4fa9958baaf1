"""Elements for the orbits of a template, such that a given formula comes out exactly.

An orbit of multiplicity m takes m sites of one element. Orbits of one kind (on the same free symmetry
element) cannot be told apart, so that only how many of them each element has makes a difference. The number
of ways is counted without going through them; where there are too many to take all, some are drawn, each as
likely as any other.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

Split = tuple[int, ...]
"""How many orbits of one kind each element has."""


@dataclass(frozen=True)
class Assignments(Sequence[tuple[int, ...]]):
    """All ways to give each of R orbits one of k elements so that the sites add up: a sequence of them.

    Each is a tuple (R,) of positions in ``counts``. The order is fixed by the arguments.

    Parameters
    ----------
    multiplicities
        (R,) sites of each orbit, each at least 1.
    counts
        (k,) sites that each element is to have, each at least 1.
    kinds
        (R,) equal for orbits that cannot be told apart; by default every orbit is of its own kind. Orbits of
        different multiplicity are never of one kind.

    Raises
    ------
    ValueError
        If a multiplicity or a count is below 1, or ``kinds`` is of another length.
    """

    multiplicities: tuple[int, ...]
    counts: tuple[int, ...]
    kinds: tuple[Hashable, ...] | None = None
    _ways: dict[tuple[int, tuple[int, ...]], int] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if any(n < 1 for n in (*self.multiplicities, *self.counts)):
            raise ValueError("multiplicities and counts are at least 1")
        if self.kinds is not None and len(self.kinds) != len(self.multiplicities):
            raise ValueError(f"{len(self.kinds)} kinds for {len(self.multiplicities)} orbits")

    @cached_property
    def _groups(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Multiplicity and orbits of each kind, the kinds in the order of their first orbit."""
        kinds = self.kinds or tuple(range(len(self.multiplicities)))
        groups: dict[tuple[int, Hashable], list[int]] = {}
        for orbit, key in enumerate(zip(self.multiplicities, kinds, strict=True)):
            groups.setdefault(key, []).append(orbit)
        return tuple((multiplicity, tuple(orbits)) for (multiplicity, _), orbits in groups.items())

    @cached_property
    def num(self) -> int:
        """How many there are; unlike ``len()`` it has no upper limit."""
        if sum(self.multiplicities) != sum(self.counts):
            return 0
        return self._count(0, self.counts)

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, rank: int) -> tuple[int, ...]:  # type: ignore[override]
        """The assignment of that rank, from 0. Raises IndexError."""
        if not 0 <= rank < self.num:
            raise IndexError(f"there are {self.num} assignments")
        found, left = [0] * len(self.multiplicities), self.counts
        for place, (multiplicity, orbits) in enumerate(self._groups):
            for split in _splits(len(orbits), multiplicity, left):
                after = _without(left, split, multiplicity)
                ways = self._count(place + 1, after)
                if rank < ways:
                    break
                rank -= ways
            elements = (element for element, n in enumerate(split) for _ in range(n))
            for orbit, element in zip(orbits, elements, strict=True):
                found[orbit] = element
            left = after
        return tuple(found)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return (self[rank] for rank in range(self.num))

    def some(self, most: int, seed: int = 0) -> list[tuple[int, ...]]:
        """All of them, or ``most`` different ones, drawn with equal chances; in the order of the whole."""
        if self.num <= most:
            return list(self)
        rng, ranks = random.Random(seed), set[int]()
        while len(ranks) < most:  # random.sample wants a length that fits into 63 bits
            ranks.add(rng.randrange(self.num))
        return [self[rank] for rank in sorted(ranks)]

    def _count(self, place: int, left: tuple[int, ...]) -> int:
        """Ways to give the kinds from ``place`` on, where each element still lacks so many sites."""
        if place == len(self._groups):
            return int(not any(left))
        key = place, left
        if key not in self._ways:
            multiplicity, orbits = self._groups[place]
            self._ways[key] = sum(
                self._count(place + 1, _without(left, split, multiplicity))
                for split in _splits(len(orbits), multiplicity, left)
            )
        return self._ways[key]


def _splits(orbits: int, multiplicity: int, left: tuple[int, ...]) -> Iterator[Split]:
    """Ways to share out orbits of one kind among elements that lack so many sites."""
    if len(left) == 1:
        if orbits * multiplicity <= left[0]:
            yield (orbits,)
        return
    for own in range(min(orbits, left[0] // multiplicity), -1, -1):
        for others in _splits(orbits - own, multiplicity, left[1:]):
            yield (own, *others)


def _without(left: tuple[int, ...], split: Split, multiplicity: int) -> tuple[int, ...]:
    return tuple(n - multiplicity * own for n, own in zip(left, split, strict=True))
