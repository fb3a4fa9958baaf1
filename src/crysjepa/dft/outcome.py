"""What became of a crystal's calculations, from the steps that were found, wherever they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pymatgen.core import Composition
from pymatgen.entries.computed_entries import ComputedStructureEntry

from crysjepa.dft.vasp.manifest import STAGES

WHOLE = "run"
"""The stage of a folder that holds one calculation and no stages: it must be converged in every respect."""


class State(StrEnum):
    """The one state of a crystal's calculations."""

    FINISHED = "finished"
    NOT_EXPORTED = "not exported"
    NOT_STARTED = "not started"
    UNFINISHED = "unfinished"
    ELECTRONIC = "not converged electronically"
    IONIC = "not converged ionically"
    UNREADABLE = "unreadable"
    WRONG_STRUCTURE = "wrong structure"
    INCOMPATIBLE = "incompatible settings"
    CRASHED = "crashed"


WORTH_ANOTHER_TRY = frozenset({State.ELECTRONIC, State.IONIC, State.UNREADABLE})
"""What may go better from a pre-relaxed structure."""


@dataclass(frozen=True)
class Step:
    """One calculation: its entry and whether it converged, or why it cannot be read (``trouble``)."""

    entry: ComputedStructureEntry | None = None
    electronic: bool = False
    ionic: bool = False
    vasp_version: str | None = None
    trouble: str | None = None


@dataclass(frozen=True)
class Outcome:
    """``entry`` (uncorrected, eV) is there only where the state is ``finished``; else there is a reason."""

    state: State
    reason: str | None = None
    entry: ComputedStructureEntry | None = None
    vasp_version: str | None = None


def outcome(steps: Mapping[str, Step], composition: Composition) -> Outcome:
    """Decide from the furthest step; a static calculation counts only after a converged relaxation.

    Parameters
    ----------
    steps
        By stage, one of :data:`~crysjepa.dft.vasp.manifest.STAGES` or :data:`WHOLE`; those that were not
        started are absent. ``relax_1`` need not be there once ``relax_2`` is.
    composition
        Of the exported cell.
    """
    last = next((s for s in (WHOLE, *reversed(STAGES)) if s in steps), None)
    if last is None:
        return Outcome(State.NOT_STARTED, "no output was found")
    problem = _problem(last, steps[last], composition)
    if problem is not None:
        return problem
    if last in STAGES[:-1]:
        following = STAGES[STAGES.index(last) + 1]
        return Outcome(State.UNFINISHED, f"{last} is done, {following} was not started")
    if last == STAGES[-1]:
        relaxed = steps.get(STAGES[-2], Step(trouble="no output, so whether it converged is not known"))
        problem = _problem(STAGES[-2], relaxed, composition)
        if problem is not None:
            return problem
    return Outcome(State.FINISHED, None, steps[last].entry, steps[last].vasp_version)


def _problem(stage: str, step: Step, composition: Composition) -> Outcome | None:
    if step.trouble is not None or step.entry is None:
        return Outcome(State.UNREADABLE, f"{stage}: {step.trouble}")
    if step.entry.composition != composition:
        return Outcome(
            State.WRONG_STRUCTURE,
            f"{stage}: the cell is {step.entry.composition.formula}, exported was {composition.formula}",
        )
    if not step.electronic:
        return Outcome(State.ELECTRONIC, f"{stage}: the last electronic loop ran out of steps")
    if not step.ionic:
        return Outcome(State.IONIC, f"{stage}: the relaxation ran out of steps")
    return None
