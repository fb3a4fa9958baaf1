"""Relax many crystals: fixed chunks, worker processes, resumable, and nothing lost.

A chunk is the unit of work and of resume. The chunks depend on the crystals and the settings alone, whose
defaults differ on a GPU. Each is computed on one thread in one process, and so the results are the same
bytes whatever the number of processes, and whether or not the run was interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.energy.columns import OF_ONE_STRUCTURE
from crysjepa.relaxation.checks import unfit
from crysjepa.relaxation.course import RelaxRecord
from crysjepa.relaxation.engines import check_engine, set_up_worker
from crysjepa.relaxation.force_fields.base import free_device_memory
from crysjepa.relaxation.force_fields.registry import ForceFieldInfo, force_field_info, imports_of
from crysjepa.relaxation.job import Job
from crysjepa.relaxation.settings import PAPER, QUICK, RelaxSettings
from crysjepa.runtime.executors import Kind, device_for, on_executor, open_pool
from crysjepa.runtime.parts import PartDone
from crysjepa.runtime.progress import Progress
from crysjepa.runtime.threads import ONE_THREAD, default_processes

__all__ = ["PAPER", "QUICK", "RelaxRecord", "RelaxSettings", "Relaxation", "relax_crystals"]

STAGE = "relax"
MEMORY_OF_WORKER = 6_000_000_000
"""Bytes on a GPU. Thirteen that relaxed 5,000 crystals with CHGNet took 4.6e9 each."""
"""For the workers: OpenBLAS wakes its threads for each of the cell filter's 3×3 solves, for milliseconds."""
_COLUMNS = {
    "energy_per_atom_initial": ("energy_per_atom_initial", "Float64"),
    "energy_per_atom": ("energy_per_atom", "Float64"),
    "converged": ("converged", "boolean"),
    "relax_steps": ("steps", "Int64"),
    "max_force": ("max_force", "Float64"),
    "max_stress": ("max_stress", "Float64"),
    "volume_change": ("volume_change", "Float64"),
    "max_displacement": ("max_displacement", "Float64"),
}


@dataclass(frozen=True)
class Relaxation:
    """The outcome of :func:`relax_crystals`; every id is in ``records`` or in ``failures``, or in both.

    Attributes
    ----------
    crystals
        Final structures of all that were relaxed to some end, in the order they came. One that
        diverged (it is in ``failures`` too) is in its last sane state.
    records
        How each of these went.
    failures
        Reasons of those that could not be relaxed, or diverged.
    force_field
        What the energies come from.
    settings
        Those that were used: with a GPU's chunks on a GPU.
    """

    crystals: Crystals
    records: dict[str, RelaxRecord]
    failures: dict[str, str]
    force_field: ForceFieldInfo
    settings: RelaxSettings

    def seconds(self) -> dict[str, float | None]:
        """How long each took, of one process; None where that is not known."""
        return {i: r.seconds for i, r in self.records.items()}

    def apply_to(self, table: CandidateTable) -> CandidateTable:
        """The table with relaxed structures, the columns ``energy_per_atom_initial``, ``energy_per_atom``
        (eV/atom), ``converged``, ``relax_steps``, ``max_force`` (eV/Å), ``max_stress`` (GPa),
        ``volume_change`` (a fraction) and ``max_displacement`` (Å), see :class:`RelaxRecord`, and the
        failures decided at stage ``relax``. A row that was not relaxed gets null in these columns, even where
        the table had a value: that was another structure's, or another method's. A row that was relaxed gets
        null where the table had a total or formation energy, or one above the hull: of the structure before.
        """
        table = table.with_structures(self.crystals)
        for column in energies_before(table):
            table = table.with_column(column, dict.fromkeys(self.records))
        for column, (name, dtype) in _COLUMNS.items():
            values = {id_: getattr(record, name) for id_, record in self.records.items()}
            table = table.with_column(column, {**dict.fromkeys(table.ids), **values}, dtype)
        return table.decide(STAGE, self.failures, Status.FAILED)


def relax_crystals(
    crystals: Crystals,
    *,
    force_field: str = "chgnet",
    settings: RelaxSettings | None = None,
    device: str = "cpu",
    processes: int | None = None,
    shards: Path | None = None,
    progress: Progress | None = None,
) -> Relaxation:
    """Relax positions and cells.

    Parameters
    ----------
    crystals
        With unique ids.
    force_field
        See :func:`crysjepa.relaxation.force_fields.registry.get_force_field`.
    settings
        By default ``RelaxSettings()``.
    device
        ``"cpu"`` or ``"cuda"``.
    processes
        Worker processes, each on one thread; by default one for each core; on a GPU, at most as many as fit
        into its memory.
    shards
        A folder for finished chunks. Those found there, of the same crystals, settings and force
        field, are not computed again. With the default settings, a GPU's chunks are not a CPU's:
        to go on with them elsewhere, give ``settings.on("cuda")`` to both.
    progress
        Called as ``progress(done, total)``.

    Raises ValueError for an unknown force field, one that the engine of the settings cannot do, or an id that
    appears twice; ImportError when the force field's package, or the engine's, is absent; RuntimeError when
    worker processes cannot be set up; PartDone where the chunks in ``shards`` are shared out
    (:mod:`crysjepa.runtime.parts`), once this part's are done.
    """
    device = device_for("relax", device)
    settings = (settings or RelaxSettings()).on(device)
    info = force_field_info(force_field)
    check_engine(settings.engine, force_field)
    if len(set(crystals.ids)) != len(crystals):
        raise ValueError("an id appears twice")
    unfits = {c.ids[0]: reason for c in crystals if (reason := unfit(c, info.max_atomic_number))}
    fit = crystals[np.asarray([i not in unfits for i in crystals.ids], dtype=bool)]
    job = Job(fit, settings, info, shards)
    report = progress or (lambda done, total: None)
    report(len(unfits) + job.done, len(crystals))
    if job.todo:
        workers = min(processes or default_workers(device, engine=settings.engine), len(job.todo))
        arguments, shared = (force_field, device, settings), imports_of(force_field)
        with open_pool("relax", set_up_worker, arguments, workers, ONE_THREAD, shared) as pool:
            job.submit_to(pool)
            for (number, position), done in pool.results():
                job.take(number, position, done, pool)
                report(len(unfits) + job.done, len(crystals))
    if job.part is not None:
        raise PartDone(job.own_files(), len(job.rows))
    return _collect(crystals, job, unfits)


def energies_before(table: CandidateTable) -> list[str]:
    """The columns of a table whose energies hold no longer for a row once its structure is relaxed."""
    return [str(name) for name in table.frame.columns if str(name).lower() in OF_ONE_STRUCTURE]


def default_workers(device: str, kind: Kind = "relax", engine: str = "crysjepa") -> int:
    """Worker processes: one a core, on a GPU as many as fit into its memory. One would not fill it, for the
    crystals' optimisers are on the CPU; those of torch-sim are not, and one does. None, where this kind of
    work goes to an executor.
    """
    if on_executor(kind):
        return 0
    if engine == "torch-sim" and device.startswith("cuda"):
        return 1
    if not device.startswith("cuda"):
        return default_processes(device)
    import torch

    free_device_memory()  # of this process, which will have no use for it meanwhile
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(default_processes("cpu"), free // MEMORY_OF_WORKER))


def _collect(crystals: Crystals, job: Job, unfits: dict[str, str]) -> Relaxation:
    chunks = list(job.chunks())
    records = {i: record for chunk in chunks for i, record in chunk.records.items()}
    failures = unfits | {i: reason for chunk in chunks for i, reason in chunk.reasons.items()}
    relaxed = Crystals.concatenate([chunk.crystals for chunk in chunks])
    del chunks
    there = set(relaxed.ids)
    return Relaxation(
        crystals=relaxed.select([i for i in crystals.ids if i in there]),
        records={i: records[i] for i in crystals.ids if i in records},
        failures={i: failures[i] for i in crystals.ids if i in failures},
        force_field=job.info,
        settings=job.settings,
    )
