"""The data set that comes with the package: its name, its scale, and where its files are."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

NAME = "known"
"""The name of the data set, of its hull and of its crystals. It is never a path: a folder of that name is
``./known``."""
SCALE = "materials_project"


def bundled_file(name: str) -> Path:
    """A file that comes with the package."""
    with importlib.resources.as_file(importlib.resources.files("crysjepa") / "data" / name) as path:
        return path
