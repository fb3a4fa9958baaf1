"""Known crystals by formula, each reduced once, for pymatgen's StructureMatcher.

``StructureMatcher.fit`` decides; what follows only spares calls whose answer is no. With its default settings
(no supercells, no subsets, species as they are) ``fit`` goes like this: (1) both structures are reduced to
their primitive Niggli cells and scaled to the same volume; (2) unless both have as many sites, the answer is
no; (3) it lists the bases c₁, c₂, c₃ of the first lattice whose lengths agree with those of the second cell
within a factor of 1 + ltol and whose angles agree within angle_tol, and whose determinant, in units of the
first cell, is ±1; without any, the answer is no; (4) it compares the sites. Hence

- *formula*: structures whose compositions differ are never compared (pymatgen compares them first);
- *sites*: by (2), cells of different size do not match. A crystal with f formula units in its given cell has
  d of them in the reduced one, where d divides f; so a crystal that is not yet reduced is ruled out if the
  other's number of units does not divide its own;
- *lengths*: c₁, c₂, c₃ of (3) are linearly independent vectors of the first lattice, so the shortest of
  them is at least as long as its shortest vector, and so on for the second and third (Minkowski's successive
  minima). The lengths of a Niggli cell are these minima, in three dimensions. So if any of the first cell's
  three lengths, shortest first and at the same volume, is more than 1 + ltol times the second's, the answer
  is no.
  The second crystal cannot stand in for the first here: ``fit`` is not symmetric.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import minkowski_reduce
from crysjepa.core.validity import Formula, reduced_formulas
from crysjepa.matching.reduction import Reduced, reduce_crystal
from crysjepa.runtime.files import metadata_of, write_parquet
from crysjepa.runtime.processes import in_processes
from crysjepa.runtime.progress import Progress

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher

FORMAT = 1
"""Of saved indices: it changes when :mod:`crysjepa.matching.reduction` gives other cells."""
MIN_VOLUME = 1e-3
"""Å³; a cell with less is left to pymatgen."""
_SLACK = 1e-3
"""Of lengths: pymatgen's Niggli cells are reduced to a tolerance of 1e-5, and sums are rounded."""


class FormulaIndex:
    """Crystals by reduced formula, each reduced for the matcher once, when it is first needed.

    Make one to compare several batches with the same reference crystals; :meth:`save` keeps what has been
    reduced so far.
    """

    def __init__(self, crystals: Crystals, *, matcher: StructureMatcher | None = None) -> None:
        self.crystals = crystals
        self.matcher = matcher or default_matcher()
        settings = self.matcher.as_dict()
        self._primitive = bool(settings["primitive_cell"])
        self._plain = (
            not settings["attempt_supercell"]
            and not settings["allow_subset"]
            and not settings["ignored_species"]
            and settings["comparator"]["@class"] == "SpeciesComparator"
        )
        self._scaled = bool(settings["scale"])
        self._reduced: dict[int, Reduced | str] = {}
        self.formulas = reduced_formulas(crystals)
        self._rows: dict[Formula, list[int]] = defaultdict(list)
        for row, formula in enumerate(self.formulas):
            self._rows[formula].append(row)
        self._sorted: set[Formula] = set()

    # -- looking up ------------------------------------------------------------------------

    def rows(self, formula: Formula) -> list[int]:
        """Rows of this formula, in the natural order of their ids."""
        if formula not in self._rows:
            return []
        if formula not in self._sorted:
            self._rows[formula].sort(key=lambda r: natural_key(self.crystals.ids[r]))
            self._sorted.add(formula)
        return self._rows[formula]

    def buckets(self) -> list[list[int]]:
        """Rows of each formula, in the natural order of their ids."""
        return [self.rows(formula) for formula in list(self._rows)]

    def part(self, formula: Formula) -> FormulaIndex:
        """The crystals of one formula, with what has been reduced of them."""
        return self.part_of(self.rows(formula))

    def part_of(self, rows: Sequence[int]) -> FormulaIndex:
        """The crystals of these rows, with what has been reduced of them."""
        found = FormulaIndex(self.crystals[rows], matcher=self.matcher)
        found._reduced = {i: self._reduced[row] for i, row in enumerate(rows) if row in self._reduced}
        return found

    def reduced(self, row: int) -> Reduced | str:
        """The Niggli-reduced (and primitive) crystal, or the reason why there is none."""
        if row not in self._reduced:
            self._reduced[row] = _reduce(self.crystals[row], self._primitive, self.matcher.ltol)
        return self._reduced[row]

    def first_match(self, crystal: Reduced, rows: Sequence[int]) -> tuple[str | None, str | None]:
        """The id of the first of ``rows`` that matches, and why a comparison failed if none did."""
        failure = None
        for row in rows:
            if self.ruled_out(row, crystal):
                continue
            other = self.reduced(row)
            if isinstance(other, str):
                failure = failure or other
                continue
            match, why = self.fits(row, other, crystal) if self.may_fit(other, crystal) else (False, None)
            if match:
                return self.crystals.ids[row], None
            failure = failure or why
        return None, failure

    def fits(
        self, row: int, other: Reduced, crystal: Reduced, *, anonymous: bool = False
    ) -> tuple[bool, str | None]:
        """The matcher's own verdict, or why there is none; ``other`` is the reduced crystal of ``row``.

        Both are reduced beforehand, as StructureMatcher.group_structures does.
        """
        fit = self.matcher.fit_anonymous if anonymous else self.matcher.fit
        try:
            return bool(fit(other.structure, crystal.structure, skip_structure_reduction=True)), None
        except Exception as error:  # noqa: BLE001 - pymatgen can fail in many ways; the reason is kept
            return False, f"not comparable with {self.crystals.ids[row]} ({_described(error)})"

    # -- on disk ---------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """SHA-256 of the crystals, the matcher's settings and pymatgen's version."""
        settings = {k: v for k, v in self.matcher.as_dict().items() if k not in ("@module", "version")}
        content = json.dumps([settings, version("pymatgen"), FORMAT], sort_keys=True, default=str)
        return hashlib.sha256(f"{self.crystals.content_hash()}\0{content}".encode()).hexdigest()

    def reduce_all(self, *, processes: int = 1, progress: Progress | None = None) -> None:
        """Reduce every crystal now, before :meth:`save`."""
        todo = [row for row in range(len(self.crystals)) if row not in self._reduced]
        pieces = [todo[i : i + 100] for i in range(0, len(todo), 100)]
        tasks = [(self.crystals[piece], self._primitive, self.matcher.ltol) for piece in pieces]
        for piece, found in zip(pieces, in_processes(_reduce_piece, tasks, processes), strict=True):
            self._reduced.update(zip(piece, found, strict=True))
            if progress:
                progress(len(self._reduced), len(self.crystals))

    def save(self, path: str | Path) -> None:
        """Write what has been reduced so far, so that :meth:`restore` spares it the next time."""
        rows = sorted(self._reduced)
        cells = [self._reduced[row] for row in rows]
        kept = [c if isinstance(c, Reduced) else None for c in cells]
        table = pa.table(
            {
                "row": pa.array(rows, type=pa.int64()),
                "matrix": pa.array(
                    [None if c is None else c.matrix.reshape(-1) for c in kept], type=pa.list_(pa.float64())
                ),
                "frac_coords": pa.array(
                    [None if c is None else c.frac_coords.reshape(-1) for c in kept],
                    type=pa.list_(pa.float64()),
                ),
                "atomic_numbers": pa.array(
                    [None if c is None else c.atomic_numbers for c in kept], type=pa.list_(pa.int64())
                ),
                "reason": pa.array([c if isinstance(c, str) else None for c in cells], type=pa.string()),
            }
        )
        write_parquet(table, path, {"key": self.key})

    def restore(self, path: str | Path) -> bool:
        """Take over what :meth:`save` wrote for the same crystals and settings; False if there is none."""
        try:
            table = pq.read_table(path)
            found = metadata_of(table.schema)["key"]
        except (OSError, pa.ArrowException, KeyError, ValueError):
            return False
        if found != self.key:
            return False
        for entry in table.to_pylist():
            self._reduced[entry["row"]] = entry["reason"] or Reduced(
                np.array(entry["matrix"]).reshape(3, 3),
                np.array(entry["frac_coords"]).reshape(-1, 3),
                np.array(entry["atomic_numbers"], dtype=np.int64),
            )
        return True

    @property
    def num_reduced(self) -> int:
        """How many crystals have been reduced so far."""
        return len(self._reduced)

    # -- ruling out ------------------------------------------------------------------------

    def ruled_out(self, row: int, crystal: Reduced) -> bool:
        """*Sites* and *lengths*, of a crystal not reduced for it: True only where ``fit`` would say no.

        Where the given cell has as many sites as ``crystal``, the two can only match if that cell is not made
        smaller; then its lattice is the one to compare, and moyo finds its three shortest vectors quickly.
        """
        if not self._plain or not self._primitive or row in self._reduced:
            return False
        num_atoms = int(self.crystals.num_atoms[row])
        if num_atoms != len(crystal):
            return bool(num_atoms % len(crystal))
        matrix = self.crystals.lattices[row]
        volume = float(abs(np.linalg.det(matrix))) if np.isfinite(matrix).all() else 0.0
        if not volume > MIN_VOLUME:
            return False  # pymatgen says what is wrong with it
        try:
            shortest = minkowski_reduce(matrix)
        except ValueError:
            return False
        minima = np.sort(np.linalg.norm(shortest, axis=1))
        return self._too_long(minima, volume, crystal)

    def may_fit(self, first: Reduced, second: Reduced) -> bool:
        """*Sites* and *lengths*: False only where ``fit`` would say no."""
        if not self._plain:
            return True
        if len(first) != len(second):
            return False
        return not self._too_long(first.lengths, first.volume, second)

    def _too_long(self, lengths: NDArray[np.float64], volume: float, second: Reduced) -> bool:
        ratio = (second.volume / volume) ** (1 / 3) if self._scaled else 1.0
        longest = second.lengths * (1 + self.matcher.ltol) * (1 + _SLACK)
        return bool((lengths * ratio > longest).any())


def _reduce(crystal: Crystals, primitive: bool, ltol: float) -> Reduced | str:
    try:
        return reduce_crystal(crystal, primitive=primitive, ltol=ltol)
    except Exception as error:  # noqa: BLE001 - pymatgen can fail in many ways; the reason is kept
        return f"{crystal.ids[0]} cannot be reduced ({_described(error)})"


def _reduce_piece(crystals: Crystals, primitive: bool, ltol: float) -> list[Reduced | str]:
    with expected_warnings():
        return [_reduce(crystal, primitive, ltol) for crystal in crystals]


def default_matcher() -> StructureMatcher:
    """pymatgen's StructureMatcher with its default tolerances: ltol 0.2, stol 0.3, angle_tol 5."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5)


def natural_key(id_: str) -> tuple[list[str | int], str]:
    """Sorts c-2 before c-10; ids that differ only in leading zeros by themselves."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", id_))], id_


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@contextmanager
def expected_warnings() -> Iterator[None]:
    """pymatgen sorts by electronegativity and warns for each noble gas."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No Pauling electronegativity", category=UserWarning)
        yield
