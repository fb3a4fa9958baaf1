"""The data that rankings are compared on: known crystals, their hull, and crystals to rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import invalid_structures
from crysjepa.energy.hull import Hull

Floats = NDArray[np.float64]

SCALE = "materials_project"
MAX_SITES = 20
KNOWN = ("mp20_bt.parquet", "mpts52.parquet")
HULL, WBM = "mp20_hull.parquet", "wbm_dev.parquet"
DIFFCSP = "peers/diffcsp_mp20_first2000.parquet"


@dataclass(frozen=True)
class Labelled:
    """Crystals (B) with formation energies and energies above the hull (B,) in eV/atom, NaN where unknown."""

    crystals: Crystals
    formation_energies: Floats
    e_above_hull: Floats

    def __getitem__(self, rows: NDArray[np.int64]) -> Labelled:
        """Some of them."""
        return Labelled(self.crystals[rows], self.formation_energies[rows], self.e_above_hull[rows])


def read_labelled(path: Path, *, max_sites: int | None = None) -> Labelled:
    """Crystals of a Parquet file with ``formation_energy_per_atom`` and ``e_above_hull``."""
    table = pq.read_table(path)
    if max_sites is not None:
        table = table.filter(table["num_sites"].to_numpy() <= max_sites)
    energies = (
        table[name].to_numpy().astype(float) for name in ("formation_energy_per_atom", "e_above_hull")
    )
    return Labelled(Crystals.from_arrow(table), *energies)


def read_known(folder: Path) -> Labelled:
    """The reference: :data:`KNOWN` in this order, at most 20 sites, each id once."""
    parts = [read_labelled(folder / name, max_sites=MAX_SITES) for name in KNOWN]
    together = Labelled(
        Crystals.concatenate([p.crystals for p in parts]),
        np.concatenate([p.formation_energies for p in parts]),
        np.concatenate([p.e_above_hull for p in parts]),
    )
    first = {id_: row for row, id_ in reversed(list(enumerate(together.crystals.ids)))}
    return together[np.array(sorted(first.values()))]


def read_hull(folder: Path) -> Hull:
    """The hull that all energies are compared with."""
    return Hull.read(folder / HULL, scale=SCALE)


def read_wbm(folder: Path) -> Labelled:
    """Hypothetical crystals with DFT energies above this hull."""
    return read_labelled(folder / WBM)


def read_diffcsp(folder: Path, count: int) -> Crystals:
    """The first crystals of another generator, unrelaxed, under ids of their own."""
    table = pq.read_table(folder / DIFFCSP).slice(0, count)
    return Crystals.from_arrow(table)


def split_valid(crystals: Crystals) -> tuple[Crystals, dict[str, str]]:
    """Crystals that a screening would look at, and why not at the others."""
    invalid = invalid_structures(crystals)
    return crystals.select([i for i in crystals.ids if i not in invalid]), invalid


def spread_by_size(crystals: Crystals, count: int) -> NDArray[np.int64]:
    """Rows of ``count`` crystals (or all) evenly spaced in the order of their sizes: a like mix of sizes."""
    order = sorted(range(len(crystals)), key=lambda i: (int(crystals.num_atoms[i]), crystals.ids[i]))
    return np.array(order, dtype=np.int64)[evenly(len(crystals), count)]


def evenly(total: int, count: int) -> NDArray[np.int64]:
    """``count`` (or all) of ``total`` positions, evenly spaced."""
    count = min(count, total)
    return (np.arange(count) * total) // max(count, 1)


def crystal_hashes(crystals: Crystals) -> list[str]:
    """A hash of each crystal's content, whatever its id."""
    return [c.with_ids(("",)).content_hash()[:32] for c in crystals]


def as_array(values: Sequence[float | None]) -> Floats:
    """None becomes NaN."""
    return np.array([np.nan if v is None else v for v in values], dtype=float)
