"""What the verbs share: files, and tables of which only sound crystals go on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import invalid_structures
from crysjepa.runtime.execution import Execution

Source = str | Path


@dataclass(frozen=True)
class Prepared:
    """A table whose misfits are decided, and the crystals of the others."""

    table: CandidateTable
    crystals: Crystals


def sound(table: CandidateTable) -> Prepared:
    """The crystals that are structurally valid, as they come."""
    crystals = table.crystals(table.ok_ids)
    invalid = invalid_structures(crystals)
    table = table.decide("validity", invalid, Status.REJECTED)
    return Prepared(table, table.crystals(table.ok_ids))


def canonical(table: CandidateTable, execution: Execution) -> Prepared:
    """The crystals that are structurally valid, canonical."""
    found = sound(table)
    crystals, failures = canonicalise(found.crystals, progress=execution.stage("canonicalise"))
    return Prepared(found.table.decide("canonicalise", failures, Status.FAILED), crystals)


def beside(out: Source, suffix: str) -> Path:
    """The file next to ``out`` with a longer name."""
    return Path(out).with_name(Path(out).name + suffix)
