"""Crystals to files: the format is what the file's name says."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TextIO

import pandas as pd

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import ARROW_SCHEMA, Crystals
from crysjepa.io.assemble import STATE, problems_of
from crysjepa.io.cif.write import cif_text, file_names, right_handed, write_cif
from crysjepa.io.kinds import output
from crysjepa.runtime.files import replacing
from crysjepa.runtime.notes import ReadError, note

_NOT_INFO = ("Lattice", "Properties", "pbc", "stress", "virials", "forces", "occupancy")


class Written(NamedTuple):
    """``num`` crystals are in the file; ``failures`` has the reason of every id that is not.

    ``left_out`` names the columns that the format cannot hold.
    """

    num: int
    failures: dict[str, str]
    left_out: tuple[str, ...] = ()

    def reasons(self) -> list[str]:
        """Each reason with how often it was given, the most frequent first."""
        counts = Counter(self.failures.values()).most_common()
        return [reason if count == 1 else f"{reason} ({count})" for reason, count in counts]


def write_crystals(
    crystals: CandidateTable | Crystals, path: str | Path, *, about: Mapping[str, Any] | None = None
) -> Written:
    """Write crystals in the format that the name says (:func:`crysjepa.io.output_kind`), all or nothing.

    Cells, sites and their order stay as they are, save that CIF and POSCAR have a left-handed cell with its
    vectors and coordinates negated, which are the same positions. Parquet keeps everything: rows without a
    structure, every column, and ``about`` in its metadata. The others have the rows with a structure: CSV in
    a column ``cif`` beside ``material_id`` and the columns; JSON and JSON lines as pymatgen's dictionaries
    and extended XYZ as frames, with id and columns in ``properties`` and ``info``; CIF as a data block each,
    named by the id; a folder or zip as a CIF each. A file that is there is replaced; a folder keeps its other
    files.

    Returns
    -------
    How many were written, and the reason for each id that was not.

    Raises
    ------
    ReadError
        As :func:`crysjepa.io.output_kind`; if several crystals are to go into one POSCAR; if none can be
        written.
    """
    kind = output(path)
    path = Path(path)
    table = crystals if isinstance(crystals, CandidateTable) else CandidateTable.from_crystals(crystals)
    if kind.name == "parquet":
        table.write(path, about)
        return Written(len(table), {})
    chosen = table.crystals()
    problems = {chosen.ids[i]: reason for i, reason in problems_of(chosen).items()}
    missing = table.frame.loc[table.frame["lattice"].isna(), ["id", "reason"]].itertuples(index=False)
    problems |= {str(id_): "it has no structure" if pd.isna(why) else str(why) for id_, why in missing}
    chosen = chosen.select([id_ for id_ in chosen.ids if id_ not in problems])
    if problems and not len(chosen):
        reasons = Written(0, problems).reasons()
        raise ReadError(f"none of {len(problems)} crystals can be written: {'; '.join(reasons[:3])}")
    if kind.name in ("cif", "zip", "folder"):
        _tell_renamed(chosen.ids)
    columns, left_out = _columns(table, chosen.ids, kind.name)
    if kind.name == "folder":
        written, more = write_cif(chosen, path, symmetric=False)
        return Written(len(written), problems | more, left_out)
    if kind.name == "poscar" and len(chosen) != 1:
        raise ReadError(f"a POSCAR holds one crystal, not {len(chosen)}: write .extxyz, .cif or a folder")
    with replacing(path) as partial, partial.open("wb") as handle:
        if kind.name == "zip":
            _write_zip(chosen, handle)
        else:
            with _compressed(handle, kind.compression) as packed:
                text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
                _WRITERS[kind.name](chosen, columns, text)
                text.flush()
                text.detach()
    return Written(len(chosen), problems, left_out)


def _tell_renamed(ids: Sequence[str]) -> None:
    """A note of the ids that a name of a file, or of a block in a CIF, cannot be."""
    changed = [(id_, name) for id_, name in zip(ids, file_names(list(ids)), strict=True) if id_ != name]
    if changed:
        shown = ", ".join(f"{id_[:40]!r} as {name[:40]}" for id_, name in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        note(f"ids that are no names in a CIF or of a file are written as others: {shown}{more}")


def _columns(
    table: CandidateTable, ids: Sequence[str], kind: str
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The other values of each crystal, and the columns that this kind of file cannot hold."""
    frame = table.frame.set_index("id", drop=False).loc[list(ids)]
    names = [n for n in frame.columns if n not in ("id", *ARROW_SCHEMA.names, *STATE)]
    if (frame["status"] != "ok").any():
        names = [*STATE, *names]
    if kind in ("cif", "poscar", "zip", "folder"):
        return [{} for _ in ids], tuple(n for n in names if n not in STATE)
    values = {n: table.column(n, ids) for n in names}
    scalar = (str, bool, int, float)
    bad = [n for n, column in values.items() if not all(v is None or isinstance(v, scalar) for v in column)]
    if kind == "xyz":
        bad += [n for n in values if n not in bad and (n in _NOT_INFO or re.search(r"[\s=\"'{}\[\]\\]", n))]
    kept = [n for n in names if n not in bad]
    own = {"csv": "material_id"}.get(kind, "id")
    renamed = {n: f"source_{n}" if n in (own, "cif") else n for n in kept}
    return [{renamed[n]: values[n][i] for n in kept} for i in range(len(ids))], tuple(bad)


# -- formats -------------------------------------------------------------------------------------------


def _write_csv(crystals: Crystals, columns: list[dict[str, Any]], out: TextIO) -> None:
    names = list(columns[0]) if columns else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["material_id", *names, "cif"])
    for id_, structure, values in zip(crystals.ids, crystals.to_structures(), columns, strict=True):
        writer.writerow([id_, *values.values(), cif_text(structure, symmetric=False)])


def _write_cifs(crystals: Crystals, columns: list[dict[str, Any]], out: TextIO) -> None:
    for name, structure in zip(file_names(list(crystals.ids)), crystals.to_structures(), strict=True):
        out.write(re.sub(r"(?m)^data_.*$", f"data_{name}", cif_text(structure, symmetric=False), count=1))


def _dictionaries(crystals: Crystals, columns: list[dict[str, Any]]) -> Iterator[str]:
    for id_, structure, values in zip(crystals.ids, crystals.to_structures(), columns, strict=True):
        data = structure.as_dict(verbosity=0)
        data["properties"] = {"id": id_} | {k: v for k, v in values.items() if v is not None}
        yield json.dumps(data, default=float, allow_nan=False)


def _write_json(crystals: Crystals, columns: list[dict[str, Any]], out: TextIO) -> None:
    for i, line in enumerate(_dictionaries(crystals, columns)):
        out.write(f"{',' if i else '['}\n{line}")
    out.write("\n]\n" if len(crystals) else "[]\n")


def _write_lines(crystals: Crystals, columns: list[dict[str, Any]], out: TextIO) -> None:
    for line in _dictionaries(crystals, columns):
        out.write(f"{line}\n")


def _write_xyz(crystals: Crystals, columns: list[dict[str, Any]], out: TextIO) -> None:
    from ase.io.extxyz import write_extxyz

    for id_, atoms, values in zip(crystals.ids, crystals.to_atoms(), columns, strict=True):
        frame = io.StringIO()
        write_extxyz(frame, [atoms])
        count, comment, body = frame.getvalue().split("\n", 2)
        pairs = (f"{k}={_info(v)}" for k, v in values.items() if v not in (None, ""))
        out.write(f"{count}\n{' '.join([comment, f'id={_quoted(id_)}', *pairs])}\n{body}")


def _info(value: Any) -> str:
    """A value in a frame's comment; text that ASE would read as something else says that it is text."""
    from ase.io.extxyz import key_val_str_to_dict

    if isinstance(value, bool):
        return "T" if value else "F"
    if not isinstance(value, str):
        return str(value)
    line = _quoted(value)
    try:
        read = key_val_str_to_dict(f"value={line}")["value"]
    except ValueError:  # it begins as ASE's JSON does
        read = None
    return line if isinstance(read, str) and read == value else _quoted(f"_JSON {json.dumps(value)}")


def _quoted(text: str) -> str:
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
    return '"' + re.sub(r'(["\\])', r"\\\1", line) + '"'


def _write_poscar(crystals: Crystals, columns: list[dict[str, Any]], out: TextIO) -> None:
    from pymatgen.io.vasp import Poscar

    (structure,), (id_,) = crystals.to_structures(), crystals.ids
    comment = re.sub(r"[\x00-\x1f\x7f]+", " ", id_).strip() or structure.formula
    out.write(Poscar(right_handed(structure), comment=comment).get_str(significant_figures=12))


def _write_zip(crystals: Crystals, handle: IO[bytes]) -> None:
    with zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, structure in zip(file_names(list(crystals.ids)), crystals.to_structures(), strict=True):
            member = zipfile.ZipInfo(f"{name}.cif")  # of a fixed date: same crystals, same bytes
            archive.writestr(member, cif_text(structure, symmetric=False), zipfile.ZIP_DEFLATED)


_WRITERS: dict[str, Callable[[Crystals, list[dict[str, Any]], TextIO], None]] = {
    "csv": _write_csv, "cif": _write_cifs, "json": _write_json, "jsonl": _write_lines, "xyz": _write_xyz,
    "poscar": _write_poscar,
}  # fmt: skip


@contextmanager
def _compressed(handle: IO[bytes], compression: str) -> Iterator[Any]:
    if not compression:
        yield handle
        return
    packed: Any
    if compression == "gzip":
        packed = gzip.GzipFile("", "wb", fileobj=handle, mtime=0)
    elif compression == "bz2":
        packed = bz2.BZ2File(handle, "wb")
    elif compression == "xz":
        packed = lzma.LZMAFile(handle, "wb")  # noqa: SIM115 - closed below
    else:
        import pyarrow as pa

        packed = pa.CompressedOutputStream(pa.PythonFile(handle, mode="w"), "zstd")
    with packed:
        yield packed
