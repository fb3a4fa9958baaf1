"""Uniqueness and novelty beside a plain loop over StructureMatcher.fit within formula buckets."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pymatgen.analysis.structure_matcher import StructureMatcher

from crysjepa.core.crystals import Crystals
from crysjepa.matching.uniqueness import FormulaIndex, Matching, natural_key, novel, unique

T = TypeVar("T")


@dataclass(frozen=True)
class Plain:
    """What the plain loop finds, and its seconds: ``prepare`` are for structures and formulas."""

    unique: dict[str, str | None]
    novel: dict[str, str | None]
    prepare: float
    unique_seconds: float
    novel_seconds: float
    fits: int


def plain_loop(crystals: Crystals, reference: Crystals) -> Plain:
    """As one writes it down: structures, a dictionary by reduced formula, and ``fit`` until one matches.

    The order is the same: crystals and known ones in the natural order of their ids, a crystal compared with
    those already found unique. pymatgen's own cache of reduced structures is as it comes.
    """
    matcher, fits = StructureMatcher(), 0
    started = time.process_time()
    own, known = crystals.to_structures(), reference.to_structures()
    formulas = [s.composition.reduced_formula for s in own]
    prepared = time.process_time()

    buckets: dict[str, list[int]] = defaultdict(list)
    for row in sorted(range(len(crystals)), key=lambda r: natural_key(crystals.ids[r])):
        buckets[formulas[row]].append(row)
    duplicates: dict[str, str | None] = {}
    for rows in buckets.values():
        kept: list[int] = []
        for row in rows:
            duplicates[crystals.ids[row]] = None
            for other in kept:
                fits += 1
                if matcher.fit(own[other], own[row]):
                    duplicates[crystals.ids[row]] = crystals.ids[other]
                    break
            else:
                kept.append(row)
    first = time.process_time()

    shelves: dict[str, list[int]] = defaultdict(list)
    known_formulas = [s.composition.reduced_formula for s in known]
    sorted_at = time.process_time()
    for row in sorted(range(len(reference)), key=lambda r: natural_key(reference.ids[r])):
        shelves[known_formulas[row]].append(row)
    matches: dict[str, str | None] = {}
    for row, id_ in enumerate(crystals.ids):
        matches[id_] = None
        for other in shelves.get(formulas[row], []):
            fits += 1
            if matcher.fit(known[other], own[row]):
                matches[id_] = reference.ids[other]
                break
    second = time.process_time()
    prepare = (prepared - started) + (sorted_at - first)
    return Plain(duplicates, matches, prepare, first - prepared, second - sorted_at, fits)


def compare_matching(crystals: Crystals, reference: Crystals, *, repeats: int = 3) -> dict[str, Any]:
    """Verdicts and seconds of both, on the same crystals in the same process, one after the other.

    Seconds are those of the processor, so that other work on the machine counts for neither.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain_loop(crystals[:1], crystals[:1])  # imports
        plain = plain_loop(crystals, reference)
    ours, seconds = _best(lambda: (unique(crystals), novel(crystals, reference)), repeats)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.parquet"
        index = FormulaIndex(reference)
        novel(crystals, index)
        index.save(path)

        def with_index() -> tuple[Matching, Matching]:
            found = FormulaIndex(reference)
            if not found.restore(path):
                raise RuntimeError("the saved index was not taken for that of the same crystals")
            return unique(crystals), novel(crystals, found)

        saved, saved_seconds = _best(with_index, repeats)
    return {
        "num_crystals": len(crystals),
        "num_reference": len(reference),
        "num_unique": sum(v is None for v in plain.unique.values()),
        "num_novel": sum(v is None for v in plain.novel.values()),
        "unique_differ": _differ(plain.unique, ours[0]),
        "novel_differ": _differ(plain.novel, ours[1]),
        "saved_index_differ": _differ(plain.unique, saved[0]) + _differ(plain.novel, saved[1]),
        "plain_fits": plain.fits,
        "plain_seconds": plain.prepare + plain.unique_seconds + plain.novel_seconds,
        "plain_seconds_in_fit": plain.unique_seconds + plain.novel_seconds,
        "seconds": seconds,
        "seconds_with_saved_index": saved_seconds,
    }


def _differ(plain: dict[str, str | None], ours: Matching) -> list[str]:
    """Ids with another verdict (a match with another crystal counts), or without one."""
    missing = object()
    return [i for i, match in plain.items() if ours.matches.get(i, missing) != match]


def _best(work: Callable[[], T], repeats: int) -> tuple[T, float]:
    """What ``work`` returns, and the median of its seconds."""
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        found = work()
        taken.append(time.process_time() - started)
    return found, sorted(taken)[len(taken) // 2]
