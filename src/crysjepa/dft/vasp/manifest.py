"""What ties a calculation to its candidate: ``manifest.parquet`` and ``manifest.json`` of an exported folder.

An exported folder looks like this::

    manifest.json                      settings and versions
    manifest.parquet                   the candidates, a row each, with the columns of MANIFEST_COLUMNS
    run_vasp.sh                        runs the three stages of one crystal
    flows/00000_NaCl.json              an atomate2 flow, for jobflow-remote
    inputs/00000_NaCl/relax_1/INCAR    inputs of each stage, for those who submit by hand
    outputs/*.json                     where output documents of jobflow are put, to be collected
    competitors/                       what competes with the candidates, exported in the same way
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.runtime.files import read_json, write_json
from crysjepa.runtime.notes import UsageError

STAGES = ("relax_1", "relax_2", "static")
"""The calculations of a crystal, in order, as atomate2's MPGGADoubleRelaxStaticMaker has them."""
MANIFEST_COLUMNS = ("dft_folder", "structure_sha256", "dft_jobs")
"""Folder under ``inputs`` (null: not exported), hash of the exported structure, and a JSON object that gives
the stage of each job by its uuid (null without flows)."""
RIVALS = "competitors"
"""Folder in an exported one: an export of what competes with the candidates."""
FORMAT = 1


def structure_hash(crystal: Crystals) -> str:
    """SHA-256 of one crystal's sites and cell, whatever its id."""
    return crystal.with_ids([""]).content_hash()


def folder_names(crystals: Crystals) -> list[str]:
    """A folder for each crystal, such as ``00012_NaCl``: ids may hold what no file system takes."""
    return [f"{row:05d}_{formula}" for row, formula in enumerate(crystals.reduced_formulas())]


@dataclass(frozen=True)
class Manifest:
    """An exported folder, its candidates and how they were exported."""

    folder: Path
    table: CandidateTable
    settings: dict[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> Manifest:
        """Raises ValueError where ``crysjepa dft export`` did not write, or did not finish."""
        folder = Path(folder)
        path = folder / "manifest.parquet"
        if not path.is_file():
            raise ValueError(f"{folder} has no manifest.parquet: not a folder of crysjepa dft export")
        table = CandidateTable.read(path)
        missing = [c for c in MANIFEST_COLUMNS if c not in table]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}: not of crysjepa dft export")
        told = read_json(folder / "manifest.json")
        if told.get("format") != FORMAT:
            raise ValueError(f"{folder} is of format {told.get('format')}, this reads format {FORMAT}")
        return cls(folder, table, told)

    @property
    def exported(self) -> list[str]:
        """Ids of the candidates that have a folder, in row order."""
        folders = self.table.column("dft_folder")
        return [i for i, folder in zip(self.table.ids, folders, strict=True) if folder is not None]


def begin(folder: Path, settings: dict[str, Any]) -> None:
    """Claim a folder: new, empty, or left by the same export, interrupted.

    Raises
    ------
    ValueError
        If it holds anything else, so that nothing is overwritten silently.
    """
    if folder.is_file():
        raise UsageError(f"{folder} is a file: name a folder to write to")
    told = folder / "manifest.json"
    if folder.exists() and any(folder.iterdir()):
        same = told.exists() and read_json(told) == settings and not (folder / "manifest.parquet").exists()
        if not same:
            raise UsageError(f"{folder} holds other files, or another export: choose another --to")
    write_json(told, settings)
