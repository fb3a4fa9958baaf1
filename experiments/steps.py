"""What the experiments share: crystals from file to file."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals


def keep_ok(judged: Path, out: Path) -> None:
    """The crystals that an evaluation let pass; judged as drawn, these are the valid, unique and novel."""
    table = CandidateTable.read(judged / "crystals.parquet")
    CandidateTable.from_crystals(table.crystals(table.ok_ids)).write(out)


def keep_best(
    candidates: Path, ranked: Path, num: int, out: Path, *, among: Path | None = None, num_drawn: int = 0
) -> None:
    """The first ``num`` of a ranking; of the first ``num_drawn`` of ``among``, if that is named.

    Raises ValueError if there are fewer.
    """
    rows = pq.read_table(ranked, columns=["id", "rank"]).to_pylist()
    if among is not None:
        drawn = set(pq.read_table(among, columns=["id"])["id"].to_pylist()[:num_drawn])
        rows = [r for r in rows if r["id"] in drawn]
    best = sorted((r["rank"], r["id"]) for r in rows if r["rank"] is not None)[:num]
    if len(best) < num:
        raise ValueError(f"{num} crystals are to be chosen, and only {len(best)} are fit: draw more")
    table = CandidateTable.read(candidates)
    CandidateTable.from_crystals(table.crystals([id_ for _, id_ in best])).write(out)


def keep_lessons(judged: Path, out: Path, *, learn_from: str, before: Path | None, prefix: str) -> None:
    """Relaxed crystals to learn from (``vsun``, or all that converged), after those of ``before``."""
    table = CandidateTable.read(judged / "crystals.parquet")
    ids = table.ok_ids
    if learn_from != "vsun":
        ids = [i for i, c in zip(table.ids, table.column("converged"), strict=True) if c]
    crystals = table.crystals(ids).with_ids([prefix + i for i in ids])
    if before is not None:
        earlier = CandidateTable.read(before)
        crystals = Crystals.concatenate([earlier.crystals(earlier.ok_ids), crystals])
    CandidateTable.from_crystals(crystals).write(out)
