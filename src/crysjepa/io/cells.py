"""A crystal in a cell of a table: a CIF, a POSCAR, or pymatgen's dictionary as an object, JSON or Python."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crysjepa.io.cif.blocks import MAX_CRYSTAL_BYTES, RawCrystal, ReadError, brief, read_only_block
from crysjepa.io.structures import read_structure, structure_in
from crysjepa.io.text_formats import poscar
from crysjepa.runtime.notes import note

MAX_CELL = 2 * MAX_CRYSTAL_BYTES
"""Characters of a cell that are kept; fewer are parsed."""
MAX_LITERAL = 5_000_000
"""Characters of a Python literal: its syntax tree is some hundred times as large."""
COLUMNS = ("cif", "structure", "relaxed_structure", "relxed_structure", "final_structure", "atoms", "poscar")
"""Where several columns hold structures, the first of these names, in any case."""
_NOT_READ = {
    frozenset({"numbers", "positions", "cell"}): "rows of ASE's database: write it as .db, .traj or .extxyz",
    frozenset({"type", "attributes"}): "OPTIMADE's: pymatgen's OptimadeRester makes Structures of them",
    frozenset({"lattice_vectors", "species_at_sites", "cartesian_site_positions"}): (
        "OPTIMADE's and LeMat's: make Structures of lattice_vectors, species_at_sites and "
        "cartesian_site_positions, and write them as JSON"
    ),
    frozenset({"unit_cell", "sites"}): "OQMD's: take its POSCARs, or make Structures of unit_cell and sites",
}
"""Columns of other forms of crystals, and what to do about them."""
_PRINTED = re.compile(r"\s*(Structure Summary|Full Formula \(|Atoms\()")
"""How the text begins that pandas makes of objects of pymatgen and ASE."""
_ADVICE = (
    "crysjepa convert FILE OUT.parquet --structure-column NAME takes one of them "
    "(structure_column=NAME in Python)"
)


def choose_column(
    header: Sequence[str], rows: Iterable[Mapping[str, Any]], wanted: str | None = None
) -> tuple[str, list[str]]:
    """The column of structures, and the others that hold structures too.

    It is ``wanted``; or else the one whose cells hold structures, as far as ``rows`` go; of several the first
    in :data:`COLUMNS`, which is said in a note; or else ``cif``, whatever it holds.

    Raises
    ------
    ReadError
        If there is none, or several of which none is in :data:`COLUMNS`.
    """
    rows = list(rows)
    found = [name for name in header if name and any(holds_structure(row.get(name)) for row in rows)]
    names = ", ".join(map(str, header))[:200]
    if wanted is not None:
        if wanted not in header:
            raise ReadError(f"no column {wanted} (there are {names})")
        return wanted, [name for name in found if name != wanted]
    if not found:
        if "cif" in header:
            return "cif", []
        raise ReadError(f"no column of structures, such as cif (there are {names}){_advice(header, rows)}")
    if len(found) == 1:
        return found[0], []
    ranked = sorted(
        (name for name in found if name.lower() in COLUMNS), key=lambda name: COLUMNS.index(name.lower())
    )
    if not ranked:
        raise ReadError(f"the columns {', '.join(found)} hold structures: {_ADVICE}")
    others = [name for name in found if name != ranked[0]]
    note(f"structures are taken from the column {ranked[0]}, not from {', '.join(others)}")
    return ranked[0], others


def _advice(header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """What to do about structures in a form that is not read; nothing where there is no sign of one."""
    for columns, form in _NOT_READ.items():
        if columns <= set(header):
            return f": these are {form}"
    for name, value in ((n, v) for row in rows for n, v in row.items() if isinstance(v, str)):
        if _PRINTED.match(value):
            return (
                f": {name} holds structures as they are printed, with fewer digits. Write their as_dict() as "
                "JSON, or their CIF"
            )
    return ""


def holds_structure(cell: Any) -> bool:
    """Whether a cell looks like a structure; a look at its beginning."""
    if isinstance(cell, Mapping):
        return structure_in(cell) is not None
    if not isinstance(cell, str):
        return False
    start = cell[:4000]
    if re.search(r"^[ \t]*(data_|_cell_length_a)", start, re.MULTILINE | re.IGNORECASE):
        return True
    if re.match(r"\s*\{", start):
        return bool(re.search(r"""["'](lattice|sites|lattice_mat|structure)["']\s*:""", start))
    return _is_poscar(start)


def crystal_in(cell: Any) -> RawCrystal:
    """The crystal in a cell. Raises ReadError with the reason why there is none."""
    if isinstance(cell, Mapping):
        return read_structure(structure_in(cell) or cell)
    if not isinstance(cell, str) or not cell.strip():
        raise ReadError("the row has no structure")
    if len(cell) > MAX_CRYSTAL_BYTES:
        raise ReadError(
            f"{len(cell) / 1e6:.0f} MB of text for one crystal (limit {MAX_CRYSTAL_BYTES / 1e6:.0f})"
        )
    if cell.lstrip().startswith("{"):
        return crystal_in(dictionary(cell))
    if "\n" not in cell.strip() and "\\n" in cell:
        raise ReadError("its line breaks are written as \\n, two signs: write the text as it is, in quotes")
    if _is_poscar(cell[:4000]):
        return poscar(cell)
    return read_only_block(cell)


def dictionary(text: str) -> Mapping[str, Any]:
    """JSON, or the repr of a dictionary; its literals are read, nothing is evaluated.

    Raises ReadError for other text, or where a name stands twice in one object of JSON.
    """
    try:
        value = json.loads(text, object_pairs_hook=once)
    except ValueError:
        if len(text) > MAX_LITERAL:
            raise ReadError(f"a Python dictionary of {len(text) / 1e6:.0f} MB for one crystal") from None
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError) as error:
            raise ReadError(f"neither JSON nor a Python dictionary: {brief(error)}") from error
    if not isinstance(value, Mapping):
        raise ReadError(f"a {type(value).__name__} in place of a structure")
    check_once(value)
    return value


class Twice(dict[str, Any]):
    """An object of JSON in which a name stands twice: JSON itself would take the last one."""

    name = ""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON from its members, for a decoder; :class:`Twice` where it has a name twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        found = Twice(found)
        found.name = repeated([name for name, _ in pairs])
    return found


def repeated(names: Sequence[str]) -> str:
    """The first name that stands twice, or nothing."""
    return next((name for i, name in enumerate(names) if name in names[:i]), "")


def check_once(value: Any) -> None:
    """Raise ReadError where an object of JSON, or one inside it, has a name twice."""
    waiting = [value] if isinstance(value, dict | list) else []
    while waiting:
        value = waiting.pop()
        if isinstance(value, Twice):
            raise ReadError(f"{value.name[:40]} stands twice in one object of JSON: which one holds?")
        inner = value.values() if isinstance(value, dict) else value
        waiting += [v for v in inner if isinstance(v, dict | list)]


def _is_poscar(text: str) -> bool:
    lines = [line.split() for line in text.splitlines()[:5]]
    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
    return (
        len(lines) == 5
        and len(lines[1]) in (1, 3)
        and all(len(words) >= 3 for words in lines[2:])
        and all(number.fullmatch(word) for words in (lines[1], *(w[:3] for w in lines[2:])) for word in words)
    )
