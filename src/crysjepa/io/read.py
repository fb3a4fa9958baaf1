"""Crystals from files of every kind, compressed or not, and from folders and zips of them.

Every crystal of the source becomes a row of a :class:`~crysjepa.core.candidates.CandidateTable`. One that
cannot be read is a row too: ``failed`` at stage ``read``, with the reason.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import pandas as pd

from crysjepa.core.candidates import CandidateTable
from crysjepa.io.ase_files import read_db, read_traj
from crysjepa.io.assemble import assemble, unique_names
from crysjepa.io.cif.blocks import MAX_CRYSTAL_BYTES, ReadError, brief
from crysjepa.io.csv_rows import read_csv
from crysjepa.io.entry import Entry, decode, reason_of, unicode_name
from crysjepa.io.extxyz import MAX_LINE, read_xyz
from crysjepa.io.json_files import read_json, read_json_lines
from crysjepa.io.kinds import TEXT, Kind, kind_of
from crysjepa.io.opened import MAX_INFLATION, unpacked
from crysjepa.io.parquet_files import read_parquet
from crysjepa.io.text_formats import read_cif, read_poscar
from crysjepa.io.torch_files import read_torch
from crysjepa.io.twice import tell_steps, written_twice
from crysjepa.runtime.notes import note
from crysjepa.runtime.progress import Progress

SUPPORTED = (
    "a CIF (.cif), extended XYZ (.extxyz, .xyz), POSCAR or CONTCAR (.vasp), a CSV with a column of "
    "structures, JSON or JSON lines with pymatgen's structures (.json, .jsonl), each of these texts also "
    "with .gz, .bz2, .xz or .zst behind it, a .pt of the CDVAE family, a Parquet file of crystals, ASE's "
    ".traj and .db, a .zip of these texts, or a folder of any of them"
)
MAX_TEXT_BYTES = 256_000_000
"""A larger CIF is refused; CSV, JSON and extended XYZ are read piece by piece and may be larger."""


def read_crystals(
    path: str | Path, *, structure_column: str | None = None, progress: Progress | None = None
) -> CandidateTable:
    """Read every crystal in a file, a folder or a zip.

    Parameters
    ----------
    path
        A file, or a folder, in which every supported file is read in the order of their names.
    structure_column
        The column of a CSV, JSON or Parquet file that holds the structures: CIFs, POSCARs, or pymatgen's
        dictionaries as JSON or as Python. By default it is found by what the columns hold; of several, it
        is the first of ``cif``, ``structure``, ``relaxed_structure``, ``final_structure``, ``atoms``,
        ``poscar``.
    progress
        Called as ``progress(done, total)``; total is 0 where it is not known.

    Returns
    -------
    A row a crystal, in the order of the source. The id is the file's stem (``stem-0``, ``stem-1``, ... or
    ``stem-block`` where it holds several), its path without suffix inside a folder or zip, or the source's
    own (``material_id`` or ``id``; in JSON also the key or ``entry_id``); a repeated id gets ``#2``, ``#3``,
    ... The source's other columns are kept, numbers as Float64 or Int64, with a prefix ``source_`` where
    their name means something else here. Rows from a folder or zip say in ``file`` where they come from.
    A written candidate table keeps its status, stage and reason.

    Raises
    ------
    ReadError
        If there is nothing here to read: no such path, an unknown kind of file, a damaged file that is no
        text, no column of structures or several, a ``.pt`` that would have to run code, a folder without any
        supported file.

    Warns
    -----
    ReadNote
        Of columns and single cells that were left out, and of the choice between columns of structures; of
        files and frames that may be one crystal several times.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path, structure_column, progress)
    if not path.exists():
        raise ReadError(f"no such file or folder: {path}. crysjepa reads {SUPPORTED}")
    kind = kind_of(path.name)
    if kind is None:
        raise ReadError(f"{path.name} is of no known kind: crysjepa reads {SUPPORTED}")
    try:
        table = _file(path, kind, kind.stem, structure_column, progress)
    except OSError as error:
        if error.filename is not None:  # permissions and the like are best said by the system
            raise
        reason = reason_of(error)
    except BaseException as error:  # noqa: BLE001 - extension modules panic; the reason is kept
        reason = reason_of(error)
    else:
        tell_steps([(path.name, table.frame)])
        return table
    if kind.name in ("cif", "xyz", "poscar"):
        return assemble([Entry(kind.stem, None, reason)])
    raise ReadError(f"{unicode_name(path.name)}: {reason}")


def _file(path: Path, kind: Kind, stem: str, column: str | None, progress: Progress | None) -> CandidateTable:
    size = path.stat().st_size
    if not size:
        return assemble([Entry(stem, None, "the file is empty")])
    if kind.name == "zip":
        return _zip(path, column, progress)
    if kind.name == "parquet":
        return read_parquet(path, column)
    if kind.name == "torch":
        return assemble(read_torch(path, stem), of_models=True)
    if kind.name in ("traj", "db"):
        return assemble((read_traj if kind.name == "traj" else read_db)(path, stem))
    with path.open("rb") as handle:
        return assemble(_text_entries(handle, size, kind, stem, column, progress))


def _text_entries(
    handle: IO[bytes], size: int, kind: Kind, stem: str, column: str | None, progress: Progress | None = None
) -> list[Entry]:
    """The entries of a text of ``size`` bytes, compressed as its kind says."""
    data = unpacked(handle, kind.compression, size)
    if kind.name in ("cif", "poscar"):
        limit = MAX_TEXT_BYTES if kind.name == "cif" else MAX_CRYSTAL_BYTES
        whole = data.read(limit + 1)
        if len(whole) > limit:
            raise ReadError(f"more than {limit / 1e6:.0f} MB of text in one file")
        text = decode(whole)
        if not text.strip():
            return [Entry(stem, None, "the file is empty")]
        return (read_cif if kind.name == "cif" else read_poscar)(text, stem)
    utf16 = data.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff")
    newline = "" if kind.name == "csv" else None
    # what is not UTF-8 stays told apart: two names may differ in one letter alone
    lines = io.TextIOWrapper(
        data, "utf-16" if utf16 else "utf-8-sig", errors="backslashreplace", newline=newline
    )
    if kind.name == "csv":
        return read_csv(lines, stem, progress, column)
    if kind.name == "xyz":
        read = read_xyz(iter(lambda: lines.readline(MAX_LINE), ""), stem)
        return read or [Entry(stem, None, "the file is empty")]
    return (read_json if kind.name == "json" else read_json_lines)(lines, stem, progress, column)


# -- files with files in them --------------------------------------------------------------------------


def _folder(folder: Path, column: str | None, progress: Progress | None) -> CandidateTable:
    dead = {p for p in folder.rglob("*") if p.is_symlink() and not p.exists()}
    paths = sorted(
        (p.relative_to(folder).as_posix(), p) for p in folder.rglob("*") if p.is_file() or p in dead
    )
    known = [(name, p, kind) for name, p in paths if (kind := kind_of(p.name)) and not _hidden(name)]
    if not known:
        raise ReadError(f"nothing to read in the folder {folder}: crysjepa reads {SUPPORTED}")
    taken = {name for name, _, _ in known}
    linked = [
        p.relative_to(folder).as_posix() + "/" for p in folder.rglob("*") if p.is_dir() and p.is_symlink()
    ]
    _tell_skipped([*(name for name, _ in paths if name not in taken), *sorted(linked)])
    twice = written_twice([name for name, _, _ in known])
    known = [file for file in known if file[0] not in twice]
    parts = []
    for done, (name, path, kind) in enumerate(known):
        stem = str(PurePosixPath(name).with_name(kind.stem))
        try:
            if path in dead:
                raise ReadError("a link to a file that is not there")
            part = _file(path, kind, stem, column, None)
        except BaseException as error:  # noqa: BLE001 - one file never ends the others; extension modules panic
            part = assemble([Entry(stem, None, reason_of(error))])
        parts.append(_with_file(part, name))
        if progress:
            progress(done + 1, len(known))
    tell_steps([(name, part.frame) for (name, _, _), part in zip(known, parts, strict=True)])
    return _together(parts)


def _zip(path: Path, column: str | None, progress: Progress | None) -> CandidateTable:
    """Members are read in memory; nothing is unpacked to disk."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError) as error:
        raise ReadError(f"not a zip file, or a truncated one: {brief(error)}") from error
    with archive:
        members = sorted(
            (m for m in archive.infolist() if not m.is_dir()), key=lambda m: (m.filename, m.header_offset)
        )
        known = [
            (m, kind)
            for m in members
            if (kind := kind_of(PurePosixPath(m.filename).name)) and not _hidden(m.filename)
        ]
        if not known:
            raise ReadError(f"nothing to read in the zip: crysjepa reads {SUPPORTED}")
        taken = {m.filename for m, _ in known}
        _tell_skipped([m.filename for m in members if m.filename not in taken])
        twice = written_twice([m.filename for m, _ in known])
        known = [member for member in known if member[0].filename not in twice]
        parts = []
        for done, (member, kind) in enumerate(known):
            entries = _member_entries(archive, member, kind, column)
            parts.append(_with_file(assemble(entries), member.filename))
            if progress:
                progress(done + 1, len(known))
    tell_steps([(m.filename, part.frame) for (m, _), part in zip(known, parts, strict=True)])
    return _together(parts)


def _member_entries(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, kind: Kind, column: str | None
) -> list[Entry]:
    name = PurePosixPath(member.filename)
    stem = str(name.with_name(kind.stem))
    if kind.name not in TEXT:
        return [Entry(stem, None, f"a {name.suffix} file inside a zip is not read; unpack it first")]
    if member.file_size > 1_000_000 and member.file_size > MAX_INFLATION * member.compress_size:
        return [
            Entry(stem, None, f"unpacks to {member.file_size / 1e6:.0f} MB from {member.compress_size} bytes")
        ]
    if not member.file_size:
        return [Entry(stem, None, "the file is empty")]
    try:
        with archive.open(member) as handle:
            return _text_entries(handle, member.file_size, kind, stem, column)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
        return [Entry(stem, None, f"unreadable in the zip: {brief(error)}")]
    except BaseException as error:  # noqa: BLE001 - zlib and lzma have errors of their own; the reason is kept
        return [Entry(stem, None, reason_of(error))]


def _tell_skipped(names: list[str]) -> None:
    """A note of the files that are of no known kind, and of linked folders; hidden ones aside."""
    left = [unicode_name(name) for name in names if not _hidden(name)]
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        what = "1 file of no known kind is" if len(left) == 1 else f"{len(left)} files of no known kind are"
        note(f"{what} left out: {', '.join(left[:3])}{more}")


def _hidden(name: str) -> bool:
    parts = [part for part in PurePosixPath(name).parts if part != ".."]
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def _with_file(table: CandidateTable, name: str) -> CandidateTable:
    if "file" in table:
        return table
    return CandidateTable(
        table.frame.assign(file=pd.array([unicode_name(name)] * len(table), dtype="string"))
    )


def _together(parts: Sequence[CandidateTable]) -> CandidateTable:
    """One table; ids that two parts share are told apart."""
    unique = iter(unique_names([id_ for part in parts for id_ in part.ids]))
    renamed = [
        part.frame.assign(id=pd.array([next(unique) for _ in part.ids], dtype="string")) for part in parts
    ]
    return CandidateTable.concatenate(CandidateTable(frame) for frame in renamed)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder."""
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for name, file in sorted((p.relative_to(path).as_posix(), p) for p in path.rglob("*") if p.is_file()):
            digest.update(f"{name}\0{sha256_of(file)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    with path.open("rb") as handle:
        while block := handle.read(size):
            yield block
