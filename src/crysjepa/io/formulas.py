"""Formulas that a source has beside its crystals: where these are other compounds, rows may be mixed up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crysjepa.core.chemical_systems import atomic_numbers
from crysjepa.io.cif.blocks import RawCrystal
from crysjepa.runtime.notes import note

COLUMNS = (
    "formula", "composition", "pretty_formula", "formula_pretty", "reduced_formula", "chemical_formula",
    "chemical_formula_reduced", "formula_reduced", "full_formula",
)  # fmt: skip
"""Names of columns of formulas, in any case, blanks as underscores."""
_FORMULA = re.compile(r"(?:[A-Z][a-z]?(?:\d+\.?\d*|\.\d+)?\s*)+")
_PARTS = re.compile(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?")
_ROUNDING = 0.01
"""By how much the fractions of one compound may differ."""


def tell_other_formulas(
    columns: pd.DataFrame, crystals: Sequence[RawCrystal | None], ids: Sequence[str]
) -> None:
    """A note of the rows whose formula is of another compound than their crystal.

    Formulas with brackets and dots, and what is no formula, are passed over.
    """
    for name in columns.columns:
        if str(name).lower().replace(" ", "_") not in COLUMNS or not pd.api.types.is_string_dtype(
            columns[name].dtype
        ):
            continue
        wrong = [
            (id_, text)
            for id_, text, crystal in zip(ids, columns[name], crystals, strict=True)
            if crystal is not None and _is_other(text, crystal)
        ]
        if wrong:
            note(
                f"{name} names another compound than the structure in {len(wrong)} of {len(ids)} rows "
                f"({wrong[0][1][:30]} of {wrong[0][0][:40]}): do the values belong to these structures?"
            )


def _is_other(text: Any, crystal: RawCrystal) -> bool:
    amounts = _amounts(text) if isinstance(text, str) else None
    if not amounts:
        return False
    kinds, counts = np.unique(crystal.atomic_numbers, return_counts=True)
    total, sites = sum(amounts.values()), len(crystal.atomic_numbers)
    found = dict(zip(kinds.tolist(), (counts / max(sites, 1)).tolist(), strict=True))
    return found.keys() != amounts.keys() or any(
        abs(n / total - found[z]) > _ROUNDING for z, n in amounts.items()
    )


def _amounts(formula: str) -> Mapping[int, float] | None:
    """Amounts by atomic number; None for what is no plain formula."""
    if len(formula) > 200 or not _FORMULA.fullmatch(formula.strip()):
        return None
    found: dict[int, float] = {}
    for symbol, digits in _PARTS.findall(formula):
        z = 1 if symbol in ("D", "T") else atomic_numbers().get(symbol)
        if z is None:
            return None
        found[z] = found.get(z, 0.0) + float(digits or 1)
    return found if all(found.values()) else None
