"""Kinds of files of crystals, by their names."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import NamedTuple

SUFFIXES = {
    ".cif": "cif", ".extxyz": "xyz", ".xyz": "xyz", ".vasp": "poscar", ".poscar": "poscar",
    ".contcar": "poscar", ".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".pt": "torch", ".parquet": "parquet", ".traj": "traj", ".db": "db", ".zip": "zip",
}  # fmt: skip
TEXT = ("cif", "xyz", "poscar", "csv", "json", "jsonl")
"""Kinds that may be compressed, and that are read inside a zip."""
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}


class Kind(NamedTuple):
    """What a file's name says: its format, its compression (or none), and the name without suffixes."""

    name: str
    compression: str
    stem: str


def kind_of(name: str) -> Kind | None:
    """The kind that a file's name (without folders) tells, or None."""
    end = PurePosixPath(name).suffix
    compression = COMPRESSIONS.get(end.lower(), "")
    inner = name.removesuffix(end) if compression else name
    kind = SUFFIXES.get(PurePosixPath(inner).suffix.lower())
    if kind:
        stem = inner[: inner.rindex(".")] or inner
    elif re.match(r"(POSCAR|CONTCAR)([._-]|$)", inner, re.IGNORECASE):
        kind, stem = "poscar", inner
    if kind is None or (compression and kind not in TEXT):
        return None
    return Kind(kind, compression, stem)
