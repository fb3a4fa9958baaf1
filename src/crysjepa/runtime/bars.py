"""Progress as bars: in a terminal, and in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from crysjepa.runtime.progress import StageProgress, stage_name


@contextmanager
def bars(console: Console) -> Iterator[StageProgress]:
    """A bar for each stage; yields ``report(stage, done, total)``."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as shown:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            name = stage_name(stage)
            if name not in tasks:
                tasks[name] = shown.add_task(stage, total=total)
            shown.update(tasks[name], completed=done, total=total, description=stage)

        yield report


@contextmanager
def shown(progress: StageProgress | None) -> Iterator[StageProgress | None]:
    """``progress``, or where there is none bars in a notebook or terminal; else None."""
    console = Console(stderr=True)
    if progress is not None or not (console.is_jupyter or (console.is_terminal and hasattr(sys, "ps1"))):
        yield progress
        return
    with bars(console) as report:
        yield report
