"""Calculators that misbehave and work for a pool, found by import path in worker processes."""

import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.filters import ExpCellFilter, FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS

from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.batch_optimizer import relax_together
from crysjepa.relaxation.force_fields.registry import AseForceField, get_force_field
from crysjepa.relaxation.settings import RelaxSettings

KILLS, SLEEPS, RAISES, LIES, FAULTS = 2, 10, 18, 36, 54  # He, Ne, Ar, Kr, Xe


class Nasty(LennardJones):
    """Lennard-Jones, except for some elements."""

    def __init__(self) -> None:
        super().__init__(sigma=2.4, epsilon=0.2, rc=6.0, smooth=True)
        self.fault = False

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        assert atoms is not None
        if "NASTY_PIDS" in os.environ:
            with Path(os.environ["NASTY_PIDS"]).open("a") as file:
                file.write(f"{os.getpid()}\n")
        if KILLS in atoms.numbers:
            os.kill(os.getpid(), signal.SIGKILL)
        if SLEEPS in atoms.numbers:
            time.sleep(600)
        self.fault = self.fault or FAULTS in atoms.numbers
        if self.fault:  # from then on, whatever is asked for
            raise RuntimeError("CUDA error: device-side assert triggered")
        if RAISES in atoms.numbers:
            raise ArithmeticError("argon is not for me")
        super().calculate(atoms, properties, system_changes)
        if LIES in atoms.numbers:
            self.results["energy"] = self.results["free_energy"] = float("nan")


class Constant(Calculator):
    """Forces zero, a constant hydrostatic stress, and energies from a list (the last one repeats)."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, pressure: float, energies: tuple[float, ...] = (0.0,)) -> None:
        super().__init__()
        self.pressure, self.energies, self.calls = pressure, energies, 0

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert atoms is not None
        energy = self.energies[min(self.calls, len(self.energies) - 1)] * len(atoms)
        self.calls += 1
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": np.zeros((len(atoms), 3)),
            "stress": np.array([self.pressure] * 3 + [0.0] * 3),
        }


def set_up_comparison(force_field: str) -> Callable[[Any], Any]:
    """Relax crystals together and with ASE's own loop, one by one."""
    loaded = get_force_field(force_field)
    assert isinstance(loaded, AseForceField)
    return lambda payload: (
        relax_together(payload[0], loaded, payload[1]),
        with_ase(*payload, loaded.calculator),
    )


def with_ase(crystals: Crystals, settings: RelaxSettings, calculator: Calculator) -> list[dict[str, Any]]:
    found = []
    for atoms in crystals.to_atoms():
        atoms.calc = calculator
        before = atoms.get_potential_energy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            target = {"frechet": FrechetCellFilter, "exp": ExpCellFilter}[settings.cell_filter](atoms)
        plain = {"fire": FIRE, "lbfgs": LBFGS, "bfgs": BFGS}[settings.optimizer](target, logfile=None)
        converged = plain.run(fmax=settings.fmax, steps=settings.max_steps)
        found.append(
            {
                "converged": converged,
                "steps": plain.nsteps,
                "before": before,
                "after": atoms.get_potential_energy(),
                "forces": atoms.get_forces(),
                "stress": atoms.get_stress(),
                "cell": atoms.cell.array,
                "positions": atoms.positions,
            }
        )
    return found
