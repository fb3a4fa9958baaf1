"""What goes out to DFT: the rows of a table or of a run's short list, and what competes with them."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pymatgen.core import Composition

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.validity import Formula, reduced_formulas
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.given import listed, reference_of, rows_of_run, run_of
from crysjepa.evaluation.reference import Known
from crysjepa.runtime.notes import UsageError
from crysjepa.workflows.inputs import Source

COMPETITORS = "competitors.parquet"
_MATERIALS_PROJECT = "https://materialsproject.org/materials/"
_MOST_NAMED = 5
"""Other polymorphs that a note names."""


def rows_for_dft(source: Source, *, every_row: bool = False) -> CandidateTable:
    """Crystals of any format, or the short list of a finished run (``RUN``, or ``RUN/shortlist``).

    Of a run, the rows have all their columns, such as ``p_stable``, and its own (primitive) cells rather than
    the conventional ones of the CIFs. With ``every_row`` of all its crystals. Raises as
    :func:`crysjepa.datasets.load` does.
    """
    run = run_of(source)
    if run is None:
        return datasets.load(source)
    rows = rows_of_run(run)
    return rows if every_row else listed(rows)


def competitors_of(
    source: Source, candidates: CandidateTable, structures: Source | None = None
) -> tuple[CandidateTable, list[str]]:
    """The compounds that a run's closed hull has its crystals compete with, and notes for people.

    Those in the column ``decomposes_to`` of ``candidates``, without the elements. Hypothetical ones have the
    structures of the run's ``competitors.parquet`` or of its own crystals, known ones those of the data set
    ``known``, of the run's reference, or of ``structures``: crystals in any format, whose names hold the id
    (``mp-10695.cif``). Notes name those of which there is none, where to get it, and other polymorphs that
    are at hand. ``competes_with`` has the candidates' ids, ``known`` whether a compound is.

    Raises
    ------
    UsageError
        For what is no run whose hull was closed.
    """
    run = run_of(source)
    if run is None or not (run / COMPETITORS).is_file() or "decomposes_to" not in candidates:
        raise UsageError(
            f"{source} is no run whose hull was closed: --competitors needs the folder of a run of discover "
            "or compete"
        )
    rivals: dict[tuple[str | None, str, bool], list[str]] = defaultdict(list)
    fit = candidates.ok_ids
    for own_id, mixture in zip(fit, candidates.column("decomposes_to", fit), strict=True):
        for phase in json.loads(mixture or "[]"):
            if phase["id"] not in fit and not Composition(phase["formula"]).is_element:
                rivals[phase["id"], phase["formula"], phase["known"]].append(own_id)
    searched = [CandidateTable.read(run / COMPETITORS), rows_of_run(run)]
    known, notes = _references(run)
    given = None if structures is None else datasets.load(structures)
    parts, missing = list[CandidateTable](), list[tuple[str | None, str, bool]]()
    for (id_, formula, is_known), own in rivals.items():
        found = _row(known if is_known else searched, id_)
        if found is None and is_known and given is not None:
            found = _given(given, id_, formula)
        if id_ is None or found is None:
            missing.append((id_, formula, is_known))
            continue
        row = found.undecided().with_column("competes_with", {id_: ", ".join(own)}, "string")
        parts.append(row.with_column("known", {id_: is_known}, "boolean"))
    return CandidateTable.concatenate(parts), notes + _missing(missing, len(rivals), known)


def _row(tables: Sequence[CandidateTable], id_: str | None) -> CandidateTable | None:
    """The row of the first table that has it, if it has a structure."""
    found = next((t.only([id_]) for t in tables if id_ in t.ids), None) if id_ is not None else None
    return None if found is None or found.frame["lattice"].isna().all() else found


def _given(table: CandidateTable, id_: str | None, formula: str) -> CandidateTable | None:
    """The first crystal of the formula whose name holds the id, by this id."""
    if id_ is None:
        return None
    named = re.compile(rf"(?<![A-Za-z0-9]){re.escape(id_)}(?![0-9])")
    crystals = table.crystals([i for i in table.ok_ids if named.search(i)])
    for own, found in zip(crystals.ids, reduced_formulas(crystals), strict=True):
        if found == _formula(formula):
            return CandidateTable.from_crystals(crystals.select([own]).with_ids([id_]))
    return None


def _missing(
    missing: Sequence[tuple[str | None, str, bool]], num: int, known: Sequence[CandidateTable]
) -> list[str]:
    """A note for each, what it is and where to get it, and one that says what to do."""
    if not missing:
        return []
    of_formulas: dict[Formula, list[str]] = defaultdict(list)
    for crystals in (table.crystals(table.ok_ids) for table in known):
        for own, reduced in zip(crystals.ids, reduced_formulas(crystals), strict=True):
            of_formulas[reduced].append(own)
    notes = [
        f"{len(missing)} of {num} competing compounds are not exported, for their structures are not at "
        f"hand: {', '.join(sorted(formula for _, formula, _ in missing))}"
    ]
    for id_, formula, is_known in sorted(missing, key=lambda one: (one[1], one[0] or "")):
        named = f"{formula} ({id_ or 'without an id'})"
        at = f": {_MATERIALS_PROJECT}{id_}" if is_known and (id_ or "").startswith("mp-") else ""
        others = of_formulas[_formula(formula)] if is_known else []
        more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        polymorphs = f"; other polymorphs at hand: {', '.join(others[:_MOST_NAMED])}{more}" if others else ""
        notes.append(f"{named}{at}{polymorphs}")
    if any(is_known and id_ for id_, _, is_known in missing):
        notes.append(
            "to calculate known ones too, download them as ID.cif (mp-1234.cif) into a folder, and export "
            "anew: --competitors --structures FOLDER, with another --to. Without it they stand on the "
            "default hull of dft collect with their energies by the Materials Project"
        )
    return notes


def _formula(text: str) -> Formula:
    """Atomic numbers with counts without a common divisor."""
    counts = {e.Z: round(n) for e, n in Composition(text).items()}
    divisor = math.gcd(*counts.values())
    return tuple(sorted((z, n // divisor) for z, n in counts.items()))


def _references(run: Path) -> tuple[list[CandidateTable], list[str]]:
    """Known crystals: those that are bundled, and the run's own reference if it is to be had."""
    found, notes = [Known.load(NAME).table], list[str]()
    try:
        if (name := reference_of(run)) not in (None, NAME):
            found.append(Known.load(str(name)).table)
    except ValueError as error:
        notes.append(f"only bundled structures of known compounds are exported: {error}")
    return found, notes
