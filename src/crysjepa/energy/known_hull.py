"""The hull and the formulas of the bundled data set ``known``: what the Materials Project has, on one scale.

Nothing here is read before it is asked for, and then once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.core.chemical_systems import atomic_numbers, element_symbols
from crysjepa.data.bundle import NAME, SCALE, bundled_file
from crysjepa.energy.compositions import Fractions
from crysjepa.energy.hull import Hull

__all__ = ["NAME", "SCALE", "bundled_file", "formula_and_id", "known_formulas", "known_hull", "lemat_systems"]

_FILE = "known_hull.parquet"


@lru_cache(maxsize=1)
def known_hull() -> Hull:
    """The hull of the data set ``known`` (eV/atom, MP2020 corrections).

    Each compound stands at the height of the Materials Project's own hull at its formula: its formation
    energy less the energy above hull that was published with it. That hull had every compound, this set has
    not, and a convex hull never rises above a line between two of its points: such points only bring ours
    closer to it.
    """
    table = pq.read_table(bundled_file(_FILE), columns=["elements", "amounts", "hull_energy_per_atom"])
    heights = table["hull_energy_per_atom"].to_numpy()
    compounds: dict[Fractions, float] = {}
    symbols = element_symbols()
    rows = zip(table["elements"].to_pylist(), table["amounts"].to_pylist(), heights.tolist(), strict=True)
    for elements, amounts, height in rows:
        if len(elements) < 2 or height != height:
            continue
        total = sum(amounts)
        parts = ((symbols[z], round(n / total, 12)) for z, n in zip(elements, amounts, strict=True))
        compounds[tuple(sorted(parts))] = height
    return Hull(compounds, SCALE, NAME)


@lru_cache(maxsize=1)
def known_formulas() -> Mapping[tuple[tuple[int, int], ...], str]:
    """The id of the lowest known compound of each reduced formula, as (atomic number, count) pairs."""
    table = pq.read_table(bundled_file(_FILE), columns=["elements", "amounts", "id"])
    rows = zip(*(table[name].to_pylist() for name in ("elements", "amounts", "id")), strict=True)
    return {tuple(zip(elements, amounts, strict=True)): id_ for elements, amounts, id_ in rows}


def formula_and_id(fractions: Fractions) -> tuple[str, str | None]:
    """A composition's reduced formula, and the id of the lowest known compound that has it."""
    from pymatgen.core import Composition

    formula = Composition(dict(fractions)).get_integer_formula_and_factor(max_denominator=200)[0]
    numbers = atomic_numbers()
    key = tuple(sorted((numbers[str(e)], round(n)) for e, n in Composition(formula).items()))
    return formula, known_formulas().get(key)


@lru_cache(maxsize=1)
def lemat_systems() -> Mapping[tuple[int, ...], int]:
    """Compounds on LeMat-Bulk's hull in each chemical system, by its atomic numbers in rising order."""
    table = pq.read_table(bundled_file("lemat_systems.parquet"))
    elements = table["elements"].combine_chunks()
    numbers = elements.flatten().to_numpy().tolist()
    ends = np.cumsum(pa.compute.list_value_length(elements).to_numpy()).tolist()
    starts = [0, *ends[:-1]]
    counts = table["num_on_hull"].to_pylist()
    return {tuple(numbers[a:b]): n for a, b, n in zip(starts, ends, counts, strict=True)}
