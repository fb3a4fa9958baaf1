"""The verbs ``discover`` and ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from crysjepa.discovery.config import PRESETS, DiscoverConfig
from crysjepa.discovery.loop import discover_crystals
from crysjepa.report.page import write_report
from crysjepa.runtime.execution import Execution, RunOptions
from crysjepa.workflows.inputs import Source


def discover(
    out: Source,
    *,
    config: DiscoverConfig | None = None,
    **how: Unpack[RunOptions],
) -> Path:
    """The whole loop, from known crystals to a short list and its page, whose path is returned.

    See :func:`crysjepa.discovery.loop.discover_crystals`.
    """
    run = Execution(**how)
    return discover_crystals(
        config or PRESETS["quick"], Path(out),
        device=run.found_device, overwrite=run.overwrite, progress=run.progress,
    )  # fmt: skip


def report(run: Source) -> Path:
    """Write ``report.html`` of a finished run anew from its saved results, and return its path."""
    return write_report(run)
