"""Validity, uniqueness and novelty (paper, appendix D.2).

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
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crysjepa.crystals import Crystals

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

Progress = Callable[[int, int], None]

MAX_LATTICE_POINTS = 300_000
"""The matcher lists the lattice points in a sphere as wide as the longest cell vector; cells so long and
thin that there would be more than these are not compared (seconds and 100 MB a pair)."""

Formula = tuple[tuple[int, int], ...]
"""A reduced formula as sorted (atomic number, count) pairs, counts without a common divisor."""


# -- validity --------------------------------------------------------------------------------


def structure_validity(
    crystals: Crystals,
    *,
    min_distance: float = 0.5,
    min_volume: float = 0.1,
    progress: Progress | None = None,
) -> dict[str, str | None]:
    """Why each structure is invalid, or None: cell volume > 0.1 Å³ and every distance > 0.5 Å.

    Distances are periodic and include those of a site to its own images, so that a cell with a
    vanishing lattice vector is invalid too. Memory is linear in the number of sites.
    """
    reasons: dict[str, str | None] = {}
    for done, crystal in enumerate(crystals, start=1):
        reasons[crystal.ids[0]] = _structure_reason(crystal, min_distance, min_volume)
        if progress:
            progress(done, len(crystals))
    return reasons


def _structure_reason(crystal: Crystals, min_distance: float, min_volume: float) -> str | None:
    if not np.isfinite(crystal.lattices).all():
        return "the lattice is not finite"
    if not np.isfinite(crystal.frac_coords).all():
        return "a coordinate is not finite"
    with np.errstate(over="ignore", invalid="ignore"):
        volume = float(crystal.volumes[0])
    if not math.isfinite(volume):
        return "the cell volume is not finite"
    if volume <= min_volume:
        return f"cell volume {volume:.3g} Å³ is not above {min_volume:g} Å³"
    try:
        cell, frac_coords = _reduced_cell(crystal)
    except (RuntimeError, ValueError, OverflowError) as error:
        return f"the lattice cannot be reduced ({error})"
    # The first vector of a Minkowski-reduced cell is the lattice's shortest: a site's nearest own image.
    shortest = float(np.linalg.norm(cell[0]))
    if shortest > min_distance and len(frac_coords) > 1:
        shortest = min(shortest, _nearest(cell, frac_coords, min_distance))
    if shortest <= min_distance:
        return f"shortest distance {shortest:.2f} Å is not above {min_distance:g} Å"
    return None


def _reduced_cell(crystal: Crystals) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same crystal in its Minkowski-reduced cell: (3, 3) rows in Å, the shortest first, and (n, 3)
    fractional coordinates in [0, 1). However long and sheared the cell was, its images are near after this.
    """
    from ase.geometry import minkowski_reduce

    with np.errstate(all="ignore"):
        cell, change = minkowski_reduce(crystal.lattices[0])
    frac = (crystal.frac_coords - np.floor(crystal.frac_coords)) @ np.rint(np.linalg.inv(change))
    return np.asarray(cell), frac - np.floor(frac)


def _nearest(cell: NDArray[np.float64], frac: NDArray[np.float64], within: float) -> float:
    """Shortest distance between two different sites in Å, or infinity where none is ≤ ``within``."""
    # A vector no longer than r has components of at most r / height along each axis.
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    images = np.array(list(product(*(range(-n, n + 1) for n in np.ceil(within / heights).astype(int)))))
    margin = within / heights + 1e-9
    points = (frac[None, :, :] + images[:, None, :]).reshape(-1, 3)
    near = ((points > -margin) & (points < 1 + margin)).all(axis=1)
    tree = cKDTree(points[near] @ cell)
    # The nearest point is the site itself, so the second nearest counts.
    distances, _ = tree.query(frac @ cell, k=2, distance_upper_bound=within * (1 + 1e-9))
    return float(distances[:, 1].min())


def composition_validity(crystals: Crystals, *, progress: Progress | None = None) -> dict[str, str | None]:
    """Why each composition is invalid, or None: charge neutrality and electronegativity.

    The rule of CDVAE's evaluation (Xie et al., arXiv:2110.06197) as :func:`smact.screening.smact_validity`
    has it with the ``smact14`` oxidation states: a single element and a mixture of metals are valid;
    otherwise each element must be able to take one oxidation state such that the charges sum to 0 and every
    cation is less electronegative than every anion.
    """
    reasons: dict[str, str | None] = {}
    for done, (id_, formula) in enumerate(zip(crystals.ids, _formulas(crystals), strict=True), start=1):
        reasons[id_] = _composition_reason(formula)
        if progress:
            progress(done, len(crystals))
    return reasons


@lru_cache(maxsize=100_000)
def _composition_reason(formula: Formula) -> str | None:
    """smact's answer without its enumeration, which grows as the product of the oxidation states.

    The electronegativity rule says that some threshold parts the cations from the anions. For each
    threshold the signs are fixed, and the total charges that can be reached are a set that grows by one
    element at a time: it never holds more members than the largest charge, for any number of elements.
    """
    data = [(_smact_element(number), count) for number, count in formula]
    if len(data) == 1 or all(is_metal for (_, is_metal, _, _), _ in data):
        return None
    for (symbol, _, states, electronegativity), _ in data:
        if not states:
            return f"smact knows no oxidation state of {symbol}"
        if electronegativity is None:
            return f"smact knows no electronegativity of {symbol}"
    if 0 not in _charges([(states, count) for (_, _, states, _), count in data]):
        return "no charge-neutral combination of oxidation states"
    thresholds = sorted({e for (_, _, _, e), _ in data if e is not None}) + [math.inf]
    for threshold in thresholds:
        signed = []
        for (_, _, states, electronegativity), count in data:
            assert electronegativity is not None
            cation = electronegativity < threshold
            signed.append((tuple(s for s in states if (s >= 0 if cation else s <= 0)), count))
        if 0 in _charges(signed):
            return None
    return "charge-neutral only with a cation more electronegative than an anion"


def _charges(choices: list[tuple[tuple[int, ...], int]]) -> set[int]:
    """Total charges that can be reached with one oxidation state for each element."""
    totals = {0}
    for states, count in choices:
        totals = {total + state * count for total in totals for state in states}
    return totals


@lru_cache(maxsize=128)
def _smact_element(number: int) -> tuple[str, bool, tuple[int, ...], float | None]:
    """Symbol, whether smact counts it as a metal, its smact14 oxidation states, its electronegativity."""
    import smact
    from pymatgen.core import Element

    symbol = Element.from_Z(number).symbol
    try:
        element = smact.Element(symbol)
    except (KeyError, NameError):  # beyond the elements that smact tabulates
        return symbol, False, (), None
    states = tuple(element.oxidation_states_smact14 or ())
    return symbol, symbol in smact.metals, states, element.pauling_eneg


# -- uniqueness and novelty ------------------------------------------------------------------


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
        self.formulas = _formulas(crystals)
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
        cell, frac_coords = _reduced_cell(crystal)
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


def _formulas(crystals: Crystals) -> list[Formula]:
    out = []
    for a, b in zip(crystals.offsets[:-1], crystals.offsets[1:], strict=True):
        numbers, counts = np.unique(crystals.atomic_numbers[a:b], return_counts=True)
        counts = counts // np.gcd.reduce(counts)
        out.append(tuple(zip(numbers.tolist(), counts.tolist(), strict=True)))
    return out


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
