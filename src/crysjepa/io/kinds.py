"""Kinds of files of crystals, by their names: light, for it is asked before anything else is imported."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from crysjepa.runtime.notes import ReadError

SUFFIXES = {
    ".cif": "cif", ".mcif": "cif", ".extxyz": "xyz", ".xyz": "xyz", ".vasp": "poscar", ".poscar": "poscar",
    ".contcar": "poscar", ".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".pt": "torch", ".parquet": "parquet", ".traj": "traj", ".db": "db", ".zip": "zip",
}  # fmt: skip
TEXT = ("cif", "xyz", "poscar", "csv", "json", "jsonl")
"""Kinds that may be compressed, and that are read inside a zip."""
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}

_KNOWN = (
    "a Parquet file (.parquet), .csv, .extxyz (.xyz), .cif, .json, .jsonl, each of these texts also with "
    ".gz, .bz2, .xz or .zst behind it; .vasp for one crystal; .zip or a folder (no suffix) of CIFs"
)
_WRITABLE = ("parquet", "csv", "xyz", "cif", "json", "jsonl", "poscar", "zip")


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


def output_kind(path: str | Path) -> str:
    """The format in which a file of this name is written: to be asked before any work.

    ``parquet``, ``csv``, ``xyz`` (extended XYZ), ``cif``, ``json``, ``jsonl``, ``poscar``, ``zip`` or
    ``folder``: of CIFs, for a folder that is there, and a name that ends in ``/`` or has no suffix.

    Raises
    ------
    ReadError
        For an unknown suffix, one that is only read, or a folder where a file should be, and vice versa.
    """
    return output(path).name


def output(path: str | Path) -> Kind:
    """Kind and compression of a file to write; see :func:`output_kind`."""
    given, path = str(path), Path(path)
    kind = kind_of(path.name)
    if path.is_dir() and kind is not None:
        raise ReadError(f"{path} is a folder: name a file to write")
    if given.endswith(("/", "\\")) or path.is_dir() or (kind is None and not path.suffix):
        if path.exists() and not path.is_dir():
            raise ReadError(f"{path} is a file: a name without a suffix is a folder of CIFs")
        return Kind("folder", "", path.name)
    if kind is None or kind.name not in _WRITABLE:
        is_read = (
            f"{path.name} is of a kind that is only read" if kind else f"{path.name} is of no known kind"
        )
        raise ReadError(f"{is_read}: crysjepa writes {_KNOWN}")
    return kind
