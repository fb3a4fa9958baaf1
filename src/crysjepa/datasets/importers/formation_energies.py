"""Formation energies of a set of entries, against the lowest energy of each element in that very set.

That is how the Materials Project forms them, and Matbench Discovery after it (its
data/mp/build_phase_diagram.py checks the one against the other). Energies of both are corrected ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crysjepa.datasets.importers.parquet import open_writer, partial_of
from crysjepa.runtime.files import as_metadata

COLUMN = "formation_energy_per_atom"


def add_formation_energies(path: Path, out: Path) -> dict[str, float]:
    """Write ``out``: the imported file ``path``, which has ``energy_per_atom``, and formation energies.

    An entry of an element that has no entry of its own keeps its row; its formation energy is null, and the
    file's metadata count it under ``no_elemental_entry``. Energies are in eV/atom.

    Returns
    -------
    The energy of each element.
    """
    references = _lowest(path)
    scratch = partial_of(out)
    missing: dict[str, int] = {}
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            with open_writer(
                scratch, schema.remove_metadata().append(pa.field(COLUMN, pa.float64()))
            ) as writer:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    energies = _formed(table, references, missing)
                    writer.write_table(table.append_column(COLUMN, pa.array(energies, from_pandas=True)))
                about = _about(file.metadata.metadata or {}, references, missing)
                writer.add_key_value_metadata(as_metadata(about))
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)
    return _by_symbol(references)


def _about(
    metadata: Mapping[bytes, bytes], references: NDArray[np.float64], missing: Mapping[str, int]
) -> dict[str, Any]:
    about = json.loads(metadata.get(b"crysjepa", b"{}"))
    return {**about, "elements": _by_symbol(references), "no_elemental_entry": dict(missing)}


def _by_symbol(references: NDArray[np.float64]) -> dict[str, float]:
    from ase.data import chemical_symbols

    return {chemical_symbols[z]: float(references[z]) for z in np.flatnonzero(np.isfinite(references))}


def _columns(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Sites of each row (0 without a structure), atomic numbers of all, energies per atom (NaN for null)."""
    lists = table["atomic_numbers"].combine_chunks()
    lists = lists if isinstance(lists, pa.Array) else pa.concat_arrays(lists.chunks)
    counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    energies = table["energy_per_atom"].to_numpy(zero_copy_only=False).astype(np.float64)
    return counts, lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64), energies


def _lowest(path: Path) -> NDArray[np.float64]:
    """(119,) the lowest energy per atom of each element by itself; NaN where it is not known."""
    lowest = np.full(119, np.inf)
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["atomic_numbers", "energy_per_atom"])
            counts, numbers, energies = _columns(table)
            rows = np.flatnonzero((counts > 0) & np.isfinite(energies))
            starts = (np.cumsum(counts) - counts)[counts > 0]
            if not len(starts):
                continue
            first, last = np.zeros(len(counts), dtype=np.int64), np.zeros(len(counts), dtype=np.int64)
            first[counts > 0] = np.minimum.reduceat(numbers, starts)
            last[counts > 0] = np.maximum.reduceat(numbers, starts)
            pure = rows[first[rows] == last[rows]]
            np.minimum.at(lowest, first[pure], energies[pure])
    return np.where(np.isfinite(lowest), lowest, np.nan)


def _formed(table: pa.Table, references: NDArray[np.float64], missing: dict[str, int]) -> NDArray[np.float64]:
    from ase.data import chemical_symbols

    counts, numbers, energies = _columns(table)
    sums = np.zeros(len(counts))
    np.add.at(sums, np.repeat(np.arange(len(counts)), counts), references[numbers])
    known = np.isfinite(energies)
    for row in np.flatnonzero(np.isnan(sums) & known):
        start = int(counts[:row].sum())
        own = np.unique(numbers[start : start + counts[row]])
        for z in own[np.isnan(references[own])]:
            missing[chemical_symbols[z]] = missing.get(chemical_symbols[z], 0) + 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known & (counts > 0), energies - sums / counts, np.nan)
