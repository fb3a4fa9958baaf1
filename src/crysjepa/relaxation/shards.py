"""Finished chunks of a relaxation on disk: a Parquet file each, written whole or not at all.

How long each crystal took stands in a file beside it, for that differs between runs, and a shard does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crysjepa.core.crystals import ARROW_SCHEMA, Crystals
from crysjepa.relaxation.course import Outcome, RelaxRecord
from crysjepa.relaxation.settings import RelaxSettings
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


@dataclass(frozen=True, eq=False)
class Chunk:
    """What became of the crystals of a chunk: as :class:`Outcome` has it of one, ids in the chunk's order.

    ``crystals`` are those that have a final structure.
    """

    ids: tuple[str, ...]
    crystals: Crystals
    records: dict[str, RelaxRecord]
    reasons: dict[str, str]

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Chunk:
        """From the outcome of each."""
        return cls(
            tuple(o.id for o in outcomes),
            Crystals.concatenate([o.crystal for o in outcomes if o.crystal is not None]),
            {o.id: o.record for o in outcomes if o.record is not None},
            {o.id: o.reason for o in outcomes if o.reason is not None},
        )


def write_shard(path: Path, chunk: Chunk) -> None:
    """Write what became of a chunk, and how long each took beside it."""
    seconds = {i: round(r.seconds, 3) for i, r in chunk.records.items() if r.seconds is not None}
    times = _times(path)
    times.parent.mkdir(parents=True, exist_ok=True)
    times.write_text(json.dumps(seconds), encoding="utf-8")
    structures = dict(zip(chunk.crystals.ids, chunk.crystals.to_arrow().to_pylist(), strict=True))
    rows = []
    for id_ in chunk.ids:
        row: dict[str, object] = {"id": id_, "reason": chunk.reasons.get(id_)}
        if (record := chunk.records.get(id_)) is not None:
            row |= {name: getattr(record, name) for name in _RECORD}
        rows.append(row | structures.get(id_, {}))
    write_parquet(pa.Table.from_pylist(rows, schema=_SCHEMA), path)


def read_shard(path: Path) -> Chunk | None:
    """What became of a chunk; None when there is no such file, or none that can be read."""
    try:
        table = pq.read_table(path, schema=_SCHEMA, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return None
    try:
        seconds = json.loads(_times(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # results count, times are only told
        seconds = {}
    ids = table["id"].to_pylist()
    told = table.select(list(_RECORD)).to_pylist()
    reasons = zip(ids, table["reason"].to_pylist(), strict=True)
    return Chunk(
        tuple(ids),
        Crystals.from_arrow(table.filter(pc.is_valid(table["lattice"]))),
        {
            i: RelaxRecord(**row, seconds=seconds.get(i))
            for i, row in zip(ids, told, strict=True)
            if row["converged"] is not None
        },
        {i: reason for i, reason in reasons if reason is not None},
    )


def _times(path: Path) -> Path:
    return path.with_suffix(".seconds.json")
