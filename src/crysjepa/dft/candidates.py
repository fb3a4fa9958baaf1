"""What goes out to DFT: the rows of a table or of a run's short list, and what competes with them."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from pymatgen.core import Composition

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.given import listed, reference_of, rows_of_run, run_of
from crysjepa.evaluation.reference import Known
from crysjepa.runtime.notes import UsageError
from crysjepa.workflows.inputs import Source

COMPETITORS = "competitors.parquet"


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


def competitors_of(source: Source, candidates: CandidateTable) -> tuple[CandidateTable, list[str]]:
    """The compounds that a run's closed hull has its crystals compete with, and notes for people.

    Those in the column ``decomposes_to`` of ``candidates``, without the elements. Hypothetical ones have the
    structures of the run's ``competitors.parquet`` or of its own crystals, known ones those of the data set
    ``known`` or of the run's reference; a note names those of which there is none. ``competes_with`` has the
    candidates' ids, ``known`` whether a compound is.

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
    parts, missing = list[CandidateTable](), list[str]()
    for (id_, formula, is_known), own in rivals.items():
        found = next((t for t in (known if is_known else searched) if id_ in t.ids), None)
        if id_ is None or found is None or found.only([id_]).frame["lattice"].isna().all():
            missing.append(formula)
            continue
        row = found.only([id_]).undecided().with_column("competes_with", {id_: ", ".join(own)}, "string")
        parts.append(row.with_column("known", {id_: is_known}, "boolean"))
    if missing:
        notes.append(
            f"{len(missing)} of {len(rivals)} competing compounds are not exported, for their structures are "
            f"not at hand: {', '.join(sorted(missing))}"
        )
    return CandidateTable.concatenate(parts), notes


def _references(run: Path) -> tuple[list[CandidateTable], list[str]]:
    """Known crystals: those that are bundled, and the run's own reference if it is to be had."""
    found, notes = [Known.load(NAME).table], list[str]()
    try:
        if (name := reference_of(run)) not in (None, NAME):
            found.append(Known.load(str(name)).table)
    except ValueError as error:
        notes.append(f"only bundled structures of known compounds are exported: {error}")
    return found, notes
