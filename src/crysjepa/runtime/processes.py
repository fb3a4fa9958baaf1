"""Independent pieces of work in several processes, their results in the order of the pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from crysjepa.runtime.worker_pool import WorkerPool

T = TypeVar("T")
_PER_PROCESS = 8
"""Bundles for each process: few enough that sending them costs little, many enough to share the work."""


def in_processes(work: Callable[..., T], tasks: Sequence[tuple[Any, ...]], processes: int) -> Iterator[T]:
    """``work(*task)`` for every task, in order. One process means this one; ``work`` is a module's function.

    The tasks of a process that is killed are tried once more, each by itself. Raises what ``work`` raises,
    and RuntimeError for a task that takes its process with it then, too.
    """
    if processes < 2 or len(tasks) < 2:
        yield from (work(*task) for task in tasks)
        return
    size = max(1, len(tasks) // (processes * _PER_PROCESS))
    starts = range(0, len(tasks), size)
    found: dict[int, T] = {}
    next_index = 0
    with WorkerPool(_set_up, (work,), min(processes, len(starts)), preload=[work.__module__]) as pool:
        for start in starts:
            pool.submit((start, False), tasks[start : start + size])
        for (start, alone), done in pool.results():
            if done.kind != "done" and alone:
                raise RuntimeError(f"a worker's {done.trouble}, twice: out of memory?")
            if done.kind != "done":
                for i in reversed(range(start, min(start + size, len(tasks)))):
                    pool.submit((i, True), tasks[i : i + 1], first=True)
                continue
            results, error = done.value
            if error is not None:
                raise error
            found.update(enumerate(results, start))
            while next_index in found:
                yield found.pop(next_index)
                next_index += 1


def _set_up(work: Callable[..., T]) -> Callable[[Sequence[tuple[Any, ...]]], Any]:
    def bundle(tasks: Sequence[tuple[Any, ...]]) -> tuple[list[T], Exception | None]:
        try:
            return [work(*task) for task in tasks], None
        except Exception as error:  # noqa: BLE001 - raised again by the caller
            return [], error

    return bundle
