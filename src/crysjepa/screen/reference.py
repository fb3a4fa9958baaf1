"""The reference index: known crystals, embedded once, summed by chemical system.

Eq. 11 averages ‖h − r‖² over the reference crystals in the candidate's chemical system and its subsystems.
Written out it is ‖h‖² − 2 h·mean(r) + mean‖r‖², so a count, Σr and Σ‖r‖² per chemical system are all that a
candidate of k elements needs: at most 2ᵏ − 1 look-ups, however large the reference is.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crysjepa.crystals import Crystals
from crysjepa.jepa.pretrain import CrysJepa
from crysjepa.nn import checkpoint

KIND = "reference-index"


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
    """Reference ids (R), their chemical systems (R) and embeddings (R, D), and the key they belong to."""

    ids: tuple[str, ...]
    systems: tuple[str, ...]
    embeddings: NDArray[np.float32]
    key: str

    @classmethod
    def build(
        cls,
        model: CrysJepa,
        reference: Crystals,
        *,
        cache: Path | None = None,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> ReferenceIndex:
        """Embed canonical reference crystals, or read them from ``cache`` if it is of this model and data.

        Raises ValueError for an empty reference.
        """
        if not len(reference):
            raise ValueError("the reference has no crystals: there is nothing to compare with")
        key = index_key(model, reference)
        if cache is not None and cache.exists() and checkpoint.read_header(cache).get("key") == key:
            return cls._load(cache)
        embeddings = model.embed(reference, device=device, progress=progress)
        index = cls(reference.ids, tuple(reference.chemical_systems()), embeddings, key)
        if cache is not None:
            header = {"kind": KIND, "key": key, "ids": index.ids, "systems": index.systems}
            checkpoint.save(cache, {"embeddings": torch.from_numpy(embeddings)}, header)
        return index

    @classmethod
    def _load(cls, path: Path) -> ReferenceIndex:
        tensors, header = checkpoint.load(path, kind=KIND)
        return cls(
            tuple(header["ids"]), tuple(header["systems"]), tensors["embeddings"].numpy(), header["key"]
        )

    def distance(self, embedding: NDArray[np.float32], chemical_system: str) -> Distance:
        """D_C (Eq. 11) of a candidate's embedding (D,)."""
        count, total, squares = 0, np.zeros(len(embedding)), 0.0
        for system in subsystems(chemical_system):
            if system in self._sums:
                n, s, q = self._sums[system]
                count, total, squares = count + n, total + s, squares + q
        if not count:
            return Distance(None, 0)
        h = embedding.astype(np.float64)
        # A mean of squares cannot be negative; the closed form can, by rounding, for a copy of a reference.
        return Distance(max(0.0, float(h @ h - 2 * h @ total / count + squares / count)), count)

    def nearest(self, embedding: NDArray[np.float32], chemical_system: str) -> Nearest | None:
        """The closest reference of the same chemical system; of its subsystems if it has none of its own."""
        for size in range(chemical_system.count("-") + 1, 0, -1):
            rows = [r for s in subsystems(chemical_system, size) for r in self._rows.get(s, ())]
            if rows:
                gaps = np.linalg.norm(self.embeddings[rows].astype(np.float64) - embedding, axis=1)
                best = min(range(len(rows)), key=lambda i: (gaps[i], self.ids[rows[i]]))
                return Nearest(self.ids[rows[best]], float(gaps[best]))
        return None

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for i, system in enumerate(self.systems):
            rows.setdefault(system, []).append(i)
        return rows

    @cached_property
    def _sums(self) -> dict[str, tuple[int, NDArray[np.float64], float]]:
        """Count, Σr and Σ‖r‖² of each chemical system, in double precision."""
        sums = {}
        for system, rows in self._rows.items():
            block = self.embeddings[rows].astype(np.float64)
            sums[system] = (len(rows), block.sum(axis=0), float((block**2).sum()))
        return sums


def subsystems(chemical_system: str, size: int | None = None) -> Iterator[str]:
    """The chemical system and all its subsystems (2ᵏ − 1 of them), or only those of ``size`` elements."""
    elements: Sequence[str] = sorted(chemical_system.split("-"))
    sizes = range(1, len(elements) + 1) if size is None else (size,)
    for k in sizes:
        for subset in itertools.combinations(elements, k):
            yield "-".join(subset)


def index_key(model: CrysJepa, reference: Crystals) -> str:
    """Hash of the encoder's weights and the reference: an index belongs to exactly these."""
    digest = hashlib.sha256(reference.content_hash().encode())
    for name, value in sorted(model.encoder.state_dict().items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()
