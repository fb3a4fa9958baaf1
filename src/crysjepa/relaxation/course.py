"""What becomes of a crystal on its way down, and what stops it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import units
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.checks import diverged, shortest_distance
from crysjepa.relaxation.energy_bounds import EnergyBounds
from crysjepa.relaxation.force_fields.base import Prediction, check
from crysjepa.relaxation.settings import RelaxSettings

if TYPE_CHECKING:
    from ase import Atoms

MAX_ENERGY_FALL = 50.0
"""eV/atom, of a force field whose energies have no known zero: one that promises more, while its atoms come
closer, has left the ground it was trained on. From a start that was too dense, energies may fall by more."""
_SEEN = 3.0
"""Å: shortest distances beyond this are not told apart."""


@dataclass(frozen=True)
class RelaxRecord:
    """How a relaxation went.

    Attributes
    ----------
    energy_per_atom_initial, energy_per_atom
        The force field's total energy in eV/atom, before and after.
    converged
        Whether ``fmax`` was reached.
    steps
        Optimiser steps taken.
    max_force
        Largest norm of a force on an atom at the end, eV/Å.
    max_stress
        Largest component of the stress at the end by magnitude, GPa.
    volume_change
        Final over initial volume, less one.
    max_displacement
        How far the atom that moved most did so, in Å: by fractional coordinates in the final cell, less the
        mean of all atoms.
    seconds
        This crystal's share of the computing time; None where that was not kept.
    """

    energy_per_atom_initial: float
    energy_per_atom: float
    converged: bool
    steps: int
    max_force: float
    max_stress: float
    volume_change: float
    max_displacement: float
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one crystal: a final structure and record, a reason for failure, or both
    (a relaxation that diverged is kept in its last sane state).
    """

    id: str
    crystal: Crystals | None = None
    record: RelaxRecord | None = None
    reason: str | None = None


class Course:
    """One crystal on its way down, whatever takes the steps: where it is, and where it was last sane.

    ``atoms`` are moved by who takes the steps.
    """

    def __init__(
        self, crystal: Crystals, settings: RelaxSettings, bounds: EnergyBounds | None = None
    ) -> None:
        (self.id,) = crystal.ids
        (self.atoms,) = crystal.to_atoms()
        self.settings = settings
        self.bounds = bounds
        self.initial_volume = float(self.atoms.cell.volume)
        self.initial_coords = self.atoms.cell.scaled_positions(self.atoms.positions)
        self.initial_distance = _shortest(self.atoms) if bounds is None else 0.0
        self.steps = 0
        self.seconds = 0.0
        self.converged = False
        self.reason: str | None = None
        self.initial: Prediction | None = None
        self.last: Prediction | None = None
        self.last_atoms = self.atoms.copy()

    def take_in(self, prediction: Prediction | str) -> bool:
        """An evaluation of the atoms as they are; False, and a reason, where it is none."""
        prediction = check(prediction) if isinstance(prediction, Prediction) else prediction
        if isinstance(prediction, str):
            return self.stop(prediction)
        if (reason := self._hole(prediction)) is not None:
            return self.stop(reason)
        self.initial = self.initial or prediction
        self.last, self.last_atoms = prediction, self.atoms.copy()
        return True

    def stepped(self) -> bool:
        """A step was taken; True when the new geometry is worth an evaluation."""
        self.steps += 1
        reason = diverged(self.atoms, self.initial_volume)
        return True if reason is None else self.stop(reason)

    def stop(self, reason: str) -> bool:
        """False, and the reason is kept."""
        self.reason = reason
        return False

    def _hole(self, prediction: Prediction) -> str | None:
        """Why this energy is none, but a hole in the force field."""
        per_atom = prediction.energy / len(self.atoms)
        if self.bounds is not None:
            return self.bounds.too_low(per_atom, self.atoms.numbers)
        if self.initial is None or self.initial.energy / len(self.atoms) - per_atom <= MAX_ENERGY_FALL:
            return None
        if _shortest(self.atoms) > self.initial_distance:
            return None
        return f"the energy fell by more than {MAX_ENERGY_FALL:.0f} eV/atom"

    def outcome(self) -> Outcome:
        """What became of it."""
        if self.initial is None or self.last is None:
            return Outcome(self.id, reason=self.reason)
        n, last = len(self.atoms), self.last
        if self.reason is None and self.bounds is not None:
            self.reason = self.bounds.too_high(last.energy / n, self.atoms.numbers)
        record = RelaxRecord(
            energy_per_atom_initial=self.initial.energy / n,
            energy_per_atom=last.energy / n,
            converged=self.converged,
            steps=self.steps,
            max_force=float(np.linalg.norm(last.forces, axis=1).max()),
            max_stress=float(np.abs(last.stress).max() / units.GPa),
            volume_change=float(self.last_atoms.cell.volume) / self.initial_volume - 1,
            max_displacement=_max_displacement(self.initial_coords, self.last_atoms),
            seconds=self.seconds,
        )
        return Outcome(self.id, Crystals.from_atoms([self.last_atoms], [self.id]), record, self.reason)


def _shortest(atoms: Atoms) -> float:
    found = shortest_distance(atoms.cell.scaled_positions(atoms.positions), atoms.cell.array, _SEEN)
    return 0.0 if found is None else min(found, _SEEN)


def _max_displacement(before: NDArray[np.float64], after: Atoms) -> float:
    moved = after.cell.scaled_positions(after.positions) - before  # never wrapped on the way
    return float(np.linalg.norm((moved - moved.mean(axis=0)) @ after.cell.array, axis=1).max())
