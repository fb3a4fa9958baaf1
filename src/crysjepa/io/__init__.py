"""Crystals from files, and back."""

from crysjepa._cif import ReadError
from crysjepa._notes import ReadNote
from crysjepa.io.read import read_crystals, sha256_of
from crysjepa.io.write import output_kind, write_cif, write_crystals

__all__ = [
    "ReadError", "ReadNote", "output_kind", "read_crystals", "sha256_of", "write_cif", "write_crystals",
]  # fmt: skip
