"""The reference index: known crystals, embedded once, kept on disk, looked up by chemical system.

Eq. 11 averages ‖h − r‖² over the reference crystals in the candidate's chemical system and its subsystems.
Written out it is ‖h‖² − 2 h·mean(r) + mean‖r‖², so a count, Σr and Σ‖r‖² per chemical system are all that a
candidate of k elements needs: at most 2ᵏ − 1 look-ups, however large the reference is. Rows of a system stand
together, so that the nearest of them is found by reading no others.

Candidates are asked for by the keys of their systems (:func:`crysjepa.core.chemical_systems.system_keys`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import Keys, SystemTable, keys_of_names, system_names, systems_within
from crysjepa.core.crystals import Crystals
from crysjepa.ranking.embedders import Embedder
from crysjepa.runtime.files import as_metadata, metadata_of, replacing
from crysjepa.runtime.numba_jit import compiled
from crysjepa.runtime.progress import Progress

KIND = "reference-index"
_ADVICE = "name another file, or delete it to have it made anew"
_BLOCK = 100_000
"""Rows whose sums are taken at once: 100 MB."""


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
            own: AbstractContextManager[None] = suppress(ValueError)  # one that is damaged is made anew
        else:
            own = nullcontext()  # a file that was named is somebody's: the error names it
        if cache is not None and cache.exists():
            with own:
                if (found := cls.read(cache)).key == key:
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
        about = {"kind": KIND, "key": self.key, "skipped": dict(self.skipped), "digest": self.digest}
        batch = pa.record_batch(columns).replace_schema_metadata(as_metadata(about))
        with (
            replacing(path) as partial,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema) as writer,
        ):
            writer.write_batch(batch)

    @classmethod
    def read(cls, path: Path) -> ReferenceIndex:
        """Map what :meth:`write` wrote into memory. Raises ValueError for any other file."""
        try:
            file = pa.ipc.open_file(pa.memory_map(str(path)))
            header = metadata_of(file.schema)
            batch = file.get_batch(0)
        except (pa.ArrowException, KeyError, ValueError, OSError) as error:
            raise ValueError(f"{path} is not a reference index ({error}): {_ADVICE}") from error
        if header.get("kind") != KIND:
            raise ValueError(f"{path} holds {header.get('kind')!r}, not a reference index: {_ADVICE}")
        vectors = batch.column("embedding")
        found = cls(
            tuple(batch.column("id").to_pylist()),
            tuple(batch.column("system").to_pylist()),
            vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size),
            header["key"],
            header["skipped"],
        )
        if header.get("digest") != found.digest:
            raise ValueError(f"{path} is damaged, or of an earlier version: {_ADVICE}")
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of names, systems and vectors."""
        digest = hashlib.sha256("\0".join((*self.ids, *self.systems)).encode())
        digest.update(np.ascontiguousarray(self.embeddings).data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.ids)

    # -- asking it -------------------------------------------------------------------------

    def num_references(self, systems: Keys) -> NDArray[np.int64]:
        """References in each of these chemical systems (M, 2) and its subsystems: (M,)."""
        return self._table.num_within(systems)

    def mean_square(self, embeddings: NDArray[np.float32], systems: Keys) -> NDArray[np.float64]:
        """D_C (Eq. 11) of embeddings (M, D) of crystals of ``systems`` (M, 2); NaN without a reference."""
        h = np.ascontiguousarray(embeddings, dtype=np.float64)
        found = np.full(len(h), np.nan)
        sums, squares = self._sums
        _mean_square(h, systems, self._table.keys, self._table.starts, sums, squares, found)
        return found

    def support(self, embeddings: NDArray[np.float32], systems: Keys) -> NDArray[np.float64]:
        """How far embeddings (M, D) are from their nearest reference in their ``systems`` (M, 2) and the
        subsystems of these: (M,), NaN where there is none.
        """
        h = np.ascontiguousarray(embeddings, dtype=np.float32)
        found = np.full(len(h), np.nan)
        _support(h, systems, self._table.keys, self._table.starts, self._order, self.embeddings, found)
        return found

    def nearest(self, embedding: NDArray[np.float32], chemical_system: str) -> Nearest | None:
        """The closest reference of the same chemical system; of its subsystems if it has none of its own."""
        table, elements = self._table, np.zeros(128, dtype=np.int64)
        inside = np.zeros(len(table.keys) + 1, dtype=np.int64)
        _, num = systems_within(keys_of_names([chemical_system])[0], table.keys, elements, inside)
        if not num:
            return None
        sizes = np.bitwise_count(table.keys[inside[:num]]).sum(axis=1)
        largest = inside[:num][sizes == sizes.max()]
        rows = np.concatenate([self._order[table.starts[s] : table.starts[s + 1]] for s in largest])
        gaps = np.linalg.norm(self.embeddings[rows] - embedding.astype(np.float64), axis=1)
        closest = min(rows[gaps == gaps.min()].tolist(), key=lambda row: self.ids[row])
        return Nearest(self.ids[closest], float(gaps.min()))

    @cached_property
    def _placed(self) -> tuple[SystemTable, NDArray[np.int64]]:
        """Rows by chemical system, and the order that sorts them so."""
        names, inverse = np.unique(np.array(self.systems, dtype=object), return_inverse=True)
        return SystemTable.of(keys_of_names(names.tolist())[inverse])

    @property
    def _table(self) -> SystemTable:
        return self._placed[0]

    @property
    def _order(self) -> NDArray[np.int64]:
        return self._placed[1]

    @cached_property
    def _sums(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Σr (S, D) and Σ‖r‖² (S,) of each chemical system in double precision."""
        starts = self._table.starts
        sums = np.zeros((len(starts) - 1, self.embeddings.shape[1]))
        squares = np.zeros(len(starts) - 1)
        owner = np.repeat(np.arange(len(squares)), np.diff(starts))
        for begin in range(0, len(owner), _BLOCK):
            block = self.embeddings[self._order[begin : begin + _BLOCK]].astype(np.float64)
            here = owner[begin : begin + _BLOCK]
            first = np.flatnonzero(np.diff(here, prepend=-1))
            sums[here[first]] += np.add.reduceat(block, first)
            squares[here[first]] += np.add.reduceat(np.einsum("rd,rd->r", block, block), first)
        return sums, squares


@compiled
def _mean_square(
    h: NDArray[np.float64],
    systems: Keys,
    keys: Keys,
    starts: NDArray[np.int64],
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
    distances: NDArray[np.float64],
) -> None:
    """Eq. 11 of ``h`` (M, D) from Σr (S, D) and Σ‖r‖² (S,); ``distances`` (M,) stay where none is."""
    elements, inside = np.zeros(128, dtype=np.int64), np.zeros(len(keys) + 1, dtype=np.int64)
    for row in range(len(h)):
        _, num = systems_within(systems[row], keys, elements, inside)
        count, own, product, square = 0, 0.0, 0.0, 0.0
        for s in inside[:num]:
            count += starts[s + 1] - starts[s]
            square += squares[s]
            for d in range(h.shape[1]):
                product += h[row, d] * sums[s, d]
        if count:
            for d in range(h.shape[1]):
                own += h[row, d] ** 2
            # A mean of squares cannot be negative; this form can, by rounding, for a copy of a reference.
            distances[row] = max(0.0, own - 2 * product / count + square / count)


@partial(compiled, loosely=True)
def _support(
    h: NDArray[np.float32],
    systems: Keys,
    keys: Keys,
    starts: NDArray[np.int64],
    order: NDArray[np.int64],
    references: NDArray[np.float32],
    distances: NDArray[np.float64],
) -> None:
    """Distances (M,) of ``h`` (M, D) from the nearest of the ``references`` (R, D) within."""
    elements, inside = np.zeros(128, dtype=np.int64), np.zeros(len(keys) + 1, dtype=np.int64)
    for row in range(len(h)):
        _, num = systems_within(systems[row], keys, elements, inside)
        least = np.inf
        for s in inside[:num]:
            for place in range(starts[s], starts[s + 1]):
                reference, square = order[place], np.float32(0)
                for d in range(h.shape[1]):
                    gap = h[row, d] - references[reference, d]
                    square += gap * gap
                least = min(least, float(square))
        if num:
            distances[row] = math.sqrt(least)


def index_key(embedder: Embedder, reference: Crystals) -> str:
    """Hash of the embedder and the reference: an index belongs to exactly these."""
    return hashlib.sha256(f"{embedder.content_hash}\0{reference.content_hash()}".encode()).hexdigest()
