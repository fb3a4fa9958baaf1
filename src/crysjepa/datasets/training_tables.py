"""What the shipped generators learn from: tables of Materials Project crystals.

Tables have the columns of a crystal (id, atomic_numbers, frac_coords, lattice), formation_energy_per_atom,
num_sites, e_above_hull and split.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals


def known_crystals(paths: Sequence[Path]) -> pa.Table:
    """Rows of at most 20 sites within 0.1 eV/atom of the hull, each id once."""
    columns = [*("id", "atomic_numbers", "frac_coords", "lattice"), "formation_energy_per_atom", "split"]
    parts: list[pa.Table] = []
    for path in paths:
        table = pq.read_table(path)
        fit = pc.and_(pc.less_equal(table["num_sites"], 20), pc.less_equal(table["e_above_hull"], 0.1))
        table = table.filter(fit) if parts else table
        for earlier in parts:
            table = table.filter(pc.invert(pc.is_in(table["id"], earlier["id"])))
        parts.append(table.select(columns))
    return pa.concat_tables(parts)


def generator_crystals(paths: Sequence[Path]) -> Crystals:
    """Known crystals outside the test split."""
    table = known_crystals(paths)
    return canonicalise(Crystals.from_arrow(table.filter(pc.not_equal(table["split"], "test"))))[0]
