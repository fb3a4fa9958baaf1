"""Crystals in, vectors out, whatever makes them; one crystal that cannot be embedded costs no other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.canonical import MAX_ATOMIC_NUMBER, canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_cell
from crysjepa.nn.geometry import CUTOFF, MAX_IMAGES, num_images
from crysjepa.runtime.progress import Progress

if TYPE_CHECKING:
    from crysjepa.jepa.crys_jepa import CrysJepa

SKEWED = 5_000
"""Periodic images within reach beyond which a cell is reduced first, if only to save time."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """``vectors`` (M, D) of the crystals at ``rows`` (M,), which rise; reasons for the others, by row."""

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    failures: dict[int, str] = field(default_factory=dict)


class Embedder(Protocol):
    """A map from crystals to vectors in which distance means something; ``content_hash`` tells it apart."""

    @property
    def content_hash(self) -> str: ...

    def embed(self, crystals: Crystals, progress: Progress | None = None) -> Embedded:
        """Vectors, or reasons. Never raises for a crystal."""
        ...


@dataclass(frozen=True, eq=False)
class JepaEmbedder:
    """Crys-JEPA. Crystals need not be canonical: they are made so where the model is not invariant."""

    model: CrysJepa
    device: str = "cpu"

    @property
    def content_hash(self) -> str:
        """Of the model."""
        return self.model.content_hash

    def embed(self, crystals: Crystals, progress: Progress | None = None) -> Embedded:
        """Embeddings (‖h − r‖ is the distance), or why there is none."""
        # Rows for names, so that nothing depends on ids.
        named = crystals.with_ids([str(i) for i in range(len(crystals))])
        known, failures = _known_elements(named)
        if self.model.invariant:
            ready, misfits = _compact(known)
        else:
            ready, reasons = canonicalise(known)
            misfits = {int(i): reason for i, reason in reasons.items()}
        vectors, refused = self.model.embed_each(ready, device=self.device, progress=progress)
        rows = np.array([int(i) for i in ready.ids], dtype=np.int64)
        failures |= misfits | {int(rows[i]): reason for i, reason in refused.items()}
        finite = np.isfinite(vectors).all(axis=1)
        for row in rows[~finite].tolist():
            failures.setdefault(row, "its embedding is not finite")
        return Embedded(rows[finite], vectors[finite], dict(sorted(failures.items())))


def _known_elements(crystals: Crystals) -> tuple[Crystals, dict[int, str]]:
    if not len(crystals):
        return crystals, {}
    highest = np.maximum.reduceat(crystals.atomic_numbers, crystals.offsets[:-1])
    beyond = highest > MAX_ATOMIC_NUMBER
    if not beyond.any():
        return crystals, {}
    reason = "atomic number {} is beyond the {} elements that the models know"
    failures = {int(i): reason.format(highest[i], MAX_ATOMIC_NUMBER) for i in np.flatnonzero(beyond)}
    return crystals[~beyond], failures


def _compact(crystals: Crystals) -> tuple[Crystals, dict[int, str]]:
    """Skewed cells reduced, which an invariant model cannot tell; and those that remain too small for it."""
    images = num_images(crystals.lattices)
    skewed = ~(images <= SKEWED)
    if not skewed.any():
        return crystals, {}
    kept, failures = [], {}
    for i in np.flatnonzero(skewed).tolist():
        crystal = crystals[i]
        try:
            cell, coords = reduced_cell(crystal)
        except (RuntimeError, ValueError, OverflowError) as error:
            failures[int(crystal.ids[0])] = f"the lattice cannot be reduced ({error})"
            continue
        # The model's own limit comes last: it computes in single precision.
        if num_images(cell[None])[0] <= 1.01 * MAX_IMAGES:
            kept.append(Crystals(crystal.atomic_numbers, coords, cell, crystal.num_atoms, crystal.ids))
        else:
            failures[int(crystal.ids[0])] = (
                f"over {MAX_IMAGES} periodic images within {CUTOFF:g} Å: the cell is too small"
            )
    together = Crystals.concatenate([crystals[~skewed], *kept])
    return together.select(sorted(together.ids, key=int)), failures
