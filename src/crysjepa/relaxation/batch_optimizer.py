"""Relax a few crystals together: one batched evaluation a step, and an ASE optimiser for each crystal."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.cell_filters import make_cell_filter
from crysjepa.relaxation.course import Course, Outcome
from crysjepa.relaxation.energy_bounds import EnergyBounds, energy_bounds
from crysjepa.relaxation.force_fields.base import ForceField, Prediction
from crysjepa.relaxation.settings import RelaxSettings
from crysjepa.runtime.errors import describe_error

if TYPE_CHECKING:
    from ase import Atoms


class Mailbox(Calculator):
    """An ASE calculator that knows only the answers it was sent."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - ASE's interface

    def deliver(self, atoms: Atoms, prediction: Prediction) -> None:
        """Answer for ``atoms`` as they are now."""
        self.atoms = atoms.copy()
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "forces": prediction.forces,
            "stress": prediction.stress,
        }

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """What changed since: here only atoms and cell can."""
        was = self.atoms
        if was is None or not np.array_equal(atoms.positions, was.positions):
            return ["positions"]
        return [] if np.array_equal(atoms.cell, was.cell) else ["cell"]

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        """Called by ASE when the atoms moved since the last delivery."""
        raise RuntimeError("the optimiser asked for a second evaluation within one step")


class _Optimizer(Protocol):
    def step(self) -> None: ...


class Descent(Course):
    """A crystal with ASE's cell filter and optimiser."""

    def __init__(
        self, crystal: Crystals, settings: RelaxSettings, bounds: EnergyBounds | None = None
    ) -> None:
        super().__init__(crystal, settings, bounds)
        self.mailbox = Mailbox()
        self.atoms.calc = self.mailbox
        self.filter = make_cell_filter(self.atoms, settings.cell_filter)
        self.optimizer = _optimizer(self.filter, settings.optimizer)

    def receive(self, prediction: Prediction | str) -> bool:
        """Take in an evaluation; True when there is a step to take from it."""
        if not self.take_in(prediction):
            return False
        assert self.last is not None
        self.mailbox.deliver(self.atoms, self.last)
        with _quiet_numerics():
            rows = np.linalg.norm(self.filter.get_forces(), axis=1)
        self.converged = bool(rows.max() < self.settings.fmax)
        return not self.converged

    def step(self) -> bool:
        """One step of the optimiser; True when the new geometry is worth an evaluation."""
        try:
            with _quiet_numerics():
                self.optimizer.step()
        except Exception as error:  # noqa: BLE001 - matrix logarithms of wild cells; recorded for this crystal
            return self.stop(f"the optimiser failed: {describe_error(error)}")
        return self.stepped()


def relax_together(crystals: Crystals, force_field: ForceField, settings: RelaxSettings) -> list[Outcome]:
    """Relax crystals together, in the calling process, and say what became of each, in their order.

    Each step is one call of ``force_field.evaluate`` with every crystal that is moving.
    """
    bounds = energy_bounds(force_field.name, force_field.scale)
    descents = [Descent(c, settings, bounds) for c in crystals]
    waiting, moving = descents.copy(), list[Descent]()
    while moving or waiting:
        sites = sum(len(d.atoms) for d in moving)
        # from the end, where the largest of a chunk are
        while waiting and (not moving or sites + len(waiting[-1].atoms) <= settings.chunk_sites):
            moving.append(waiting.pop())
            sites += len(moving[-1].atoms)
        began = time.perf_counter()
        predictions = force_field.evaluate([d.atoms for d in moving])
        still = [d for d, p in zip(moving, predictions, strict=True) if d.receive(p)]
        still = [d for d in still if d.steps < settings.max_steps and d.step()]
        for d in moving:
            d.seconds += (time.perf_counter() - began) * len(d.atoms) / sites
        moving = still
    return [d.outcome() for d in descents]


def _optimizer(target: Any, name: str) -> _Optimizer:
    from ase import optimize

    if name == "quasi-newton":
        from crysjepa.relaxation.quasi_newton import QuasiNewton

        return QuasiNewton(target)
    found = {"fire": optimize.FIRE, "lbfgs": optimize.LBFGS, "bfgs": optimize.BFGS}[name]
    return found(target, logfile=None)


@contextlib.contextmanager
def _quiet_numerics() -> Iterator[None]:
    """Silence numpy and scipy about overflows: what is not finite is found and named afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
