"""Sameness by a hash: quick, coarse, and not what the paper uses.

Two crystals are the same by hash if they have the same reduced formula, the same space group (moyo's) and the
same orbits: for each, its element, the number of its sites in the primitive cell and its site symmetry. Free
coordinates and cell shape do not count, so different crystals can share a hash; and a distortion beyond
``SYMPREC`` that a StructureMatcher forgives gives another one. Results obtained with it say so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import Found, symmetry_of
from crysjepa.core.validity import reduced_formulas
from crysjepa.matching.structure_matcher import natural_key
from crysjepa.matching.uniqueness import Matching
from crysjepa.runtime.progress import Progress

SYMPREC = 0.1
"""Å; how far atoms may be from a symmetric place."""


class HashIndex:
    """Known crystals by hash. ``crystals`` are those it was made of."""

    def __init__(self, crystals: Crystals, *, progress: Progress | None = None) -> None:
        self.crystals = crystals
        self.first: dict[str, str] = {}
        hashes, self.failures = crystal_hashes(crystals, progress=progress)
        for id_ in sorted(hashes, key=natural_key):
            self.first.setdefault(hashes[id_], id_)


def crystal_hashes(
    crystals: Crystals, *, progress: Progress | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """``{id: hash}``, and ``{id: reason}`` of the crystals that have none.

    A hash is readable, such as ``Na1Cl1|225|Cl:1:m-3m,Na:1:m-3m``.
    """
    hashes, failures = {}, {}
    formulas = reduced_formulas(crystals)
    for row, crystal in enumerate(crystals):
        try:
            hashes[crystal.ids[0]] = _hash(crystal, formulas[row])
        except ValueError as error:
            failures[crystal.ids[0]] = f"no symmetry was found ({error})"
        if progress:
            progress(row + 1, len(crystals))
    return hashes, failures


def unique_by_hash(
    crystals: Crystals, *, ranks: Mapping[str, int] | None = None, progress: Progress | None = None
) -> Matching:
    """The first crystal, by ``ranks`` and the natural order of the ids, that has the same hash; None if it is
    itself."""
    ranks = ranks or {}
    hashes, failures = crystal_hashes(crystals, progress=progress)
    members: dict[str, list[str]] = defaultdict(list)
    for id_ in sorted(hashes, key=lambda id_: (ranks.get(id_, 0), natural_key(id_))):
        members[hashes[id_]].append(id_)
    matches = {i: None if members[h][0] == i else members[h][0] for i, h in hashes.items()}
    return Matching(matches, failures)


def novel_by_hash(
    crystals: Crystals, reference: Crystals | HashIndex, *, progress: Progress | None = None
) -> Matching:
    """The first known crystal, in the natural order of the ids, that has the same hash, or None."""
    known = reference if isinstance(reference, HashIndex) else HashIndex(reference)
    hashes, failures = crystal_hashes(crystals, progress=progress)
    return Matching({i: known.first.get(h) for i, h in hashes.items()}, failures)


def orbits_of(crystal: Crystals, found: Found) -> list[tuple[int, int, str]]:
    """Of each orbit of a crystal the element, the number of its sites in the primitive cell, and their site
    symmetry, as moyo found them.
    """
    sites: dict[int, set[int]] = defaultdict(set)  # orbit -> sites of the primitive cell
    for site, orbit in enumerate(found.orbits):
        sites[orbit].add(found.mapping_std_prim[site])
    numbers, groups = crystal.atomic_numbers, found.site_symmetry_symbols
    return [(int(numbers[orbit]), len(members), groups[orbit]) for orbit, members in sites.items()]


def _hash(crystal: Crystals, formula: tuple[tuple[int, int], ...]) -> str:
    from pymatgen.core import Element

    found = symmetry_of(crystal, SYMPREC)
    symbols = {number: Element.from_Z(number).symbol for number, _ in formula}
    orbits = sorted(f"{symbols[z]}:{num}:{group}" for z, num, group in orbits_of(crystal, found))
    written = "".join(f"{symbols[z]}{n}" for z, n in formula)
    return f"{written}|{found.number}|{','.join(orbits)}"
