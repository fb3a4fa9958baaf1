"""Extended XYZ, frame by frame, and ASE's atoms. ASE parses a frame whose header can be trusted."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from crysjepa.core.crystals import why_no_crystal
from crysjepa.core.moments import of_atoms
from crysjepa.io.arrow_rows import elements
from crysjepa.io.cif.blocks import MAX_SITES, RawCrystal, ReadError, atomic_number, brief
from crysjepa.io.entry import ID_COLUMNS, Entry, Quoted, check_numbers, own_name, reason_of

if TYPE_CHECKING:
    from ase import Atoms

MAX_LINE = 4_000_000
"""Characters of the longest line that is looked at."""
_PERIODIC = ("t", "true", "1", "yes", "y", ".true.")
_NOT_PERIODIC = ("f", "false", "0", "no", "n", "none", ".false.")
_CARRIED = ("numbers", "positions", "magmoms", "magmom", "initial_magmoms", "spacegroup", "unit_cell")
_FORTRAN = re.compile(r"^([-+]?(?:\d+\.?\d*|\.\d+))[dD]([-+]?\d+)$", re.ASCII)
_DEFAULT = "species:S:1:pos:R:3"


def read_xyz(lines: Iterable[str], stem: str) -> list[Entry]:
    """An entry for each frame of an extended XYZ file. A bad frame does not lose those after it."""
    entries: list[Entry] = []
    for lines_of, problem in _frames(iter(lines)):
        name = f"{stem}-{len(entries)}"
        entries.append(Entry(name, None, problem) if problem else _entry(name, lines_of))
    if len(entries) == 1 and entries[0].name == f"{stem}-0":
        return [entries[0]._replace(name=stem)]
    return entries


def _is_count(line: str) -> bool:
    """Whether a line is a number of atoms; digits of other scripts are none."""
    text = line.strip()
    return text.isascii() and text.isdigit() and len(text) < 16


def _frames(source: Iterator[str]) -> Iterator[tuple[list[str], str]]:
    """Lines of each frame, and what is wrong with its extent. After a bad frame, look for the next header.

    No more than a frame of the longest permitted size is in memory.
    """
    ahead: list[str] = []

    def fill(count: int) -> bool:
        """Whether ``count`` lines are at hand."""
        while len(ahead) < count and (line := next(source, None)) is not None:
            ahead.append(line)
        return len(ahead) >= count

    def starts(i: int) -> bool:
        return _is_count(ahead[i]) and fill(i + 2) and "lattice" in ahead[i + 1].lower()

    while fill(1):
        first = ahead[0].strip()
        if not first:
            del ahead[0]
            continue
        problem = ""
        if not _is_count(first):
            problem = f"expected the number of atoms, found {first[:40]!r}"
        elif (size := int(first)) <= MAX_SITES:
            whole = fill(2 + size)
            if whole and not any(starts(i) for i in range(1, 2 + size)):
                yield ahead[: 2 + size], ""
                del ahead[: 2 + size]
                continue
            problem = f"the frame ends before its {size} atoms"
        at, left = 1, int(first) + 1 if not problem else 0
        while fill(at + 1) and not starts(at):
            at, left = at + 1, left - 1
            if at > 1000:  # what belongs to no frame need not be kept
                del ahead[1 : at - 1]
                at = 2
        if not problem:
            problem = (
                f"the frame ends before its {first} atoms"
                if left > 0
                else f"{first} sites (limit {MAX_SITES})"
            )
        yield [], problem
        del ahead[:at]


def _entry(name: str, lines: list[str]) -> Entry:
    if int(lines[0]) == 0:
        return Entry(name, None, "no atom sites")
    atoms = None
    try:
        atoms = _parsed(lines)
        extra = {k: v for k, v in scalars(atoms).items() if k not in _ids(lines[1])}
        # an id that ASE takes for a list, such as a comma, is read as it stands
        own = _own_id(lines[1])
        lost = tuple(n for n in left_out(atoms) if not (own and n in ID_COLUMNS))
        if "properties" not in lines[1].lower() and any(len(line.split()) > 4 for line in lines[2:]):
            lost += ("values behind the positions",)
        extra = _as_written(_plain_header(lines[1]), extra)
        return Entry(own or name, crystal_of(atoms), extra=extra, lost=lost)
    except BaseException as error:  # noqa: BLE001 - a parser of free text raises anything; the reason is kept
        return Entry(
            _own_id(lines[1]) or name,
            None,
            reason_of(error),
            _told(lines[1]) if atoms is None else scalars(atoms),
        )


def _properties(header: str) -> tuple[dict[str, slice], list[slice], int, bool]:
    """Columns by name, those of numbers, how many values an atom has, and whether the header says so.

    Raises ReadError for properties that are none, and without positions.
    """
    declared = re.search(r"""(?:^|\s)Properties\s*=\s*(?:"([^"]*)"|'([^']*)'|(\S+))""", header)
    text = next((g for g in declared.groups() if g), "") if declared else _DEFAULT
    fields = text.split(":")
    columns: dict[str, slice] = {}
    numeric: list[slice] = []
    width = 0
    for column, kind, count in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if kind not in "RISL" or not _is_count(count) or not int(count) >= 1:
            raise ReadError(f"unparsable frame: the property {f'{column}:{kind}:{count}'[:60]!r}")
        columns[column] = slice(width, width + int(count))
        if kind in "RI":
            numeric.append(columns[column])
        width += int(count)
    if len(fields) % 3 or not columns:
        raise ReadError(f"unparsable frame: the properties {text[:60]!r}")
    place = columns.get("pos", columns.get("positions", slice(0, 0)))
    if place.stop - place.start != 3:
        raise ReadError("no positions: extended XYZ has them in pos:R:3 of its properties")
    return columns, numeric, width, declared is not None


def _parsed(lines: list[str]) -> Atoms:
    """A frame by ASE, after a look at its header: widths are those of the lines, and there are positions."""
    from ase.io import read

    columns, numeric, width, declared = _properties(lines[1])
    rows = [line.split() for line in lines[2:]]
    for row in rows:
        for span in numeric:
            row[span] = [_FORTRAN.sub(r"\1e\2", word) for word in row[span]]
    if short := next((row for row in rows if len(row) < width), None):
        raise ReadError(f"unparsable frame: {width} values an atom are declared, a line has {len(short)}")
    if declared and (long := next((row for row in rows if len(row) > width), None)):
        raise ReadError(
            f"{width} values an atom are declared in Properties, a line has {len(long)}: declare them all"
        )
    if any(len(line) > MAX_LINE for line in lines):
        raise ReadError(f"a line has more than {MAX_LINE} characters")
    lines = [lines[0], _plain_header(lines[1]), *lines[2:]]
    _check_header(lines[1])
    cell = re.search(r"""lattice\s*=\s*["']([^"']*)""", lines[1], re.IGNORECASE)
    words = [
        w for row, line in zip(rows, lines[2:], strict=True) if "_" in line for s in numeric for w in row[s]
    ]
    check_numbers([*words, *(cell[1].split() if cell else ())])
    if "species" in columns:  # ASE does not know deuterium and tritium by name
        first = columns["species"].start
        for row in rows:
            row[first] = {"D": "H", "T": "H"}.get(row[first], row[first])
    for name in ("Z", "numbers"):  # ASE takes 17.5 for 17
        if name in columns and columns[name] in numeric:
            elements(np.array([row[columns[name].start] for row in rows], dtype=float))
    both = "species" in columns and ("Z" in columns or "numbers" in columns)
    body = [" ".join(row) for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            atoms: Any = read(io.StringIO("\n".join([lines[0].strip(), lines[1].strip(), *body]) + "\n"),
                              format="extxyz")  # fmt: skip
        except Exception as error:
            what = f"{error.args[0]!r} is not an element" if isinstance(error, KeyError) else brief(error)
            raise ReadError(f"unparsable frame: {what}") from error
    named = [atomic_number(row[first]) for row in rows] if both else []
    if both and named != atoms.numbers.tolist():
        raise ReadError("species and Z name other elements")
    return atoms


def _plain_header(comment: str) -> str:
    """The same header, Fortran's exponents (``1.0D-3``) in its lattice and its bare values in C's spelling.

    Raises ReadError for a lattice in brackets, of which programs do not agree what are rows.
    """
    if re.search(r"(^|\s)lattice\s*=\s*[\"']?\s*[\[{(]", comment, re.IGNORECASE):
        raise ReadError("the lattice is in brackets: write its nine numbers in quotes, vector by vector")

    def plain(found: re.Match[str]) -> str:
        return " ".join(_FORTRAN.sub(r"\1e\2", word) for word in found[0].split(" "))

    comment = re.sub(r"(?<=\blattice=\")[^\"]*", plain, comment, flags=re.IGNORECASE)
    return re.sub(r"(?<==)[-+]?\d*\.\d*[dD][-+]?\d+(?=\s|$)", plain, comment)


def _as_written(comment: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a header, numbers in its own spelling (007 is a code), and text that says it is text."""
    raw = {
        key: quoted or single or bare
        for key, quoted, single, bare in re.findall(
            r"""(?:^|\s)([^\s="']+)=(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s"'{}\[\]]+))""", comment
        )
    }

    def written(key: str, value: Any) -> Any:
        text = raw.get(key, "")
        if isinstance(value, str):
            return Quoted(value) if text.startswith("_JSON ") else value
        is_number = isinstance(value, np.integer | np.floating) and np.isfinite(value)
        return text if text and is_number else value

    return {key: written(key, value) for key, value in values.items()}


def _check_header(comment: str) -> None:
    """Raise where a value is there twice, or ``pbc`` is in words that ASE takes for true."""
    bare = re.sub(r"""=\s*("(?:[^"\\]|\\.)*"|'[^']*')""", "= ", comment)
    names = re.findall(r"(?:^|\s)([^\s=]+)\s*=", bare)
    keys = [key.lower() for key in names]
    if keys.count("lattice") > 1:
        raise ReadError("the lattice is there twice: which one holds?")
    found = re.findall(
        r"""(?:^|\s)(pbc)\s*=\s*(?:"([^"]*)"|'([^']*)'|[\[{]([^\]}]*)|(\S+))""", comment, re.IGNORECASE
    )
    if keys.count("pbc") > 1 or len(found) > 1:
        raise ReadError("pbc is there twice: which one holds?")
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), ""):
        raise ReadError(f"{twice[:40]} is there twice: which one holds?")
    for _, *values in found:
        text = next((v for v in values if v), "")
        words = re.split(r"[\s,\[\]{}]+", text.strip(" []{}").lower())
        if any(word in _NOT_PERIODIC for word in words):
            raise ReadError("not periodic in all three directions")
        if len(words) not in (1, 3) or any(word not in _PERIODIC for word in words):
            raise ReadError(f"pbc is {text[:40]!r}: write T or F for each direction")


def _ids(comment: str) -> tuple[str, ...]:
    return ("material_id",) if "material_id=" in comment else ("id",)


def _told(comment: str) -> dict[str, Any]:
    """The single values of a comment, of a frame that is no crystal; nothing where it cannot be read."""
    from ase.io.extxyz import key_val_str_to_dict

    try:
        found = key_val_str_to_dict(comment)
    except Exception:  # noqa: BLE001 - the frame has its reason already
        return {}
    single = {k: v for k, v in found.items() if isinstance(v, str | bool | int | float)}
    return {k: v for k, v in single.items() if k not in ("Properties", "pbc", *_ids(comment))}


def _own_id(comment: str) -> str:
    """The id in a frame's comment as it is written: ASE would read mp-1 as text, but 007 as seven."""
    found: dict[str, str] = {}
    for key, quoted, bare in re.findall(
        r'(?:^|\s)(material_id|id)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))', comment
    ):
        found.setdefault(key, re.sub(r"\\(.)", r"\1", quoted) or bare)
    return own_name(found)


def scalars(atoms: Atoms) -> dict[str, Any]:
    """What ASE's atoms know beside the crystal, as far as it is a single value."""
    results = {} if atoms.calc is None else atoms.calc.results
    return {
        str(k): v
        for k, v in {**atoms.info, **results}.items()
        if isinstance(v, str | bool | int | float | np.generic)
    }


def left_out(atoms: Atoms) -> tuple[str, ...]:
    """Names of what ASE's atoms know beside the crystal, its moments and single values."""
    results = {} if atoms.calc is None else atoms.calc.results
    values = {**atoms.info, **results}
    single = scalars(atoms)
    told = [str(k) for k, v in values.items() if v is not None and k not in single]
    sites = [k for k, v in atoms.arrays.items() if v.dtype.kind not in "iuf" or v.any()]
    return tuple(k for k in dict.fromkeys((*told, *sites)) if k not in _CARRIED)


def crystal_of(atoms: Atoms) -> RawCrystal:
    """The crystal in ASE's atoms. Raises ReadError for what is none: no cell, not periodic, not finite."""
    if reason := why_no_crystal(atoms):
        raise ReadError(reason)
    cell = atoms.cell.array
    return RawCrystal(atoms.numbers, np.linalg.solve(cell.T, atoms.positions.T).T, cell, of_atoms(atoms))
