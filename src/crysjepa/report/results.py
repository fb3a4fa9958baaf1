"""What a run folder holds, read once and put in a fixed order, so that the page depends on nothing else."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable
from crysjepa.report.rate_names import RATES

MADE_BY = {
    "candidates.parquet": "crysjepa discover",
    "metrics.json": "crysjepa discover",
    "config.json": "crysjepa discover",
    "run.json": "crysjepa discover",
}
"""The files a report needs, and the verb that makes each."""


@dataclass(frozen=True)
class Round:
    """One round of generation: ``rows`` marks its candidates, ``rates`` is its entry in ``metrics.json``."""

    number: int | None
    name: str
    rows: NDArray[np.bool_]
    rates: Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """Everything the page is made of. ``frame`` and ``rounds`` are sorted (by id, by number).

    ``cif_files`` gives the file in ``shortlist/`` whose name begins with a rank, such as ``007-NaCl.cif``.
    """

    candidates: CandidateTable
    rounds: tuple[Round, ...]
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]
    run: Mapping[str, Any]
    reference_map: pd.DataFrame | None
    cif_files: Mapping[int, str]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a candidate, sorted by id."""
        return self.candidates.frame

    def record(self, row: int) -> pd.Series:
        """A row of :attr:`frame`, cut out once: of a frame of many columns that takes a millisecond."""
        if row not in self._records:
            self._records[row] = self.frame.iloc[row]
        return self._records[row]

    def truths(self, name: str) -> pd.Series:
        """:func:`truths` of :attr:`frame`, made once."""
        if name not in self._truths:
            self._truths[name] = truths(self.frame, name)
        return self._truths[name]

    @cached_property
    def _records(self) -> dict[int, pd.Series]:
        return {}

    @cached_property
    def _truths(self) -> dict[str, pd.Series]:
        return {}

    @property
    def generated(self) -> pd.DataFrame:
        """The same without what a search put in place of others, which was not drawn."""
        frame = self.frame
        return frame[frame["in_place_of"].isna()] if "in_place_of" in frame else frame

    @property
    def protocol(self) -> Mapping[str, Any]:
        """``metrics["protocol"]``, or nothing."""
        found = self.metrics.get("protocol")
        return found if isinstance(found, Mapping) else {}

    @property
    def threshold(self) -> float | None:
        """The e_above_hull in eV/atom below which a crystal counts as stable, if it was recorded."""
        return real(self.protocol.get("e_above_hull_max"))

    @property
    def trust(self) -> Mapping[str, Any]:
        """What was looked into beyond one judge and the known hull, or nothing."""
        found = self.metrics.get("trust")
        return found if isinstance(found, Mapping) else {}

    @property
    def judges(self) -> tuple[tuple[str, str], ...]:
        """Further judges by name, each with the column of its energies above hull."""
        found = self.trust.get("judges")
        judges = [j for j in found if isinstance(j, Mapping)] if isinstance(found, list) else []
        return tuple((plain(j.get("name"), 40), plain(j.get("column"), 80)) for j in judges)


# -- reading -------------------------------------------------------------------------------------


def read_results(run: str | Path) -> Results:
    """Read a run folder.

    Raises
    ------
    FileNotFoundError
        If a file is missing; the message names the verb that makes it.
    ValueError
        If a file is not what its name promises; the message names the file.
    """
    run = Path(run)
    for name, verb in MADE_BY.items():
        if not (run / name).is_file():
            raise FileNotFoundError(f"{run / name} is missing: `{verb}` makes it")
    try:
        frame = CandidateTable.read(run / "candidates.parquet").frame
    except (ValueError, OSError) as error:
        raise ValueError(f"{run / 'candidates.parquet'} is not a candidate table: {error}") from error
    metrics = _read_json(run / "metrics.json")
    table = CandidateTable(frame.sort_values("id", kind="stable").reset_index(drop=True))
    background = _read_map(run / "reference_map.parquet")
    return Results(
        table,
        _rounds(table.frame, metrics, run / "metrics.json"),
        metrics,
        _read_json(run / "config.json"),
        _read_json(run / "run.json"),
        background,
        _cif_files(run / "shortlist"),
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not an object")
    return content


def _read_map(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    frame = pq.read_table(path).to_pandas()
    if not {"x", "y"} <= set(frame.columns):
        raise ValueError(f"{path} needs the columns x and y")
    kept = {name: numbers(frame, name) for name in ("x", "y", "formation_energy_per_atom") if name in frame}
    ordered = pd.DataFrame(kept)
    ordered = ordered[np.isfinite(ordered["x"]) & np.isfinite(ordered["y"])]
    return ordered.sort_values(list(kept), kind="stable").reset_index(drop=True)


def _cif_files(folder: Path) -> dict[int, str]:
    names = sorted(path.name for path in folder.glob("*.cif"))
    ranks = {name: re.match(r"(\d{1,9})[-_.]", name) for name in names}
    found = {int(rank[1]): f"shortlist/{name}" for name, rank in ranks.items() if rank}
    return found if len(found) == sum(rank is not None for rank in ranks.values()) else {}


def _rounds(frame: pd.DataFrame, metrics: Mapping[str, Any], path: Path) -> tuple[Round, ...]:
    measured: dict[int, Mapping[str, Any]] = {}
    listed = metrics.get("rounds")
    for position, entry in enumerate(listed if isinstance(listed, list) else []):
        if not isinstance(entry, dict):
            raise ValueError(f"{path}: rounds[{position}] is not an object")
        for name in RATES:
            value = real(entry.get(name))
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{path}: rounds[{position}].{name} is {value:g}, not a fraction of 1")
        number = real(entry.get("round"))
        measured[position if number is None else int(number)] = entry
    present = numbers(frame, "round") if "round" in frame else np.zeros(len(frame))
    seen = {int(n) for n in present[np.isfinite(present)]} | set(measured)
    rounds = [
        Round(n, round_name(n, measured.get(n, {})), present == n, measured.get(n, {})) for n in sorted(seen)
    ]
    unknown = ~np.isfinite(present)
    if "in_place_of" in frame:  # what a search found was drawn in no round
        unknown &= frame["in_place_of"].isna().to_numpy()
    if unknown.any():
        rounds.append(Round(None, "no round recorded", unknown, {}))
    return tuple(rounds)


def with_controls(rounds: Sequence[Round]) -> list[Round]:
    """The rounds, each control, which has no rows in the table, after the round that it belongs to."""
    found = []
    for part in rounds:
        found.append(part)
        control = part.rates.get("control")
        if isinstance(control, Mapping):
            nothing = np.zeros(len(part.rows), dtype=bool)
            found.append(Round(None, f"{part.name}, at random", nothing, control))
    return found


def round_name(number: int, entry: Mapping[str, Any]) -> str:
    """The round's own name, or one made from its number."""
    default = "base generator" if number == 0 else f"refinement {number}"
    return plain(entry.get("name"), 60) or default


def rate_interval(part: Round, key: str) -> tuple[float, float] | None:
    """The interval of a rate as fractions, or None if there is none."""
    intervals = part.rates.get("intervals")
    found = intervals.get(key) if isinstance(intervals, dict) else None
    if not isinstance(found, list | tuple) or len(found) != 2:
        return None
    low, high = real(found[0]), real(found[1])
    return None if low is None or high is None else (low, high)


# -- values --------------------------------------------------------------------------------------


def real(value: Any) -> float | None:
    """``value`` as a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return None
    return float(value) if math.isfinite(value) else None


_UNPRINTABLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def plain(value: Any, limit: int = 10_000) -> str:
    """``value`` as one line of printable text of at most ``limit`` characters; "" for null."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value)
    if not text.isprintable():
        # Control and direction characters can disguise an id, lone surrogates cannot be written.
        text = "".join(" " if unicodedata.category(c) in _UNPRINTABLE else c for c in text)
    text = text.strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def numbers(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """A column as floats, NaN where it is null, not finite or absent."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    values = pd.to_numeric(frame[name], errors="coerce").astype("Float64")
    array = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(array), array, np.nan)


def truths(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column as nullable booleans; null everywhere if it is absent."""
    if name not in frame:
        return pd.Series(pd.array([pd.NA] * len(frame), dtype="boolean"))
    return frame[name].astype("boolean")
