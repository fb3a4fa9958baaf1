"""The verb that ranks crystals: ``screen``.

A ranking's columns are ``id``, ``score`` (lower is better), ``rank``, ``status``, ``reason``,
``num_references`` (known crystals in the chemical system and its subsystems), ``support_distance`` (to the
nearest of them, in the embedding), ``hull_support`` (what the hull's answer is worth there) and
``hull_warning``, where the score is further below the hull than discoveries are.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.chemical_systems import Keys, element_fractions, system_keys
from crysjepa.core.crystals import Crystals
from crysjepa.datasets import cache_folder
from crysjepa.datasets.chunks import Chunks, open_chunks
from crysjepa.energy.support import HullSupport
from crysjepa.evaluation.run import Known, Protocol, find_references
from crysjepa.properties.aims import JUDGED, REASON, Aims
from crysjepa.properties.base import How
from crysjepa.ranking.context import labels
from crysjepa.ranking.registry import RankerContext, RankerInfo, make_ranker, ranker_info
from crysjepa.ranking.rows import rank_shards, ranked_schema, score_chunks
from crysjepa.runtime.execution import Execution, RunOptions
from crysjepa.runtime.files import write_parquet
from crysjepa.runtime.notes import UsageError
from crysjepa.workflows.inputs import Source, beside
from crysjepa.workflows.output import Output

FEW = 4096
"""Candidates for which only the known crystals of their chemical systems are embedded, and not kept: some
seconds, where all of them would be a minute."""
_RANKED = (
    "id", "score", "rank", "status", "reason", "num_references", "support_distance", "hull_support",
    "hull_warning",
)  # fmt: skip
_STATE = ("id", "status", "reason")


@dataclass(frozen=True)
class Screened:
    """What became of every row; ``notes`` say what scores are relative to, ``more`` are of objectives."""

    out: Path
    num_rows: int
    states: dict[str, int]
    notes: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many rows ended in which state."""
        return self.states

    def head(self, num: int) -> list[dict[str, Any]]:
        """The first rows of the file; of Parquet without reading the others."""
        if self.out.suffix.lower() != ".parquet":
            frame = datasets.load(self.out).frame.head(num)
            columns = [c for c in (*_RANKED, *self.more) if c in frame]
            rows = pa.Table.from_pandas(frame[columns], preserve_index=False).to_pylist()
            return [dict.fromkeys((*_RANKED, *self.more)) | row for row in rows]
        with pq.ParquetFile(self.out) as file:
            batch = next(file.iter_batches(num), None)
        return [] if batch is None else batch.to_pylist()


class ScreenOptions(RunOptions, total=False):
    """Keywords of :func:`screen` that few need; what they mean is said there."""

    index: Source | None
    min_hull_entries: int
    objectives: Sequence[str]
    combine: str
    force_field: str
    best: str | int | None


@dataclass(frozen=True, kw_only=True)
class _Screening(Execution):
    index: Source | None = None
    min_hull_entries: int = 1
    objectives: Sequence[str] = ()
    combine: str = "product"
    force_field: str = "chgnet"
    best: str | int | None = None


def screen(
    source: Source,
    reference: Source,
    out: Source,
    *,
    by: str = "jepa-hull",
    hull: Source | None = None,
    jepa: Source | None = None,
    seed: int = 0,
    **how: Unpack[ScreenOptions],
) -> Screened:
    """Rank crystals, best first, into a file: Parquet without structures, or another format with them.

    A crystal that cannot be scored keeps its row, with the reason. One that has no score is ranked after all
    that have; one that is not fit to be scored has no rank. A run that was interrupted goes on from
    ``OUT.shards``.

    Parameters
    ----------
    by
        A name from :data:`crysjepa.ranking.registry.RANKERS`.
    reference, hull
        Known crystals; by default the bundled hull, joined with their energies.
    index
        File that keeps the embeddings of the reference; by default one in crysjepa's cache folder.
    min_hull_entries
        For rankers by energy: compounds that the hull must know in a crystal's chemical system. With none,
        only the elements compete with it, and whatever it is, it would be ranked first: it has no score.
    objectives
        What else is wanted, such as ``"bulk_modulus>=200"`` or ``"max:capacity:Li"``
        (:mod:`crysjepa.properties.objective`): crystals are ranked by merit then, and have the columns of
        :mod:`crysjepa.properties.aims`. ``combine`` is ``product`` or ``pareto``; ``force_field`` calculates
        what takes one.
    best
        Write only so many of the first, with their structures, as ``crysjepa finetune`` takes them: a number,
        or a share such as ``"1%"`` of those with a score, rounded up.

    Raises
    ------
    OutputError
        If ``out`` cannot be written, or is there and was made otherwise.
    ValueError
        For an unknown ranker, or where it lacks something that it needs.
    """
    run, place, info = _Screening(**how), Output(out), ranker_info(by)
    aims = _aims(run, info)
    sources = {
        "input": source,
        "reference": reference if info.needs_reference else None,
        "hull": hull if info.needs_hull else None,
        "jepa": jepa if by.startswith("jepa") else None,
    }
    settings = {"by": by, "min_hull_entries": run.min_hull_entries, "seed": seed}
    if aims is not None:
        settings |= {
            "objectives": [str(o) for o in aims.objectives],
            "combine": aims.combine,
            "key": aims.key,
        }
    if run.best is not None:
        settings["best"] = str(run.best)
        number_of_best(run.best, 1)  # what cannot be read is better said now
    more = () if aims is None else tuple(n for n in ranked_schema(aims).names if n not in _RANKED)
    if (before := place.found("screen", settings, sources, overwrite=run.overwrite)) is not None:
        return Screened(place.path, before["rows"], before["states"], tuple(before["notes"]), more)
    place.check_holds(len(chunks := open_chunks(source)))
    context = RankerContext(
        Crystals.empty(), jepa=jepa, min_hull_entries=run.min_hull_entries, seed=seed,
        device=run.found_device, progress=run.progress,
    )  # fmt: skip
    if info.needs_reference:
        context = _with_known(context, info, reference, hull, run.index, chunks)
    ranker, shards = make_ranker(by, context), beside(out, ".shards")
    support = None if context.hull is None else HullSupport(context.hull)
    paths = score_chunks(
        chunks.of(ranker.chunk_size), ranker, shards,
        num_rows=len(chunks), support=support, aims=aims, progress=run.stage(f"screen by {by}"),
    )  # fmt: skip
    rows = rank_shards(paths, aims)
    about = {"ranker": by, "key": ranker.key, "notes": list(ranker.notes), **_origin(info, context)}
    if aims is not None:
        about["objectives"] = aims.describe()
    if run.best is not None:
        rows = first_of(rows, run.best)
    done = _written(rows, place, about, source, structures=run.best is not None)
    shutil.rmtree(shards, ignore_errors=True)
    return replace(done, notes=ranker.notes, more=more)


def _aims(run: _Screening, info: RankerInfo) -> Aims | None:
    """What else is wanted. Raises PropertyError, and UsageError for a ranker that tells no stability."""
    how = How(force_field=run.force_field, device=run.found_device, progress=run.progress)
    aims = Aims.parse(run.objectives, run.combine, how)
    if aims is not None and not info.needs_hull:
        raise UsageError(
            f"objectives are weighed against stability, and {info.name} tells no energy above the hull: rank "
            "by jepa-hull, jepa-relaxed, composition or a force field"
        )
    return aims


def number_of_best(best: str | int, there: int) -> int:
    """``"1%"`` of ``there``, rounded up, or a number. Raises UsageError for what is neither."""
    text = str(best).strip()
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if not 0 < share <= 1:
                raise ValueError
            return math.ceil(share * there)
        if (number := int(text)) < 1:
            raise ValueError
    except ValueError:
        raise UsageError(f"--best {best}: give a number such as 500, or a share such as 1%") from None
    return min(number, there)


def first_of(rows: pa.Table, best: str | int) -> pa.Table:
    """The first rows of a ranking, of those that have a score."""
    scored = rows.filter(pc.is_valid(rows["score"]))
    return scored.slice(0, number_of_best(best, len(scored)))


def _written(
    rows: pa.Table, place: Output, about: dict[str, Any], source: Source, *, structures: bool
) -> Screened:
    """The ranking, alone or (where the format is one of structures) with the crystals, in its file."""
    states = {c["values"]: c["counts"] for c in rows["status"].value_counts().to_pylist()}
    about = {**about, "states": states}
    if place.has_everything and not structures:
        write_parquet(rows, place.path, about | {"made": place.made, "rows": len(rows)})
    else:
        place.write(with_ranking(rows, datasets.load(source)), about)
    return Screened(place.path, len(rows), states)


def with_ranking(rows: pa.Table, table: CandidateTable) -> CandidateTable:
    """The source's rows in the order of the ranking, with its columns in place of theirs."""
    frame = table.frame.set_index("id", drop=False).loc[rows["id"].to_pylist()].reset_index(drop=True)
    stale = (*_RANKED, *JUDGED, REASON)
    ranked = CandidateTable(frame.drop(columns=[c for c in stale if c in frame and c not in _STATE]))
    decided = zip(*(rows[c].to_pylist() for c in _STATE), strict=True)
    states = {id_: (status, reason) for id_, status, reason in decided}
    for kind in (Status.REJECTED, Status.FAILED):
        reasons = {i: r or "" for i, (status, r) in states.items() if status == kind}
        ranked = ranked.decide("screen", reasons, kind)
    types = {pa.float64(): "Float64", pa.int64(): "Int64", pa.bool_(): "boolean"}
    for field in (f for f in rows.schema if f.name not in _STATE):
        values = dict(zip(rows["id"].to_pylist(), rows[field.name].to_pylist(), strict=True))
        ranked = ranked.with_column(field.name, values, types.get(field.type, "string"))
    return ranked


def _with_known(
    context: RankerContext,
    info: RankerInfo,
    reference: Source,
    hull: Source | None,
    index: Source | None,
    chunks: Chunks,
) -> RankerContext:
    """The context with the known crystals; with hull and elemental energies, where the ranker needs them."""
    known = Known.load(reference)
    crystals = known.table.crystals(known.table.ok_ids)
    found = known.hull_or_default(hull) if info.needs_hull else None
    references = None
    if info.force_field and found is not None:
        protocol = Protocol(force_field=info.name)
        references = find_references(protocol, found, known, device=context.device, progress=context.progress)
    return replace(
        context, reference=crystals, formation_energies=labels(known.table, crystals), scale=known.scale,
        hull=found, elemental_references=references, index=_index(index),
        systems=_systems(chunks) if index is None and len(chunks) <= FEW else None,
    )  # fmt: skip


def _systems(chunks: Chunks) -> Keys:
    """Chemical systems of the candidates: (M, 2)."""
    found = [np.zeros((0, 2), dtype=np.uint64)]
    for table in chunks.of(FEW):
        found.append(np.unique(system_keys(element_fractions(table.crystals(table.ok_ids))), axis=0))
    return np.concatenate(found)


def _index(index: Source | None) -> Path:
    if index is not None:
        return Path(index)
    folder = cache_folder() / "indexes"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _origin(info: RankerInfo, context: RankerContext) -> dict[str, Any]:
    """Where the scores come from: for the file's metadata."""
    found: dict[str, Any] = {}
    if info.needs_reference:
        found |= {"reference": context.reference.content_hash(), "num_reference": len(context.reference)}
    if context.hull is not None:
        found |= {"hull": context.hull.source, "scale": context.hull.scale, "unit": "eV/atom"}
        found |= {"scale_stated": context.hull.scale_stated, "hull_left_out": context.hull.left_out}
    return found
