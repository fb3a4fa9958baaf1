"""Columns of a judgement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crysjepa.core.candidates import CandidateTable


def set_column(table: CandidateTable, name: str, values: Mapping[str, Any], dtype: str) -> CandidateTable:
    """Set a column for every row, so that no value of an earlier judgement is left standing."""
    return table.with_column(name, {**dict.fromkeys(table.ids), **values}, dtype)
