"""Crystals that come with energies: of ``crysjepa relax``, or of a finished run.

Such crystals can be judged anew, against another hull or reference or at another threshold, and nothing is
relaxed for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa import datasets
from crysjepa.candidates import CandidateTable
from crysjepa.evaluate.presets import Protocol
from crysjepa.relax.force_fields import ForceFieldInfo
from crysjepa.relax.relax import RelaxSettings
from crysjepa.run import read_json

RESULTS = ("candidates.parquet", "crystals.parquet")
"""What ``discover`` and ``evaluate`` leave in a folder, beside ``metrics.json``."""


@dataclass(frozen=True)
class EnergyOrigin:
    """Which force field a file's ``energy_per_atom`` is of, and how it relaxed."""

    force_field: str
    version: str
    relaxation: RelaxSettings

    def fits(self, protocol: Protocol) -> bool:
        """Whether the protocol asks for relaxed crystals and energies of this force field."""
        return protocol.relax and self.force_field == protocol.force_field


@dataclass(frozen=True)
class Given:
    """Crystals as they came: the table, where its energies are from, and the file or folder's name."""

    table: CandidateTable
    origin: EnergyOrigin | None
    name: str


def energies_told(info: ForceFieldInfo, settings: RelaxSettings) -> dict[str, Any]:
    """What a file of relaxed crystals says of its energies, in its metadata."""
    return {"energies": asdict(info) | {"relaxation": settings.model_dump(mode="json")}}


def is_run(path: str | Path) -> bool:
    """Whether a folder is a finished run of ``discover``, or results of ``evaluate``."""
    path = Path(path)
    return (path / "metrics.json").is_file() and any((path / name).is_file() for name in RESULTS)


def read_given(source: str | Path) -> Given:
    """Crystals of a data set, a file, or a finished run, and where their energies are from.

    Raises as :func:`crysjepa.datasets.load` does.
    """
    path = Path(source)
    table = CandidateTable.read(_results(path)) if is_run(path) else datasets.load(source)
    return Given(table, energies_of(path) if "energy_per_atom" in table else None, path.name)


def energies_of(source: str | Path) -> EnergyOrigin | None:
    """Where the energies of a file or of a finished run are from, without reading its crystals."""
    path = Path(source)
    if not is_run(path):
        return _of_file(path)
    return _of_run(path) or _of_file(_results(path))


def with_given_energies(table: CandidateTable) -> CandidateTable:
    """The rows with an energy before any judgement; the others keep their state."""
    energies = zip(table.ids, table.column("energy_per_atom"), strict=True)
    return table.undecided([i for i, e in energies if e is not None])


def _results(run: Path) -> Path:
    return next(run / name for name in RESULTS if (run / name).is_file())


def _of_run(folder: Path) -> EnergyOrigin | None:
    protocol = read_json(folder / "metrics.json").get("protocol", {})
    if not protocol.get("relax") or "force_field_version" not in protocol:
        return None
    return _origin(protocol["force_field"], protocol["force_field_version"], protocol["relaxation"])


def _of_file(path: Path) -> EnergyOrigin | None:
    if not path.is_file() or path.suffix.lower() != ".parquet":
        return None
    try:
        told = json.loads((pq.read_schema(path).metadata or {}).get(b"crysjepa", b"{}"))
    except (ValueError, pa.ArrowException):
        return None
    energies = told.get("energies") if isinstance(told, Mapping) else None
    if not isinstance(energies, Mapping):
        return None
    return _origin(energies.get("name"), energies.get("version"), energies.get("relaxation"))


def _origin(name: Any, version: Any, relaxation: Any) -> EnergyOrigin | None:
    try:
        settings = RelaxSettings.model_validate(relaxation)
    except ValueError:
        return None
    if not isinstance(name, str) or not isinstance(version, str):
        return None
    return EnergyOrigin(name, version, settings)
