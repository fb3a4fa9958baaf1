"""The part of a hull that a run's crystals met, kept beside the results as ``hull.parquet``.

With it a hull can be drawn, or used again as ``--hull``, wherever the results go.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.chemical_systems import system_names
from crysjepa.energy.compositions import Fractions
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import formula_and_id
from crysjepa.runtime.files import write_parquet

FILE = "hull.parquet"


def keep_hull(hull: Hull, table: CandidateTable, folder: Path) -> None:
    """Write :data:`FILE`: the hull's compounds in the chemical systems of the crystals with ``e_above_hull``.

    Columns: ``composition`` (a formula), ``formation_energy_per_atom`` (eV/atom, at the hull's height where
    the hull's source says so) and ``id``, of the bundled list's lowest compound of that formula or null. The
    metadata have the ``scale``.
    """
    above = table.column("e_above_hull") if "e_above_hull" in table else []
    judged = [i for i, energy in zip(table.ids, above, strict=False) if energy is not None]
    write_entries(hull, system_names(table.crystals(judged)) if judged else (), folder / FILE)


def write_entries(hull: Hull, systems: Iterable[str], path: Path) -> None:
    """Write the hull's compounds in chemical systems such as ``"Li-O"``; see :func:`keep_hull`."""
    compounds: dict[Fractions, float] = {}
    for system in sorted(set(systems)):
        compounds |= hull.entries(system.split("-"))
    named = [formula_and_id(fractions) for fractions in compounds]
    columns = {
        "id": pa.array([id_ for _, id_ in named], pa.string()),
        "composition": pa.array([formula for formula, _ in named], pa.string()),
        "formation_energy_per_atom": pa.array(list(compounds.values()), pa.float64()),
    }
    write_parquet(pa.table(columns), path, {"kind": "hull", "scale": hull.scale})
