"""Independent pieces of work in several processes, their results in the order of the pieces."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from crysjepa.runtime.worker_pool import end_with_parent, main_hidden

T = TypeVar("T")
_PER_PROCESS = 8
"""Bundles for each process: few enough that sending them costs little, many enough to share the work."""


def in_processes(work: Callable[..., T], tasks: Sequence[tuple[Any, ...]], processes: int) -> Iterator[T]:
    """``work(*task)`` for every task, in order. One process means this one; ``work`` is a module's function.

    Raises what ``work`` raises.
    """
    if processes < 2 or len(tasks) < 2:
        yield from (work(*task) for task in tasks)
        return
    size = max(1, len(tasks) // (processes * _PER_PROCESS))
    bundles = [tasks[i : i + size] for i in range(0, len(tasks), size)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=end_with_parent) as pool:
        with main_hidden(work, tasks[:1]):  # submitted, and so the processes started, at once
            found = pool.map(_bundle, [work] * len(bundles), bundles)
        for results in found:
            yield from results


def _bundle(work: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> list[T]:
    return [work(*task) for task in tasks]
