"""One way in: the published files of a data set, by their format, to our Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crysjepa.datasets.importers.csv_files import csv_source
from crysjepa.datasets.importers.formation_energies import add_formation_energies
from crysjepa.datasets.importers.forms import CSV as CSV
from crysjepa.datasets.importers.forms import DIAGRAM as DIAGRAM
from crysjepa.datasets.importers.forms import ENTRIES as ENTRIES
from crysjepa.datasets.importers.forms import FORMATS as FORMATS
from crysjepa.datasets.importers.forms import LEMAT as LEMAT
from crysjepa.datasets.importers.forms import LEMAT_HULL as LEMAT_HULL
from crysjepa.datasets.importers.forms import LMDB as LMDB
from crysjepa.datasets.importers.forms import MPTRJ as MPTRJ
from crysjepa.datasets.importers.forms import WITHOUT_CRYSTALS as WITHOUT_CRYSTALS
from crysjepa.datasets.importers.json_files import entries_source, mptrj_source
from crysjepa.datasets.importers.lemat import import_lemat_hull, lemat_source
from crysjepa.datasets.importers.lmdb_files import lmdb_source
from crysjepa.datasets.importers.parquet import import_rows, partial_of
from crysjepa.datasets.importers.phase_diagrams import import_phase_diagram
from crysjepa.runtime.download import DatasetError
from crysjepa.runtime.progress import Progress

VERSION = 1
"""Raised when a format is read differently; files of another version are made anew."""


def convert(
    form: str,
    paths: Sequence[Path],
    out: Path,
    about: Mapping[str, Any],
    *,
    max_sites: int | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the data set in ``paths``, of a format in :data:`FORMATS`, to the Parquet file ``out``.

    The file has the columns of a candidate table (:class:`crysjepa.core.candidates.CandidateTable`) and the
    source's own: ``split``, ``formation_energy_per_atom`` and ``e_above_hull`` (eV/atom) where it has them. A
    phase diagram, or a hull of LeMat's, has no structures, and becomes a table of compositions and energies.
    Entries whose energies are on one scale get formation energies against the elements among them. See
    :func:`crysjepa.datasets.importers.parquet.import_rows` for the parameters, and for what a killed import
    leaves.

    Raises
    ------
    DatasetError
        If a file is damaged or not of this format, or a package is missing that reads it.
    """
    if form == DIAGRAM:
        import_phase_diagram(paths[0], out, about)
        return
    if form == LEMAT_HULL:
        import_lemat_hull(paths, out, about)
        return
    if form in CSV:
        source = csv_source(paths)
    elif form == MPTRJ:
        source = mptrj_source(paths[0])
    elif form == ENTRIES:
        source = entries_source(paths[0])
    elif form == LEMAT:
        source = lemat_source(paths)
    elif form == LMDB:
        source = lmdb_source(paths[0], out.parent)
    else:
        raise DatasetError(f"no reader for the format {form!r}; there are {', '.join(FORMATS)}")
    of_elements = form in (ENTRIES, LMDB) or (form == LEMAT and about.get("scale"))
    if not of_elements:
        import_rows(source, out, about, max_sites=max_sites, processes=processes, progress=progress)
        return
    first = partial_of(out).with_suffix(".entries")  # energies of the elements are known only at the end
    try:
        import_rows(source, first, about, max_sites=max_sites, processes=processes, progress=progress)
        add_formation_energies(first, out)
    finally:
        first.unlink(missing_ok=True)
