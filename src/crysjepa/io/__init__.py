"""Crystals from files, and back."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crysjepa.io.cif.write import write_cif
    from crysjepa.io.kinds import output_kind
    from crysjepa.io.read import read_crystals, sha256_of
    from crysjepa.io.write import write_crystals
    from crysjepa.runtime.notes import ReadError, ReadNote

_HOMES = {
    "ReadError": "crysjepa.runtime.notes",
    "ReadNote": "crysjepa.runtime.notes",
    "output_kind": "crysjepa.io.kinds",
    "read_crystals": "crysjepa.io.read",
    "sha256_of": "crysjepa.io.read",
    "write_cif": "crysjepa.io.cif.write",
    "write_crystals": "crysjepa.io.write",
}
__all__ = [
    "ReadError", "ReadNote", "output_kind", "read_crystals", "sha256_of", "write_cif", "write_crystals",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: what a file's name says takes none of the libraries that read it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
