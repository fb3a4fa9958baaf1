"""Work in parts, and their merging."""

from __future__ import annotations

from typing import Any

import typer

from crysjepa.cli import console, groups, options
from crysjepa.runtime.parts import Part


def carry_out(verb: str, running: groups.Running, *given: Any, **more: Any) -> Any:
    """A verb, on an executor where that was asked for; or a part of it, after which nothing is left to do."""
    from crysjepa import api

    told = dict(vars(running))
    part, executor = told.pop("part", None), told.pop("executor", None)
    with api.executing_on(executor):
        if part is None:
            return getattr(api, verb)(*given, **more, **told)
        done = api.work_on_part(Part.parse(part), verb, *given, **more, **told)
    console.say(
        f"part {done.part} is done: {done.num_chunks} of {done.total} chunks; when all are: crysjepa merge",
        soft_wrap=True,
    )
    raise typer.Exit(0)


def merge(
    out: options.Merged,
    folders: options.PartFolders = None,
    *,
    running: groups.InProcesses,
) -> None:
    """Put together what was done in parts (--part), once all of them are there.

    Example: crysjepa merge relaxed.parquet
    """
    with console.progress() as report:
        carry_out("merge", running, out, folders or [], progress=report)
    console.say(f"wrote {out}", soft_wrap=True)
