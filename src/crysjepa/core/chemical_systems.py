"""Chemical systems: what the hull and the reference are looked up by, for many crystals at once.

A set of elements is a key of two 64-bit words, a bit for each atomic number. Whether one chemical system lies
within another is then a single operation, and those within a system of k elements are found by at most 2ᵏ − 1
look-ups in a sorted list, however long it is.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.runtime.numba_jit import compiled

NUM_ELEMENTS = 118
Keys = NDArray[np.uint64]
"""(M, 2): atomic number z is bit z % 64 of word z // 64."""


def element_fractions(crystals: Crystals) -> NDArray[np.float64]:
    """(B, 119) atomic fractions; column z is the element of atomic number z."""
    owner = np.repeat(np.arange(len(crystals)), crystals.num_atoms)
    width = NUM_ELEMENTS + 1
    counts = np.bincount(owner * width + crystals.atomic_numbers, minlength=len(crystals) * width)
    return counts.reshape(len(crystals), width) / crystals.num_atoms[:, None]


def system_names(crystals: Crystals) -> list[str]:
    """What :meth:`~crysjepa.core.crystals.Crystals.chemical_systems` gives, for many crystals at once."""
    keys, inverse = np.unique(system_keys(element_fractions(crystals)), axis=0, return_inverse=True)
    symbols = element_symbols()
    bits = np.unpackbits(keys.view(np.uint8), axis=1, bitorder="little")
    names = ["-".join(sorted(symbols[z] for z in np.flatnonzero(row).tolist())) for row in bits]
    return [names[i] for i in inverse.reshape(-1).tolist()]


def subsystems(chemical_system: str, size: int | None = None) -> Iterator[str]:
    """The chemical system and all its subsystems (2ᵏ − 1 of them), or only those of ``size`` elements."""
    elements: Sequence[str] = sorted(chemical_system.split("-"))
    sizes = range(1, len(elements) + 1) if size is None else (size,)
    for k in sizes:
        for subset in itertools.combinations(elements, k):
            yield "-".join(subset)


def system_keys(fractions: NDArray[np.float64]) -> Keys:
    """Keys (M, 2) of the elements whose fraction (M, 119) is not 0."""
    present = np.zeros((len(fractions), 128), dtype=bool)
    present[:, : fractions.shape[1]] = fractions > 0
    return np.packbits(present, axis=1, bitorder="little").view(np.uint64)


def within_any(systems: Keys, others: Keys) -> NDArray[np.bool_]:
    """Which of the ``systems`` (M, 2) are one of the ``others`` (K, 2), or lie within one: (M,)."""
    own, inverse = np.unique(systems, axis=0, return_inverse=True)
    found = np.zeros(len(own), dtype=bool)
    for key in np.unique(others, axis=0):
        found |= ((own & ~key) == 0).all(axis=1)
    return found[inverse.reshape(-1)]


def keys_of_names(chemical_systems: Sequence[str]) -> Keys:
    """Keys (M, 2) of systems such as ``"Li-O"``. Raises KeyError for what is no element."""
    numbers = atomic_numbers()
    fractions = np.zeros((len(chemical_systems), NUM_ELEMENTS + 1))
    for row, name in enumerate(chemical_systems):
        fractions[row, [numbers[symbol] for symbol in name.split("-")]] = 1.0
    return system_keys(fractions)


@lru_cache(maxsize=1)
def element_symbols() -> dict[int, str]:
    """The symbol of each atomic number."""
    from pymatgen.core import Element

    return {z: str(Element.from_Z(z).symbol) for z in range(1, NUM_ELEMENTS + 1)}


@lru_cache(maxsize=1)
def atomic_numbers() -> dict[str, int]:
    """The atomic number of each symbol."""
    return {symbol: z for z, symbol in element_symbols().items()}


@dataclass(frozen=True, eq=False)
class SystemTable:
    """Things sorted by chemical system: those of ``keys[s]`` are the rows ``starts[s]`` to ``starts[s + 1]``.

    ``keys`` (S, 2) rise; ``starts`` (S + 1,).
    """

    keys: Keys
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, keys: Keys) -> tuple[SystemTable, NDArray[np.int64]]:
        """A table of things with these keys (R, 2), and the order (R,) that sorts them."""
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        ordered = np.ascontiguousarray(keys[order])
        new = np.ones(len(keys), dtype=bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        first = np.flatnonzero(new)
        return cls(ordered[first], np.append(first, len(keys))), order

    @classmethod
    def of_crystals(cls, crystals: Crystals) -> SystemTable:
        """How many crystals each chemical system has."""
        return cls.of(system_keys(element_fractions(crystals)))[0]

    @property
    def content_hash(self) -> str:
        """SHA-256 of the systems and how many each has."""
        return hashlib.sha256(self.keys.tobytes() + self.starts.tobytes()).hexdigest()

    def num_within(self, systems: Keys) -> NDArray[np.int64]:
        """How many things each of the ``systems`` (M, 2) has, its subsystems included: (M,)."""
        counts = np.zeros(len(systems), dtype=np.int64)
        _count_within(np.ascontiguousarray(systems), self.keys, self.starts, counts)
        return counts


@compiled
def systems_within(
    key: Keys, keys: Keys, elements: NDArray[np.int64], found: NDArray[np.int64]
) -> tuple[int, int]:
    """Which rows of ``keys`` (S, 2), sorted, are this system ``key`` (2,) or its subsystems.

    Fills ``elements`` (128,), its atomic numbers, and ``found`` (S,), whose rows rise only where they were
    found by scanning; returns how many of each.
    """
    size = 0
    for word in range(2):
        for bit in range(64):
            if (key[word] >> np.uint64(bit)) & np.uint64(1):
                elements[size] = 64 * word + bit
                size += 1
    count = 0
    if size < 20 and (1 << size) <= len(keys):
        for subset in range(1, 1 << size):
            low, high = np.uint64(0), np.uint64(0)
            for i in range(size):
                if (subset >> i) & 1:
                    z = elements[i]
                    if z < 64:
                        low |= np.uint64(1) << np.uint64(z)
                    else:
                        high |= np.uint64(1) << np.uint64(z - 64)
            begin, end = 0, len(keys)
            while begin < end:
                middle = (begin + end) // 2
                if keys[middle, 0] < low or (keys[middle, 0] == low and keys[middle, 1] < high):
                    begin = middle + 1
                else:
                    end = middle
            if begin < len(keys) and keys[begin, 0] == low and keys[begin, 1] == high:
                found[count] = begin
                count += 1
    else:
        for s in range(len(keys)):
            if keys[s, 0] & ~key[0] == 0 and keys[s, 1] & ~key[1] == 0:
                found[count] = s
                count += 1
    return size, count


@compiled
def _count_within(systems: Keys, keys: Keys, starts: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    elements, found = np.zeros(128, dtype=np.int64), np.zeros(len(keys) + 1, dtype=np.int64)
    for row in range(len(systems)):
        _, num = systems_within(systems[row], keys, elements, found)
        for s in found[:num]:
            counts[row] += starts[s + 1] - starts[s]
