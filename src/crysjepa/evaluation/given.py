"""Crystals that come with energies: of ``crysjepa relax``, or of a finished run.

Such crystals can be judged anew, against another hull or reference or at another threshold, and nothing is
relaxed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.energy.columns import near_formation_energy
from crysjepa.energy.known_hull import NAME
from crysjepa.energy.load_hull import stated_scale
from crysjepa.evaluation.criteria import NOT_CONVERGED
from crysjepa.evaluation.protocol import Protocol
from crysjepa.relaxation.engines import engine_version
from crysjepa.relaxation.force_fields.registry import ForceFieldInfo
from crysjepa.relaxation.relax import STAGE as RELAXATION
from crysjepa.relaxation.relax import RelaxSettings
from crysjepa.runtime.files import file_metadata, read_json

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
    """Crystals as they came, where their energies are from, and the scale of their formation energies, where
    the file states it."""

    table: CandidateTable
    origin: EnergyOrigin | None
    scale: str | None = None


def energy_metadata(info: ForceFieldInfo, settings: RelaxSettings) -> dict[str, Any]:
    """What a file of relaxed crystals says of its energies, in its metadata."""
    engine = engine_version(settings.engine)
    told = {} if engine is None else {"engine": engine}
    return {"energies": asdict(info) | {"relaxation": settings.model_dump(mode="json")} | told}


def is_run(path: str | Path) -> bool:
    """Whether a folder is a finished run of ``discover``, or results of ``evaluate``."""
    path = Path(path)
    return (path / "metrics.json").is_file() and any((path / name).is_file() for name in RESULTS)


def read_given(source: str | Path) -> Given:
    """Crystals of a data set, a file, or a finished run, and where their energies are from.

    A polymorph that a search put in place of a crystal of the same table is left out: it was not drawn, and
    is in no rate. Raises as :func:`crysjepa.datasets.load` does.
    """
    path = Path(source)
    table = _without_swaps(rows_of_run(path) if is_run(path) else datasets.load(source))
    file = results_of(path) if is_run(path) else path
    return Given(table, energies_of(path) if "energy_per_atom" in table else None, stated_scale(file))


def _without_swaps(table: CandidateTable) -> CandidateTable:
    if "in_place_of" not in table:
        return table
    swapped = table.frame["in_place_of"].isin(table.ids)
    return CandidateTable(table.frame[~swapped].reset_index(drop=True))


def rows_of_run(folder: str | Path) -> CandidateTable:
    """Every row of a finished run: what was drawn, and the polymorphs that took places on the short list."""
    return CandidateTable.read(results_of(Path(folder)))


def run_of(source: str | Path) -> Path | None:
    """The finished run that a path names: its folder, or the folder ``shortlist`` in it. None for others."""
    path = Path(source)
    run = path.parent if path.name == "shortlist" and not is_run(path) else path
    return run if is_run(run) else None


def listed(table: CandidateTable) -> CandidateTable:
    """The rows of the short list, best first, as the page has them; all rows where there is none."""
    if "shortlist_rank" not in table:
        return table
    rows = table.frame[table.frame["shortlist_rank"].notna()].sort_values("shortlist_rank", kind="stable")
    return CandidateTable(rows.reset_index(drop=True))


def energies_of(source: str | Path) -> EnergyOrigin | None:
    """Where the energies of a file or of a finished run are from, without reading its crystals."""
    path = Path(source)
    if not is_run(path):
        return _of_file(path)
    return _of_run(path) or _of_file(results_of(path))


def protocol_of(source: str | Path) -> Protocol | None:
    """How a finished run was judged; None for what is no run, or was judged by rules of another version.

    Without ``trust``: competitors are searched for again only when that is asked for.
    """
    config = Path(source) / "config.json"
    if not is_run(source) or not config.is_file():
        return None
    settings = _read_mapping(config)
    try:
        found = Protocol.model_validate(settings.get("evaluate") or settings.get("protocol"))
    except ValueError:
        return None
    return found.model_copy(update={"trust": None})


def reference_of(source: str | Path) -> str | None:
    """The reference that a finished run of ``discover``, or results of ``evaluate``, were judged by.

    None for what is no run. Raises ValueError where it is no longer to be had: another gives other rates.
    Results of ``evaluate`` know it by its name alone, and so a file is to be named again.
    """
    config, path = Path(source) / "config.json", Path(source)
    if not is_run(path):
        return None
    name = (_read_mapping(config) if config.is_file() else {}).get("reference")
    of_run = isinstance(name, str)
    if not of_run:
        name = _read_mapping(path / "metrics.json").get("novelty_set")
    if not isinstance(name, str):
        return None
    if (of_run and Path(name).exists()) or name in {NAME, *(d.name for d in datasets.available())}:
        return name
    lost = "which is no longer there" if of_run else "of which only the name is kept"
    raise ValueError(
        f"{source} was judged by the reference {name}, {lost}: name it with --reference, or judge by the "
        f"bundled one with --reference {NAME}"
    )


def with_given_energies(table: CandidateTable) -> CandidateTable:
    """The rows with an energy before any judgement; the others keep their state.

    So does one whose relaxation failed: it has the energy of where it diverged.
    """
    columns = (table.column(c) for c in ("energy_per_atom", "status", "stage", "reason"))
    fit = [
        id_
        for id_, energy, status, stage, reason in zip(table.ids, *columns, strict=True)
        if energy is not None and (status != Status.FAILED or stage != RELAXATION or reason == NOT_CONVERGED)
    ]
    return table.undecided(fit)


def check_formation_energies(table: CandidateTable, option: str = "--hull") -> None:
    """Raises ValueError, saying what is lacking, for crystals without formation energies: no hull, which was
    asked for by ``option``, can judge them as they are."""
    if "formation_energy_per_atom" in table and table.frame["formation_energy_per_atom"].notna().any():
        return
    have = [c for c in ("energy_per_atom", "e_above_hull") if c in table and table.frame[c].notna().any()]
    why = {
        "energy_per_atom": "their energy_per_atom is of a force field that the file does not state",
        "e_above_hull": "their e_above_hull is above another hull, and holds for no other",
    }
    told = "; ".join(why[c] for c in have) or "they have no energies"
    near = near_formation_energy(str(c) for c in table.frame.columns if c not in have)
    raise ValueError(
        f"{option} cannot judge these crystals with --no-relax: {told}. Give them a column "
        f"formation_energy_per_atom (eV/atom{near}), leave out --no-relax to compute energies, or leave out "
        f"{option}"
    )


def with_given_formation_energies(table: CandidateTable) -> CandidateTable:
    """The rows with a formation energy before any judgement; the others keep their state."""
    values = table.column("formation_energy_per_atom")
    return table.undecided([i for i, value in zip(table.ids, values, strict=True) if value is not None])


def results_of(run: Path) -> Path:
    """The table of a finished run's crystals."""
    return next(run / name for name in RESULTS if (run / name).is_file())


def _read_mapping(path: Path) -> Mapping[str, Any]:
    """An object of JSON; {} for a file that holds something else. Raises RunError for what is no JSON."""
    content = read_json(path)
    return content if isinstance(content, Mapping) else {}


def _of_run(folder: Path) -> EnergyOrigin | None:
    protocol = _read_mapping(folder / "metrics.json").get("protocol")
    if (
        not isinstance(protocol, Mapping)
        or not protocol.get("relax")
        or "force_field_version" not in protocol
    ):
        return None
    return _origin(protocol.get("force_field"), protocol["force_field_version"], protocol.get("relaxation"))


def _of_file(path: Path) -> EnergyOrigin | None:
    if not path.is_file() or path.suffix.lower() != ".parquet":
        return None
    energies = file_metadata(path).get("energies")
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
