"""Parquet files of crystals, or of a column of structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import ARROW_SCHEMA
from crysjepa.io.arrow_rows import CRYSTAL, decoded, id_texts, is_text, read_arrow, utf8
from crysjepa.io.assemble import STATE, assemble
from crysjepa.io.cells import choose_column
from crysjepa.io.cif.blocks import ReadError, brief
from crysjepa.io.columns import NUMBERS, column_of, inferred
from crysjepa.io.entry import ID_COLUMNS
from crysjepa.io.json_files import entry_of_cell
from crysjepa.runtime.notes import note

MAX_VALUES = 2_000_000_000
"""Numbers and texts in a file; and of a small file, so many for each of its bytes:"""
MAX_VALUES_A_BYTE = 200
_UNSUSPICIOUS = 50_000_000
_LOOKED_AT = 50


def read_parquet(path: Path, column: str | None = None) -> CandidateTable:
    """Every row of a Parquet file.

    Raises
    ------
    ReadError
        If it is no Parquet file, or has neither the columns of a crystal nor one of structures.
    """
    try:
        with pq.ParquetFile(path) as file:
            _check_size(file.metadata, path.stat().st_size)
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise ReadError(f"not a Parquet file, or a truncated one: {brief(error)}") from error
    repeated = [n for n in set(table.column_names) if table.column_names.count(n) > 1]
    if repeated:
        raise ReadError(f"the column {sorted(repeated)[0]} is there twice")
    if column is None and set(CRYSTAL) & set(table.column_names):
        return from_arrow(table)
    return _from_cells(table, path.stem, column)


def _check_size(metadata: pq.FileMetaData, size: int) -> None:
    """Runs and dictionaries make millions of values of some bytes: refuse what fits no memory."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    values = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
    if values > MAX_VALUES or values > max(_UNSUSPICIOUS, MAX_VALUES_A_BYTE * size):
        raise ReadError(f"{values:.3g} values in a file of {size} bytes")


def from_arrow(table: pa.Table) -> CandidateTable:
    """A row a crystal of a Parquet file's table; a written candidate table keeps its state."""
    written = set(STATE) <= set(table.column_names)
    entries = read_arrow(table)
    names = [entry.name for entry in entries]
    own = set(ARROW_SCHEMA.names) | (set(STATE) if written else set())
    others = _nullable_frame(table.drop_columns(sorted(own & set(table.column_names))), names)
    read = assemble(entries, others, of_models=True)
    return _with_state(read, table) if written else read


def _from_cells(table: pa.Table, stem: str, wanted: str | None) -> CandidateTable:
    """A row for each cell of a column of structures."""
    looked = [
        {n: v for n, v in row.items() if isinstance(v, str | dict)}
        for row in _sound(table.slice(0, _LOOKED_AT)).to_pylist()
    ]
    try:
        where, others = choose_column(table.column_names, looked, wanted)
    except ReadError as error:
        missing = ", ".join(n for n in ARROW_SCHEMA.names if n not in table.column_names)
        raise ReadError(
            f"no column {missing}: a Parquet file of crystals has id, atomic_numbers, frac_coords (flat, 3N) "
            f"and lattice (9 numbers, rows a, b, c); and {error}"
        ) from error
    key = next((n for n in ID_COLUMNS if n in table.column_names and n != where), None)
    ids = id_texts(table[key]).to_pylist() if key else [None] * len(table)
    cells = _sound(table.select([where]))[where]
    dropped = {where, *others, *([key] if key else [])}
    rest = table.select([n for n in table.column_names if n not in dropped])
    values = _nullable_frame(rest, [id_ or f"{stem}-{i}" for i, id_ in enumerate(ids)])
    entries = [
        entry_of_cell(id_ or "", f"{stem}-{i}", _without_nulls(cell.as_py()), {})
        for i, (id_, cell) in enumerate(zip(ids, cells, strict=True))
    ]
    names = [entry.name for entry in entries]
    for name, column in inferred([entry.extra for entry in entries], names).items():
        if name not in values:
            values[name] = column.array
        elif not column.isna().all():
            note(f"{name} is a column and a value in {where}: the column is taken")
    return assemble(entries, values)


def _without_nulls(cell: Any) -> Any:
    """A struct without the keys that are null: Arrow gives every row the keys of all rows."""
    if isinstance(cell, dict):
        return {k: _without_nulls(v) for k, v in cell.items() if v is not None}
    if isinstance(cell, list):
        return [_without_nulls(v) for v in cell]
    return cell


def _sound(table: pa.Table) -> pa.Table:
    """The columns of text or structs, in which every text is UTF-8."""
    kept = {}
    for name in table.column_names:
        column = decoded(table[name])
        if is_text(column.type) or pa.types.is_struct(column.type):
            kept[name] = utf8(column) if is_text(column.type) else column
    return pa.table(kept) if kept else table.select([])


# -- other columns -------------------------------------------------------------------------------------


def _nullable_frame(table: pa.Table, ids: list[str]) -> pd.DataFrame:
    """The columns beyond the crystal as nullable pandas columns, NaN as null. A note names those left out."""
    columns: dict[str, Any] = {}
    left_out = []
    for name in table.column_names:
        try:
            columns[name] = _nullable(name, decoded(table[name]), ids)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            left_out.append(f"{name} ({table[name].type})"[:80])
    if left_out:
        note(f"columns of kinds that a table of crystals does not hold are left out: {', '.join(left_out)}")
    return pd.DataFrame(columns)


def _nullable(name: str, column: pa.ChunkedArray, ids: list[str]) -> Any:
    kind, types = column.type, pa.types
    if types.is_boolean(kind):
        return column.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get).array
    if types.is_floating(kind) or types.is_decimal(kind):
        column = column.cast(pa.float64(), safe=False)
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
        return column.to_pandas(types_mapper={pa.float64(): pd.Float64Dtype()}.get).array
    if types.is_uint64(kind) and pc.max(column).as_py() is not None and pc.max(column).as_py() >= 2**63:
        return pd.array(column.cast(pa.string()).to_pylist(), dtype="string")
    if types.is_integer(kind):
        return column.cast(pa.int64()).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get).array
    if is_text(kind):
        texts = utf8(column).to_pylist()
        return column_of(name, texts, ids) if name.lower() in NUMBERS else pd.array(texts, dtype="string")
    if types.is_null(kind):
        return pd.array([None] * len(column), dtype="string")
    if types.is_temporal(kind):
        return pd.array([None if v is None else str(v) for v in column.to_pylist()], dtype="string")
    if _is_list(kind) and (
        types.is_integer(kind.value_type)
        or types.is_floating(kind.value_type)
        or types.is_string(kind.value_type)
    ):
        if types.is_string(kind.value_type):
            column.validate(full=True)
        cells = np.empty(len(column), dtype=object)
        cells[:] = list(column.cast(pa.list_(kind.value_type)).to_pandas())
        return pd.Series(cells).array
    raise TypeError


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _with_state(read: CandidateTable, table: pa.Table) -> CandidateTable:
    """The status, stage and reason that the file gives; a row it calls ok is so only if it was read."""
    state = pd.DataFrame({n: pd.array(id_texts(table[n]).to_pylist(), dtype="string") for n in STATE})
    wrong = set(state["status"]) - {str(s) for s in Status}
    if wrong:
        raise ReadError(
            f"the column status holds {sorted(map(str, wrong))[0]!r}; it may be ok, rejected or failed"
        )
    frame = read.frame.copy()
    rows = (state["status"] != str(Status.OK)).to_numpy()
    for name in STATE:
        frame.loc[rows, name] = state.loc[rows, name].to_numpy()
    return CandidateTable(frame)
