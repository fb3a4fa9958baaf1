"""Candidates read from a file: anyone's crystals as a generator."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.generators.base import Draws, Samples, Untrained
from crysjepa.generators.constraints import Constraints
from crysjepa.runtime.progress import Progress

Pick = Literal["first", "random"]


@dataclass(frozen=True, eq=False)
class FileGenerator(Untrained):
    """The crystals of a table: the first N, or N drawn without replacement.

    A row that holds no readable crystal takes a place and ends as a failure, with its reason: whoever made
    the file is charged with it. A crystal that breaks a constraint is passed over, and counted.
    """

    table: CandidateTable
    source: str = ""
    pick: Pick = "first"
    name = "file"

    def __post_init__(self) -> None:
        if self.pick not in ("first", "random"):
            raise ValueError(f"pick is {self.pick!r}: choose first or random")

    @classmethod
    def read(cls, path: str | Path, pick: Pick = "first") -> FileGenerator:
        """Whatever :func:`crysjepa.datasets.load` reads. Raises as it does."""
        return cls(datasets.load(path), Path(path).name, pick)

    def sample(
        self,
        num: int,
        *,
        seed: int = 0,
        device: str = "cpu",
        prefix: str = "gen",
        progress: Progress | None = None,
    ) -> Samples:
        """The crystals as they come, whatever they are made of."""
        anything = Constraints(excluded=frozenset())
        return self.sample_within(num, anything, seed=seed, prefix=prefix, progress=progress)

    def sample_within(
        self,
        num: int,
        constraints: Constraints,
        *,
        seed: int = 0,
        device: str = "cpu",
        prefix: str = "gen",
        processes: int = 1,
        progress: Progress | None = None,
    ) -> Samples:
        """Rows that obey, in the file's order or in the seed's; the places that are left over fail."""
        table, ids = self.table, self.table.ids
        broken = constraints.broken(table.crystals())
        empty = dict(zip(ids, (r or "no structure" for r in table.column("reason")), strict=True))
        for id_ in table.crystals().ids:
            del empty[id_]
        order = list(range(len(ids)))
        if self.pick == "random":
            order = np.random.default_rng(seed).permutation(len(ids)).tolist()
        chosen: list[str] = []
        rejected: Counter[str] = Counter()
        for id_ in (ids[k] for k in order):
            if len(chosen) == num:
                break
            if id_ in broken:
                rejected[broken[id_]] += 1
            else:
                chosen.append(id_)
        new = {old: f"{prefix}-{k}" for k, old in enumerate(chosen)}
        readable = [i for i in chosen if i not in empty]
        crystals = table.crystals(readable).with_ids([new[i] for i in readable])
        failures = {new[i]: empty[i] for i in chosen if i in empty}
        notes: tuple[str, ...] = ()
        if len(chosen) < num:
            obey = f" of which {len(chosen)} obey" if len(chosen) < len(ids) else ""
            few = f"{self.source or 'the source'} holds {len(ids)} crystals{obey}; {num} were asked for"
            notes = (few,)
            failures |= {f"{prefix}-{k}": few for k in range(len(chosen), num)}
        if progress is not None:
            progress(num, num)
        drawn = len(chosen) + sum(rejected.values())
        return Samples(
            crystals,
            failures,
            Draws(num, drawn, dict(rejected), notes),
            {"source_id": {new[i]: i for i in chosen}},
        )
