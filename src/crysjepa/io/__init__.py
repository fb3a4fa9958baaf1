"""Crystals from files, and back."""

from crysjepa.io.cif.blocks import ReadError
from crysjepa.io.read import read_crystals, sha256_of
from crysjepa.io.write import output_kind, write_cif, write_crystals
from crysjepa.runtime.notes import ReadNote

__all__ = [
    "ReadError", "ReadNote", "output_kind", "read_crystals", "sha256_of", "write_cif", "write_crystals",
]  # fmt: skip
