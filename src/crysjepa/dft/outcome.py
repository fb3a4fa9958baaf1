"""What became of a crystal's calculations, from the steps that were found, wherever they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from crysjepa.dft.vasp.convergence import Convergence
from crysjepa.dft.vasp.manifest import STAGES
from crysjepa.dft.vasp.settings import Differences

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


LONGEST_REASON = 200
_OTHER_ENERGY = 0.1
"""eV/atom between relaxation and static calculation, which differ by far less unless the moments do."""
_SAME_PLACE = 0.1
"""Å by which an atom of the static calculation may be off the place where the relaxation left it."""
WORTH_ANOTHER_TRY = frozenset({State.ELECTRONIC, State.IONIC, State.UNREADABLE})
"""What may go better from a pre-relaxed structure."""


@dataclass(frozen=True)
class Step:
    """One calculation: its entry, whether it converged, and in what its settings are others; or why it cannot
    be read (``trouble``)."""

    entry: ComputedStructureEntry | None = None
    convergence: Convergence = field(default_factory=Convergence)
    vasp_version: str | None = None
    trouble: str | None = None
    settings: Differences = field(default_factory=Differences)
    electrons: float | None = None
    ionic_steps: float | None = None
    """NSW: with 0 or 1 the ions stayed where they were."""


@dataclass(frozen=True)
class Outcome:
    """``entry`` (uncorrected, eV) is there only where the state is ``finished``; else there is a reason.

    ``notes`` are settings that differ from the input set's without giving the energy another meaning.
    """

    state: State
    reason: str | None = None
    entry: ComputedStructureEntry | None = None
    vasp_version: str | None = None
    notes: tuple[str, ...] = ()


def short(reason: str) -> str:
    """A reason on one line of at most 200 characters."""
    line = " ".join(reason.split())
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"


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
        had, has = relaxed.electrons, steps[last].electrons
        if had is not None and has is not None and abs(had - has) > 1e-2:
            return Outcome(State.INCOMPATIBLE, f"{last}: NELECT {has:g}, the relaxation had {had:g}")
        began, ended = steps[last].entry, relaxed.entry
        if began is not None and ended is not None and not is_same(began.structure, ended.structure):
            return Outcome(
                State.WRONG_STRUCTURE,
                f"{last}: its structure is not the one that {STAGES[-2]} ended with: results of another run?",
            )
    noted = [f"{s}: {told}" for s in STAGES if s in steps for told in steps[s].settings.noted]
    if last == STAGES[-1] and (before := steps[STAGES[-2]].entry) and (now := steps[last].entry):
        energies = now.energy_per_atom, before.energy_per_atom
        if abs(energies[0] - energies[1]) > _OTHER_ENERGY:
            noted.append(f"{last}: {energies[0]:.3f} eV/atom, {STAGES[-2]} ended at {energies[1]:.3f}")
    if WHOLE in steps:
        noted += steps[WHOLE].settings.noted
        if (moves := steps[WHOLE].ionic_steps) is not None and moves <= 1:
            noted.append(f"NSW {moves:g}: VASP did not relax the structure")
    return Outcome(State.FINISHED, None, steps[last].entry, steps[last].vasp_version, tuple(noted))


def is_same(one: Structure, other: Structure) -> bool:
    """Whether two structures of one composition are the same, but for rounding."""
    if one.species == other.species and np.allclose(one.lattice.parameters, other.lattice.parameters, 1e-2):
        gaps = one.frac_coords - other.frac_coords
        if (np.linalg.norm((gaps - np.round(gaps)) @ one.lattice.matrix, axis=1) < _SAME_PLACE).all():
            return True
    close = StructureMatcher(ltol=0.01, stol=0.02, angle_tol=1, primitive_cell=False, scale=False)
    return bool(close.fit(one, other))


def _problem(stage: str, step: Step, composition: Composition) -> Outcome | None:
    if step.trouble is not None or step.entry is None:
        return Outcome(State.UNREADABLE, f"{stage}: {step.trouble}")
    if step.entry.composition != composition:
        return Outcome(
            State.WRONG_STRUCTURE,
            f"{stage}: the cell is {step.entry.composition.formula}, exported was {composition.formula}",
        )
    if step.settings.refused:
        return Outcome(State.INCOMPATIBLE, f"{stage}: {'; '.join(step.settings.refused)}")
    if step.convergence.electronic is not None:
        return Outcome(State.ELECTRONIC, f"{stage}: {step.convergence.electronic}")
    if step.convergence.ionic is not None:
        return Outcome(State.IONIC, f"{stage}: {step.convergence.ionic}")
    return None
