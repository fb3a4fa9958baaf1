"""Work in parts, and their merging."""

from __future__ import annotations

from typing import Any

import typer

from crysjepa.cli import console, options
from crysjepa.runtime.parts import Part


def carry_out(verb: str, running: options.InParts, *given: Any, **more: Any) -> Any:
    """The verb, or where that was asked for a part of it: then nothing is left to be done after it."""
    from crysjepa import api

    arguments = dict(vars(running))
    part = arguments.pop("part")
    if part is None:
        return getattr(api, verb)(*given, **more, **arguments)
    done = api.work_on_part(Part.parse(part), verb, *given, **more, **arguments)
    console.say(
        f"part {done.part} is done: {done.num_chunks} of {done.total} chunks; when all are: crysjepa merge",
        soft_wrap=True,
    )
    raise typer.Exit(0)


def merge(
    out: options.Merged,
    folders: options.PartFolders = None,
    *,
    running: options.InProcesses,
) -> None:
    """Put together what was done in parts (--part), once all of them are there.

    Example: crysjepa merge relaxed.parquet
    """
    from crysjepa import api

    with console.progress() as report:
        api.merge(out, folders or [], **vars(running), progress=report)
    console.say(f"wrote {out}", soft_wrap=True)
