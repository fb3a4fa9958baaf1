"""A table of crystals as a notebook shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from crysjepa.core.candidates import CandidateTable

ROWS = 10
_STRUCTURE = ("atomic_numbers", "frac_coords", "lattice")


def table_html(table: CandidateTable) -> str:
    """How many crystals ended how, and the first :data:`ROWS` rows with formulas for structures, as HTML.

    Columns that hold lists, and such as are null in every row, are left out. Everything is escaped.
    """
    first = table.only(table.ids[:ROWS])
    crystals = first.crystals()
    formulas = dict(zip(crystals.ids, crystals.reduced_formulas(), strict=True))
    sites = dict(zip(crystals.ids, crystals.num_atoms.tolist(), strict=True))
    frame = first.frame.drop(columns=[*_STRUCTURE, *({"formula"} & set(first.frame))])
    frame.insert(1, "formula", [formulas.get(i) for i in first.ids])
    frame.insert(2, "sites", pd.array([sites.get(i) for i in first.ids], dtype="Int64"))
    frame = frame.set_index("id")
    shown = frame[[c for c in frame if _is_plain(frame[c])]]
    ends = ", ".join(f"{n:,} {end}" for end, n in table.counts().items())
    rest = f"; the first {ROWS}" if len(table) > ROWS else ""
    html = shown.to_html(na_rep="–", float_format="{:.4g}".format, border=0)
    return f"<p>{len(table):,} crystals: {ends}{rest}</p>{html}"


def _is_plain(values: pd.Series) -> bool:
    known = values[values.notna()]
    return len(known) > 0 and not isinstance(known.iloc[0], list | np.ndarray)
