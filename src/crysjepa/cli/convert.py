"""The verb ``convert``: crystals from any format that is read to any that is written."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from crysjepa.cli import arguments, console, options, show
from crysjepa.io.kinds import kind_of, output_kind
from crysjepa.runtime.files import file_metadata
from crysjepa.runtime.notes import ReadError, UsageError
from crysjepa.workflows.output import check_writable

Target = Annotated[
    str,
    typer.Argument(
        help="FILE.parquet, .csv, .extxyz, .cif, .json, .jsonl (all but Parquet also with .gz, .bz2, .xz or "
        ".zst behind), .vasp, .zip, or a folder of CIFs: a name without suffix"
    ),
]
StructureColumn = Annotated[
    str | None,
    typer.Option(
        "--structure-column", help="column with the structures; by default it is found by its contents"
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace a file that is there")]


def convert(
    source: options.Source,
    target: Target,
    structure_column: StructureColumn = None,
    overwrite: Overwrite = False,
) -> None:
    """Write crystals in another format; the name of OUT says which.

    Example: crysjepa convert samples.csv.gz samples.extxyz
    """
    try:
        kind = output_kind(target)
    except ReadError as error:
        raise UsageError(str(error)) from None
    out, origin = Path(target), Path(source)
    if out.exists() and origin.exists() and out.samefile(origin):
        raise UsageError(f"{target} is what is to be read: choose another name")
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(
            f"{target} is a folder with files, which would stay among the new ones: choose another name"
        )
    if out.exists() and not overwrite and kind != "folder":
        raise UsageError(f"{target} is there already: choose another name, or --overwrite")
    arguments.apart(source, out)
    check_writable(out, folder=kind == "folder")
    arguments.look_at(sources=[source])
    _look_for_column(origin, structure_column)

    from crysjepa import datasets
    from crysjepa.energy.known_hull import NAME
    from crysjepa.io import write_crystals

    with console.progress() as report:
        table = datasets.load(
            source, structure_column=structure_column, progress=lambda d, t: report("read", d, t)
        )
    file = origin if origin.exists() and source != NAME else datasets.fetch(source)
    # How it was made holds of the file that was converted alone.
    metadata = {k: v for k, v in file_metadata(file).items() if k != "made"} if file.is_file() else {}
    written = write_crystals(table, target, about=metadata or None)
    reasons = written.reasons()
    failed = table.counts().get("failed: read", 0) if kind == "parquet" else 0
    console.say(f"wrote {written.num - failed} of {len(table)} crystals to {target}", soft_wrap=True)
    if written.failures:
        more = f"; and {len(reasons) - 10} more reasons" if len(reasons) > 10 else ""
        console.say(f"not written: {'; '.join(reasons[:10])}{more}", soft_wrap=True)
    if failed:
        console.say(f"{failed} could not be read: their rows are there, with the reason", soft_wrap=True)
    if kind == "parquet":
        show.fail_without_any(table.counts(), target)
    said = {"energies": "where its energies come from", "scale": "the scale of energies"}
    lost = [what for key, what in said.items() if key in metadata and kind != "parquet"]
    if lost:
        console.say(f"note: {out.name} cannot hold {', nor '.join(lost)}: .parquet does", soft_wrap=True)
    if written.left_out:
        console.say(f"note: columns left out: {', '.join(written.left_out)}", soft_wrap=True)


def _look_for_column(source: Path, column: str | None) -> None:
    """Raises UsageError for a column that a CSV file does not have, before the file is read."""
    kind = kind_of(source.name)
    if column is None or kind is None or kind[:2] != ("csv", "") or not source.is_file():
        return
    with source.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        names = next(csv.reader(lines), [])
    if len(names) > 1:  # else it may be parted by other marks than commas
        arguments.choice("column", column, names)
