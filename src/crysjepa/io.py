"""Crystals from files, and back: CIF, extended XYZ, POSCAR, CSV, ``.pt``, Parquet, zips and folders.

Every crystal of the source becomes a row of a :class:`~crysjepa.candidates.CandidateTable`. One that
cannot be read is a row too: ``failed`` at stage ``read``, with the reason.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from crysjepa._arrays import read_parquet, read_torch
from crysjepa._cif import ReadError, brief
from crysjepa._readers import Entry, Progress, decode, read_cif, read_csv, read_poscar, read_xyz
from crysjepa._tables import assemble, problems_of, unique_names
from crysjepa.candidates import CandidateTable
from crysjepa.crystals import Crystals

__all__ = ["ReadError", "read_crystals", "sha256_of", "write_cif"]

SUPPORTED = (
    "a CIF (.cif), extended XYZ (.extxyz, .xyz), POSCAR or CONTCAR (.vasp), a CSV with a column cif, a .pt "
    "of the CDVAE family, a Parquet file of crystals, a .zip of these texts, or a folder of any of them"
)
MAX_TEXT_BYTES = 1_000_000_000
"""Larger text files, and larger members of a zip, are refused; a CSV is read row by row and may be larger."""
MAX_INFLATION = 200
"""A zip member that unpacks to more than this many times its size is taken for an attack."""

_SUFFIXES = {
    ".cif": "cif", ".extxyz": "xyz", ".xyz": "xyz", ".vasp": "poscar", ".poscar": "poscar",
    ".contcar": "poscar", ".csv": "csv", ".pt": "torch", ".parquet": "parquet", ".zip": "zip",
}  # fmt: skip
_TEXT = {"cif": read_cif, "xyz": read_xyz, "poscar": read_poscar}


def read_crystals(path: str | Path, *, progress: Progress | None = None) -> CandidateTable:
    """Read every crystal in a file, a folder or a zip.

    Parameters
    ----------
    path
        A file, or a folder, in which every supported file is read in the order of their names.
    progress
        Called as ``progress(done, total)``; total is 0 where it is not known.

    Returns
    -------
    A row a crystal, in the order of the source. The id is the file's stem (``stem-0``, ``stem-1``, ... or
    ``stem-block`` where it holds several), its path without suffix inside a folder or zip, or the source's
    own (``material_id`` or ``id`` in a CSV, ``id`` in Parquet); a repeated id gets ``#2``, ``#3``, ... The
    source's other columns are kept, floats as Float64, with a prefix ``source_`` where their name means
    something else here. Rows from a folder or zip say in ``file`` where they come from. A written candidate
    table keeps its status, stage and reason.

    Raises
    ------
    ReadError
        If there is nothing here to read: no such path, an unknown kind of file, a Parquet or CSV file without
        the columns of a crystal, a ``.pt`` that would have to run code, a folder without any supported file.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path, progress)
    if not path.exists():
        raise ReadError(f"no such file or folder: {path}. crysjepa reads {SUPPORTED}")
    kind, stem = _kind(path.name)
    if kind is None:
        raise ReadError(f"{path.name} is of no known kind: crysjepa reads {SUPPORTED}")
    try:
        return _file(path, kind, stem, progress)
    except ReadError as error:
        if kind in _TEXT:
            return assemble([Entry(stem, None, str(error))])
        raise ReadError(f"{path.name}: {error}") from error


def _kind(name: str) -> tuple[str | None, str]:
    """Which reader a file's name asks for, and the name without its suffix."""
    kind = _SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if kind:
        return kind, name[: name.rindex(".")] or name
    return ("poscar" if re.match(r"(POSCAR|CONTCAR)([._-]|$)", name, re.IGNORECASE) else None), name


def _file(path: Path, kind: str, stem: str, progress: Progress | None) -> CandidateTable:
    size = path.stat().st_size
    if not size:
        return assemble([Entry(stem, None, "the file is empty")])
    if kind == "zip":
        return _zip(path, progress)
    if kind == "parquet":
        return read_parquet(path)
    if kind == "torch":
        return assemble(read_torch(path, stem))
    if kind == "csv":
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
            return assemble(read_csv(handle, stem, progress))
    if size > MAX_TEXT_BYTES:
        raise ReadError(f"{size / 1e9:.1f} GB of text in one file (limit {MAX_TEXT_BYTES / 1e9:.1f})")
    return assemble(_text_entries(path.read_bytes(), kind, stem))


def _text_entries(data: bytes, kind: str, stem: str) -> list[Entry]:
    text = decode(data)
    if not text.strip():
        return [Entry(stem, None, "the file is empty")]
    try:
        return _TEXT[kind](text, stem)
    except ReadError as error:
        return [Entry(stem, None, str(error))]


# -- files with files in them --------------------------------------------------------------------------


def _folder(folder: Path, progress: Progress | None) -> CandidateTable:
    paths = sorted((p.relative_to(folder).as_posix(), p) for p in folder.rglob("*") if p.is_file())
    known = [(name, p) for name, p in paths if _kind(p.name)[0] and not _hidden(name)]
    if not known:
        raise ReadError(f"nothing to read in the folder {folder}: crysjepa reads {SUPPORTED}")
    parts = []
    for done, (name, path) in enumerate(known):
        kind, stem = _kind(path.name)
        stem = str(PurePosixPath(name).with_name(stem))
        try:
            part = _file(path, str(kind), stem, None)
        except (ReadError, OSError) as error:
            part = assemble([Entry(stem, None, str(error))])
        parts.append(_with_file(part, name))
        if progress:
            progress(done + 1, len(known))
    return _together(parts)


def _zip(path: Path, progress: Progress | None) -> CandidateTable:
    """Members are read in memory; nothing is unpacked to disk."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ReadError(f"not a zip file, or a truncated one: {brief(error)}") from error
    with archive:
        members = sorted(
            (m for m in archive.infolist() if not m.is_dir()), key=lambda m: (m.filename, m.header_offset)
        )
        known = [m for m in members if _kind(PurePosixPath(m.filename).name)[0] and not _hidden(m.filename)]
        if not known:
            raise ReadError(f"nothing to read in the zip: crysjepa reads {SUPPORTED}")
        parts = []
        for done, member in enumerate(known):
            parts.append(_with_file(assemble(_member_entries(archive, member)), member.filename))
            if progress:
                progress(done + 1, len(known))
    return _together(parts)


def _member_entries(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> list[Entry]:
    name = PurePosixPath(member.filename)
    kind, stem = _kind(name.name)
    stem = str(name.with_name(stem))
    if kind not in (*_TEXT, "csv"):
        return [Entry(stem, None, f"a {name.suffix} file inside a zip is not read; unpack it first")]
    if member.file_size > 1_000_000 and member.file_size > MAX_INFLATION * member.compress_size:
        return [
            Entry(stem, None, f"unpacks to {member.file_size / 1e6:.0f} MB from {member.compress_size} bytes")
        ]
    try:
        with archive.open(member) as handle:
            if kind == "csv":
                return read_csv(
                    io.TextIOWrapper(handle, encoding="utf-8-sig", errors="replace", newline=""), stem
                )
            data = handle.read(MAX_TEXT_BYTES + 1)
    except (ReadError, zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
        return [Entry(stem, None, f"unreadable in the zip: {brief(error)}")]
    except Exception as error:  # noqa: BLE001 - zlib and lzma have errors of their own; the reason is kept
        return [Entry(stem, None, f"damaged in the zip: {brief(error)}")]
    if len(data) > MAX_TEXT_BYTES:
        return [Entry(stem, None, f"more than {MAX_TEXT_BYTES / 1e9:.1f} GB of text")]
    return _text_entries(data, str(kind), stem)


def _hidden(name: str) -> bool:
    parts = [part for part in PurePosixPath(name).parts if part != ".."]
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def _with_file(table: CandidateTable, name: str) -> CandidateTable:
    if "file" in table:
        return table
    return CandidateTable(table.frame.assign(file=pd.array([name] * len(table), dtype="string")))


def _together(parts: Sequence[CandidateTable]) -> CandidateTable:
    """One table; ids that two parts share are told apart."""
    unique = iter(unique_names([id_ for part in parts for id_ in part.ids]))
    renamed = [
        part.frame.assign(id=pd.array([next(unique) for _ in part.ids], dtype="string")) for part in parts
    ]
    return CandidateTable.concatenate(CandidateTable(frame) for frame in renamed)


# -- writing -------------------------------------------------------------------------------------------


def write_cif(
    crystals: Crystals, folder: str | Path, names: Sequence[str] | None = None
) -> tuple[dict[str, Path], dict[str, str]]:
    """Write a CIF for each crystal, named by its id (or ``names``) with unsafe characters replaced.

    Where symmetry is found within 0.01 Å the file has the conventional cell and its space group, else P1.

    Returns
    -------
    The path of each crystal's file by id, and the reason for each id that could not be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = _file_names(list(names) if names is not None else list(crystals.ids))
    written, failures = {}, {}
    for crystal, file in zip(crystals, files, strict=True):
        (id_,) = crystal.ids
        if problem := problems_of(crystal).get(0):
            failures[id_] = problem
            continue
        partial = folder / f".{file}.partial"
        partial.write_text(_cif_text(crystal), encoding="utf-8")
        written[id_] = partial.replace(folder / f"{file}.cif")
    return written, failures


def _cif_text(crystal: Crystals) -> str:
    from pymatgen.io.cif import CifWriter

    (structure,) = crystal.to_structures()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            symmetric = CifWriter(structure, symprec=0.01)
        except Exception:  # noqa: BLE001 - spglib and pymatgen give up in many ways; the file is then written in P1
            return str(CifWriter(structure))
        return str(symmetric)


def _file_names(names: list[str]) -> list[str]:
    """Names that are safe in any file system and differ even where case does not count."""
    safe = [re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip(".")[:120] or "crystal" for name in names]
    taken: set[str] = set()
    for i, name in enumerate(safe):
        count = 1
        while (safe[i] if count == 1 else f"{name}-{count}").lower() in taken:
            count += 1
        safe[i] = name if count == 1 else f"{name}-{count}"
        taken.add(safe[i].lower())
    return safe


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder."""
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for name, file in sorted((p.relative_to(path).as_posix(), p) for p in path.rglob("*") if p.is_file()):
            digest.update(f"{name}\0{sha256_of(file)}\n".encode())
        return digest.hexdigest()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    with path.open("rb") as handle:
        while block := handle.read(size):
            yield block
