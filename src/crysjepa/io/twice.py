"""The same crystal more than once in a source: in two files, or as the steps of one path.

Every structure in a source is a crystal of its own, which rates count. Where names or steps say that several
are one crystal, a note says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from crysjepa.io.entry import unicode_name
from crysjepa.io.kinds import kind_of
from crysjepa.runtime.notes import note

_MATTERGEN = ("generated_crystals.extxyz", "generated_crystals_cif.zip", "generated_trajectories.zip")
"""What MatterGen writes side by side: the crystals, the same as CIFs, and every step that led to them."""
_CLOSE = 0.1
"""Steps of a path are nearer than this: edges relative to their lengths, sites in fractions of the edges."""


def written_twice(names: Sequence[str]) -> set[str]:
    """Those of the names in a folder or zip that repeat what others of them hold: they are not read.

    A note names them. Another names files that have one name in two formats, or are the ``POSCAR`` and
    ``CONTCAR`` of one folder: these are read, for they may differ.
    """
    folders: dict[PurePosixPath, set[str]] = defaultdict(set)
    for name in names:
        folders[PurePosixPath(name).parent].add(PurePosixPath(name).name)
    repeated = []
    for folder, inside in folders.items():
        crystals = next((name for name in _MATTERGEN[:2] if name in inside), None)
        if crystals:
            others = _MATTERGEN[_MATTERGEN.index(crystals) + 1 :]
            repeated += [str(folder / name) for name in others if name in inside]
    if repeated:
        note(f"left out, MatterGen's crystals again or the steps to them: {_some(repeated)}")
    left = set(repeated)
    pairs = [pair for pair in _pairs(name for name in names if name not in left) if len(pair) > 1]
    if pairs:
        told = _some([" and ".join(pair) for pair in pairs])
        note(f"files that may be one crystal each count as one of their own: {told}")
    return left


def _pairs(names: Iterable[str]) -> list[list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        path = PurePosixPath(name)
        kind = kind_of(path.name)
        if kind is None or kind.name in ("zip", "parquet", "db"):
            continue
        stem = kind.stem
        if kind.name == "poscar" and stem.upper().startswith("CONTCAR"):  # where the POSCAR beside it ended
            stem = "POSCAR" + stem[len("CONTCAR") :]
        found[str(path.with_name(stem))].append(unicode_name(name))
    return list(found.values())


def tell_steps(parts: Sequence[tuple[str, pd.DataFrame]]) -> None:
    """A note of the files, each given by name and rows, whose frames are the steps of one crystal's path."""
    steps = [(unicode_name(name), len(frame)) for name, frame in parts if _is_path(name, frame)]
    if steps:
        told = _some([f"{name} ({count} frames)" for name, count in steps])
        note(
            f"the same atoms, moved a little from frame to frame (steps of one crystal?), count each: {told}"
        )


def _is_path(name: str, frame: pd.DataFrame) -> bool:
    kind = kind_of(PurePosixPath(name).name)
    if kind is None or kind.name not in ("xyz", "traj") or len(frame) < 3:
        return False
    if not (frame["status"] == "ok").all():
        return False
    first = list(frame["atomic_numbers"].iloc[0])
    if any(list(numbers) != first for numbers in frame["atomic_numbers"]):
        return False
    lattices = np.array([np.reshape(x, (3, 3)) for x in frame["lattice"]], dtype=float)
    sites = np.array([np.reshape(x, (-1, 3)) for x in frame["frac_coords"]], dtype=float)
    edges = np.linalg.norm(np.diff(lattices, axis=0), axis=2) / np.linalg.norm(lattices[:-1], axis=2)
    moved = np.diff(sites, axis=0)
    moved = np.abs(moved - np.round(moved))
    return bool(np.median(edges.max(axis=1)) < _CLOSE and np.median(moved.mean(axis=(1, 2))) < _CLOSE)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
