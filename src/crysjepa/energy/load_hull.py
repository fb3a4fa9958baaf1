"""The hull of a data set, and the energy scale that its file states."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.columns import UnclearColumns
from crysjepa.energy.hull import ASSUMED_SCALE, Hull
from crysjepa.energy.known_hull import NAME, known_hull
from crysjepa.runtime.files import file_metadata
from crysjepa.runtime.notes import ReadError, note


def load_hull(name_or_path: str | Path, *, scale: str | None = None, use_e_above_hull: bool = True) -> Hull:
    """A hull from a file or a data set, and a note of what was left out of it; see :func:`_load_hull`."""
    hull = _load_hull(name_or_path, scale=scale, use_e_above_hull=use_e_above_hull)
    if hull.left_out is not None:
        note(f"the hull {hull.source}: {hull.left_out}")
    return hull


def _load_hull(name_or_path: str | Path, *, scale: str | None = None, use_e_above_hull: bool = True) -> Hull:
    """A hull from a Parquet file of compositions, or from any data set with formation energies.

    ``known`` is the bundled hull. A Parquet file with the column ``composition`` and no structures, or of a
    data set that is a hull, is read by :meth:`Hull.read`; everything else goes through
    :func:`crysjepa.datasets.load` and :meth:`Hull.from_table`. The scale is ``scale``, or what the Parquet
    file states, or :data:`~crysjepa.energy.hull.ASSUMED_SCALE` with ``scale_stated`` False.

    Raises
    ------
    ValueError
        If the data have no column ``formation_energy_per_atom`` or no usable row.
    """
    path = Path(name_or_path)
    if str(name_or_path) == NAME:
        return known_hull()
    if not path.exists() and datasets.info(str(name_or_path)).kind == "hull":
        path = datasets.fetch(str(name_or_path))
    if _holds_compositions(path):
        return Hull.read(path, scale=scale, use_e_above_hull=use_e_above_hull)
    try:
        table = datasets.load(name_or_path)
    except ReadError as error:
        raise ReadError(
            f"{error}. A hull is a Parquet file with the columns composition and formation_energy_per_atom "
            "(eV/atom), or crystals with such energies"
        ) from error
    if scale is None:
        scale = scale_of(name_or_path)
    return Hull.from_table(
        table,
        scale=scale or ASSUMED_SCALE,
        source=path.name,
        use_e_above_hull=use_e_above_hull,
        scale_stated=scale is not None,
    )


def hull_or_default(
    hull: str | Path | None, table: CandidateTable, scale: str, name: str, *, scale_stated: bool = True
) -> Hull:
    """The hull that was named; else the bundled one, joined with the energies of the reference ``table``.

    They are joined if they are on the same scale, and if there are any: a hull can only become fuller so. The
    reference by itself is no default, for it lacks most of what competes with a new crystal.
    """
    if hull is not None:
        return load_hull(hull)
    bundled = known_hull()
    if name == NAME or scale != bundled.scale or "formation_energy_per_atom" not in table:
        return bundled
    try:
        own = Hull.from_table(table, scale=scale, source=name, scale_stated=scale_stated)
    except UnclearColumns:
        raise
    except ValueError:  # no compound with an energy
        return bundled
    return bundled.joined(own)


def scale_of(name_or_path: str | Path) -> str | None:
    """The energy scale that a data set's, file's or folder's Parquet metadata state; None if none."""
    path = Path(name_or_path)
    is_path = path.exists() and str(name_or_path) != NAME
    file = path if is_path else datasets.fetch(str(name_or_path))
    return stated_scale(file)


def stated_scale(path: str | Path) -> str | None:
    """The scale that a Parquet file's own metadata state, or those of the Parquet files in a folder.

    None if none is stated, and for other files. Raises ValueError for a folder whose files differ.
    """
    path = Path(path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    parts = [f for f in files if f.suffix.lower() == ".parquet" and f.is_file()]
    found = {f: file_metadata(f).get("scale") for f in parts}
    if all(scale is None for scale in found.values()):
        return None
    scales = sorted({str(scale or ASSUMED_SCALE) for scale in found.values()})
    if len(scales) > 1:
        stated = ", ".join(f"{f.name}: {scale or 'none stated'}" for f, scale in list(found.items())[:3])
        raise ValueError(
            f"the files in {path} are on different energy scales ({stated}): give them one by one"
        )
    return scales[0]


def _holds_compositions(path: Path) -> bool:
    if not path.is_file() or path.suffix != ".parquet":
        return False
    names = pq.read_schema(path).names
    return "composition" in names and ("lattice" not in names or file_metadata(path).get("kind") == "hull")
