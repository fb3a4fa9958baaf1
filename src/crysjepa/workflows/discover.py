"""The verbs ``discover`` and ``report``."""

from __future__ import annotations

from pathlib import Path

from crysjepa.discovery.config import PRESETS, DiscoverConfig
from crysjepa.discovery.loop import discover_crystals
from crysjepa.report.page import write_report
from crysjepa.runtime.progress import StageProgress
from crysjepa.workflows.inputs import Source, resolve_device


def discover(
    out: Source,
    *,
    config: DiscoverConfig | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: StageProgress | None = None,
) -> Path:
    """The whole loop, from known crystals to a short list and its page, whose path is returned.

    See :func:`crysjepa.discovery.loop.discover_crystals`.
    """
    chosen = config or PRESETS["quick"]
    return discover_crystals(
        chosen, Path(out), device=resolve_device(device), overwrite=overwrite, progress=progress
    )


def report(run: Source) -> Path:
    """Write ``report.html`` of a finished run anew from its saved results, and return its path."""
    return write_report(run)
