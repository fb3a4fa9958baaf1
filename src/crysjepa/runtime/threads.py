"""Batches side by side on the cores of a CPU."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
"""Environment of worker processes that share the cores."""
_ALONE = threading.Lock()
"""Held while torch is set to one thread: it has one such number for the whole process."""


def default_processes(device: str) -> int:
    """One for each core that this process may use, or one where the work is done on an accelerator."""
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_batches(
    work: Callable[[Item], Result], batches: Sequence[Item], take: Callable[[Item, Result], None]
) -> None:
    """``take(batch, work(batch))`` for each batch, in their order, with as many at work as torch has threads.

    Each is worked on by one thread, since small matrices are not worth sharing out: two batches side by side
    take less time than one after the other on two threads each, and a batch's result does not depend on how
    many threads there are. ``take`` is called in the caller's thread. What ``work`` raises is raised here.
    """
    with _one_thread_each() as threads:
        if threads == 1 or len(batches) < 2:
            for batch in batches:
                take(batch, work(batch))
            return
        with ThreadPoolExecutor(threads) as pool:
            try:
                for batch, result in zip(batches, pool.map(work, batches), strict=True):
                    take(batch, result)
            finally:
                pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Torch on one thread; how many it had."""
    import torch

    with _ALONE:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield threads
        finally:
            torch.set_num_threads(threads)
