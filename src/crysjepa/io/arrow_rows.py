"""Rows of Arrow tables: an entry for each crystal, and columns of text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from crysjepa.core.crystals import ARROW_SCHEMA
from crysjepa.io.cif.blocks import RawCrystal, ReadError, brief
from crysjepa.io.entry import Entry, attempt, id_text

CRYSTAL = ("atomic_numbers", "frac_coords", "lattice")


def read_arrow(table: pa.Table) -> list[Entry]:
    """An entry for each row of a table with the columns of a crystal, its lists of any numeric type.

    Raises
    ------
    ReadError
        If a column is missing or holds something else.
    """
    missing = [n for n in ARROW_SCHEMA.names if n not in table.column_names]
    if missing:
        raise ReadError(
            f"no column {', '.join(missing)}: a Parquet file of crystals has id, atomic_numbers, "
            "frac_coords (flat, 3N) and lattice (9 numbers, rows a, b, c)"
        )
    ids = id_texts(table["id"]).to_pylist()
    try:
        numbers, coords, lattices = (_Lists.of(table[n]) for n in CRYSTAL)
    except (pa.ArrowException, AttributeError, ValueError) as error:
        raise ReadError(f"the columns of crystals are not lists of numbers: {brief(error)}") from error
    sound, whole = _sound_rows(numbers, coords, lattices)
    names = [id_ or f"row-{i}" for i, id_ in enumerate(ids)]
    parts = zip(names, sound.tolist(), whole.cut(), numbers.cut(), coords.cut(), lattices.cut(), strict=True)
    return [
        Entry(name, RawCrystal(known, x.reshape(-1, 3), cell.reshape(3, 3)))
        if good
        else attempt(name, partial(_crystal, z, x, cell))
        for name, good, known, z, x, cell in parts
    ]


def _sound_rows(numbers: _Lists, coords: _Lists, lattices: _Lists) -> tuple[NDArray[np.bool_], _Lists]:
    """The rows that :func:`_crystal` takes without a word, looked at together; the atomic numbers
    as integers, which are right in those rows."""
    z = numbers.flat
    element = np.isin(z, np.arange(1, 119))
    strange = np.concatenate([[0], np.cumsum(~element)])
    sound = strange[numbers.ends] == strange[numbers.ends - numbers.lengths]
    sound &= (coords.lengths == 3 * numbers.lengths) & (lattices.lengths == 9)
    sound &= ~(numbers.null | coords.null | lattices.null)
    return sound, replace(numbers, flat=np.where(element, z, 0).astype(np.int64))


def _crystal(
    z: NDArray[np.float64] | None, x: NDArray[np.float64] | None, cell: NDArray[np.float64] | None
) -> RawCrystal:
    if z is None or x is None or cell is None:
        raise ReadError("the row has no structure")
    if len(x) != 3 * len(z) or len(cell) != 9:
        raise ReadError(f"{len(z)} sites, {len(x)} coordinates and {len(cell)} lattice numbers disagree")
    return RawCrystal(elements(z), x.reshape(-1, 3), cell.reshape(3, 3))


def elements(z: NDArray[np.float64]) -> NDArray[np.int64]:
    """Atomic numbers that are whole and those of elements, as integers. Raises ReadError for others."""
    whole = np.isfinite(z) & (z == np.floor(z))
    if not whole.all():
        raise ReadError(f"an atomic number is {z[~whole][0]:g}, which is not whole")
    if not ((z >= 1) & (z <= 118)).all():
        raise ReadError("an atomic number is not that of an element (1 to 118)")
    return z.astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Lists:
    """The lists of a column: its numbers one after another, where each list ends, and which are null."""

    flat: NDArray[Any]
    ends: NDArray[np.int64]
    lengths: NDArray[np.int64]
    null: NDArray[np.bool_]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> _Lists:
        """A null inside a list is NaN."""
        array = column.combine_chunks()
        array = array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        flat = pc.list_flatten(array)
        if not (
            pa.types.is_integer(flat.type)
            or pa.types.is_floating(flat.type)
            or pa.types.is_decimal(flat.type)
        ):
            raise ValueError(f"lists of {flat.type}")
        flat = flat.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        null = array.is_null().to_numpy(zero_copy_only=False)
        return cls(flat, np.cumsum(lengths), lengths, null)

    def cut(self) -> list[NDArray[Any] | None]:
        """An array a list, None for null."""
        parts = zip(self.null.tolist(), self.ends.tolist(), self.lengths.tolist(), strict=True)
        return [None if null else self.flat[end - size : end] for null, end, size in parts]


# -- text ----------------------------------------------------------------------------------------------


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without dictionaries and extension types."""
    while isinstance(column.type, pa.BaseExtensionType) or pa.types.is_dictionary(column.type):
        inner = column.type.value_type if pa.types.is_dictionary(column.type) else column.type.storage_type
        column = column.cast(inner)
    return column


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def utf8(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same texts as strings, in which a byte that is not UTF-8 becomes ``\\xE9`` and the like."""
    column = column.cast(pa.string())
    try:
        column.validate(full=True)
        return column
    except pa.ArrowInvalid:
        return _from_bytes(column.cast(pa.binary()))


def _from_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    texts = [None if v is None else v.decode("utf-8", "backslashreplace") for v in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, type=pa.string())])


def id_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids of any type as strings; null where there is none."""
    column = decoded(column)
    if is_text(column.type):
        return utf8(column)
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return _from_bytes(column)
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.string())
    texts = [None if v is None else id_text(v) or str(v) for v in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, type=pa.string())])
