"""Which crystals are the same: uniqueness and novelty (paper, appendix D.2).

Every function takes :class:`~crysjepa.crystals.Crystals` and answers by id; none raises for a bad
crystal, and no answer depends on the order of the rows.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from crysjepa.crystals import Crystals
from crysjepa.screen.filters import Formula, reduced_cell, reduced_formulas

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

Progress = Callable[[int, int], None]

MAX_LATTICE_POINTS = 300_000
"""The matcher lists the lattice points in a sphere as wide as the longest cell vector; cells so long and
thin that there would be more than these are not compared (seconds and 100 MB a pair)."""


@dataclass(frozen=True)
class Matching:
    """Which crystal each one matches, or None, by id; and why some could not be compared.

    An id is in ``matches`` or in ``failures``, never in both.
    """

    matches: dict[str, str | None] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class FormulaIndex:
    """Crystals by reduced formula, each prepared for the matcher once, when it is first needed.

    Make one to compare several batches with the same reference crystals.
    """

    def __init__(self, crystals: Crystals, *, matcher: StructureMatcher | None = None) -> None:
        self.crystals = crystals
        self.matcher = matcher or default_matcher()
        self._primitive = bool(self.matcher.as_dict()["primitive_cell"])
        self._prepared: dict[int, Structure | str] = {}
        self.formulas = reduced_formulas(crystals)
        self.rows: dict[Formula, list[int]] = defaultdict(list)
        for row in sorted(range(len(crystals)), key=lambda r: natural_key(crystals.ids[r])):
            self.rows[self.formulas[row]].append(row)

    def prepared(self, row: int) -> Structure | str:
        """The Niggli-reduced (and primitive) structure, or the reason why there is none."""
        if row not in self._prepared:
            try:
                self._prepared[row] = self._prepare(row)
            except Exception as error:  # noqa: BLE001 - pymatgen can fail in many ways; the reason is kept
                self._prepared[row] = f"{self.crystals.ids[row]} cannot be reduced ({_said(error)})"
        return self._prepared[row]

    def _prepare(self, row: int) -> Structure | str:
        from pymatgen.core import Lattice, Structure

        crystal = self.crystals[row]
        cell, frac_coords = reduced_cell(crystal)
        longest = float(np.linalg.norm(cell, axis=1).max()) * (1 + self.matcher.ltol)
        if not 4 / 3 * math.pi * longest**3 / abs(np.linalg.det(cell)) <= MAX_LATTICE_POINTS:
            return f"the cell of {crystal.ids[0]} is too long and thin to compare"
        structure = Structure(Lattice(cell), crystal.atomic_numbers.tolist(), frac_coords)
        structure = structure.get_reduced_structure("niggli")
        return structure.get_primitive_structure() if self._primitive else structure

    def first_match(self, structure: Structure, rows: list[int]) -> tuple[str | None, str | None]:
        """The id of the first of ``rows`` that matches, and why a comparison failed if none did."""
        failure = None
        for row in rows:
            other = self.prepared(row)
            if isinstance(other, str):
                failure = failure or other
                continue
            try:
                # Reduced beforehand, as StructureMatcher.group_structures does.
                if self.matcher.fit(other, structure, skip_structure_reduction=True):
                    return self.crystals.ids[row], None
            except Exception as error:  # noqa: BLE001 - as above
                failure = failure or f"not comparable with {self.crystals.ids[row]} ({_said(error)})"
        return None, failure


def unique(
    crystals: Crystals, *, matcher: StructureMatcher | None = None, progress: Progress | None = None
) -> Matching:
    """The earlier crystal that each one duplicates, or None.

    One greedy pass in the natural order of the ids (c-2 before c-10): a crystal is compared with those
    already found unique. ``matcher`` is pymatgen's StructureMatcher with its default tolerances unless
    another is given.
    """
    index = FormulaIndex(crystals, matcher=matcher)
    found: dict[str, str | None] = {}
    failures: dict[str, str] = {}
    with _expected_warnings():
        for rows in index.rows.values():
            kept: list[int] = []
            for row in rows:
                id_ = crystals.ids[row]
                structure = index.prepared(row) if len(rows) > 1 else None
                if structure is None:  # the only one of its formula
                    found[id_] = None
                elif isinstance(structure, str):
                    failures[id_] = structure
                else:
                    match, failure = index.first_match(structure, kept)
                    if failure:
                        failures[id_] = failure
                    else:
                        found[id_] = match
                        if match is None:
                            kept.append(row)
                if progress:
                    progress(len(found) + len(failures), len(crystals))
    return Matching({i: found[i] for i in crystals.ids if i in found}, _in_order(failures, crystals))


def novel(
    crystals: Crystals,
    reference: Crystals | FormulaIndex,
    *,
    matcher: StructureMatcher | None = None,
    progress: Progress | None = None,
) -> Matching:
    """The reference crystal that each one matches, or None if it is novel.

    The match is the first in the natural order of the reference's ids. ``reference`` may be a
    :class:`FormulaIndex`, which then brings its own ``matcher``.
    """
    known = reference if isinstance(reference, FormulaIndex) else FormulaIndex(reference, matcher=matcher)
    index = FormulaIndex(crystals, matcher=known.matcher)
    result = Matching()
    with _expected_warnings():
        for row, id_ in enumerate(crystals.ids):
            rows = known.rows.get(index.formulas[row], [])
            structure = index.prepared(row) if rows else None
            if isinstance(structure, str):
                result.failures[id_] = structure
            else:
                match, failure = known.first_match(structure, rows) if structure else (None, None)
                if failure:
                    result.failures[id_] = failure
                else:
                    result.matches[id_] = match
            if progress:
                progress(row + 1, len(crystals))
    return result


def default_matcher() -> StructureMatcher:
    """pymatgen's StructureMatcher with its default tolerances: ltol 0.2, stol 0.3, angle_tol 5."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5)


def natural_key(id_: str) -> tuple[list[str | int], str]:
    """Sorts c-2 before c-10; ids that differ only in leading zeros by themselves."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", id_))], id_


def _in_order(values: Mapping[str, str], crystals: Crystals) -> dict[str, str]:
    return {i: values[i] for i in crystals.ids if i in values}


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@contextmanager
def _expected_warnings() -> Iterator[None]:
    """pymatgen sorts by electronegativity and warns for each noble gas."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No Pauling electronegativity", category=UserWarning)
        yield
