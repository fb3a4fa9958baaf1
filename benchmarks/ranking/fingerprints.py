"""Fingerprints in worker processes, kept piece by piece: one core would take an hour for 20,000 crystals."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import subsystems, system_names
from crysjepa.core.crystals import Crystals
from crysjepa.ranking.context import RankerContext
from crysjepa.ranking.embedders import Embedded, Embedder
from crysjepa.ranking.fingerprints.ranker import Fingerprints, ScaledFingerprints
from crysjepa.ranking.jepa import MeanDistance
from crysjepa.ranking.reference_index import ReferenceIndex
from crysjepa.runtime.files import write_parquet
from crysjepa.runtime.progress import Progress
from ranking.scoring import Bench, say
from ranking.store import FINGERPRINTS, Store

CHUNK = 100


def fingerprint_bench(context: RankerContext, crystals: Crystals, store: Store, processes: int) -> Bench:
    """The ranker by fingerprints, with the part of the reference that matters to ``crystals``.

    Raises ImportError without matminer.
    """
    rows = within_reach(context.reference, crystals)
    energies = None if context.formation_energies is None else context.formation_energies[rows]
    reached = replace(context, reference=context.reference[rows], formation_energies=energies)
    pooled = Pooled(Fingerprints(), replace(store, packages=FINGERPRINTS), processes)
    ReferenceIndex.build(pooled, reached.reference, cache=reached.index)
    bench = Bench.set_up(reached, store, ["fingerprint"])
    for name, ranker in bench.rankers.items():
        assert isinstance(ranker, MeanDistance) and isinstance(ranker.embedder, ScaledFingerprints)
        scaled = replace(ranker.embedder, raw=cast(Any, pooled))
        bench.rankers[name] = replace(ranker, embedder=scaled)
    return bench


def within_reach(reference: Crystals, crystals: Crystals) -> NDArray[np.bool_]:
    """(R,) True for the reference crystals that Eq. 11 looks at for any of ``crystals``."""
    seen = {s for name in set(system_names(crystals)) for s in subsystems(name)}
    return np.array([name in seen for name in system_names(reference)], dtype=bool)


@dataclass(frozen=True, eq=False)
class Pooled:
    """An embedder at work in several processes, which keeps what is finished in ``store``."""

    embedder: Embedder
    store: Store
    processes: int

    @property
    def content_hash(self) -> str:
        """That of the embedder: the vectors are the same."""
        return self.embedder.content_hash

    def embed(self, crystals: Crystals, progress: Progress | None = None) -> Embedded:
        """Vectors, or reasons, as the embedder gives them."""
        pieces = [crystals[i : i + CHUNK] for i in range(0, len(crystals), CHUNK)]
        parts = ((self.content_hash, piece.content_hash()) for piece in pieces)
        files = [self.store.path("vectors", part, "parquet") for part in parts]
        todo = [(p, f) for p, f in zip(pieces, files, strict=True) if not f.exists()]
        if todo:
            say(f"embed {sum(len(p) for p, _ in todo)} crystals in {self.processes} processes")
        if self.processes > 1 and len(todo) > 1:
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(self.processes, mp_context=spawn) as pool:
                list(pool.map(embed_piece, repeat(self.embedder), *zip(*todo, strict=True)))
        else:
            for piece, file in todo:
                embed_piece(self.embedder, piece, file)
        found = [row for file in files for row in pq.read_table(file).to_pylist()]
        rows = [i for i, row in enumerate(found) if row["vector"] is not None]
        return Embedded(
            np.array(rows, dtype=np.int64),
            np.array([found[i]["vector"] for i in rows], dtype=np.float32),
            {i: row["reason"] for i, row in enumerate(found) if row["vector"] is None},
        )


def embed_piece(embedder: Embedder, piece: Crystals, file: Path) -> None:
    """Write vectors, or reasons."""
    done = embedder.embed(piece)
    vectors = dict(zip(done.rows.tolist(), done.vectors.tolist(), strict=True))
    rows = range(len(piece))
    table = pa.table(
        {
            "id": pa.array(piece.ids, type=pa.string()),
            "vector": pa.array([vectors.get(row) for row in rows], type=pa.list_(pa.float32())),
            "reason": pa.array([done.failures.get(row) for row in rows], type=pa.string()),
        }
    )
    write_parquet(table, file)
