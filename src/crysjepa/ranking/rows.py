"""From candidates to ranked rows: a chunk is scored at a time, and only its scores are kept."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.validity import invalid_structures, reduced_formulas
from crysjepa.energy.support import HullSupport, systems_of, warning
from crysjepa.properties.aims import JUDGED, Aims
from crysjepa.ranking.base import Ranker, chances_of
from crysjepa.ranking.shards import chunk_files
from crysjepa.runtime.progress import Progress

_SHARD = pa.schema(
    [
        ("id", pa.string()),
        ("score", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("num_references", pa.int64()),
        ("support_distance", pa.float64()),
        ("hull_support", pa.string()),
        ("hull_warning", pa.string()),
        ("placed", pa.bool_()),
    ]
)
RANKED = pa.schema([_SHARD.field("id"), _SHARD.field("score"), ("rank", pa.int64()), *list(_SHARD)[2:8]])
"""Columns of a ranking."""
CREDIT = 0.05
"""eV/atom above the hull, at which a score too far below it is ranked."""


_ARROW = {"Float64": pa.float64(), "boolean": pa.bool_(), "string": pa.string()}


def _shard(aims: Aims | None) -> pa.Schema:
    more = {} if aims is None else aims.columns
    return pa.schema([*_SHARD, *((name, _ARROW[kind]) for name, kind in more.items())])


def ranked_schema(aims: Aims | None = None) -> pa.Schema:
    """Columns of a ranking, by objectives perhaps."""
    more = {} if aims is None else {**aims.columns, **JUDGED}
    return pa.schema([*RANKED, *((name, _ARROW[kind]) for name, kind in more.items())])


def score_table(
    table: CandidateTable, ranker: Ranker, support: HullSupport | None = None, aims: Aims | None = None
) -> pa.Table:
    """A row for every row of ``table``, in its order, with the columns of a shard.

    Rows that are not ``ok`` keep their state and reason; invalid crystals are rejected; what the ranker
    cannot score has failed, and is ``placed`` all the same: after all that have a score. With ``support``
    scores are energies above a hull, and it is told what that hull knows there. With ``aims`` the properties
    of those with a score are columns too.
    """
    crystals = table.crystals(table.ok_ids)
    invalid = invalid_structures(crystals)
    sound = crystals[[row for row, i in enumerate(crystals.ids) if i not in invalid]] if invalid else crystals
    scores = ranker.score(sound)
    worth: dict[str, str] = {}
    if support is not None:
        systems = systems_of(reduced_formulas(sound))
        worth = {i: str(support.of(s).verdict) for i, s in zip(sound.ids, systems, strict=True)}
    columns: dict[str, list[object]] = {name: [] for name in _SHARD.names}
    state = zip(table.ids, table.column("status"), table.column("reason"), strict=True)
    for id_, status, reason in state:
        score = scores.get(id_)
        if score is not None and score.value is None:
            status, reason = str(Status.FAILED), score.reason or "no score"
        elif id_ in invalid:
            status, reason = str(Status.REJECTED), invalid[id_]
        columns["id"].append(id_)
        columns["score"].append(None if score is None else score.value)
        columns["status"].append(status)
        columns["reason"].append(reason)
        columns["num_references"].append(None if score is None else score.num_references)
        columns["support_distance"].append(None if score is None else score.support_distance)
        columns["hull_support"].append(worth.get(id_))
        above = None if score is None or support is None else score.value
        columns["hull_warning"].append(warning(above))
        columns["placed"].append(score is not None)
    if aims is not None:
        scored = [i for i in sound.ids if scores[i].value is not None]
        measured = aims.measure(table, scored)
        columns |= {name: measured.column(name) for name in aims.columns}
    return pa.table(columns, schema=_shard(aims))


def score_chunks(
    chunks: Iterable[CandidateTable],
    ranker: Ranker,
    shards: Path,
    *,
    num_rows: int = 0,
    support: HullSupport | None = None,
    aims: Aims | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Score every chunk into a file of ``shards``: see :func:`crysjepa.ranking.shards.chunk_files`."""
    key = f"{ranker.name}\0{ranker.key}" + ("" if aims is None else f"\0{aims.key}")
    return chunk_files(
        chunks, lambda table: score_table(table, ranker, support, aims), shards,
        key=key, schema=_shard(aims), num_rows=num_rows, progress=progress,
    )  # fmt: skip


def rank_shards(paths: Iterable[Path], aims: Aims | None = None) -> pa.Table:
    """All rows, best first: by score, ties by id; then those without one, then those not placed, by id.

    One with a ``hull_warning`` is ranked as if it had the score :data:`CREDIT`, and after the best of those
    without: how far below the hull it lies says what the hull lacks, and must not bring it to the head.

    With ``aims`` the merit comes before the score, highest first; those without one come after all that have.
    """
    schema = _shard(aims)
    rows = pa.concat_tables([pq.read_table(path, schema=schema) for path in paths] or [schema.empty_table()])
    # Arrow sorts nulls last, and text by its bytes, as Python does.
    warned = pc.is_valid(rows["hull_warning"])
    best = pc.min(rows["score"].filter(pc.invert(warned))).as_py()
    credit = CREDIT if best is None else max(CREDIT, best)
    credited = pc.if_else(warned, pa.scalar(credit), rows["score"])
    keys = {"last": pc.invert(rows["placed"])}
    if aims is not None:
        chances = chances_of(credited.to_numpy().astype(float))
        values = [rows[o.of.column].to_numpy().astype(float) for o in aims.objectives]
        judged = aims.judged(values, chances)
        for name, kind in JUDGED.items():
            rows = rows.append_column(name, pa.array(judged[name], type=_ARROW[kind]))
        keys |= {f"{name} first": key for name, key in merit_keys(rows, aims).items()}
    keys |= {"credited": credited, "warned": warned}
    sorting = rows
    for name, column in keys.items():
        sorting = sorting.append_column(name, column)
    order = pc.sort_indices(sorting, sort_keys=[(name, "ascending") for name in (*keys, "id")])
    rows = rows.take(order)
    ranks = pa.array(np.arange(1, len(rows) + 1))
    ranks = pc.if_else(rows["placed"], ranks, pa.scalar(None, pa.int64()))
    kept = ranked_schema(aims)
    return rows.append_column("rank", ranks).select(kept.names).cast(kept)


def merit_keys(rows: pa.Table, aims: Aims) -> dict[str, pa.ChunkedArray]:
    """What rows are sorted by, in ascending order: the front first if they are combined so, then by merit."""
    keys = {"merit": pc.negate(rows["merit"])}
    if aims.combine == "pareto":
        keys = {"front": pc.invert(pc.fill_null(rows["on_front"], False)), **keys}
    return keys
