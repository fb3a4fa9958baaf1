"""LeMat-Bulk's Parquet (https://huggingface.co/datasets/LeMaterial/LeMat-Bulk), and its hulls by force field.

LeMat-Bulk follows OPTIMADE: a row has ``immutable_id``, ``species_at_sites`` (N,), ``lattice_vectors`` (3, 3)
and ``cartesian_site_positions`` (N, 3) in Å, ``energy`` in eV for the cell, ``functional``, and
``entalpic_fingerprint``, its hash (:mod:`crysjepa.matching.bonded_graph`). ``energy`` has no corrections.

LeMat-Bulk-MLIP-Hull has a split for each force field, of the materials within 1 meV/atom of that force
field's hull of all of LeMat-Bulk: ``immutable_id``, ``nsites``, ``species_at_sites`` and ``energy``, in eV
for the cell and by that force field, which a column such as ``mace_mp_energy`` repeats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.datasets.importers.parquet import CHUNK_ROWS, Imported, Source
from crysjepa.datasets.importers.phase_diagrams import Row, write_entries
from crysjepa.io.cif.blocks import MAX_SITES, RawCrystal, ReadError, atomic_number, brief
from crysjepa.io.entry import Entry, attempt
from crysjepa.io.structures import finite
from crysjepa.runtime.download import DatasetError

FINGERPRINT = "entalpic_fingerprint"
LEMAT_COLUMNS = {"energy_per_atom": pa.float64(), "functional": pa.string(), FINGERPRINT: pa.string()}
_NEEDED = ("immutable_id", "species_at_sites", "lattice_vectors", "cartesian_site_positions")
_USED = ("nsites", "dimension_types", "energy", "functional", FINGERPRINT)
_HULL_NEEDED = ("immutable_id", "species_at_sites", "energy")
_SAME = 1e-3
"""eV for the cell, by which two statements of an energy may differ."""


def lemat_source(paths: Sequence[Path]) -> Source:
    """Rows of LeMat-Bulk's files, in their order.

    Raises
    ------
    DatasetError
        If a file is damaged or lacks a column.
    """
    rows = sum(_opened(path, _NEEDED).metadata.num_rows for path in paths)
    return Source(LEMAT_COLUMNS, partial(_chunks, tuple(paths), (*_NEEDED, *_USED)), _read, rows)


def import_lemat_hull(paths: Sequence[Path], out: Path, about: Mapping[str, Any]) -> Imported:
    """Write a table of hull entries to ``out``: see
    :func:`~crysjepa.datasets.importers.phase_diagrams.write_entries`.

    ``about["split"]`` is the name of the split, whose energies ``energy`` has to be.

    Raises
    ------
    DatasetError
        If a file is damaged or lacks a column.
    """
    split = about.get("split")
    own = "true_energy" if split == "dft" else f"{split}_energy"
    rows: list[Row] = []
    for path in paths:
        _opened(path, _HULL_NEEDED)
    for batch, _ in _chunks(tuple(paths), (*_HULL_NEEDED, "nsites", own)):
        rows += [_entry(number, row, own) for number, row in enumerate(batch.to_pylist(), start=len(rows))]
    return write_entries(rows, out, about)


def _opened(path: Path, needed: Sequence[str]) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path.name} is damaged, or no Parquet file: {brief(error)}") from error
    if missing := [name for name in needed if name not in file.schema_arrow.names]:
        raise DatasetError(f"{path.name} is not LeMat's: it has no column {', '.join(missing)}")
    return file


def _chunks(paths: Sequence[Path], columns: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
    done = 0
    for path in paths:
        with _opened(path, ()) as file:
            there = [name for name in columns if name in file.schema_arrow.names]
            try:
                for batch in file.iter_batches(CHUNK_ROWS, columns=there):
                    done += len(batch)
                    yield batch, done
            except (pa.ArrowException, OSError) as error:
                raise DatasetError(f"{path.name} is damaged: {brief(error)}") from error


# -- in the workers ------------------------------------------------------------------------------------


def _read(chunk: pa.RecordBatch) -> list[Entry]:
    entries = []
    for row in chunk.to_pylist():
        sites = len(row["species_at_sites"] or ())
        energy = finite(row.get("energy"))
        extra = {
            "energy_per_atom": None if energy is None or not sites else energy / sites,
            "functional": row.get("functional"),
            FINGERPRINT: row.get(FINGERPRINT) or None,
        }
        entries.append(attempt(str(row["immutable_id"] or ""), partial(_crystal, row), extra))
    return entries


def _crystal(row: Mapping[str, Any]) -> RawCrystal:
    numbers = np.array([atomic_number(str(s)) for s in _species(row)], dtype=np.int64)
    if not all(row.get("dimension_types") or (1,)):
        raise ReadError("not periodic in all three directions")
    try:
        lattice = np.array(row["lattice_vectors"], dtype=np.float64)
        places = np.array(row["cartesian_site_positions"], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ReadError(f"no numbers for its cell and its sites ({brief(error)})") from error
    if lattice.shape != (3, 3):
        raise ReadError("no three lattice vectors of three components")
    if places.shape != (len(numbers), 3):
        raise ReadError(f"{len(places)} positions for {len(numbers)} sites")
    try:
        return RawCrystal(numbers, places @ np.linalg.inv(lattice), lattice)
    except np.linalg.LinAlgError as error:
        raise ReadError("singular cell (volume 0)") from error


def _species(row: Mapping[str, Any]) -> list[Any]:
    species = row["species_at_sites"] or []
    if not species:
        raise ReadError("no atom sites")
    if len(species) > MAX_SITES:
        raise ReadError(f"{len(species)} sites (limit {MAX_SITES})")
    stated = row.get("nsites")
    if stated is not None and stated != len(species):
        raise ReadError(f"{len(species)} sites are listed, and nsites is {stated}")
    return list(species)


# -- entries of a hull ---------------------------------------------------------------------------------


def _entry(number: int, row: Mapping[str, Any], own: str) -> Row:
    name = str(row["immutable_id"] or f"entry-{number}")
    try:
        species = Counter(str(s) for s in _species(row))
        for symbol in species:
            atomic_number(symbol)
        energy, repeated = finite(row["energy"]), finite(row.get(own))
        if energy is None:
            raise ReadError("its energy is not a finite number")
        if repeated is not None and abs(energy - repeated) > _SAME:
            raise ReadError(f"its energy is {energy:g} eV, and {own} is {repeated:g}: which one holds?")
    except ReadError as error:
        return name, {}, None, f"not read: {brief(error)}"
    return name, {s: float(n) for s, n in species.items()}, energy / species.total(), ""
