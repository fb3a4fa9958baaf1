"""Tasks on a ``concurrent.futures.Executor``, and what the process does that carries one out.

The executor knows of schedulers, nodes and transport; here is only what each task needs to know. A task
brings its set-up with it, and the process that carries it out keeps that (a force field, say) for the next
one. What the executor loses is sent again: chance may have killed it; what is lost each time has done it.
A process whose accelerator fails takes no further work, and what it held goes elsewhere, charged to nobody,
unless it fails on one process after the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, replace
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal

from crysjepa.runtime.errors import DeviceFault, describe_error, is_device_fault
from crysjepa.runtime.time_limit import TimeLimitExceeded, time_limit
from crysjepa.runtime.worker_pool import Done

LOST_TRIES = 3
"""How often a task is sent whose process was lost, before the task is held to have done it."""
FAULT_TRIES = 3
"""On how many processes a task may find a failing accelerator, before it is held to have done it."""
FAULTS_IN_A_ROW = 20
"""Replies of failing accelerators and of processes retired for one, without any other, that end the work."""
IN_FLIGHT = 2000
"""Tasks that the executor has at a time, at most: so that a million do not fill the memory of the head."""
RETIRED_FOR = 20.0
"""Seconds after which a process whose accelerator failed hands on what it is given: too slow to take much."""

Reply = tuple[Literal["done", "raised", "late", "fault", "retired", "broken"], Any]


@dataclass(frozen=True)
class _Sent:
    key: Any
    payload: Any
    time_limit: float | None
    tries: int
    faults: int = FAULT_TRIES


class ExecutorPool:
    """Tasks on an executor, as :class:`~crysjepa.runtime.worker_pool.WorkerPool` has them on this machine."""

    def __init__(
        self,
        executor: Executor,
        setup: Callable[..., Callable[[Any], Any]],
        arguments: tuple[Any, ...],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._executor = executor
        self._set_up = pickle.dumps((setup, arguments, dict(environment or {})))
        self._waiting: deque[_Sent] = deque()
        self._at_work: dict[Future[Reply], _Sent] = {}
        self._ended: SimpleQueue[Future[Reply]] = SimpleQueue()
        self._faults_in_a_row = 0

    def __enter__(self) -> ExecutorPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for future in self._at_work:
            with contextlib.suppress(NotImplementedError):  # Parsl's cannot be
                future.cancel()

    def submit(
        self, key: Any, payload: Any, time_limit: float | None = None, *, first: bool = False, tries: int = 1
    ) -> None:
        """As the other pool's."""
        task = _Sent(key, payload, time_limit, max(tries, LOST_TRIES))
        if first:
            self._waiting.appendleft(task)
        else:
            self._waiting.append(task)

    def results(self) -> Iterator[tuple[Any, Done]]:
        """As the other pool's: keys and outcomes as they come, until no task is left.

        Raises RuntimeError where a process cannot be set up, the executor takes no more work, or accelerators
        fail and none works.
        """
        while self._waiting or self._at_work:
            while self._waiting and len(self._at_work) < IN_FLIGHT:
                self._send(self._waiting.popleft())
            future = self._ended.get()
            task = self._at_work.pop(future)
            if (outcome := self._outcome(task, future)) is not None:
                yield task.key, outcome

    def _send(self, task: _Sent) -> None:
        try:
            future = self._executor.submit(do_task, self._set_up, task.payload, task.time_limit)
        except (BrokenExecutor, RuntimeError) as error:
            raise RuntimeError(
                f"the executor takes no more work ({describe_error(error)}): the same command goes on"
            ) from error
        self._at_work[future] = task
        future.add_done_callback(self._ended.put)

    def _outcome(self, task: _Sent, future: Future[Reply]) -> Done | None:
        """How a task ended; None for one that is sent again."""
        error = future.exception()
        if error is not None:  # of the executor: the task's own come as replies
            if task.tries > 1:
                self._waiting.appendleft(replace(task, tries=task.tries - 1))
                return None
            return Done("died", trouble=f"process was lost ({describe_error(error)})")
        kind, value = future.result()
        if kind == "broken":
            raise RuntimeError(f"a worker process could not be set up: {value}")
        if kind == "done" or kind == "raised" or kind == "late":
            self._faults_in_a_row = 0
            return Done("done", value) if kind == "done" else Done(kind, trouble=value)
        self._faults_in_a_row += 1
        if self._faults_in_a_row >= FAULTS_IN_A_ROW:
            raise RuntimeError(f"accelerators fail, and none is left that works: {value}")
        if kind == "retired":
            self._waiting.append(task)
        elif task.faults > 1:
            self._waiting.append(replace(task, faults=task.faults - 1))
        else:
            return Done("raised", trouble=f"on {FAULT_TRIES} processes the accelerator failed: {value}")
        return None


# -- in the process that carries a task out ---------------------------------------------------

_READY: dict[str, Callable[[Any], Any]] = {}
"""What this process was set up for, by a hash of it: the last one only, for force fields are large."""
FAULT: list[str] = []
"""Why this process takes no further work, if it does not."""


def do_task(set_up: bytes, payload: Any, limit: float | None) -> Reply:
    """Do a task, after setting this process up for it if need be. Never raises what the task raises."""
    if FAULT:
        time.sleep(RETIRED_FOR)
        return "retired", FAULT[0]
    try:
        do = _ready(set_up)
    except Exception as error:  # noqa: BLE001 - whatever it is, the head raises it
        return _fault_or("broken", error)
    try:
        if limit is None:
            return "done", do(payload)
        with time_limit(limit):
            return "done", do(payload)
    except TimeLimitExceeded:
        return "late", f"took longer than {limit:g} s"
    except Exception as error:  # noqa: BLE001 - the head records it for the task
        return _fault_or("raised", error)


def _ready(set_up: bytes) -> Callable[[Any], Any]:
    key = hashlib.sha256(set_up).hexdigest()
    if key not in _READY:
        _READY.clear()
        setup, arguments, environment = pickle.loads(set_up)  # noqa: S301 - from the head of this very run
        os.environ.update(environment)
        _READY[key] = setup(*arguments)
    return _READY[key]


def _fault_or(kind: Literal["raised", "broken"], error: Exception) -> Reply:
    trouble = str(error) if isinstance(error, DeviceFault) else describe_error(error)
    if is_device_fault(error):
        FAULT.append(trouble)
        return "fault", trouble
    return kind, trouble
