"""Sameness by a hash: quick, coarse, and not what the paper uses.

Two crystals are the same by hash if they have the same text, of one of these kinds:

- ``hash``: the same reduced formula, the same space group (moyo's) and the same orbits: for each, its
  element, the number of its sites in the primitive cell and its site symmetry. Free coordinates and cell
  shape do not count, so different crystals can share a hash; and a distortion beyond ``SYMPREC`` that a
  StructureMatcher forgives gives another one.
- ``bonded-graph``: the same reduced formula, space group and graph of bonds
  (:mod:`crysjepa.matching.bonded_graph`). What is bonded to what is a matter of thresholds, so a small
  distortion can give another one.

Results obtained with either say so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import Found, symmetry_of
from crysjepa.core.validity import Formula, reduced_formulas
from crysjepa.matching.bonded_graph import bonded_graph_hash
from crysjepa.matching.structure_matcher import natural_key
from crysjepa.matching.uniqueness import Matching
from crysjepa.runtime.processes import in_processes
from crysjepa.runtime.progress import Progress
from crysjepa.runtime.time_limit import TimeLimitExceeded, time_limit

T = TypeVar("T")
SYMPREC = 0.1
"""Å; how far atoms may be from a symmetric place."""
ORBITS, BONDED_GRAPH = "hash", "bonded-graph"
TIME_LIMIT = 60.0
"""Seconds of CPU for one crystal: bonds are looked for in a sphere of 10 Å, which is much in a cell that has
no sense. Where the system has no timer signals (Windows) there is none."""
_PIECE = 50
"""Crystals that a process is given at once."""


class HashIndex:
    """Known crystals by hash of a kind, those of a formula hashed when it is first asked for.

    ``crystals`` are those it was made of.
    """

    def __init__(self, crystals: Crystals, *, kind: str = ORBITS) -> None:
        self.crystals = crystals
        self.kind = kind
        self._rows: dict[Formula, list[int]] = defaultdict(list)
        for row, formula in enumerate(reduced_formulas(crystals)):
            self._rows[formula].append(row)
        self._first: dict[Formula, dict[str, str]] = {}
        self._failed: dict[Formula, str] = {}

    def prepare(self, formulas: Iterable[Formula], processes: int = 1) -> None:
        """Hash the known crystals of these formulas that are not hashed yet."""
        new = [f for f in dict.fromkeys(formulas) if f in self._rows and f not in self._first]
        rows = sorted({row for f in new for row in self._rows[f]})
        hashes, failures = crystal_hashes(self.crystals[rows], kind=self.kind, processes=processes)
        for formula in new:
            ids = sorted((self.crystals.ids[row] for row in self._rows[formula]), key=natural_key)
            first = self._first.setdefault(formula, {})
            for id_ in ids:
                if id_ in hashes:
                    first.setdefault(hashes[id_], id_)
                else:
                    self._failed.setdefault(formula, f"the known crystal {id_}: {failures[id_]}")

    def match(self, formula: Formula, text: str) -> tuple[str | None, str | None]:
        """The first known crystal of a prepared formula that has this hash; without one, why one may."""
        found = self._first.get(formula, {}).get(text)
        return found, None if found else self._failed.get(formula)


def crystal_hashes(
    crystals: Crystals,
    *,
    kind: str = ORBITS,
    processes: int = 1,
    progress: Progress | None = None,
) -> tuple[dict[str, str], dict[str, str]]:
    """``{id: hash}``, and ``{id: reason}`` of the crystals that have none.

    A hash is readable, such as ``Na1Cl1|225|Cl:1:m-3m,Na:1:m-3m``. Raises ValueError for an unknown ``kind``.
    """
    if kind not in _KINDS:
        raise ValueError(f"no hash {kind!r}: choose from {', '.join(_KINDS)}")
    return each_hashed(_KINDS[kind], crystals, processes, progress)


def each_hashed(
    of: Callable[[Crystals], T], crystals: Crystals, processes: int = 1, progress: Progress | None = None
) -> tuple[dict[str, T], dict[str, str]]:
    """``{id: of(crystal)}``, and ``{id: reason}`` where that raises ValueError or takes longer than a minute.

    ``of`` is a module's function.
    """
    hashes: dict[str, T] = {}
    failures: dict[str, str] = {}
    pieces = [(of, crystals[i : i + _PIECE]) for i in range(0, len(crystals), _PIECE)]
    for found, failed in in_processes(_of_piece, pieces, processes):
        hashes.update(found)
        failures.update(failed)
        if progress:
            progress(len(hashes) + len(failures), len(crystals))
    return hashes, failures


def unique_by_hash(
    crystals: Crystals,
    *,
    kind: str = ORBITS,
    ranks: Mapping[str, int] | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Matching:
    """The first crystal, by ``ranks`` and the natural order of the ids, that has the same hash; None if it is
    itself."""
    ranks = ranks or {}
    hashes, failures = crystal_hashes(crystals, kind=kind, processes=processes, progress=progress)
    members: dict[str, list[str]] = defaultdict(list)
    for id_ in sorted(hashes, key=lambda id_: (ranks.get(id_, 0), natural_key(id_))):
        members[hashes[id_]].append(id_)
    matches = {i: None if members[h][0] == i else members[h][0] for i, h in hashes.items()}
    return Matching(matches, failures)


def novel_by_hash(
    crystals: Crystals,
    reference: Crystals | HashIndex,
    *,
    kind: str = ORBITS,
    processes: int = 1,
    progress: Progress | None = None,
) -> Matching:
    """The first known crystal, in the natural order of the ids, that has the same hash, or None.

    A :class:`HashIndex` brings its own ``kind``.
    """
    known = reference if isinstance(reference, HashIndex) else HashIndex(reference, kind=kind)
    hashes, failures = crystal_hashes(crystals, kind=known.kind, processes=processes, progress=progress)
    formulas = dict(zip(crystals.ids, reduced_formulas(crystals), strict=True))
    known.prepare(formulas.values(), processes)
    result = Matching({}, failures)
    for id_, text in hashes.items():
        match, failure = known.match(formulas[id_], text)
        if failure:
            result.failures[id_] = failure
        else:
            result.matches[id_] = match
    return result


def _of_piece(of: Callable[[Crystals], T], crystals: Crystals) -> tuple[dict[str, T], dict[str, str]]:
    hashes, failures = {}, {}
    for crystal in crystals:
        try:
            with time_limit(TIME_LIMIT, of_cpu=True):
                hashes[crystal.ids[0]] = of(crystal)
        except ValueError as error:
            failures[crystal.ids[0]] = str(error)
        except TimeLimitExceeded:
            failures[crystal.ids[0]] = f"no hash within {TIME_LIMIT:g} s of CPU"
    return hashes, failures


def orbits_of(crystal: Crystals, found: Found) -> list[tuple[int, int, str]]:
    """Of each orbit of a crystal the element, the number of its sites in the primitive cell, and their site
    symmetry, as moyo found them.
    """
    sites: dict[int, set[int]] = defaultdict(set)  # orbit -> sites of the primitive cell
    for site, orbit in enumerate(found.orbits):
        sites[orbit].add(found.mapping_std_prim[site])
    numbers, groups = crystal.atomic_numbers, found.site_symmetry_symbols
    return [(int(numbers[orbit]), len(members), groups[orbit]) for orbit, members in sites.items()]


def orbit_hash(crystal: Crystals) -> str:
    """Formula, space group and orbits of one crystal. Raises ValueError if it has no symmetry."""
    from pymatgen.core import Element

    try:
        found = symmetry_of(crystal, SYMPREC)
    except ValueError as error:
        raise ValueError(f"no symmetry was found ({error})") from error
    (formula,) = reduced_formulas(crystal)
    symbols = {number: Element.from_Z(number).symbol for number, _ in formula}
    orbits = sorted(f"{symbols[z]}:{num}:{group}" for z, num, group in orbits_of(crystal, found))
    written = "".join(f"{symbols[z]}{n}" for z, n in formula)
    return f"{written}|{found.number}|{','.join(orbits)}"


_KINDS: dict[str, Callable[[Crystals], str]] = {ORBITS: orbit_hash, BONDED_GRAPH: bonded_graph_hash}
