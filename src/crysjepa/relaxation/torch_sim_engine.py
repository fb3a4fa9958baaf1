"""Relax a few crystals together by torch-sim: its FIRE and its cell filter move all of a batch at once.

torch-sim: Cohen et al., arXiv:2508.06628. What differs from ASE's optimisers is in docs/relaxation.md.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.course import Course, Outcome
from crysjepa.relaxation.energy_bounds import energy_bounds
from crysjepa.relaxation.force_fields.base import evaluate_batch
from crysjepa.relaxation.settings import RelaxSettings
from crysjepa.relaxation.torch_sim_model import TorchSimForceField, predictions

if TYPE_CHECKING:
    from torch import Tensor


def relax_by_torch_sim(
    crystals: Crystals, force_field: TorchSimForceField, settings: RelaxSettings
) -> list[Outcome]:
    """Relax crystals together, in the calling process, and say what became of each, in their order.

    A batch that raises, or does not fit into memory, is relaxed again in halves, down to the crystal that is
    at fault.
    """
    each = list(crystals)
    found = evaluate_batch(each, lambda batch: _Batch(batch, force_field, settings).relax(), lambda o: o)
    return [
        Outcome(c.ids[0], reason=o) if isinstance(o, str) else o for c, o in zip(each, found, strict=True)
    ]


class _Batch:
    def __init__(
        self, crystals: Sequence[Crystals], force_field: TorchSimForceField, settings: RelaxSettings
    ) -> None:
        bounds = energy_bounds(force_field.name, force_field.scale)
        self.courses = [Course(c, settings, bounds) for c in crystals]
        self.force_field, self.settings = force_field, settings
        self.waiting = self.courses.copy()

    def relax(self) -> list[Outcome]:
        """Each step is one evaluation of every crystal that is moving."""
        import torch_sim

        state: Any = None
        moving: list[Course] = []
        while moving or self.waiting:
            began, joining = time.perf_counter(), self._next(sum(len(c.atoms) for c in moving))
            at_work = moving + joining
            # whoever joins takes the first step apart: among others, torch-sim's FIRE would halve it
            parts = [self._step(state, moving), self._step(*self._start(joining))]
            parts = [part for part in parts if part[1]]
            moving = [c for _, courses in parts for c in courses]
            state = torch_sim.concatenate_states([s for s, _ in parts]) if moving else None
            seconds, sites = time.perf_counter() - began, sum(len(c.atoms) for c in at_work)
            for c in at_work:
                c.seconds += seconds * len(c.atoms) / sites
        return [c.outcome() for c in self.courses]

    def _next(self, sites: int) -> list[Course]:
        """Those that set out now: from the end, where the largest are, as many as there is room for."""
        joining: list[Course] = []
        while self.waiting:
            more = len(self.waiting[-1].atoms)
            if (sites or joining) and sites + more > self.settings.chunk_sites:
                break
            joining.append(self.waiting.pop())
            sites += more
        return joining

    def _start(self, courses: list[Course]) -> tuple[Any, list[Course]]:
        import torch_sim

        seen = [c for c in courses if (r := self.force_field.alone(c.atoms)) is None or c.stop(r)]
        if not seen:
            return None, []
        with _quiet():
            state = torch_sim.fire_init(
                self.force_field.state([c.atoms for c in seen]),
                self.force_field.model,
                cell_filter=torch_sim.CellFilter.frechet,
            )
        return self._look(state, seen)

    def _step(self, state: Any, courses: list[Course]) -> tuple[Any, list[Course]]:
        import torch_sim

        if not courses:
            return None, []
        with _quiet():
            state = torch_sim.fire_step(state, self.force_field.model)
        positions = np.split(state.positions.cpu().numpy(), np.cumsum([len(c.atoms) for c in courses])[:-1])
        for course, cell, sites in zip(courses, state.row_vector_cell.cpu().numpy(), positions, strict=True):
            course.atoms.set_cell(cell)
            course.atoms.positions = sites
            if course.stepped() and (reason := self.force_field.alone(course.atoms)) is not None:
                course.stop(reason)
        return self._look(state, courses)

    def _look(self, state: Any, courses: list[Course]) -> tuple[Any, list[Course]]:
        """Take in what the model says; the state and courses of those that go on."""
        sizes = [len(c.atoms) for c in courses]
        found = predictions(state.energy, state.forces, state.stress, sizes)
        largest = _largest(state).cpu().numpy()
        on = []
        for i, (course, prediction) in enumerate(zip(courses, found, strict=True)):
            if course.reason is None and course.take_in(prediction):
                course.converged = bool(largest[i] < self.settings.fmax)
                if not course.converged and course.steps < self.settings.max_steps:
                    on.append(i)
        if not on:
            return None, []
        return (state if len(on) == len(courses) else state[on]), [courses[i] for i in on]


def _largest(state: Any) -> Tensor:
    """(B,) of each crystal the largest norm of a row of the cell filter's forces, as ASE's filter has them:
    the atoms' in the cell of the start, and the cell's. eV/Å.
    """
    import torch

    start = state.reference_cell.mT
    deformation = torch.linalg.solve(start, state.row_vector_cell).mT
    atoms = torch.einsum("ni,nij->nj", state.forces, deformation[state.system_idx]).norm(dim=1)
    by_atoms = torch.zeros(len(start), dtype=atoms.dtype, device=atoms.device)
    by_atoms = by_atoms.scatter_reduce(0, state.system_idx, atoms, "amax")
    return torch.maximum(by_atoms, state.cell_forces.norm(dim=2).amax(dim=1))


def _quiet() -> warnings.catch_warnings[None]:
    """Of cells that run away, and are found out afterwards."""
    return warnings.catch_warnings(action="ignore")
