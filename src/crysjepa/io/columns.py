"""Columns of a source's other values: which are numbers, and what becomes of a cell that is none."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crysjepa.io.entry import Quoted, unicode_name
from crysjepa.runtime.notes import note

NUMBERS = (
    "e_above_hull", "energy_above_hull", "formation_energy_per_atom", "formation_energy", "energy_per_atom",
    "energy", "corrected_energy_per_atom", "relaxed_energy_per_atom", "band_gap", "e_hull", "ehull",
)  # fmt: skip
"""Names of columns that hold numbers, whatever single cells hold."""
_MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "none", "null", "nil", "-", "--", "---", "?", "."}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)

_ORDINARY = re.compile(r"[-+]?(?!0\d)(\d+(e[-+]\d+)?|(\d+\.\d*|\.\d+)(e[-+]?\d+)?)", re.ASCII | re.IGNORECASE)


def inferred(rows: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> pd.DataFrame:
    """Nullable columns of numbers, truth or text; empty text and NaN are null.

    A column is one of numbers if its name is in :data:`NUMBERS`, or if all its cells are numbers in ordinary
    spelling (not 007, nor 12e3, nor what JSON has in quotes), cells such as ``NA`` and ``-`` aside. A cell
    there that is no finite number is null, and a note says so.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({name: column_of(str(name), [row.get(name) for row in rows], ids) for name in names})


def column_of(name: str, values: Sequence[Any], ids: Sequence[str]) -> Any:
    """One column, as :func:`inferred` makes it."""
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    plain = [None if v is None or v != v or (isinstance(v, str) and not v.strip()) else v for v in plain]
    given = [v for v in plain if v is not None and not _is_missing(v)]
    known = name.lower() in NUMBERS
    if given and not known and all(_is_truth(v) for v in given):
        return pd.array(
            [None if v is None or _is_missing(v) else str(v).lower() == "true" for v in plain],
            dtype="boolean",
        )
    numbers = [None if v is None else _number(v) for v in plain]
    found = sum(n is not None for n in numbers)
    if known or (found and all(_is_plain_number(v) for v in given)):
        _tell(name, plain, numbers, ids)
        whole = all(isinstance(n, int) for n in numbers if n is not None)
        return pd.array(numbers, dtype="Int64" if whole and not known else "Float64")
    return pd.array([None if v is None else unicode_name(str(v)) for v in plain], dtype="string")


def _is_truth(value: Any) -> bool:
    words = ("True", "False", "true", "false")
    return isinstance(value, bool) or (value in words and not isinstance(value, Quoted))


def _is_plain_number(value: Any) -> bool:
    """Whether a cell is a number as programs write it; 00123 and 12e3 are codes, and so is JSON's "7"."""
    if isinstance(value, str):
        return not isinstance(value, Quoted) and bool(_ORDINARY.fullmatch(value.strip()))
    return _number(value) is not None or isinstance(value, float)


def _tell(name: str, values: Sequence[Any], numbers: Sequence[Any], ids: Sequence[str]) -> None:
    lost = [
        i
        for i, (value, number) in enumerate(zip(values, numbers, strict=True))
        if value is not None and number is None and str(value).strip().lower() != "nan"
    ]
    if lost:
        shown = ", ".join(f"{str(values[i])[:20]!r} of {ids[i]}" for i in lost[:3])
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        what = "is no number and is" if len(lost) == 1 else "are no numbers and are"
        note(unicode_name(f"column {name}: {shown}{more} {what} left empty"))


def _is_missing(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in _MISSING


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text) or len(text) > 400:
            return None
        value = int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    if isinstance(value, int):
        return value if abs(value) < 2**63 else float(value) if abs(value) < 10**300 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None
