"""The known crystals that substitution starts from, and what it looks up of them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import Found, symmetry_of
from crysjepa.core.validity import Formula, composition_reason, invalid_structures, reduced_formulas
from crysjepa.energy.limits import within
from crysjepa.matching.structure_hash import orbits_of

MAX_E_ABOVE_HULL = 0.1
"""eV/atom; where a source says that a crystal is further above the hull, it is no parent."""
_SYMPREC = 0.1

# moyo warns of symmetry operations that a non-primitive cell cannot express; none is used here.
logging.getLogger("moyo").setLevel(logging.ERROR)


Structure = tuple[int, tuple[tuple[int, int, str], ...]]


@dataclass(frozen=True)
class Symmetry:
    """The number of a crystal's space group, sites of its primitive cell, and its orbits: each one's element,
    number of sites and site symmetry.
    """

    number: int
    primitive_sites: int
    orbits: tuple[tuple[int, int, str], ...]

    @classmethod
    def of(cls, crystal: Crystals) -> Symmetry | None:
        """None where no symmetry can be settled on."""
        try:
            found: Found = symmetry_of(crystal, _SYMPREC)
        except ValueError:
            return None
        sites = len(found.prim_std_cell.numbers)
        return cls(int(found.number), sites, tuple(orbits_of(crystal, found)))


@dataclass(frozen=True, eq=False)
class Parents:
    """Known crystals of two or more elements, structurally valid and not far above the hull.

    ``e_above_hull`` (B,) in eV/atom, 0 where the source does not say. ``known`` has every crystal of the
    source, the ones that are no parents included.
    """

    crystals: Crystals
    e_above_hull: NDArray[np.float64]
    known: Crystals
    source: str = ""
    _found: dict[tuple[bool, int], Symmetry | None] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, table: CandidateTable, source: str = "") -> Parents:
        """From a table of known crystals. Raises ValueError if none of them is fit to be a parent."""
        known = table.crystals(table.ok_ids)
        bad = invalid_structures(known)
        above = np.zeros(len(known))
        if "e_above_hull" in table:
            values = table.column("e_above_hull", list(known.ids))
            above = np.array([0.0 if v is None else float(v) for v in values])
        mixed = np.array([len(np.unique(z)) > 1 for z in _sites(known)], dtype=bool)
        sound = np.array([i not in bad for i in known.ids], dtype=bool)
        fit = np.flatnonzero(mixed & sound & within(above, MAX_E_ABOVE_HULL))
        if not len(fit):
            raise ValueError(f"{source or 'the source'} holds no crystal that elements could be swapped in")
        return cls(known[fit], np.maximum(above[fit], 0.0), known[sound], source)

    def __len__(self) -> int:
        return len(self.crystals)

    @cached_property
    def formulas(self) -> list[Formula]:
        """Reduced formulas of the parents."""
        return reduced_formulas(self.crystals)

    @cached_property
    def counts(self) -> list[dict[int, int]]:
        """Sites of each element in each parent."""
        found = []
        for sites in _sites(self.crystals):
            numbers, counts = np.unique(sites, return_counts=True)
            found.append(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        return found

    def primitive_sites(self, row: int) -> int:
        """Sites of a parent's primitive cell."""
        return self._primitive_sites(self.crystals, row)

    def space_group(self, row: int) -> int | None:
        """The number of a parent's space group, within 0.1 Å; None where there is none."""
        found = self._symmetry(self.crystals, row)
        return None if found is None else found.number

    def structure(self, row: int, swaps: Mapping[int, int] | None = None) -> Structure:
        """What a parent is with some elements swapped: its space group, and each orbit's element, number of
        sites and site symmetry. Two crystals that agree in it are mostly the same.
        """
        found, new = self._symmetry(self.crystals, row), swaps or {}
        if found is None:
            return 0, ((row, 0, ""),)
        return found.number, tuple(sorted((new.get(z, z), n, group) for z, n, group in found.orbits))

    def structures(self, formula: Formula) -> set[Structure]:
        """The same of the known crystals of that formula."""
        found = (self._symmetry(self.known, row) for row in self._rows.get(formula, ()))
        return {(s.number, tuple(sorted(s.orbits))) for s in found if s is not None}

    def knows(self, formula: Formula, primitive_sites: int | None = None) -> bool:
        """Whether a known crystal has that reduced formula, and a primitive cell of so many sites if given.

        Two crystals of one formula whose primitive cells differ in size are seldom the same; those of one
        size often are, distorted, whatever their space groups.
        """
        rows = self._rows.get(formula, ())
        if primitive_sites is None:
            return bool(rows)
        return any(self._primitive_sites(self.known, row) == primitive_sites for row in rows)

    @cached_property
    def _rows(self) -> dict[Formula, list[int]]:
        rows: dict[Formula, list[int]] = defaultdict(list)
        for row, formula in enumerate(reduced_formulas(self.known)):
            rows[formula].append(row)
        return dict(rows)

    def _primitive_sites(self, crystals: Crystals, row: int) -> int:
        found = self._symmetry(crystals, row)
        return int(crystals.num_atoms[row]) if found is None else found.primitive_sites

    def _symmetry(self, crystals: Crystals, row: int) -> Symmetry | None:
        key = (crystals is self.known, row)
        if key not in self._found:
            self._found[key] = Symmetry.of(crystals[row])
        return self._found[key]


def _sites(crystals: Crystals) -> list[NDArray[np.int64]]:
    return np.split(crystals.atomic_numbers, crystals.offsets[1:-1])


def is_valid_composition(formula: Formula) -> bool:
    """Whether :func:`crysjepa.core.validity.composition_validity` accepts the formula."""
    return composition_reason(formula) is None
