"""Export candidates to VASP: atomate2 flows and plain input folders (paper, appendix D.3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Unpack

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.moments import COLUMN, checked
from crysjepa.dft.candidates import competitors_of, rows_for_dft
from crysjepa.dft.outcome import WORTH_ANOTHER_TRY, State
from crysjepa.dft.vasp.flows import FlowWriter
from crysjepa.dft.vasp.inputs import RUN_SCRIPT, write_inputs
from crysjepa.dft.vasp.manifest import (
    FORMAT,
    MANIFEST_COLUMNS,
    RIVALS,
    begin,
    folder_names,
    structure_hash,
)
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.relaxation.relax import RelaxSettings, relax_crystals
from crysjepa.runtime.execution import Execution, RunOptions
from crysjepa.runtime.files import write_text
from crysjepa.runtime.notes import UsageError
from crysjepa.runtime.progress import StageProgress, of_stage
from crysjepa.runtime.run_directory import versions
from crysjepa.workflows.inputs import Source

WRITES = ("both", "flows", "folders")


@dataclass(frozen=True)
class Exported:
    """The manifest's table, and what must not be overlooked."""

    table: CandidateTable
    notes: tuple[str, ...]

    @property
    def num_exported(self) -> int:
        """Candidates that have a folder."""
        return sum(folder is not None for folder in self.table.column("dft_folder"))


class ExportOptions(RunOptions, total=False):
    """Keywords of :func:`dft_export` that few need; what they mean is said there."""

    unfinished: bool
    competitors: bool
    structures: Source | None


@dataclass(frozen=True, kw_only=True)
class _Exporting(Execution):
    unfinished: bool = False
    competitors: bool = False
    structures: Source | None = None


def dft_export(
    source: Source | None,
    to: Source,
    *,
    write: str = "both",
    every_row: bool = False,
    failed_of: Source | None = None,
    pre_relax: str | None = None,
    settings: RelaxSettings | None = None,
    **how: Unpack[ExportOptions],
) -> Exported:
    """Write inputs of GGA and GGA+U calculations with the Materials Project's settings, and a manifest.

    Calculations start from the magnetic moments in the column ``magmoms`` where a crystal has them, else
    from those of the input set.

    Parameters
    ----------
    source
        Crystals in any format, or a finished run for its short list
        (:func:`~crysjepa.dft.candidates.rows_for_dft`); rows that are still ``ok`` are exported. None with
        ``failed_of``.
    to
        A new folder; an export that was interrupted goes on.
    write
        ``"flows"`` for jobflow-remote (needs atomate2), ``"folders"`` for submission by hand, or ``"both"``.
    every_row
        Export every row that has a structure, even those that were rejected or had failed.
    failed_of
        A folder of :func:`~crysjepa.dft.vasp.collect.dft_collect`: only what failed there is exported, after
        pre-relaxation, which is the paper's rule.
    unfinished
        With ``failed_of``: also what was not started, or stopped between two stages.
    competitors
        Of a finished run: also the compounds that its closed hull has the crystals compete with
        (:func:`~crysjepa.dft.candidates.competitors_of`), as an export of their own in ``TO/competitors``.
        They are in no rate, and ``dft_collect`` adds them to the hull.
    structures
        With ``competitors``: structures of known compounds, in any format, by names that hold their ids.
    pre_relax
        A force field that relaxes the structures first, by ``settings``. What it cannot relax is not
        exported, and ends ``failed``.

    Raises
    ------
    ValueError
        If there is nothing to export; if ``to`` holds other files; for ``failed_of`` without ``pre_relax``,
        since the same inputs would fail again.
    ImportError
        For flows without atomate2.
    """
    if write not in WRITES:
        raise ValueError(f"no way {write!r} to export: choose from {', '.join(WRITES)}")
    flows = FlowWriter() if write != "folders" else None
    run = _Exporting(**how)
    table, notes = _rows(source, every_row, failed_of, run.unfinished, pre_relax)
    to, device, progress = Path(to), run.found_device, run.progress
    settings = (settings or RelaxSettings()).on(device)
    rivals = None
    if run.competitors:
        if source is None:
            raise UsageError("competitors are a run's, and not of a folder that failed: name the run")
        rivals, more = competitors_of(source, table, run.structures)
        notes += more
    begin(to, _told(table, write, failed_of, pre_relax, settings))
    if rivals is not None:
        _export_competitors(rivals, to / RIVALS, write, flows, progress)
        notes.append(f"{len(rivals)} competing compounds are exported to {to / RIVALS}")
    if pre_relax is not None:
        table = _pre_relaxed(table, to, pre_relax, settings, device, progress)
    table = _write_all(table, to, write != "flows", flows, progress)
    write_text(to / "run_vasp.sh", RUN_SCRIPT)
    table.write(to / "manifest.parquet")
    return Exported(table, tuple(notes))


def _export_competitors(
    rivals: CandidateTable, to: Path, write: str, flows: FlowWriter | None, progress: StageProgress | None
) -> None:
    """An export like any other; one that is finished stays."""
    if (to / "manifest.parquet").exists() or not len(rivals):
        return
    begin(to, _told(rivals, write, None, None, RelaxSettings()))
    done = _write_all(rivals, to, write != "flows", flows, progress)
    write_text(to / "run_vasp.sh", RUN_SCRIPT)
    done.write(to / "manifest.parquet")


def _rows(
    source: Source | None, every_row: bool, failed_of: Source | None, unfinished: bool, pre_relax: str | None
) -> tuple[CandidateTable, list[str]]:
    """What is to be exported is ``ok``; anything else keeps its state."""
    if (source is None) == (failed_of is None):
        raise ValueError("name the crystals to export, or --failed-of a folder of crysjepa dft collect")
    notes: list[str] = []
    if failed_of is not None:
        if pre_relax is None:
            raise ValueError(
                "the same inputs would fail again: name a force field with --pre-relax (paper: mattersim)"
            )
        table, notes = _failed(Path(failed_of), unfinished)
    else:
        assert source is not None
        table = rows_for_dft(source, every_row=every_row)
        table = table.undecided() if every_row else table
    exported = len(table.ok_ids)
    if not exported:
        raise ValueError(f"nothing to export: of {len(table)} rows, none is ok ({table.counts()})")
    if exported < len(table):
        states = ", ".join(f"{n} {s}" for s, n in sorted(table.counts().items()) if s != Status.OK)
        notes.append(f"{len(table) - exported} of {len(table)} rows are not exported ({states})")
    return table, notes


def _failed(folder: Path, unfinished: bool) -> tuple[CandidateTable, list[str]]:
    """The rows whose calculations failed, as they were exported, without what collect found."""
    paths = [folder / "candidates.parquet", folder / "collected" / "candidates.parquet"]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        raise ValueError(f"{folder} has no results: run crysjepa dft collect on it first")
    frame = CandidateTable.read(path).frame
    if "dft_state" not in frame:
        raise ValueError(f"{path} is not a table of crysjepa dft collect")
    wanted = {*WORTH_ANOTHER_TRY, *((State.NOT_STARTED, State.UNFINISHED) if unfinished else ())}
    chosen = frame["dft_state"].isin([str(s) for s in wanted])
    left = frame.loc[~chosen & (frame["dft_state"] != State.FINISHED), "dft_state"].value_counts()
    notes = [f"{number} {state}: left alone" for state, number in sorted(left.items())]
    if not chosen.any():
        raise ValueError(f"nothing in {folder} failed in a way that pre-relaxation may mend ({notes})")
    ours = [c for c in frame.columns if c.startswith("dft_") or c in MANIFEST_COLUMNS]
    return CandidateTable(frame[chosen].drop(columns=ours).reset_index(drop=True)).undecided(), notes


def _pre_relaxed(
    table: CandidateTable,
    to: Path,
    name: str,
    settings: RelaxSettings,
    device: str,
    progress: StageProgress | None,
) -> CandidateTable:
    done = relax_crystals(
        table.crystals(table.ok_ids),
        force_field=name,
        settings=settings,
        device=device,
        shards=to / "pre_relax",
        progress=of_stage(progress, "pre-relax"),
    )
    table = table.with_structures(done.crystals)
    steps = {i: record.steps for i, record in done.records.items()}
    converged = {i: record.converged for i, record in done.records.items()}
    table = table.with_column("pre_relax_steps", steps, "Int64")
    table = table.with_column("pre_relax_converged", converged, "boolean")
    return table.decide("pre-relax", done.failures, Status.FAILED)


def _write_all(
    table: CandidateTable, to: Path, folders: bool, flows: FlowWriter | None, progress: StageProgress | None
) -> CandidateTable:
    crystals = table.crystals(table.ok_ids)
    columns: dict[str, dict[str, Any]] = {name: {} for name in MANIFEST_COLUMNS}
    failures: dict[str, str] = {}
    ids = list(crystals.ids)
    moments = dict(zip(ids, table.column(COLUMN, ids), strict=True)) if COLUMN in table else {}
    for done, (crystal, folder) in enumerate(zip(crystals, folder_names(crystals), strict=True), start=1):
        (id_,) = crystal.ids
        try:
            structure = crystal.to_structures()[0]
            if (found := checked(moments.get(id_), len(structure))) is not None:
                structure.add_site_property("magmom", list(found))
            if folders:
                write_inputs(structure, to / "inputs" / folder)
            if flows is not None:
                jobs = flows.write(structure, to / "flows" / f"{folder}.json", id_, folder)
                columns["dft_jobs"][id_] = json.dumps(jobs)
            columns["dft_folder"][id_] = folder
            columns["structure_sha256"][id_] = structure_hash(crystal)
        except OSError:
            raise  # a full disk is no property of the crystal
        except Exception as error:  # noqa: BLE001 - pymatgen's input sets fail in many ways; one costs no other
            failures[id_] = f"{type(error).__name__}: {error}"
        if progress is not None:
            progress("export", done, len(crystals))
    for name, values in columns.items():
        table = table.with_column(name, {**dict.fromkeys(table.ids), **values}, "string")
    return table.decide("export", failures, Status.FAILED)


def _told(
    table: CandidateTable,
    write: str,
    failed_of: Source | None,
    pre_relax: str | None,
    settings: RelaxSettings,
) -> dict[str, Any]:
    relaxation: Mapping[str, Any] | None = None
    if pre_relax is not None:
        relaxation = {**asdict(force_field_info(pre_relax)), "relaxation": settings.model_dump(mode="json")}
    found = versions()
    for package in ("atomate2", "jobflow", "emmet-core"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "format": FORMAT,
        "backend": "vasp",
        "input_sets": ["MPRelaxSet", "MPRelaxSet", "MPStaticSet"],
        "flow": None if write == "folders" else "MPGGADoubleRelaxStaticMaker",
        "candidates": table.content_hash(),
        "failed_of": None if failed_of is None else Path(failed_of).name,
        "pre_relax": relaxation,
        "versions": found,
    }
