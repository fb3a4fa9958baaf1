"""Novelty in grades, and what the hull's answer is worth: columns beside N and S.

``known``: a known crystal matches. ``known formula``: none matches, but a compound of that reduced formula is
known; the crystal is another polymorph of it, or the same compound whose structure is not at hand. ``new
formula``: neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.chemical_systems import element_symbols
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import Formula, reduced_formulas
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import known_formulas, known_hull
from crysjepa.energy.support import HullSupport, name_of, systems_of, warning
from crysjepa.evaluation.columns import set_column
from crysjepa.matching.grades import Grade

__all__ = ["MOST_NAMED", "Grade", "KnownFormulas", "with_grades", "with_support"]

MOST_NAMED = 5
"""Known crystals of a formula that a row names."""


@dataclass(frozen=True, eq=False)
class KnownFormulas:
    """Formulas of which a compound is known: of the bundled data set, of a reference, and of a hull.

    The bundled ones always count, so that no choice of a reference makes a known compound new.
    """

    formulas: Mapping[Formula, str]
    hull: Hull | None = None
    structures: Mapping[Formula, Sequence[str]] = field(default_factory=dict)
    """The reference's crystals of each formula: those that are compared with."""

    @classmethod
    def of(cls, reference: Crystals | None = None, hull: Hull | None = None) -> KnownFormulas:
        """From known crystals and a hull, either of which may be the bundled one."""
        there: dict[Formula, list[str]] = defaultdict(list)
        if reference is not None:
            for id_, formula in zip(reference.ids, reduced_formulas(reference), strict=True):
                there[formula].append(id_)
        own = {formula: ids[0] for formula, ids in there.items()}
        other = None if hull is None or hull is known_hull() else hull
        return cls({**own, **known_formulas()}, other, dict(there))

    def compound(self, formula: Formula) -> str | None:
        """The id of a known compound of this reduced formula, or the hull that has one; None if none is."""
        if (found := self.formulas.get(formula)) is not None:
            return found
        if self.hull is None:
            return None
        total, symbols = sum(n for _, n in formula), element_symbols()
        fractions = tuple(sorted((symbols[z], round(n / total, 12)) for z, n in formula))
        return self.hull.source if fractions in self.hull.compounds else None


def with_grades(table: CandidateTable, crystals: Crystals, known: KnownFormulas) -> CandidateTable:
    """Columns ``novelty_grade``, ``known_compound``, which names a known compound of the same formula, and
    ``known_structures``, which names the reference's crystals of it (at most :data:`MOST_NAMED`).

    A row without a verdict of novelty has no grade.
    """
    formulas = dict(zip(crystals.ids, reduced_formulas(crystals), strict=True))
    found = {i: known.compound(f) for i, f in formulas.items()}
    there = {i: _named(known.structures.get(f, ()), found[i]) for i, f in formulas.items()}
    table = set_column(table, "known_structures", there, "string")
    novel = dict(zip(crystals.ids, table.column("novel", crystals.ids), strict=True))
    grades = {i: _grade(is_novel, found[i]) for i, is_novel in novel.items() if is_novel is not None}
    table = set_column(table, "novelty_grade", grades, "string")
    return set_column(table, "known_compound", found, "string")


def _named(ids: Sequence[str], first: str | None) -> str | None:
    """As text, the known compound's own id first where it is among them; None for none."""
    ordered = sorted(ids, key=lambda i: i != first)
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return f"{', '.join(ordered[:MOST_NAMED])}{more}" if ids else None


def _grade(novel: bool, known_compound: str | None) -> Grade:
    if not novel:
        return Grade.KNOWN
    return Grade.NEW_FORMULA if known_compound is None else Grade.KNOWN_FORMULA


def with_support(table: CandidateTable, crystals: Crystals, hull: Hull) -> CandidateTable:
    """Columns ``hull_support``, ``hull_gaps`` (names of systems), ``hull_systems`` (every subsystem, what the
    hull has there and what LeMat-Bulk has) and ``hull_warning``.
    """
    support = HullSupport(hull)
    systems = systems_of(reduced_formulas(crystals))
    found = {i: support.of(s) for i, s in zip(crystals.ids, systems, strict=True)}
    table = set_column(table, "hull_support", {i: s.verdict for i, s in found.items()}, "string")
    gaps = {i: ", ".join(map(name_of, s.gaps)) or None for i, s in found.items()}
    table = set_column(table, "hull_gaps", gaps, "string")
    table = set_column(table, "hull_systems", {i: str(s) for i, s in found.items()}, "string")
    above = dict(zip(crystals.ids, table.column("e_above_hull", crystals.ids), strict=True))
    return set_column(table, "hull_warning", {i: warning(e) for i, e in above.items()}, "string")
