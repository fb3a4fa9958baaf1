"""Finished chunks of a relaxation on disk: a Parquet file each, written whole or not at all.

How long each crystal took stands in a file beside it, for that differs between runs, and a shard does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.core.crystals import ARROW_SCHEMA, Crystals
from crysjepa.relaxation.batch_optimizer import Outcome, RelaxRecord, RelaxSettings
from crysjepa.runtime.files import write_parquet

_RECORD = {f.name: f.type for f in fields(RelaxRecord) if f.name != "seconds"}  # times differ between runs
_ARROW = {"float": pa.float64(), "bool": pa.bool_(), "int": pa.int64()}
_SCHEMA = pa.schema(
    [("id", pa.string()), ("reason", pa.string())]
    + [(name, _ARROW[str(kind)]) for name, kind in _RECORD.items()]
    + [(field.name, field.type) for field in ARROW_SCHEMA][1:]
)


def shard_path(
    folder: Path, number: int, crystals: Crystals, settings: RelaxSettings, force_field: str, version: str
) -> Path:
    """Where a chunk's result belongs: its name holds a hash of everything that the result depends on."""
    what = "\0".join([crystals.content_hash(), settings.model_dump_json(), force_field, version])
    return folder / f"chunk-{number:06d}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.parquet"


def write_shard(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the outcomes of a chunk, and their times beside them."""
    seconds = {
        o.id: round(o.record.seconds, 3) for o in outcomes if o.record and o.record.seconds is not None
    }
    times = _times(path)
    times.parent.mkdir(parents=True, exist_ok=True)
    times.write_text(json.dumps(seconds), encoding="utf-8")
    rows = []
    for o in outcomes:
        row: dict[str, object] = {"id": o.id, "reason": o.reason}
        if o.record is not None:
            row |= {name: getattr(o.record, name) for name in _RECORD}
        if o.crystal is not None:
            row |= o.crystal.to_arrow().to_pylist()[0]
        rows.append(row)
    write_parquet(pa.Table.from_pylist(rows, schema=_SCHEMA), path)


def read_shard(path: Path) -> list[Outcome] | None:
    """The outcomes of a chunk; None when there is no such file, or none that can be read."""
    try:
        table = pq.read_table(path, schema=_SCHEMA, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return None
    try:
        seconds = json.loads(_times(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # results count, times are only told
        seconds = {}
    outcomes = []
    for i, row in enumerate(table.to_pylist()):
        record = None
        if row["converged"] is not None:
            record = RelaxRecord(**{n: row[n] for n in _RECORD}, seconds=seconds.get(row["id"]))
        crystal = Crystals.from_arrow(table.slice(i, 1)) if row["lattice"] is not None else None
        outcomes.append(Outcome(row["id"], crystal, record, row["reason"]))
    return outcomes


def _times(path: Path) -> Path:
    return path.with_suffix(".seconds.json")
