"""The verb ``export``: submissions to leaderboards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from crysjepa.cli import arguments, console, options
from crysjepa.runtime.notes import UsageError
from crysjepa.workflows.output import check_folder

BOARDS = ("genbench", "matbench-discovery")
Board = Annotated[str, typer.Option("--to", help="genbench or matbench-discovery")]
By = Annotated[
    str | None,
    typer.Option("--by", help="genbench: of more than 2,500 take the lowest of this column; else the first"),
]
AreRelaxed = Annotated[
    bool | None,
    typer.Option("--relaxed/--not-relaxed", help="genbench: by default what the file says of its energies"),
]
Parameters = Annotated[int | None, typer.Option("--parameters", help="genbench: of the model")]
Hours = Annotated[float | None, typer.Option("--hours", help="genbench: what sampling took")]
Memory = Annotated[float | None, typer.Option("--memory-gb", help="genbench: what sampling took")]
Hardware = Annotated[str | None, typer.Option("--hardware", help="genbench: what it ran on")]
Column = Annotated[
    str | None,
    typer.Option(
        "--column",
        help="matbench-discovery, needed: predicted formation energies, or score or e_above_hull, to which "
        "the hull's height is added",
    ),
]
Key = Annotated[str, typer.Option("--name", help="matbench-discovery: the model's key")]
Date = Annotated[str | None, typer.Option("--date", help="matbench-discovery: of the files, YYYY-MM-DD")]


@dataclass(frozen=True, kw_only=True)
class Crystals:
    """Which crystals GenBench gets, and whether they are relaxed."""

    by: By = None
    relaxed: AreRelaxed = None


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What GenBench asks of the generator."""

    parameters: Parameters = None
    hours: Hours = None
    memory_gb: Memory = None
    hardware: Hardware = None


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What Matbench Discovery gets, and under which name."""

    column: Column = None
    hull: options.HullSource = None
    name: Key = "crysjepa"
    date: Date = None


def export(
    source: options.Source,
    out: options.Out,
    to: Board,
    *,
    chosen: Crystals,
    compute: Compute,
    predictions: Predictions,
) -> None:
    """Write crystals or predictions as a leaderboard asks for them; what you must fill in is listed.

    Example: crysjepa export samples.parquet --to genbench --out submission; crysjepa export ranked.parquet
    --to matbench-discovery --column score --out submission
    """
    arguments.choice("board", to, BOARDS)
    arguments.look_at(tables=[source, predictions.hull])
    check_folder(out)

    from crysjepa import api

    try:
        if to == "genbench":
            done = api.export_genbench(source, out, **vars(chosen), compute=vars(compute))
        else:
            done = api.export_matbench_discovery(source, out, **vars(predictions))
    except ValueError as error:
        raise UsageError(str(error)) from None
    console.say(f"wrote {done.num:,} crystals: {', '.join(map(str, done.files))}", soft_wrap=True)
    for note in done.notes:
        console.say(f"note: {note}", soft_wrap=True)
    if done.to_fill:
        console.say(f"to fill in, where it says FILL_IN: {', '.join(done.to_fill)}", soft_wrap=True)
