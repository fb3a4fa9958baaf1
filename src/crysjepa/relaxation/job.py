"""The chunks of a relaxation: which are done, which are at work, and where their outcomes are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.course import Outcome
from crysjepa.relaxation.engines import engine_version
from crysjepa.relaxation.force_fields.registry import ForceFieldInfo
from crysjepa.relaxation.settings import RelaxSettings
from crysjepa.relaxation.shards import Chunk, read_shard, shard_path, write_shard
from crysjepa.runtime.executor_pool import ExecutorPool
from crysjepa.runtime.parts import Part, part_in
from crysjepa.runtime.worker_pool import Done, WorkerPool

AHEAD = 4000
"""Chunks that are handed to workers at a time: so that a million crystals are not in memory twice."""


@dataclass
class Job:
    """Chunks of ``crystals``, and what is known of them. What is in a shard is not kept in memory."""

    crystals: Crystals
    settings: RelaxSettings
    info: ForceFieldInfo
    shards: Path | None
    done: int = 0
    """Crystals of which the outcome is known."""
    todo: list[int] = field(default_factory=list)
    _finished: dict[int, Chunk] = field(default_factory=dict)
    _alone: dict[int, dict[str, Outcome]] = field(default_factory=dict)
    """Outcomes of crystals that are done one by one, by chunk."""

    def __post_init__(self) -> None:
        for number in self.own:
            path = self._paths[number]
            if path is None or read_shard(path) is None:
                self.todo.append(number)
            else:
                self.done += len(self.rows[number])

    @cached_property
    def rows(self) -> list[list[int]]:
        """The positions of each chunk's crystals."""
        return chunks_of(self.crystals, self.settings)

    @cached_property
    def _paths(self) -> list[Path | None]:
        if self.shards is None:
            return [None] * len(self.rows)
        version = "\0".join(filter(None, (self.info.version, engine_version(self.settings.engine))))
        made_by = (self.settings, self.info.name, version)
        return [shard_path(self.shards, n, self.crystals[rows], *made_by) for n, rows in enumerate(self.rows)]

    @property
    def part(self) -> Part | None:
        return part_in(self.shards)

    @cached_property
    def own(self) -> Sequence[int]:
        """The chunks that are to be done here: of a part, so that all parts have as many sites to relax."""
        part = self.part
        if part is None:
            return range(len(self.rows))
        return part.own([float(self.crystals.num_atoms[rows].sum()) for rows in self.rows])

    def own_files(self) -> list[Path]:
        return [path for number in self.own if (path := self._paths[number]) is not None]

    def submit_to(self, pool: WorkerPool | ExecutorPool, most: int = AHEAD) -> None:
        """Up to so many of the chunks that are left."""
        for _ in range(min(most, len(self.todo))):
            number = self.todo.pop()  # the longest first: at the end, workers wait for a short one
            limit = self.settings.time_limit
            rows = self.rows[number]
            pool.submit((number, None), self.crystals[rows], limit and limit * len(rows))

    def take(self, number: int, position: int | None, done: Done, pool: WorkerPool | ExecutorPool) -> None:
        """A chunk (``position`` None) or a single crystal of a chunk is back."""
        rows = self.rows[number]
        if position is None:
            self.submit_to(pool, 1)
        if position is None and done.kind == "done":
            self._keep(number, done.value)
            self.done += len(rows)
        elif position is None:
            # one of them did it, or chance; alone, each either relaxes or is found out
            for i in reversed(range(len(rows))):
                pool.submit((number, i), self.crystals[rows[i]], self.settings.time_limit, first=True)
        else:
            id_ = self.crystals.ids[rows[position]]
            (outcome,) = done.value if done.kind == "done" else [Outcome(id_, reason=_trouble(done))]
            alone = self._alone.setdefault(number, {})
            alone[id_] = outcome
            self.done += 1
            if len(alone) == len(rows):
                self._keep(number, [alone[self.crystals.ids[row]] for row in rows])
                del self._alone[number]

    def _keep(self, number: int, outcomes: list[Outcome]) -> None:
        chunk, path = Chunk.of(outcomes), self._paths[number]
        if path is None:
            self._finished[number] = chunk
        else:
            write_shard(path, chunk)

    def chunks(self) -> Iterator[Chunk]:
        """What became of each chunk, once all are done. Raises OSError for a shard that is gone."""
        for number, path in enumerate(self._paths):
            chunk = self._finished[number] if path is None else read_shard(path)
            if chunk is None:
                raise OSError(f"{path} was written, and cannot be read: the same command goes on from here")
            yield chunk


def _trouble(done: Done) -> str:
    if done.kind == "died":
        return f"the force field's {done.trouble} on this crystal"
    return f"the relaxation failed: {done.trouble}" if done.kind == "raised" else done.trouble


def chunks_of(crystals: Crystals, settings: RelaxSettings) -> list[list[int]]:
    """Positions of crystals, in chunks of like size of crystal, whatever the order the crystals came in."""
    order = sorted(range(len(crystals)), key=lambda i: (int(crystals.num_atoms[i]), crystals.ids[i]))
    size = settings.chunk_size
    return [order[start : start + size] for start in range(0, len(order), size)]
