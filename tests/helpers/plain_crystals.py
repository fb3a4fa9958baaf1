"""Crystals of any formula, whatever their structure: for what the composition decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pymatgen.core import Composition, Structure

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals


def of_formula(formula: str, volume_per_atom: float = 15.0) -> Structure:
    """Its atoms on a grid in a cube."""
    symbols = [e.symbol for e, n in Composition(formula).items() for _ in range(int(n))]
    wide = int(np.ceil(len(symbols) ** (1 / 3)))
    sites = [(np.array(place) / wide).tolist() for place in np.ndindex(wide, wide, wide)][: len(symbols)]
    length = (volume_per_atom * len(symbols)) ** (1 / 3)
    return Structure(length * np.eye(3), symbols, sites)


def table_of(structures: Sequence[Structure], ids: Sequence[str]) -> CandidateTable:
    """All of them, ``ok``."""
    return CandidateTable.from_crystals(Crystals.from_structures(list(structures)).with_ids(list(ids)))


def table_of_formulas(*formulas: str) -> CandidateTable:
    """A row for each, its formula for an id."""
    return table_of([of_formula(f) for f in formulas], formulas)
