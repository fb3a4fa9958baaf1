"""What the verbs share: devices, files, progress, and tables of which only sound crystals go on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import invalid_structures
from crysjepa.runtime.progress import Progress, StageProgress

Source = str | Path


def resolve_device(device: str) -> str:
    """``auto`` becomes ``cuda`` where there is one, else ``cpu``; ValueError for one that is not here."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda", "mps"):
        raise ValueError(f"no device {device!r}: choose auto, cpu, cuda or mps")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device works here (crysjepa doctor tells more): use --device cpu")
    return device


@dataclass(frozen=True)
class Prepared:
    """A table whose misfits are decided, and the crystals of the others."""

    table: CandidateTable
    crystals: Crystals


def sound(table: CandidateTable) -> Prepared:
    """The crystals that are structurally valid, as they come."""
    crystals = table.crystals(table.ok_ids)
    invalid = invalid_structures(crystals)
    table = table.decide("validity", invalid, Status.REJECTED)
    return Prepared(table, table.crystals(table.ok_ids))


def canonical(table: CandidateTable, progress: StageProgress | None) -> Prepared:
    """The crystals that are structurally valid, canonical."""
    found = sound(table)
    crystals, failures = canonicalise(found.crystals, progress=stage(progress, "canonicalise"))
    return Prepared(found.table.decide("canonicalise", failures, Status.FAILED), crystals)


def beside(out: Source, suffix: str) -> Path:
    """The file next to ``out`` with a longer name."""
    return Path(out).with_name(Path(out).name + suffix)


def stage(progress: StageProgress | None, name: str) -> Progress | None:
    """Progress of one stage."""
    return None if progress is None else (lambda done, total: progress(name, done, total))
