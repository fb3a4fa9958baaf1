"""Long-lived worker processes that are allowed to die.

A task that takes its process with it, or that outlasts its time limit, costs that one process; the pool
says what happened and goes on. Workers end with their parent, however it ends.

On Linux they are forked from a server process, which has imported what they need once and has one thread;
elsewhere each begins from nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Literal

from crysjepa.runtime.errors import describe_error, is_device_fault
from crysjepa.runtime.worker_start import context, end_with_parent, environment_of, main_hidden

START_LIMIT = 900.0
"""Seconds in which a worker must have loaded what it needs."""
START_TRIES = 2
"""Workers in a row that may die while loading before the pool gives up."""


@dataclass(frozen=True)
class Done:
    """How a task ended: with a value, or with the trouble it met.

    ``kind`` is ``"done"``, ``"raised"`` (an exception), ``"died"`` (the process ended) or ``"late"``.
    """

    kind: Literal["done", "raised", "died", "late"]
    value: Any = None
    trouble: str = ""


@dataclass(frozen=True)
class _Task:
    key: Any
    payload: Any
    time_limit: float | None
    tries: int


class _Worker:
    def __init__(
        self,
        setup: Callable[..., Callable[[Any], Any]],
        arguments: tuple[Any, ...],
        environment: Mapping[str, str],
        preload: Sequence[str],
    ) -> None:
        self.connection, theirs = Pipe()
        told = (theirs, setup, arguments, {**os.environ, **environment})
        with main_hidden(setup, arguments), environment_of(environment):
            of = context([setup.__module__, *preload])
            self.process = of.Process(target=_work, args=told, daemon=True)
            self.process.start()
        theirs.close()  # so that the worker's death closes the pipe
        self.ready = False
        self.task: _Task | None = None
        self.deadline: float | None = time.monotonic() + START_LIMIT

    def give(self, task: _Task) -> None:
        self.task = task
        self.deadline = None if task.time_limit is None else time.monotonic() + task.time_limit
        # a worker that dies just now is noticed when its pipe is read
        with contextlib.suppress(OSError):
            self.connection.send(task.payload)

    def overdue(self) -> bool:
        """Past its deadline, and without an answer that only waits to be read."""
        return self.deadline is not None and time.monotonic() > self.deadline and not self.connection.poll()

    def end(self) -> str:
        """Make sure that it is gone, and say how it went."""
        self.process.join(timeout=5.0)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
        code = self.process.exitcode or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"


class WorkerPool:
    """Run tasks in ``processes`` spawned workers. Use it in a ``with`` block.

    Parameters
    ----------
    setup
        A module-level function, called once in each worker with ``arguments``. It returns the function
        that does the tasks: payload in, value out.
    arguments
        For ``setup``.
    processes
        Workers at most; they are started when there is work for them.
    environment
        Environment variables of the workers, besides the parent's. On Linux numerical libraries have one
        thread there in any case.
    preload
        Modules that the workers import anyway: the first pool of a process has them imported once for all.
    """

    def __init__(
        self,
        setup: Callable[..., Callable[[Any], Any]],
        arguments: tuple[Any, ...],
        processes: int,
        environment: Mapping[str, str] | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        self._setup, self._arguments, self._processes = setup, arguments, processes
        self._environment, self._preload = dict(environment or {}), preload
        self._workers: list[_Worker] = []
        self._waiting: deque[_Task] = deque()
        self._failed_starts = 0

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(
        self, key: Any, payload: Any, time_limit: float | None = None, *, first: bool = False, tries: int = 1
    ) -> None:
        """Queue a task; ``first`` puts it before those that wait. ``time_limit`` is in seconds.

        One whose process dies is begun again until it had so many ``tries``: chance may have killed it.
        """
        task = _Task(key, payload, time_limit, tries)
        if first:
            self._waiting.appendleft(task)
        else:
            self._waiting.append(task)

    def results(self) -> Iterator[tuple[Any, Done]]:
        """Keys and outcomes as they come, until no task is left. More may be submitted meanwhile.

        Raises
        ------
        RuntimeError
            When workers cannot be set up.
        """
        while self._waiting or any(w.task for w in self._workers):
            self._assign()
            for worker in self._wait():
                yield from self._read(worker)
            for worker in [w for w in self._workers if w.overdue()]:
                yield from self._end_overdue(worker)

    def close(self) -> None:
        """End every worker; one that has nothing to do leaves by itself, and takes its semaphores with it."""
        for worker in self._workers:
            if worker.ready and worker.task is None:
                worker.connection.close()
            else:
                worker.process.kill()
        for worker in self._workers:
            worker.end()
        self._workers = []

    def _assign(self) -> None:
        for worker in self._workers:
            if worker.ready and worker.task is None and self._waiting:
                worker.give(self._waiting.popleft())
        starting = sum(not w.ready for w in self._workers)
        wanted = min(self._processes - len(self._workers), len(self._waiting) - starting)
        for _ in range(wanted):
            self._workers.append(_Worker(self._setup, self._arguments, self._environment, self._preload))

    def _wait(self) -> list[_Worker]:
        by_connection = {w.connection: w for w in self._workers}
        deadlines = [w.deadline for w in self._workers if w.deadline is not None]
        timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        return [by_connection[c] for c in wait(list(by_connection), timeout)]  # type: ignore[index]

    def _read(self, worker: _Worker) -> Iterator[tuple[Any, Done]]:
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._died(worker)
            return
        if kind == "broken":
            raise RuntimeError(f"a worker process could not be set up: {value}")
        if kind == "ready":
            worker.ready, worker.deadline, self._failed_starts = True, None, 0
            return
        task, worker.task, worker.deadline = worker.task, None, None
        assert task is not None
        if kind == "fault":  # in another process the accelerator may work
            self._workers.remove(worker)
            worker.end()
            if task.tries > 1:
                self._waiting.appendleft(replace(task, tries=task.tries - 1))
                return
        yield task.key, Done("done", value) if kind == "done" else Done("raised", trouble=value)

    def _died(self, worker: _Worker) -> Iterator[tuple[Any, Done]]:
        self._workers.remove(worker)
        how = worker.end()
        if worker.task is not None:
            if worker.task.tries > 1:
                self._waiting.appendleft(replace(worker.task, tries=worker.task.tries - 1))
            else:
                yield worker.task.key, Done("died", trouble=f"process died ({how})")
            return
        self._failed_starts += not worker.ready
        if self._failed_starts >= START_TRIES:
            raise RuntimeError(
                f"worker processes die while they are set up ({how}). A script whose own functions or "
                "classes are sent to them must start them below `if __name__ == '__main__':`"
            )

    def _end_overdue(self, worker: _Worker) -> Iterator[tuple[Any, Done]]:
        self._workers.remove(worker)
        worker.process.kill()
        worker.end()
        if worker.task is None:
            raise RuntimeError(f"a worker process was not set up within {START_LIMIT:.0f} s")
        limit = worker.task.time_limit or 0.0
        yield worker.task.key, Done("late", trouble=f"took longer than {limit:g} s")


def _work(
    connection: Connection,
    setup: Callable[..., Any],
    arguments: tuple[Any, ...],
    environment: Mapping[str, str],
) -> None:
    """What a worker does: set up once, then answer tasks until the parent is gone."""
    os.environ.clear()  # the server's, as it was when the first worker was started
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends the workers
    end_with_parent()
    try:
        do = setup(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
        connection.send(("broken", describe_error(error)))
        return
    connection.send(("ready", None))
    while True:
        try:
            payload = connection.recv()
        except (EOFError, OSError):
            return
        try:
            reply = ("done", do(payload))
        except Exception as error:  # noqa: BLE001 - the parent records it for the task
            reply = ("fault" if is_device_fault(error) else "raised", describe_error(error))
        connection.send(reply)
        if reply[0] == "fault":
            return
