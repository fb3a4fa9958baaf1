"""One piece of work shared out among tasks that know nothing of one another, as those of a Slurm array.

Work that is done in chunks, each a file in a folder, can be done by several tasks: each does the chunks that
are its own, whatever the others do, and the last one finds all of them there.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from crysjepa.runtime.notes import UsageError

AUTO = "auto"


@dataclass(frozen=True)
class Part:
    """Part ``number`` of ``of``, counted from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] | None = None) -> Part:
        """From ``I/N``, or from the variables of a Slurm array's task for ``auto``.

        Raises UsageError for anything else, and for ``auto`` outside an array.
        """
        if text == AUTO:
            return cls._of_array(os.environ if environment is None else environment)
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise UsageError(
                f"--part {text}: give I/N with I from 1 to N, such as 3/10, or auto in a Slurm array"
            )
        return cls(int(number), int(of))

    @classmethod
    def _of_array(cls, environment: Mapping[str, str]) -> Part:
        names = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
        try:
            task, first, count = (int(environment[name]) for name in names)
        except (KeyError, ValueError):
            raise UsageError("--part auto: this is no task of a Slurm array (sbatch --array=1-10)") from None
        if not first <= task < first + count:
            raise UsageError(
                f"--part auto: the array's tasks are not numbered without gaps (task {task}, the first "
                f"{first}, {count} in all): submit --array=1-{count}"
            )
        if first > 1:  # the number of tasks in all is not told, where a few are submitted again
            raise UsageError(
                f"--part auto: this array begins with task {first}; to do one of an earlier array again, say "
                f"--part {task}/N with its number of tasks, or let Slurm do it (scontrol requeue JOB_{task})"
            )
        return cls(task - first + 1, count)

    def own(self, weights: Sequence[float]) -> list[int]:
        """Which of so many chunks are this part's: the heaviest first, each to whoever has least so far."""
        loads = [(0.0, part) for part in range(self.of)]
        mine = []
        for chunk in sorted(range(len(weights)), key=lambda c: (-weights[c], c)):
            load, part = loads[0]
            heapq.heapreplace(loads, (load + weights[chunk], part))
            if part == self.number - 1:
                mine.append(chunk)
        return sorted(mine)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class PartDone(Exception):
    """Raised where a part's chunks are done: what follows needs those of all parts.

    Attributes
    ----------
    files
        The chunks of this part.
    total
        How many there are of all parts.
    """

    def __init__(self, files: Sequence[Path], total: int) -> None:
        super().__init__(f"{len(files)} of {total} chunks are done")
        self.files, self.total = list(files), total


_SHARED: ContextVar[tuple[Part, Path] | None] = ContextVar("shared", default=None)


@contextmanager
def sharing(part: Part, folder: Path) -> Iterator[None]:
    """In this block, of the chunks that belong into ``folder`` only the part's are done."""
    token = _SHARED.set((part, folder.absolute()))
    try:
        yield
    finally:
        _SHARED.reset(token)


def part_in(folder: Path | None) -> Part | None:
    """The part that this task has of the chunks in a folder; None where all are its own."""
    shared = _SHARED.get()
    return shared[0] if shared and folder is not None and folder.absolute() == shared[1] else None
