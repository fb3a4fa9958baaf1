"""The same crystal in other words (site order, origin, rotation, cell, supercell): do embeddings move?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.canonical import MAX_ATOMIC_NUMBER, canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.runtime.progress import Progress

NUM_REDESCRIBED = 300
"""Crystals that are described otherwise, at most."""
TOLERANCE = 1e-4
"""What an invariant embedding may move by rounding, as a share of the typical distance between crystals."""

Floats = NDArray[np.float64]

Change = Literal["site order", "origin", "rotation", "another cell", "2x supercell"]
CHANGES: tuple[Change, ...] = get_args(Change)
"""What :func:`redescribe` can do."""


def redescribe(crystals: Crystals, change: Change, *, seed: int = 0) -> Crystals:
    """The same crystals under the same ids, each described otherwise.

    What is done to a crystal depends on its id, ``change`` and ``seed`` alone. ``rotation`` is Haar-uniform;
    ``another cell`` is spanned by M L with a random unimodular M (integer, determinant 1, not the identity);
    ``2x supercell`` is two cells along one of the three directions.
    """
    return Crystals.concatenate([_one(c, change, _random(c.ids[0], change, seed)) for c in crystals])


def _one(crystal: Crystals, change: Change, rng: np.random.Generator) -> Crystals:
    numbers, coords, cell = crystal.atomic_numbers, crystal.frac_coords, crystal.lattices[0]
    if change == "site order":
        order = rng.permutation(len(numbers))
        numbers, coords = numbers[order], coords[order]
    elif change == "origin":
        coords = coords + rng.random(3)
    elif change == "rotation":
        cell = cell @ random_rotation(rng)
    elif change == "another cell":
        m = random_unimodular(rng)
        cell, coords = m @ cell, coords @ np.rint(np.linalg.inv(m))
    else:
        along = np.eye(3)[rng.integers(3)]
        half = coords / (1 + along)
        numbers, coords = np.concatenate([numbers, numbers]), np.concatenate([half, half + along / 2])
        cell = cell * (1 + along)[:, None]
    coords = coords - np.floor(coords)
    return Crystals(numbers, coords, cell[None], np.array([len(numbers)]), crystal.ids)


def random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """A Haar-uniform proper rotation (3, 3)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)  # of odd dimension: the sign of the determinant can be moved into all of it


def random_unimodular(rng: np.random.Generator) -> NDArray[np.float64]:
    """An integer (3, 3) matrix of determinant 1, not the identity."""
    while True:
        lower = np.tril(rng.integers(-1, 2, size=(3, 3)), -1) + np.eye(3)
        upper = np.triu(rng.integers(-1, 2, size=(3, 3)), 1) + np.eye(3)
        m = lower @ upper
        if not np.array_equal(m, np.eye(3)):
            return m


def _random(id_: str, change: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\0{change}\0{id_}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


# -- how far embeddings move -----------------------------------------------------------------------


@dataclass(frozen=True)
class Dependence:
    """How far embeddings move when crystals are described otherwise, as shares of the typical distance.

    ``canonical``: both descriptions pass :func:`crysjepa.core.canonical.canonicalise` first, as in screening
    with a model that is not invariant. ``median`` and ``largest`` are None where nothing could be compared.
    """

    change: str
    canonical: bool
    num_crystals: int
    median: float | None
    largest: float | None
    failures: dict[str, str]


def measure_dependence(
    model: CrysJepa,
    crystals: Crystals,
    typical_distance: float,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Dependence]:
    """Movements for every change of :mod:`crysjepa.jepa.diagnostics.equivalent_cells`, of a sample of "
    "``crystals``.

    As the crystals come and, where the model is not invariant, also with both descriptions made canonical.
    """
    if len(crystals) > NUM_REDESCRIBED:
        rows = np.random.default_rng(seed).choice(len(crystals), NUM_REDESCRIBED, replace=False)
        crystals = crystals[np.sort(rows)]
    modes = (False,) if model.invariant else (False, True)
    found, steps = [], len(modes) * len(CHANGES)
    for canonical in modes:
        base = canonicalise(crystals)[0] if canonical else crystals
        before = _by_id(model, base, device)[0]
        for change in CHANGES:
            twins = redescribe(crystals, change, seed=seed)
            failures: dict[str, str] = {}
            if canonical:
                twins, failures = canonicalise(twins)
            after, unembedded = _by_id(model, twins, device)
            shared = [id_ for id_ in twins.ids if id_ in before and id_ in after]
            moved = np.array([np.linalg.norm(after[id_] - before[id_]) for id_ in shared])
            middle = largest = None
            if len(moved) and typical_distance > 0:
                middle, largest = (float(v) / typical_distance for v in (np.median(moved), moved.max()))
            found.append(Dependence(change, canonical, len(shared), middle, largest, failures | unembedded))
            if progress is not None:
                progress(len(found), steps)
    return found


def _by_id(model: CrysJepa, crystals: Crystals, device: str) -> tuple[dict[str, Floats], dict[str, str]]:
    kept, embeddings, failures = embed_each(model, crystals, device=device)
    return dict(zip(kept.ids, embeddings, strict=True)), failures


def embed_each(
    model: CrysJepa, crystals: Crystals, *, device: str = "cpu", progress: Progress | None = None
) -> tuple[Crystals, Floats, dict[str, str]]:
    """Crystals that could be embedded, their embeddings (B, D), and ``{id: reason}`` for the others.

    A crystal that the model refuses costs no other its embedding.
    """
    failures = _beyond_elements(crystals)
    crystals = crystals[[i for i, id_ in enumerate(crystals.ids) if id_ not in failures]]

    found, refused = model.embed_each(crystals, device=device, progress=progress)
    failures |= {crystals.ids[row]: reason for row, reason in refused.items()}
    embeddings = found.astype(np.float64)
    good = np.isfinite(embeddings).all(axis=1)
    for row in np.flatnonzero(~good):
        failures.setdefault(crystals.ids[row], "the embedding is not finite")
    return crystals[np.flatnonzero(good)], embeddings[good], failures


def _beyond_elements(crystals: Crystals) -> dict[str, str]:
    reason = f"is beyond the {MAX_ATOMIC_NUMBER} elements that the models know"
    highest = {c.ids[0]: int(c.atomic_numbers.max()) for c in crystals}
    return {id_: f"atomic number {z} {reason}" for id_, z in highest.items() if z > MAX_ATOMIC_NUMBER}
