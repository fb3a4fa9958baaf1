"""Relax a few crystals together: one batched evaluation a step, and an ASE optimiser for each crystal."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.cell_filters import make_cell_filter
from crysjepa.relaxation.checks import diverged, shortest_distance
from crysjepa.relaxation.energy_bounds import EnergyBounds, energy_bounds
from crysjepa.relaxation.force_fields.base import ForceField, Prediction, check
from crysjepa.relaxation.force_fields.registry import get_for_worker
from crysjepa.runtime.errors import describe_error

if TYPE_CHECKING:
    from ase import Atoms

GPU_CHUNKS = {"chunk_size": 200, "chunk_sites": 2000}
"""Chunks on a GPU: with few crystals it waits for the launch of some 1,800 small operations a step."""
MAX_ENERGY_FALL = 50.0
"""eV/atom, of a force field whose energies have no known zero: one that promises more, while its atoms come
closer, has left the ground it was trained on. From a start that was too dense, energies may fall by more."""
_SEEN = 3.0
"""Å: shortest distances beyond this are not told apart."""


class RelaxSettings(BaseModel):
    """How to relax.

    ``fmax`` (eV/Å) bounds the norm of every row of the cell filter's forces, the atoms' and the cell's,
    which is ASE's criterion. ``time_limit`` is in seconds per crystal; None waits for ever. A chunk is of at
    most ``chunk_size`` crystals; of them so many move together that their sites are at most ``chunk_sites``,
    which bounds the memory (one alone may have more), and where one has arrived, the next sets out. Where
    both have their defaults, CUDA has :data:`GPU_CHUNKS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: Literal["fire", "quasi-newton", "lbfgs", "bfgs"] = "fire"
    cell_filter: Literal["frechet", "exp"] = "frechet"
    fmax: float = Field(default=0.05, gt=0)
    max_steps: int = Field(default=500, ge=0)
    chunk_size: int = Field(default=12, ge=1)
    chunk_sites: int = Field(default=600, ge=1)
    time_limit: float | None = Field(default=300.0, gt=0)

    def on(self, device: str) -> RelaxSettings:
        """With a GPU's chunks in place of the defaults, where the device is one."""
        fields = type(self).model_fields
        chosen = any(getattr(self, name) != fields[name].default for name in GPU_CHUNKS)
        return self.model_copy(update=GPU_CHUNKS) if device.startswith("cuda") and not chosen else self


PAPER = RelaxSettings(optimizer="fire", cell_filter="exp", fmax=0.05, max_steps=500)
"""The protocol of Crys-JEPA: FIRE with ASE's exponential cell filter, 0.05 eV/Å, at most 500 steps."""
QUICK = RelaxSettings(optimizer="fire", cell_filter="frechet", fmax=0.1, max_steps=150)
"""Good enough to rank candidates."""


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


class Descent:
    """One crystal on its way down: its atoms, ASE's cell filter and optimiser, and where it was last sane."""

    def __init__(
        self, crystal: Crystals, settings: RelaxSettings, bounds: EnergyBounds | None = None
    ) -> None:
        (self.id,) = crystal.ids
        (self.atoms,) = crystal.to_atoms()
        self.settings = settings
        self.bounds = bounds
        self.mailbox = Mailbox()
        self.atoms.calc = self.mailbox
        self.initial_volume = float(self.atoms.cell.volume)
        self.initial_coords = self.atoms.cell.scaled_positions(self.atoms.positions)
        self.initial_distance = _shortest(self.atoms) if bounds is None else 0.0
        self.filter = make_cell_filter(self.atoms, settings.cell_filter)
        self.optimizer = _optimizer(self.filter, settings.optimizer)
        self.steps = 0
        self.seconds = 0.0
        self.converged = False
        self.reason: str | None = None
        self.initial: Prediction | None = None
        self.last: Prediction | None = None
        self.last_atoms = self.atoms.copy()

    def receive(self, prediction: Prediction | str) -> bool:
        """Take in an evaluation; True when there is a step to take from it."""
        prediction = check(prediction) if isinstance(prediction, Prediction) else prediction
        if isinstance(prediction, str):
            return self._stop(prediction)
        if (reason := self._hole(prediction)) is not None:
            return self._stop(reason)
        self.initial = self.initial or prediction
        self.last, self.last_atoms = prediction, self.atoms.copy()
        self.mailbox.deliver(self.atoms, prediction)
        with _quiet_numerics():
            rows = np.linalg.norm(self.filter.get_forces(), axis=1)
        self.converged = bool(rows.max() < self.settings.fmax)
        return not self.converged

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

    def step(self) -> bool:
        """One step of the optimiser; True when the new geometry is worth an evaluation."""
        try:
            with _quiet_numerics():
                self.optimizer.step()
        except Exception as error:  # noqa: BLE001 - matrix logarithms of wild cells; recorded for this crystal
            return self._stop(f"the optimiser failed: {describe_error(error)}")
        self.steps += 1
        reason = diverged(self.atoms, self.initial_volume)
        return True if reason is None else self._stop(reason)

    def _stop(self, reason: str) -> bool:
        self.reason = reason
        return False

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


def set_up_worker(name: str, device: str, settings: RelaxSettings) -> Callable[[Crystals], list[Outcome]]:
    """In a worker: load a force field and look at it once; then relax chunks with it, on one thread."""
    loaded = get_for_worker(name, device)
    return lambda chunk: relax_together(chunk, loaded, settings)


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
