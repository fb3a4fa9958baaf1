"""How a verb is carried out: what changes its time, and none of its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from crysjepa.runtime.progress import Progress, StageProgress, of_stage


class RunOptions(TypedDict, total=False):
    """Keywords that every verb takes; what they mean is said in :class:`Execution`."""

    device: str
    overwrite: bool
    progress: StageProgress | None


class ExecutionOptions(RunOptions, total=False):
    """The same, of a verb that works in processes."""

    processes: int | None


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a verb is carried out.

    Attributes
    ----------
    device
        ``"auto"`` (CUDA where there is one, else the CPU), ``"cpu"``, ``"cuda"`` or ``"mps"``.
    processes
        Worker processes. By default as many as suit the work: one for each core, or on a GPU what fits.
    overwrite
        Replace an output that is there and was made otherwise. One that was made just so is kept.
    progress
        Called as ``progress(stage, done, total)``.
    """

    device: str = "auto"
    processes: int | None = None
    overwrite: bool = False
    progress: StageProgress | None = None

    def stage(self, name: str) -> Progress | None:
        """Progress of one stage, as ``progress(done, total)``."""
        return of_stage(self.progress, name)

    @property
    def found_device(self) -> str:
        """The device that ``device`` names. Raises ValueError for one that is not here."""
        return resolve_device(self.device)


def resolve_device(device: str) -> str:
    """``auto`` becomes ``cuda`` where there is one, else ``cpu``; ValueError for one that is not here."""
    if device == "cpu":
        return device
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cuda", "mps"):
        raise ValueError(f"no device {device!r}: choose auto, cpu, cuda or mps")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device works here (crysjepa doctor tells more): use --device cpu")
    return device
