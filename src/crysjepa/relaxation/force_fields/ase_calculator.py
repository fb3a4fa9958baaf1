"""Any ASE calculator as a force field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from crysjepa.relaxation.force_fields.base import Prediction, evaluate_batch

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator


class AseForceField:
    """Any ASE calculator, one crystal at a time.

    Parameters
    ----------
    calculator
        An ASE calculator that gives energy, forces and stress.
    """

    def __init__(
        self,
        calculator: Calculator,
        *,
        name: str,
        version: str = "unknown",
        scale: str = "unknown",
        max_atomic_number: int = 118,
    ) -> None:
        self.calculator = calculator
        self.name = name
        self.version = version
        self.scale = scale
        self.max_atomic_number = max_atomic_number

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
        """A prediction or a reason for each crystal."""
        return [evaluate_batch([a], self._predict)[0] for a in atoms]

    def _predict(self, atoms: Sequence[Atoms]) -> list[Prediction]:
        found = []
        for original in atoms:
            a = original.copy()
            a.calc = self.calculator
            energy = float(a.get_potential_energy())
            forces, stress = np.array(a.get_forces(), dtype=float), np.array(a.get_stress(), dtype=float)
            found.append(Prediction(energy, forces, stress))
        return found
