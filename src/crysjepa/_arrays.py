"""Readers of arrays: Parquet files of crystals, and the ``.pt`` files of CDVAE and its descendants."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crysjepa._cif import RawCrystal, ReadError, brief
from crysjepa._readers import Entry
from crysjepa._tables import STATE, assemble
from crysjepa.candidates import CandidateTable, Status
from crysjepa.crystals import ARROW_SCHEMA

_ARROW_TO_PANDAS = {
    pa.string(): pd.StringDtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.float64(): pd.Float64Dtype(),
}

# -- Parquet -------------------------------------------------------------------------------------------


def read_parquet(path: Path) -> CandidateTable:
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise ReadError(f"not a Parquet file, or a truncated one: {brief(error)}") from error
    repeated = [n for n in set(table.column_names) if table.column_names.count(n) > 1]
    if repeated:
        raise ReadError(f"the column {sorted(repeated)[0]} is there twice")
    return from_arrow(table)


def from_arrow(table: pa.Table) -> CandidateTable:
    """A row a crystal of a Parquet file's table; a written candidate table keeps its state."""
    written = set(STATE) <= set(table.column_names)
    read = assemble(read_arrow(table), _nullable_frame(table, keep_state=written))
    return _with_state(read, table) if written else read


def _nullable_frame(table: pa.Table, keep_state: bool) -> pd.DataFrame:
    """The columns beyond the crystal as nullable pandas columns, NaN as null."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        if name in ARROW_SCHEMA.names or (keep_state and name in STATE):
            continue
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_floating(column.type):
            column = column.cast(pa.float64())
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
        elif pa.types.is_integer(column.type):
            column = column.cast(pa.int64())
        elif pa.types.is_large_string(column.type):
            column = column.cast(pa.string())
        columns[name] = column
    return pa.table(columns).to_pandas(types_mapper=_ARROW_TO_PANDAS.get) if columns else pd.DataFrame()


def _with_state(read: CandidateTable, table: pa.Table) -> CandidateTable:
    """The status, stage and reason that the file gives; a row it calls ok is so only if it was read."""
    state = table.select(list(STATE)).cast(pa.schema([(n, pa.string()) for n in STATE])).to_pandas()
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


def read_arrow(table: pa.Table) -> list[Entry]:
    """An entry for each row of a table with the columns of a crystal, its lists of any numeric type.

    Raises
    ------
    ReadError
        If a column is missing or holds something else.
    """
    missing = [n for n in ("id", "atomic_numbers", "frac_coords", "lattice") if n not in table.column_names]
    if missing:
        raise ReadError(
            f"no column {', '.join(missing)}: a Parquet file of crystals has id, atomic_numbers, "
            "frac_coords (flat, 3N) and lattice (9 numbers, rows a, b, c)"
        )
    ids = table["id"].cast(pa.string()).to_pylist()
    try:
        numbers = _slices(table["atomic_numbers"], np.int64)
        coords = _slices(table["frac_coords"], np.float64)
        lattices = _slices(table["lattice"], np.float64)
    except (pa.ArrowException, AttributeError, ValueError) as error:
        raise ReadError(f"the columns of crystals are not lists of numbers: {brief(error)}") from error
    entries = []
    for i, (z, x, cell) in enumerate(zip(numbers, coords, lattices, strict=True)):
        name = ids[i] or f"row-{i}"
        if z is None or x is None or cell is None:
            entries.append(Entry(name, None, "the row has no structure"))
        elif len(x) != 3 * len(z) or len(cell) != 9:
            entries.append(
                Entry(
                    name,
                    None,
                    f"{len(z)} sites, {len(x)} coordinates and {len(cell)} lattice numbers disagree",
                )
            )
        else:
            entries.append(Entry(name, RawCrystal(z, x.reshape(-1, 3), cell.reshape(3, 3))))
    return entries


def _slices(column: pa.ChunkedArray, dtype: Any) -> list[NDArray[Any] | None]:
    """The lists of a column as arrays, None for null; a null inside a list is NaN."""
    array = column.combine_chunks()
    array = array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(array).cast(pa.float64()).to_numpy(zero_copy_only=False)
    if dtype is np.int64:
        flat = np.where(np.isfinite(flat), flat, 0).astype(np.int64)
    ends = np.cumsum(lengths)
    null = array.is_null().to_numpy(zero_copy_only=False)
    return [None if n else flat[e - w : e] for n, e, w in zip(null, ends, lengths, strict=True)]


# -- torch --------------------------------------------------------------------------------------------

_TORCH_ADVICE = (
    "Save only the tensors, with the program that wrote it: torch.save({k: d[k] for k in ('frac_coords', "
    "'atom_types', 'lengths', 'angles', 'num_atoms')}, 'crystals.pt')"
)


def read_torch(path: Path, stem: str) -> list[Entry]:
    """An entry for each crystal of a ``.pt`` file as CDVAE and its descendants write it.

    ``frac_coords`` (N, 3), ``num_atoms`` (B,), ``atom_types`` (N,) or scores (N, C) whose columns are the
    elements from hydrogen on, and ``lengths`` with ``angles`` (B, 3) or ``lattices`` (B, 3, 3); each may have
    a leading dimension of evaluations. That is what the scripts of CDVAE, DiffCSP, DiffCSP++, SymmCD and
    CrysLLMGen save (``eval_gen.pt`` and the like), with ``eval_setting``, an ``argparse.Namespace`` that is
    not looked at. A list of such dictionaries is read one after the other: FlowMM and FlowLLM save one for
    each batch of predictions (made after their code; no published file was at hand). Coordinates are wrapped
    into the cell. No pickled code is run.

    Raises
    ------
    ReadError
        If the file needs code to be run, or its tensors contradict one another.
    """
    import torch

    try:
        # A namespace of settings is a plain holder of values: to rebuild one runs nothing of the file's.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything for a foreign file; the reason is kept
        found = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(
            r"Unsupported \w+:? ([\w.]+)", str(error)
        )
        if found:
            raise ReadError(
                f"the file holds more than tensors ({found.group(1)}) and would have to "
                f"run code to be read, which crysjepa does not. {_TORCH_ADVICE}"
            ) from error
        raise ReadError(f"not a file of tensors, or a truncated one: {brief(error)}") from error
    if isinstance(loaded, list | tuple) and loaded and all(isinstance(part, dict) for part in loaded):
        if len(loaded) == 1:
            return _torch_entries(_tensors(loaded[0]), stem)
        return [
            entry
            for number, part in enumerate(loaded)
            for entry in _torch_entries(_tensors(part), f"{stem}-{number}")
        ]
    if not isinstance(loaded, dict):
        raise ReadError(
            f"the file holds a {type(loaded).__name__}, not a dictionary of tensors. {_TORCH_ADVICE}"
        )
    return _torch_entries(_tensors(loaded), stem)


def _tensors(loaded: dict[Any, Any]) -> dict[str, NDArray[np.float64]]:
    import torch

    arrays = {k: v.detach().double().numpy() for k, v in loaded.items() if isinstance(v, torch.Tensor)}
    missing = [k for k in ("frac_coords", "num_atoms", "atom_types") if k not in arrays]
    if missing or not ("lattices" in arrays or {"lengths", "angles"} <= set(arrays)):
        raise ReadError(f"no tensor {', '.join(missing) or 'lattices, nor lengths and angles'} in the file")
    return arrays


def _torch_entries(arrays: dict[str, NDArray[np.float64]], stem: str) -> list[Entry]:
    num_atoms = np.atleast_2d(arrays["num_atoms"]).astype(np.int64)
    runs, batch = num_atoms.shape
    sites = int(num_atoms[0].sum())
    if (num_atoms < 0).any() or (num_atoms.sum(axis=1) != sites).any():
        raise ReadError("num_atoms is negative, or its evaluations disagree")
    types = arrays["atom_types"]
    if types.shape not in ((sites,), (runs, sites)) and types.size:
        types = types.argmax(axis=-1) + 1.0
    try:
        coords = arrays["frac_coords"].reshape(runs, sites, 3)
        numbers = np.nan_to_num(types.reshape(runs, sites)).astype(np.int64)
        if "lattices" in arrays:
            cells = arrays["lattices"].reshape(runs, batch, 3, 3)
        else:
            parameters = [arrays[k].reshape(runs * batch, 3) for k in ("lengths", "angles")]
            cells = _cells(*parameters).reshape(runs, batch, 3, 3)
    except ValueError as error:
        shapes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in sorted(arrays.items()))
        raise ReadError(
            f"num_atoms counts {batch} crystals with {sites} atoms; not so the others: {shapes}"
        ) from error
    ends = np.cumsum(num_atoms[0]) if runs == 1 else None
    entries = []
    for run in range(runs):
        stops = ends if ends is not None else np.cumsum(num_atoms[run])
        for i, (stop, count) in enumerate(zip(stops, num_atoms[run], strict=True)):
            number = f"{i}" if runs == 1 else f"{run}-{i}"
            x = coords[run, stop - count : stop]
            crystal = RawCrystal(numbers[run, stop - count : stop], (x - np.floor(x)) % 1.0, cells[run, i])
            entries.append(Entry(stem if runs * batch == 1 else f"{stem}-{number}", crystal))
    return entries


def _cells(lengths: NDArray[np.float64], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, 3, 3) lattices in pymatgen's orientation; NaN where a parameter is not finite."""
    from pymatgen.core import Lattice

    cells = np.full((len(lengths), 3, 3), np.nan)
    for i in np.flatnonzero(np.isfinite(lengths).all(axis=1) & np.isfinite(angles).all(axis=1)):
        cells[i] = Lattice.from_parameters(*lengths[i], *angles[i]).matrix
    return cells
