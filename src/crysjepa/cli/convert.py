"""The verb ``convert``: crystals from any format that is read to any that is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crysjepa.cli import console

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
    source: console.Source,
    target: Target,
    structure_column: StructureColumn = None,
    overwrite: Overwrite = False,
) -> None:
    """Write crystals in another format; the name of OUT says which.

    Example: crysjepa convert samples.csv.gz samples.extxyz
    """
    from crysjepa.io import output_kind

    kind = output_kind(target)
    out, origin = Path(target), Path(source)
    if out.exists() and origin.exists() and out.samefile(origin):
        raise ValueError(f"{target} is what is to be read: choose another name")
    if out.exists() and not overwrite and (kind != "folder" or any(out.iterdir())):
        raise ValueError(f"{target} is there already: choose another name, or --overwrite")

    from crysjepa import datasets
    from crysjepa.io import write_crystals

    with console.progress() as report:
        table = datasets.load(
            source, structure_column=structure_column, progress=lambda d, t: report("read", d, t)
        )
    written = write_crystals(table, target)
    reasons = written.reasons()
    console.say(f"wrote {written.num} of {len(table)} crystals to {target}", soft_wrap=True)
    if written.failures:
        more = f"; and {len(reasons) - 10} more reasons" if len(reasons) > 10 else ""
        console.say(f"not written: {'; '.join(reasons[:10])}{more}", soft_wrap=True)
    if failed := table.counts().get("failed: read", 0) if kind == "parquet" else 0:
        console.say(f"{failed} of them could not be read: the column reason says why", soft_wrap=True)
    if written.left_out:
        console.say(f"note: columns left out: {', '.join(written.left_out)}", soft_wrap=True)
