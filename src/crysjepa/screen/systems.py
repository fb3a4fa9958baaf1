"""Crystals by chemical system: what the hull and the reference are looked up by, a group at a time."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.crystals import Crystals

NUM_ELEMENTS = 118


@dataclass(frozen=True, eq=False)
class SystemGroup:
    """The crystals of one chemical system: its ``name``, such as ``"Li-O"``, its ``elements`` in the order of
    the name, the ``rows`` (M,) of the crystals, and their atomic ``fractions`` (M, k) of these elements.
    """

    name: str
    elements: tuple[str, ...]
    rows: NDArray[np.int64]
    fractions: NDArray[np.float64]


def by_system(crystals: Crystals) -> list[SystemGroup]:
    """Every crystal in exactly one group, groups in the order of their names."""
    if not len(crystals):
        return []
    symbols, numbers = _alphabet()
    fractions = element_fractions(crystals)[:, numbers]
    present = fractions > 0
    packed = np.ascontiguousarray(np.packbits(present, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    bounds = np.searchsorted(inverse[order], np.arange(len(first) + 1)).tolist()
    owner, place = np.nonzero(present[first])
    ends = np.searchsorted(owner, np.arange(len(first) + 1)).tolist()
    groups = []
    for number in range(len(first)):
        rows = order[bounds[number] : bounds[number + 1]]
        columns = place[ends[number] : ends[number + 1]]
        elements = tuple(symbols[c] for c in columns.tolist())
        groups.append(SystemGroup("-".join(elements), elements, rows, fractions[rows[:, None], columns]))
    return sorted(groups, key=lambda g: g.name)


def element_fractions(crystals: Crystals) -> NDArray[np.float64]:
    """(B, 119) atomic fractions; column z is the element of atomic number z."""
    owner = np.repeat(np.arange(len(crystals)), crystals.num_atoms)
    width = NUM_ELEMENTS + 1
    counts = np.bincount(owner * width + crystals.atomic_numbers, minlength=len(crystals) * width)
    return counts.reshape(len(crystals), width) / crystals.num_atoms[:, None]


def system_names(crystals: Crystals) -> list[str]:
    """What :meth:`~crysjepa.crystals.Crystals.chemical_systems` gives, for many crystals at once."""
    names = [""] * len(crystals)
    for group in by_system(crystals):
        for row in group.rows.tolist():
            names[row] = group.name
    return names


def subsystems(chemical_system: str, size: int | None = None) -> Iterator[str]:
    """The chemical system and all its subsystems (2ᵏ − 1 of them), or only those of ``size`` elements."""
    elements: Sequence[str] = sorted(chemical_system.split("-"))
    sizes = range(1, len(elements) + 1) if size is None else (size,)
    for k in sizes:
        for subset in itertools.combinations(elements, k):
            yield "-".join(subset)


def within(chemical_system: str, known: Mapping[str, Any]) -> list[str]:
    """Of the ``known`` chemical systems, those that are this one or its subsystems."""
    if 2 ** (chemical_system.count("-") + 1) <= len(known):
        return [s for s in subsystems(chemical_system) if s in known]
    wanted = set(chemical_system.split("-"))
    return [s for s in known if wanted.issuperset(s.split("-"))]


@lru_cache(maxsize=1)
def _alphabet() -> tuple[list[str], NDArray[np.int64]]:
    """Symbols of the elements in their order, and their atomic numbers."""
    from pymatgen.core import Element

    found = sorted((str(Element.from_Z(z).symbol), z) for z in range(1, NUM_ELEMENTS + 1))
    return [symbol for symbol, _ in found], np.array([z for _, z in found])


@dataclass(frozen=True, eq=False)
class ReferenceCounts:
    """How many reference crystals each chemical system has, for rankers that have no index."""

    by_name: dict[str, int]
    key: str

    @classmethod
    def of(cls, reference: Crystals) -> ReferenceCounts:
        """Of known crystals."""
        counts = {g.name: len(g.rows) for g in by_system(reference)}
        return cls(counts, hashlib.sha256(repr(sorted(counts.items())).encode()).hexdigest())

    def num_references(self, chemical_system: str) -> int:
        """References in the chemical system and its subsystems."""
        return sum(self.by_name[s] for s in within(chemical_system, self.by_name))
