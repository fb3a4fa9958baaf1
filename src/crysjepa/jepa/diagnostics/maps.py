"""Maps of embeddings in two dimensions, as in the paper's Fig. 3, 8 and 9, by UMAP (the extra ``umap``)."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymatgen.core import Element

from crysjepa.core.crystals import Crystals
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.runtime.progress import Progress

NEIGHBOURS = 15
FEWEST = NEIGHBOURS + 1
"""Points without which there is no map."""
NUM_ELEMENTS = 4
"""Fig. 8(b) shows the four most frequent elements."""
ATOM_CRYSTALS, NUM_ATOMS = 2000, 5000
"""At most so many crystals lend their atoms, and so many atoms are shown."""


class UmapMissing(ImportError):
    """umap-learn is not installed."""


def check_umap() -> Any:
    """The module ``umap``. Raises UmapMissing, naming the extra, where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own optional parts, and of its libraries' deprecations
            return importlib.import_module("umap")
    except ImportError as error:
        raise UmapMissing(
            f'maps of embeddings need umap-learn: pip install "crysjepa[umap]" ({error})'
        ) from error


def umap_plane(points: NDArray[np.floating], *, seed: int = 0) -> NDArray[np.float32]:
    """UMAP [31] of points (n, D) → (n, 2): 15 neighbours, Euclidean, the same for the same seed.

    Raises UmapMissing without umap-learn, ValueError for fewer than :data:`FEWEST` points or if all are one.
    """
    umap = check_umap()
    if len(points) < FEWEST:
        raise ValueError(f"{len(points)} points are too few for a map: it takes {FEWEST}")
    points = np.asarray(points, dtype=np.float64)
    centred = points - points.mean(axis=0)
    if np.abs(centred).max() <= 1e-6 * (np.abs(points).max() + 1e-30):
        raise ValueError("all points are the same: there is nothing to lay out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of disconnected graphs and of its libraries' deprecations
        plane = umap.UMAP(n_neighbors=NEIGHBOURS, random_state=seed, n_jobs=1).fit_transform(
            centred / centred.std()
        )
    return np.asarray(plane, dtype=np.float32)


def crystal_map(
    embeddings: NDArray[np.floating], ids: tuple[str, ...], energies: NDArray[np.float64], *, seed: int = 0
) -> pd.DataFrame:
    """Crystals on a map: ``id``, ``x``, ``y``, ``formation_energy_per_atom`` (NaN where unknown)."""
    plane = umap_plane(embeddings, seed=seed)
    columns = {"x": plane[:, 0], "y": plane[:, 1], "formation_energy_per_atom": energies}
    return pd.DataFrame({"id": list(ids), **columns})


def atom_map(
    model: CrysJepa,
    crystals: Crystals,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Atoms of the four most frequent elements on a map: ``id``, ``site``, ``element``, ``x``, ``y``.

    Elements are counted over all ``crystals``; atoms are drawn from at most :data:`ATOM_CRYSTALS` of them.
    """
    check_umap()
    rng = np.random.default_rng(seed)
    numbers, counts = np.unique(crystals.atomic_numbers, return_counts=True)
    frequent = numbers[np.lexsort((numbers, -counts))][:NUM_ELEMENTS]
    if len(crystals) > ATOM_CRYSTALS:
        crystals = crystals[np.sort(rng.choice(len(crystals), ATOM_CRYSTALS, replace=False))]
    rows = np.flatnonzero(np.isin(crystals.atomic_numbers, frequent))
    if len(rows) > NUM_ATOMS:
        rows = np.sort(rng.choice(rows, NUM_ATOMS, replace=False))
    atoms = model.embed_atoms(crystals, device=device, progress=progress)[rows]
    plane = umap_plane(atoms, seed=seed)
    owner = np.repeat(np.arange(len(crystals)), crystals.num_atoms)[rows]
    return pd.DataFrame(
        {
            "id": [crystals.ids[i] for i in owner],
            "site": rows - crystals.offsets[owner],
            "element": [Element.from_Z(int(z)).symbol for z in crystals.atomic_numbers[rows]],
            "x": plane[:, 0],
            "y": plane[:, 1],
        }
    )
