"""The reference index: known crystals, embedded once, kept on disk, looked up by chemical system.

Eq. 11 averages ‖h − r‖² over the reference crystals in the candidate's chemical system and its subsystems.
Written out it is ‖h‖² − 2 h·mean(r) + mean‖r‖², so a count, Σr and Σ‖r‖² per chemical system are all that a
candidate of k elements needs: at most 2ᵏ − 1 look-ups, however large the reference is. Rows of a system stand
together, so that the nearest of them is found by reading no others.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crysjepa.crystals import Crystals
from crysjepa.screen.embedders import Embedder, Progress
from crysjepa.screen.systems import system_names, within

KIND = "reference-index"
_BLOCK = 2_000_000
"""Distances that are computed at once: 16 MB."""


@dataclass(frozen=True)
class Distance:
    """D_C of Eq. 11; None, with a count of 0, where there is nothing to compare with."""

    value: float | None
    num_references: int


@dataclass(frozen=True)
class Nearest:
    """The reference closest to a candidate, in its chemical system or, failing that, in a subsystem."""

    id: str
    distance: float


@dataclass(frozen=True, eq=False)
class ReferenceIndex:
    """Reference ids (R), their chemical systems (R), which rise, vectors (R, D), and the key they belong to.

    Make one with :meth:`build` or :meth:`of`. ``skipped`` says which reference crystals have no vector.
    """

    ids: tuple[str, ...]
    systems: tuple[str, ...]
    embeddings: NDArray[np.float32]
    key: str
    skipped: Mapping[str, str] = field(default_factory=dict)

    # -- making one ------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        embedder: Embedder,
        reference: Crystals,
        *,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> ReferenceIndex:
        """Embed reference crystals, or map what ``cache`` keeps of this embedder and data into memory.

        ``cache`` is a file, or a folder in which each embedder and reference has its own.

        Raises
        ------
        ValueError
            For an empty reference, one that cannot be embedded at all, or a cache that is something else.
        """
        if not len(reference):
            raise ValueError("the reference has no crystals: there is nothing to compare with")
        key = index_key(embedder, reference)
        if cache is not None and cache.is_dir():
            cache = cache / f"{key[:32]}.arrow"
        if cache is not None and cache.exists() and (found := cls.read(cache)).key == key:
            return found
        done = embedder.embed(reference, progress)
        if not len(done.rows):
            why = next(iter(done.failures.values()), "")
            raise ValueError(f"no crystal of the reference can be embedded ({why})")
        kept = reference[done.rows]
        skipped = {reference.ids[row]: reason for row, reason in done.failures.items()}
        index = cls.of(kept.ids, system_names(kept), done.vectors, key, skipped)
        if cache is None:
            return index
        index.write(cache)
        return cls.read(cache)

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        systems: Sequence[str],
        embeddings: NDArray[np.float32],
        key: str,
        skipped: Mapping[str, str] | None = None,
    ) -> ReferenceIndex:
        """From rows in any order."""
        order = sorted(range(len(ids)), key=lambda i: (systems[i], ids[i]))
        return cls(
            tuple(ids[i] for i in order),
            tuple(systems[i] for i in order),
            np.ascontiguousarray(embeddings[order]),
            key,
            skipped or {},
        )

    def write(self, path: Path) -> None:
        """Write one Arrow file, all or nothing."""
        flat = pa.array(self.embeddings.reshape(-1), type=pa.float32())
        columns = {
            "id": pa.array(self.ids, type=pa.string()),
            "system": pa.array(self.systems, type=pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, self.embeddings.shape[1]),
        }
        header = json.dumps({"kind": KIND, "key": self.key, "skipped": dict(self.skipped)}, sort_keys=True)
        batch = pa.record_batch(columns).replace_schema_metadata({b"crysjepa": header.encode()})
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> ReferenceIndex:
        """Map what :meth:`write` wrote into memory. Raises ValueError for any other file."""
        try:
            file = pa.ipc.open_file(pa.memory_map(str(path)))
            header = json.loads((file.schema.metadata or {})[b"crysjepa"])
            batch = file.get_batch(0)
        except (pa.ArrowException, KeyError, ValueError, OSError) as error:
            raise ValueError(f"{path} is not a reference index: {error}") from error
        if header.get("kind") != KIND:
            raise ValueError(f"{path} holds {header.get('kind')!r}, not a reference index")
        vectors = batch.column("embedding")
        return cls(
            tuple(batch.column("id").to_pylist()),
            tuple(batch.column("system").to_pylist()),
            vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size),
            header["key"],
            header["skipped"],
        )

    def __len__(self) -> int:
        return len(self.ids)

    # -- asking it -------------------------------------------------------------------------

    def num_references(self, chemical_system: str) -> int:
        """References in the chemical system and its subsystems."""
        return sum(stop - start for start, stop in self._spans(chemical_system))

    def distance(self, embedding: NDArray[np.float32], chemical_system: str) -> Distance:
        """D_C (Eq. 11) of a candidate's embedding (D,)."""
        count = self.num_references(chemical_system)
        value = self.mean_square(embedding[None], chemical_system)[0]
        return Distance(float(value) if count else None, count)

    def mean_square(self, embeddings: NDArray[np.float32], chemical_system: str) -> NDArray[np.float64]:
        """D_C (Eq. 11) of embeddings (M, D) of one chemical system; NaN without a reference."""
        count, total, squares = 0, np.zeros(self.embeddings.shape[1]), 0.0
        for span in self._spans(chemical_system):
            vector, square = self._sum(span)
            count, total, squares = count + span[1] - span[0], total + vector, squares + square
        h = embeddings.astype(np.float64)
        if not count:
            return np.full(len(h), np.nan)
        # A mean of squares cannot be negative; the closed form can, by rounding, for a copy of a reference.
        return np.maximum(0.0, (h**2).sum(axis=1) - 2 * h @ total / count + squares / count)

    def support(self, embeddings: NDArray[np.float32], chemical_system: str) -> NDArray[np.float64]:
        """How far embeddings (M, D) of one chemical system are from their nearest reference in it and its
        subsystems: (M,), NaN where there is none.
        """
        h = embeddings.astype(np.float64)
        best = np.full(len(h), np.inf)
        for block in self._blocks(chemical_system, max(1, _BLOCK // max(h.shape))):
            r = block.astype(np.float64)
            closest = (np.einsum("rd,rd->r", r, r) - 2 * h @ r.T).argmin(axis=1)
            gaps = h - r[closest]
            best = np.minimum(best, np.sqrt(np.einsum("md,md->m", gaps, gaps)))
        best[best == np.inf] = np.nan
        return best

    def _blocks(self, chemical_system: str, size: int) -> Iterator[NDArray[np.float32]]:
        """Vectors of the chemical system and its subsystems, at most ``size`` of them at a time."""
        spans = self._spans(chemical_system)
        if 0 < sum(b - a for a, b in spans) <= size:
            yield np.concatenate([self.embeddings[a:b] for a, b in spans])
        else:
            yield from (self.embeddings[i : min(i + size, b)] for a, b in spans for i in range(a, b, size))

    def nearest(self, embedding: NDArray[np.float32], chemical_system: str) -> Nearest | None:
        """The closest reference of the same chemical system; of its subsystems if it has none of its own."""
        names = within(chemical_system, self._places)
        if not names:
            return None
        size = max(name.count("-") for name in names)
        spans = [self._places[name] for name in names if name.count("-") == size]
        rows = np.concatenate([np.arange(*span) for span in spans])
        vectors = np.concatenate([self.embeddings[a:b] for a, b in spans])
        gaps = np.linalg.norm(vectors - embedding.astype(np.float64), axis=1)
        closest = min(rows[gaps == gaps.min()].tolist(), key=lambda row: self.ids[row])
        return Nearest(self.ids[closest], float(gaps.min()))

    def _spans(self, chemical_system: str) -> list[tuple[int, int]]:
        """Rows of the chemical system and its subsystems, as (start, stop)."""
        return [self._places[s] for s in within(chemical_system, self._places)]

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Where each chemical system's rows begin and end."""
        places, start = {}, 0
        for system, members in itertools.groupby(self.systems):
            stop = start + sum(1 for _ in members)
            places[system] = (start, stop)
            start = stop
        return places

    @cached_property
    def _sums(self) -> dict[tuple[int, int], tuple[NDArray[np.float64], float]]:
        return {}

    def _sum(self, span: tuple[int, int]) -> tuple[NDArray[np.float64], float]:
        """Σr and Σ‖r‖² of one chemical system in double precision, computed when it is first asked for."""
        if span not in self._sums:
            block = self.embeddings[slice(*span)].astype(np.float64)
            self._sums[span] = (block.sum(axis=0), float((block**2).sum()))
        return self._sums[span]


def index_key(embedder: Embedder, reference: Crystals) -> str:
    """Hash of the embedder and the reference: an index belongs to exactly these."""
    return hashlib.sha256(f"{embedder.content_hash}\0{reference.content_hash()}".encode()).hexdigest()
