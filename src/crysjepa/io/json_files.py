"""JSON and JSON lines with structures of pymatgen, as dictionaries that are looked up and never decoded.

A list or object of structures, of entries (``ComputedStructureEntry``) or of records with a structure among
their values, and the forms in which pandas writes a table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, TextIO

from crysjepa.io.cells import (
    COLUMNS,
    Twice,
    check_once,
    choose_column,
    crystal_in,
    dictionary,
    holds_structure,
    once,
    repeated,
)
from crysjepa.io.cif.blocks import MAX_CRYSTAL_BYTES, RawCrystal, ReadError, brief
from crysjepa.io.entry import ID_COLUMNS, Entry, Quoted, attempt, id_text, own_name, reason_of
from crysjepa.io.json_text import MAX_VALUE, Item, JsonText
from crysjepa.io.structures import is_structure, structure_in
from crysjepa.runtime.notes import note
from crysjepa.runtime.progress import Progress

_LISTS = ("structures", "entries", "data", "crystals", "materials")
"""Keys under which a list of crystals stands, where an object holds little else."""
_LOOKED_AT = 50
_SCALAR = (str, bool, int, float)


def read_json(
    handle: TextIO, stem: str, progress: Progress | None = None, column: str | None = None
) -> list[Entry]:
    """An entry for each structure of a JSON file.

    Raises
    ------
    ReadError
        If the text is no JSON, or holds nothing that looks like structures.
    """
    text = JsonText(handle)
    start = text.peek()
    if start == "[":
        return _entries(chain(text.members(), text.rest()), stem, progress, column)
    if start != "{":
        raise ReadError(f"neither a list nor an object in JSON: {text.buffer[text.at : text.at + 20]!r}")
    return _entries(chain(_of_object(text), text.rest()), stem, progress, column)


def read_json_lines(
    handle: TextIO, stem: str, progress: Progress | None = None, column: str | None = None
) -> list[Entry]:
    """An entry for each line of JSON lines that is not blank."""
    return _entries(_parsed_lines(handle), stem, progress, column)


def _parsed_lines(handle: TextIO) -> Iterator[Item]:
    while line := handle.readline(MAX_VALUE):
        if line.strip():
            try:
                yield "", json.loads(line, object_pairs_hook=once)
            except (ValueError, RecursionError) as error:
                yield "", ReadError(f"unparsable JSON: {brief(error)}")


def _of_object(text: JsonText) -> list[Item]:
    """The crystals of an object, in whichever form they are there."""
    members = list(text.members())
    data = dict(members)
    found = _in_members(data)
    if found is None:
        return members
    twice = repeated([name for name, _ in members])
    if twice and not text.damaged:
        raise ReadError(f"{twice[:40]} stands twice in one object of JSON: which one holds?")
    return found


def _in_members(data: dict[str, Any]) -> list[Item] | None:
    """The crystals of an object that is one, or has them in a list or a table; None for one of crystals."""
    if structure_in(data) is not None and not _is_by_id(data):
        _tell_others(data, () if is_structure(data) else ("structure",))
        return [("", data)]
    if (of_lists := _by_lists(data)) is not None:
        return of_lists
    for key in _LISTS:
        if isinstance(data.get(key), list) and any(isinstance(v, Mapping) for v in data[key]):
            _tell_others(data, (key,))
            if key == "data" and "schema" in data:  # pandas: orient="table"
                return [
                    (_row_name(row.get("index")), {k: v for k, v in row.items() if k != "index"})
                    for row in data[key]
                ]
            return [("", v) for v in data[key]]
    if set(data) == {"columns", "index", "data"}:  # pandas: orient="split"
        names = [str(name) for name in data["columns"]]
        rows = zip(data["index"], data["data"], strict=False)
        return [(_row_name(own), dict(zip(names, row, strict=False))) for own, row in rows]
    return _by_column(data)


def _row_name(index: Any) -> str:
    """The name of a row in pandas's index; nothing where it is a number."""
    return index if isinstance(index, str) and not index.isdigit() else ""


def _is_by_id(data: Mapping[str, Any]) -> bool:
    """Whether one of many ids is ``structure``; a record has its structures under names of columns."""
    others = [k for k in data if k != "structure"]
    return (
        not is_structure(data)
        and bool(others)
        and all(structure_in(data[k]) is not None for k in others)
        and not any(k.lower() in COLUMNS or k.lower().endswith("structure") for k in others)
    )


def _tell_others(data: Mapping[str, Any], taken: tuple[str, ...]) -> None:
    """A note of the other members with structures, which are not read."""
    others = [k for k, v in data.items() if k not in taken and _holds_structures(v)]
    if others:
        which = ", ".join(taken) or "the object itself"
        note(f"crystals are taken from {which}, not from {', '.join(others)}, which hold structures too")
    sizes = {len(data[k]) for k in taken if isinstance(data[k], list)}
    beside = [k for k, v in data.items() if isinstance(v, list) and len(v) in sizes - {0}]
    if left := [k for k in beside if k not in (*taken, *others)]:
        note(
            f"lists beside {', '.join(taken)} are not read: {', '.join(left)[:80]}. Write records, or a table"
        )


def _holds_structures(value: Any) -> bool:
    cells = value if isinstance(value, list) else [value]
    return any(
        holds_structure(v) or (isinstance(v, Mapping) and any(holds_structure(c) for c in v.values()))
        for v in cells[:_LOOKED_AT]
    )


def _by_lists(data: dict[str, Any]) -> list[Item] | None:
    """The rows of an object of lists, a column each (pandas: orient="list"); None for other objects."""
    if len(data) < 2 or not all(isinstance(v, list) for v in data.values()):
        return None
    if len({len(v) for v in data.values()}) > 1 or sum(map(_holds_structures, data.values())) != 1:
        return None
    return [("", dict(zip(data, row, strict=True))) for row in zip(*data.values(), strict=True)]


def _by_column(data: dict[str, Any]) -> list[Item] | None:
    """The rows of a table as pandas writes it by default, an object of columns; None for other objects."""
    if not all(isinstance(v, Mapping) and structure_in(v) is None for v in data.values()):
        return None
    keys = {tuple(v) for v in data.values()}
    if len(keys) != 1 or not any(holds_structure(c) for v in data.values() for c in v.values()):
        return None
    (inner,) = keys
    everywhere = [k for k in inner if all(holds_structure(v[k]) for v in data.values())]
    if everywhere and (len(everywhere) < len(inner) or everywhere[0].lower() in COLUMNS):
        return None  # an object of records: each has its structure under the same key
    for value in data.values():
        if isinstance(value, Twice):
            check_once(value)
    return [(_row_name(row), {name: column[row] for name, column in data.items()}) for row in inner]


# -- entries -------------------------------------------------------------------------------------------


def _entries(items: Iterable[Item], stem: str, progress: Progress | None, column: str | None) -> list[Entry]:
    items = iter(items)
    first = list(islice(items, _LOOKED_AT))
    records = [v for _, v in first if isinstance(v, Mapping) and not is_structure(v)]
    where, others = "structure", list[str]()
    if records and not any(is_structure(v) for _, v in first if isinstance(v, Mapping)):
        where, others = choose_column(
            list(dict.fromkeys(str(k) for row in records for k in row)), records, column
        )
    elif first and not any(holds_structure(v) for _, v in first):
        fault = next((v for _, v in first if isinstance(v, ReadError)), None)
        raise fault or ReadError("no structures in the JSON")
    entries: list[Entry] = []
    for key, value in chain(first, items):
        entries.append(_entry(key or f"{stem}-{len(entries)}", value, where, others))
        if progress and len(entries) % 100 == 0:
            progress(len(entries), 0)
    if len(entries) == 1 and entries[0].name == f"{stem}-0":
        return [entries[0]._replace(name=stem)]
    return entries


def _entry(name: str, value: Any, where: str, others: list[str]) -> Entry:
    if isinstance(value, ReadError):
        return Entry(name, None, str(value))
    cell, values, lost = value, dict[str, Any](), dict[str, None]()
    if isinstance(value, Mapping):
        if is_structure(value):
            values = value["properties"] if isinstance(value.get("properties"), Mapping) else {}
        else:
            cell = value.get(where)
            values = _values(value, (where, *others), lost)
            if isinstance(cell, Mapping) and not is_structure(cell):  # an entry inside the record
                values = _values(cell, ("structure",), lost) | values
            values = _properties(cell) | values
    name = own_name(values) or name
    told = {
        str(k): v
        for k, v in values.items()
        if not str(k).startswith("@")
        and (k not in ID_COLUMNS or (v not in (None, "") and id_text(v) != name))
    }
    extra = {k: Quoted(v) if isinstance(v, str) else v for k, v in told.items() if isinstance(v, _SCALAR)}

    def read() -> RawCrystal:
        check_once(value)
        return crystal_in(cell)

    found = attempt(name, read, extra)
    if found.crystal is None:
        return found
    lost.update(dict.fromkeys(k for k, v in told.items() if v and k not in extra))
    return found._replace(lost=(*lost, *_of_structure(cell)))


def entry_of_cell(name: str, numbered: str, cell: Any, values: Mapping[str, Any]) -> Entry:
    """An entry for a cell of a table, whose row has this ``name``, if any, and these other ``values``.

    An entry of pymatgen in the cell, as a dictionary or as text, adds its own values, as it does in JSON.
    Where the row has another value of the same name, the row's holds and ``lost`` names the entry's.
    """
    if isinstance(cell, str) and cell.lstrip().startswith("{") and len(cell) <= MAX_CRYSTAL_BYTES:
        try:
            cell = dictionary(cell)
        except (ReadError, RecursionError, MemoryError) as error:
            return Entry(name or numbered, None, reason_of(error), values)
    if structure_in(cell) is None:
        return attempt(name or numbered, lambda: crystal_in(cell), values)
    found = _entry(numbered, cell, "structure", [])
    row = {k: v for k, v in values.items() if v not in (None, "") or k not in found.extra}
    other = [f"{k} of the entry" for k, v in found.extra.items() if k in row and not _is_same(v, row[k])]
    said = (numbered, name or found.name, *map(str, found.extra.values()))
    own = {} if found.name in said else {"entry_id": Quoted(found.name)}
    return found._replace(
        name=name or found.name, extra={**own, **found.extra, **row}, lost=(*found.lost, *other)
    )


def _is_same(one: Any, other: Any) -> bool:
    if str(one) == str(other):
        return True
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return False


def _properties(cell: Any) -> dict[str, Any]:
    """What a structure in pymatgen's form says of itself."""
    inner = structure_in(cell)
    found = None if inner is None else inner.get("properties")
    return dict(found) if isinstance(found, Mapping) else {}


def _values(record: Mapping[str, Any], taken: tuple[str, ...], lost: dict[str, None]) -> dict[str, Any]:
    """The values of a record that are not ``taken``, and those of an entry of pymatgen among its data."""
    values = {k: v for k, v in record.items() if k not in taken}
    inner = values.get("data")  # an entry of pymatgen: its id is among its data, or its entry_id
    if isinstance(inner, Mapping):
        values.pop("data")
        if "energy" in record:  # an entry has its composition twice
            values.pop("composition", None)
        numbers = {k: v for k, v in inner.items() if isinstance(v, _SCALAR)}
        lost.update(dict.fromkeys(f"data.{k}" for k, v in inner.items() if k not in numbers and v))
        values = {k: v for k, v in numbers.items() if k not in (*ID_COLUMNS, *taken)} | values
    inner_id = own_name(inner) if isinstance(inner, Mapping) else ""
    if own := str(record.get("entry_id") or inner_id):
        values = {"material_id": own} | values
    return values


def _of_structure(cell: Any) -> list[str]:
    """What a structure in pymatgen's form says that is not read: its charge, and values of its sites."""
    data = structure_in(cell)
    if data is None:
        return []
    found = ["charge"] if data.get("charge") else []
    sites = data.get("sites")
    for site in sites if isinstance(sites, list) else ():
        properties = site.get("properties") if isinstance(site, Mapping) else None
        if isinstance(properties, Mapping):
            found += [f"{k} of the sites" for k, v in properties.items() if k != "magmom" and v is not None]
    return found
