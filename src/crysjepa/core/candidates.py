"""CandidateTable: one row a crystal, whatever becomes of it.

Stages never drop a row. They add columns, and they *decide*: a crystal that is still ``ok`` may
become ``rejected`` (judged, and not wanted) or ``failed`` (it could not be judged), with the stage
and a reason. A decision is final; the first one stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.core.crystals import ARROW_SCHEMA, Crystals
from crysjepa.core.moments import COLUMN, of_same_sites
from crysjepa.core.showing import table_html
from crysjepa.runtime.files import metadata_of, write_parquet


class Status(StrEnum):
    """The one state of a crystal."""

    OK = "ok"
    REJECTED = "rejected"
    FAILED = "failed"


_STATE = ("status", "stage", "reason")
_STRUCTURE = tuple(ARROW_SCHEMA.names[1:])
_LEADING = ("id", *_STATE, *_STRUCTURE)
_STRING = pd.StringDtype()


@dataclass(frozen=True)
class CandidateTable:
    """An immutable table keyed by ``id``; every method that changes something returns a new one.

    ``frame`` has the columns ``id``, ``status`` (:class:`Status`), ``stage`` and ``reason`` (null while
    ``ok``), ``atomic_numbers``, ``frac_coords`` (flat), ``lattice`` (flat; the three are null when no
    structure could be read), and whatever columns the stages added. ``metadata`` is what its file said of
    itself; it goes where the rows go, but for tables that are joined or cut.

    Raises
    ------
    ValueError
        If a column is missing or an id appears twice.
    """

    frame: pd.DataFrame
    metadata: Mapping[str, Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        missing = [c for c in _LEADING if c not in self.frame.columns]
        if missing:
            raise ValueError(f"a candidate table needs the columns {', '.join(missing)}")
        ids = self.frame["id"]
        if ids.duplicated().any():
            raise ValueError(f"the id {ids[ids.duplicated()].iloc[0]!r} appears twice")

    # -- making one ------------------------------------------------------------------------

    @classmethod
    def from_crystals(
        cls,
        crystals: Crystals,
        failures: Mapping[str, str] | None = None,
        *,
        stage: str = "read",
        order: Sequence[str] | None = None,
    ) -> CandidateTable:
        """A row for each crystal, and a ``failed`` row without structure for each id in ``failures``.

        ``order`` gives the ids' order; by default crystals come first, then failures.
        """
        failures = failures or {}
        sites = crystals.offsets
        good = pd.DataFrame(
            {
                "id": pd.array(list(crystals.ids), dtype=_STRING),
                "status": str(Status.OK),
                "stage": None,
                "reason": None,
                "atomic_numbers": [crystals.atomic_numbers[a:b] for a, b in pairwise(sites)],
                "frac_coords": [crystals.frac_coords[a:b].reshape(-1) for a, b in pairwise(sites)],
                "lattice": list(crystals.lattices.reshape(len(crystals), 9)),
            }
        )
        bad = pd.DataFrame(
            {
                "id": pd.array(list(failures), dtype=_STRING),
                "status": str(Status.FAILED),
                "stage": stage,
                "reason": list(failures.values()),
                **{name: [None] * len(failures) for name in _STRUCTURE},
            }
        )
        frame = pd.concat([part.astype(object) for part in (good, bad) if len(part)] or [good.astype(object)])
        frame = frame.astype({name: _STRING for name in ("id", *_STATE)})
        if order is not None:
            frame = frame.set_index("id").loc[list(order)].reset_index().astype({"id": _STRING})
        return cls(frame.reset_index(drop=True))

    @classmethod
    def concatenate(cls, tables: Iterable[CandidateTable]) -> CandidateTable:
        """One table from several; a column that only some have is null in the others."""
        frames = [t.frame for t in tables]
        if not frames:
            return cls.from_crystals(Crystals.empty())
        full = [f for f in frames if len(f)] or frames[:1]
        return cls(pd.concat(full, ignore_index=True))

    # -- looking ---------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        return table_html(self)

    def __len__(self) -> int:
        return len(self.frame)

    def __contains__(self, column: str) -> bool:
        return column in self.frame.columns

    @property
    def ids(self) -> list[str]:
        """Every id, in row order."""
        return [str(i) for i in self.frame["id"].tolist()]

    @property
    def ok_ids(self) -> list[str]:
        """The ids that are still in the race."""
        return [str(i) for i in self.frame.loc[self.frame["status"] == Status.OK, "id"].tolist()]

    def column(self, name: str, ids: Sequence[str] | None = None) -> list[Any]:
        """Values of a column as Python objects, None for null, for ``ids`` or for every row."""
        series = self.frame.set_index("id", drop=False)[name]
        values = series.loc[list(ids)] if ids is not None else series
        return [_plain(v) for v in values]

    def crystals(self, ids: Sequence[str] | None = None) -> Crystals:
        """The structures of ``ids``, in that order; by default of every row that has one."""
        frame = self.frame.set_index("id", drop=False)
        frame = frame.loc[list(ids)] if ids is not None else frame[frame["lattice"].notna()]
        if not len(frame):
            return Crystals.empty()
        if frame["lattice"].isna().any():
            raise ValueError(f"{frame['id'][frame['lattice'].isna()].iloc[0]!r} has no structure")
        return Crystals(
            np.concatenate(list(frame["atomic_numbers"])),
            np.concatenate(list(frame["frac_coords"])),
            np.stack(list(frame["lattice"])),
            np.asarray([len(z) for z in frame["atomic_numbers"]]),
            tuple(frame["id"].tolist()),
        )

    def only(self, ids: Iterable[str]) -> CandidateTable:
        """The rows with these ids, in the order of the table; its file's metadata is left behind."""
        return CandidateTable(self.frame[self.frame["id"].isin(set(ids))].reset_index(drop=True))

    def content_hash(self) -> str:
        """SHA-256 over everything in the table."""
        table = self.to_arrow()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return hashlib.sha256(sink.getvalue()).hexdigest()

    def counts(self) -> dict[str, int]:
        """How many rows ended where: ``{"ok": 12, "rejected: novelty": 3, "failed: relax": 1}``."""
        ended = self.frame["status"].astype(str) + self.frame["stage"].map(
            lambda s: "" if pd.isna(s) else f": {s}"
        ).astype(str)
        return {str(k): int(v) for k, v in ended.value_counts(sort=False).items()}

    # -- changing --------------------------------------------------------------------------

    def undecided(self, ids: Sequence[str] | None = None) -> CandidateTable:
        """The same crystals before any decision: ``ok`` again, but for those without a structure.

        With ``ids`` only these; the others keep their state.
        """
        frame = self.frame.copy()
        rows = frame["lattice"].notna()
        if ids is not None:
            rows &= frame["id"].isin(list(ids))
        frame.loc[rows, "status"] = str(Status.OK)
        frame.loc[rows, ["stage", "reason"]] = None
        return replace(self, frame=frame)

    def decide(self, stage: str, reasons: Mapping[str, str], status: Status) -> CandidateTable:
        """Give the rows in ``reasons`` that are still ``ok`` this status; others keep theirs.

        Raises KeyError for an id that is not in the table.
        """
        self._check_known(reasons)
        frame = self.frame.copy()
        rows = frame["id"].isin(list(reasons)) & (frame["status"] == Status.OK)
        frame.loc[rows, "status"] = str(status)
        frame.loc[rows, "stage"] = stage
        frame.loc[rows, "reason"] = [reasons[i] for i in frame.loc[rows, "id"]]
        return replace(self, frame=frame)

    def with_column(self, name: str, values: Mapping[str, Any], dtype: str | None = None) -> CandidateTable:
        """Set a column from ``{id: value}``; rows that are not mentioned keep their value, or get null.

        ``dtype`` is a nullable pandas dtype such as ``"Float64"``, ``"boolean"``, ``"Int64"`` or
        ``"string"``; a new column needs one unless its values are lists.
        """
        if name in _LEADING:
            raise ValueError(f"{name} is set by decide() or with_structures()")
        self._check_known(values)
        frame = self.frame.copy()
        old = dict(zip(frame["id"], frame[name], strict=True)) if name in frame.columns else {}
        kept: Any = dtype or (frame[name].dtype if name in frame.columns else object)
        merged = [values[i] if i in values else old.get(i) for i in frame["id"].tolist()]
        if kept is object:
            column = pd.Series(merged, dtype=object)
        else:
            column = pd.Series(pd.array([None if _is_null(v) else v for v in merged], dtype=kept))
        frame[name] = column.to_numpy() if kept is object else column.array
        return replace(self, frame=frame)

    def with_structures(self, crystals: Crystals) -> CandidateTable:
        """Replace the structures of the rows that ``crystals`` names (a relaxation, say)."""
        self._check_known(crystals.ids)
        replaced = {c.ids[0]: c for c in crystals}
        frame = self.frame.copy()
        for name, value in (
            ("atomic_numbers", lambda c: c.atomic_numbers),
            ("frac_coords", lambda c: c.frac_coords.reshape(-1)),
            ("lattice", lambda c: c.lattices.reshape(-1)),
        ):
            cells = np.empty(len(frame), dtype=object)
            for row, (id_, old) in enumerate(zip(frame["id"], frame[name], strict=True)):
                cells[row] = value(replaced[id_]) if id_ in replaced else old
            frame[name] = cells
        if COLUMN in frame:
            frame[COLUMN] = of_same_sites(self.frame, replaced)
        return replace(self, frame=frame)

    def _check_known(self, ids: Iterable[str]) -> None:
        unknown = set(ids) - set(self.frame["id"].tolist())
        if unknown:
            raise KeyError(f"no row with the id {sorted(unknown)[0]!r}")

    # -- on disk ---------------------------------------------------------------------------

    def to_arrow(self) -> pa.Table:
        """The table with Arrow types; its bytes on disk depend on nothing but its contents."""
        types = {f.name: f.type for f in ARROW_SCHEMA}
        # one type for strings, whatever this pandas keeps them as (large_string, since version 3)
        types |= {n: pa.string() for n, d in self.frame.dtypes.items() if isinstance(d, pd.StringDtype)}
        columns = [pa.array(self.frame[n], type=types.get(n), from_pandas=True) for n in self.frame.columns]
        return pa.Table.from_arrays(columns, names=[str(c) for c in self.frame.columns])

    def write(self, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Write Parquet, all or nothing; ``about`` goes into the metadata key ``crysjepa`` as JSON.

        Without it :attr:`metadata` does.
        """
        write_parquet(self.to_arrow(), path, self.metadata if about is None else about)

    @classmethod
    def read(cls, path: str | Path) -> CandidateTable:
        """Read what :meth:`write` wrote. Raises ValueError for any other Parquet file."""
        return cls.from_arrow(pq.read_table(path))

    @classmethod
    def from_arrow(cls, table: pa.Table) -> CandidateTable:
        """From an Arrow table that has the columns of a candidate table."""
        return cls(table.to_pandas(types_mapper=_nullable), metadata_of(table.schema) or None)


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _plain(value: Any) -> Any:
    return None if _is_null(value) else value.item() if isinstance(value, np.generic) else value


def _nullable(kind: pa.DataType) -> Any:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pd.StringDtype()
    if pa.types.is_boolean(kind):
        return pd.BooleanDtype()
    if pa.types.is_floating(kind):
        return pd.Float64Dtype()
    if pa.types.is_integer(kind):
        return pd.Int64Dtype()
    return None
