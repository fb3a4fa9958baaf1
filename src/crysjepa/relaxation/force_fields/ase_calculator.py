"""Any ASE calculator as a force field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from crysjepa.relaxation.checks import num_alone
from crysjepa.relaxation.force_fields.base import Prediction, alone, evaluate_batch

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator


class AseForceField:
    """Any ASE calculator, one crystal at a time.

    Parameters
    ----------
    calculator
        An ASE calculator that gives energy, forces and stress.
    cutoff
        Å, beyond which an atom does not see another; None where it is not known. Then a crystal without any
        force and stress, to the last digit, is one in which no atom has a neighbour.
    """

    def __init__(
        self,
        calculator: Calculator,
        *,
        name: str,
        version: str = "unknown",
        scale: str = "unknown",
        max_atomic_number: int = 118,
        cutoff: float | None = None,
    ) -> None:
        self.calculator = calculator
        self.name = name
        self.version = version
        self.scale = scale
        self.max_atomic_number = max_atomic_number
        self.cutoff = cutoff

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
        """A prediction or a reason for each crystal."""
        return [self._alone(a) or self._seen(evaluate_batch([a], self._predict)[0]) for a in atoms]

    def _alone(self, atoms: Atoms) -> str | None:
        if self.cutoff is None:
            return None
        number = num_alone(atoms.cell.scaled_positions(atoms.positions), atoms.cell.array, self.cutoff)
        return alone(number, len(atoms), self.cutoff) if number else None

    def _seen(self, found: Prediction | str) -> Prediction | str:
        if isinstance(found, str) or self.cutoff is not None or found.forces.any() or found.stress.any():
            return found
        return "no force and no stress at all: no atom has a neighbour within the force field's cutoff"

    def _predict(self, atoms: Sequence[Atoms]) -> list[Prediction]:
        found = []
        for original in atoms:
            a = original.copy()
            a.calc = self.calculator
            energy = float(a.get_potential_energy())
            forces, stress = np.array(a.get_forces(), dtype=float), np.array(a.get_stress(), dtype=float)
            found.append(Prediction(energy, forces, stress))
        return found
