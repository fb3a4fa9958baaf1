"""Ordered versions of what is, or would be, disordered.

A generator that works with symmetry or by substitution likes to give each site of a known prototype an
element of its own. Where two of these are alike (:mod:`crysjepa.checks.chemistry`), nature mostly mixes them:
such a crystal is one ordering of a solid solution, and no new compound. The idea of merging like species
before matching is MatterGen's [Zeni et al., Nature 639, 624 (2025)].

A crystal is the ordered version of known ones if, for some way to merge alike elements,

- it matches each of these known crystals, whose elements are among its own, once both are merged (pymatgen's
  StructureMatcher with default tolerances, and with supercells of the known crystal);
- they together hold all of its elements: the end members of a solid solution, or one crystal that mixes them.
  For an alloy only end members count, and other orderings of the very formula: that two metals have ordered
  compounds of other compositions says nothing of disorder;
- in each merged set, at least two elements lie on sites that are equivalent in the merged known crystal. Two
  alike elements that each keep a site of their own make an ordinary compound.

Known crystals are looked up by their elements: a candidate of k elements meets those of 2ᵏ − 1 systems only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crysjepa.checks.chemistry import Bonding, alike, bonding
from crysjepa.core.chemical_systems import element_symbols
from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import symmetry_of
from crysjepa.core.validity import Formula, reduced_formulas
from crysjepa.matching.reduction import Reduced, reduce_crystal
from crysjepa.matching.structure_matcher import expected_warnings, natural_key

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher

SYMPREC = 0.1
"""Å, for which sites of the known crystal are equivalent."""
MAX_ELEMENTS = 7
"""In a candidate: the ways to merge grow as Bell's numbers."""
_LTOL = 0.2

Merging = dict[int, int]
"""The atomic number that stands for each; that of the lightest of its set."""


@dataclass(frozen=True)
class OrderedVersion:
    """Of what a crystal is an ordering: ids of known crystals, and what was merged (``K|Na``)."""

    of: tuple[str, ...]
    merged: str


class KnownOrderings:
    """Known crystals, to be asked whether a crystal is an ordered version of some."""

    def __init__(self, reference: Crystals) -> None:
        self._reference = reference
        self._formulas = reduced_formulas(reference)
        self._rows: dict[frozenset[int], list[int]] = defaultdict(list)
        for row, formula in enumerate(self._formulas):
            self._rows[frozenset(z for z, _ in formula)].append(row)

    def ordered_version(self, crystal: Crystals) -> OrderedVersion | None:
        """What one crystal is an ordered version of; None if of nothing that is known.

        Ways to merge are tried from the one that merges least; the first that succeeds counts. Raises what
        pymatgen raises for a crystal that it cannot reduce.
        """
        (formula,) = reduced_formulas(crystal)
        pairs = alike(formula) if 1 < len(formula) <= MAX_ELEMENTS else set()
        if not pairs:
            return None
        with expected_warnings():
            rows = [r for r in self._near(formula) if not self._same(r, formula, crystal)]
            for sets in mergings([z for z, _ in formula], pairs):
                if found := self._parents(crystal, formula, sets, rows):
                    return OrderedVersion(tuple(self._reference.ids[r] for r in found), _name(sets))
        return None

    def _near(self, formula: Formula) -> list[int]:
        """Rows whose elements are among the formula's; those with most of them first."""
        elements = frozenset(z for z, _ in formula)
        rows = [r for system, rows in self._rows.items() if system <= elements for r in rows]
        ids = self._reference.ids
        return sorted(rows, key=lambda r: (-len(self._formulas[r]), natural_key(ids[r])))

    def _same(self, row: int, formula: Formula, crystal: Crystals) -> bool:
        """Whether a known crystal is the candidate itself, and so no parent."""
        if self._formulas[row] != formula:
            return False
        one, other = self._reference[row].to_structures()[0], crystal.to_structures()[0]
        return bool(_matcher(primitive=True).fit(one, other))

    def _parents(
        self, crystal: Crystals, formula: Formula, sets: Sequence[frozenset[int]], rows: Sequence[int]
    ) -> list[int]:
        """Known crystals that match once merged and hold all elements; empty if there are no such."""
        merging = {z: min(s) for s in sets for z in s}
        wanted, all_elements = _merged_formula(formula, merging), {z for z, _ in formula}
        fitting = [r for r in rows if _merged_formula(self._formulas[r], merging) == wanted]
        if bonding(formula) is Bonding.ALLOY:
            fitting = [
                r for r in fitting if len(self._formulas[r]) == len(sets) or self._formulas[r] == formula
            ]
        if {z for r in fitting for z, _ in self._formulas[r]} != all_elements:
            return []
        merged = _relabelled(crystal, merging).to_structures()[0]
        found, covered = list[int](), set[int]()
        for row in fitting:
            own = {z for z, _ in self._formulas[row]}
            if not own <= covered and self._is_parent(row, merging, sets, crystal, merged):
                found.append(row)
                covered |= own
        return found if covered == all_elements else []

    def _is_parent(
        self, row: int, merging: Merging, sets: Sequence[frozenset[int]], crystal: Crystals, merged: object
    ) -> bool:
        parent = reduce_crystal(_relabelled(self._reference[row], merging), primitive=True, ltol=_LTOL)
        if isinstance(parent, str) or int(crystal.num_atoms[0]) % len(parent):
            return False
        found = _matcher(primitive=False).get_transformation(merged, parent.structure)
        if found is None:
            return False
        copies = int(crystal.num_atoms[0]) // len(parent)
        orbits = _orbits(parent)[np.array(found[2], dtype=np.int64) // copies]
        return all(_share_an_orbit(orbits, crystal.atomic_numbers, s) for s in sets if len(s) > 1)


def _matcher(*, primitive: bool) -> StructureMatcher:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(
        ltol=_LTOL, stol=0.3, angle_tol=5, primitive_cell=primitive, attempt_supercell=not primitive
    )


def _orbits(parent: Reduced) -> NDArray[np.int64]:
    """(n,) of each site, a number that equivalent sites share."""
    cell = Crystals(
        parent.atomic_numbers, parent.frac_coords, parent.matrix[None], np.array([len(parent)]), ("parent",)
    )
    return np.array(symmetry_of(cell, SYMPREC).orbits, dtype=np.int64)


def _share_an_orbit(orbits: NDArray[np.int64], numbers: NDArray[np.int64], elements: frozenset[int]) -> bool:
    on: dict[int, set[int]] = defaultdict(set)
    for orbit, z in zip(orbits.tolist(), numbers.tolist(), strict=True):
        if z in elements:
            on[orbit].add(z)
    return any(len(found) > 1 for found in on.values())


def mergings(elements: Sequence[int], pairs: set[tuple[int, int]]) -> list[list[frozenset[int]]]:
    """Every way to part the elements into sets of alike ones, but for all alone; the least merged first."""
    found = [sorted(sets, key=min) for sets in _partitions(sorted(elements), pairs)]
    found.sort(key=lambda sets: (-len(sets), [sorted(s) for s in sets]))
    return found[1:]


def _partitions(elements: list[int], pairs: set[tuple[int, int]]) -> Iterator[list[frozenset[int]]]:
    if not elements:
        yield []
        return
    *others, last = elements
    for sets in _partitions(others, pairs):
        yield [*sets, frozenset({last})]
        for i, one in enumerate(sets):
            if all((z, last) in pairs for z in one):
                yield [*sets[:i], one | {last}, *sets[i + 1 :]]


def _merged_formula(formula: Formula, merging: Merging) -> Formula:
    counts: dict[int, int] = defaultdict(int)
    for z, n in formula:
        counts[merging[z]] += n
    divisor = int(np.gcd.reduce(list(counts.values())))
    return tuple(sorted((z, n // divisor) for z, n in counts.items()))


def _relabelled(crystal: Crystals, merging: Merging) -> Crystals:
    numbers = np.array([merging[z] for z in crystal.atomic_numbers.tolist()])
    return Crystals(numbers, crystal.frac_coords, crystal.lattices, crystal.num_atoms, crystal.ids)


def _name(sets: Sequence[frozenset[int]]) -> str:
    symbols = element_symbols()
    return ", ".join("|".join(sorted(symbols[z] for z in s)) for s in sets if len(s) > 1)
