"""Fingerprints of many crystals: in processes, with a time limit for each, kept piece by piece on disk."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa.core.crystals import Crystals
from crysjepa.ranking.embedders import Embedded, Embedder
from crysjepa.runtime.files import write_parquet
from crysjepa.runtime.processes import in_processes
from crysjepa.runtime.progress import Progress
from crysjepa.runtime.time_limit import TimeLimitExceeded, time_limit

CHUNK = 50
TIME_LIMIT = 60.0
"""Seconds for one crystal: CrystalNN's Voronoi cells take hours for some that have no sense."""


def fingerprints(
    embedder: Embedder,
    crystals: Crystals,
    folder: Path,
    *,
    processes: int = 1,
    seconds: float = TIME_LIMIT,
    progress: Progress | None = None,
) -> Embedded:
    """Vectors, or reasons, as ``embedder`` gives them, a crystal at a time.

    Parameters
    ----------
    folder
        Finished pieces are kept here, under the hash of the embedder and of their crystals: a call that was
        stopped goes on, and a reference is fingerprinted once. A reason that tells of the time limit is not
        kept: with another limit, or a free machine, the crystal gets another chance.
    seconds
        Time limit for a crystal. Where the system has no timer signals (Windows) there is none.
    """
    pieces = [crystals[i : i + CHUNK] for i in range(0, len(crystals), CHUNK)]
    files = [folder / f"{_key(embedder, piece)}.parquet" for piece in pieces]
    todo = [(embedder, p, f, seconds) for p, f in zip(pieces, files, strict=True) if not f.exists()]
    late: dict[str, str] = {}
    done = len(crystals) - sum(len(p) for _, p, _, _ in todo)
    # The largest first, so that no process is left with one of them when the others are done.
    todo.sort(key=lambda task: len(task[1].atomic_numbers), reverse=True)
    for num, timed_out in in_processes(_fingerprint_piece, todo, processes):
        done += num
        late |= timed_out
        if progress:
            progress(done, len(crystals))
    found = [row for file in files for row in pq.read_table(file).to_pylist()]
    rows = [i for i, row in enumerate(found) if row["vector"] is not None]
    reasons = {
        i: late.get(row["id"]) or row["reason"] for i, row in enumerate(found) if row["vector"] is None
    }
    for file, piece in zip(files, pieces, strict=True):
        if set(piece.ids) & set(late):
            file.unlink()
    if not rows:
        return replace(embedder.embed(crystals[:0]), failures=reasons)  # it knows how long vectors are
    vectors = np.array([found[i]["vector"] for i in rows], dtype=np.float32)
    return Embedded(np.array(rows, dtype=np.int64), vectors, reasons)


def _key(embedder: Embedder, piece: Crystals) -> str:
    return hashlib.sha256(f"{embedder.content_hash}\0{piece.content_hash()}".encode()).hexdigest()[:32]


def _fingerprint_piece(
    embedder: Embedder, piece: Crystals, file: Path, seconds: float
) -> tuple[int, dict[str, str]]:
    vectors: list[Any] = []
    reasons: list[str | None] = []
    late: dict[str, str] = {}
    for crystal in piece:
        vector, reason = None, None
        try:
            with time_limit(seconds):
                one = embedder.embed(crystal)
            vector = one.vectors[0].tolist() if len(one.rows) else None
            reason = one.failures.get(0)
        except TimeLimitExceeded:
            reason = f"no fingerprint within {seconds:g} s"
            late[crystal.ids[0]] = reason
        vectors.append(vector)
        reasons.append(reason)
    table = pa.table(
        {
            "id": pa.array(piece.ids, type=pa.string()),
            "vector": pa.array(vectors, type=pa.list_(pa.float32())),
            "reason": pa.array(reasons, type=pa.string()),
        }
    )
    write_parquet(table, file)
    return len(piece), late
