"""Work sent to an executor of someone else's: Parsl, or any ``concurrent.futures.Executor``.

The executor knows of schedulers, nodes and transport; here is only what each task needs to know. A task
brings its set-up with it, and the process that carries it out keeps that (a force field, say) for the next
one. What the executor loses is sent again: chance may have killed it; what is lost each time has done it.
A process whose accelerator fails takes no further work, and what it held goes elsewhere, charged to nobody.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from crysjepa.runtime.errors import describe_error
from crysjepa.runtime.notes import UsageError
from crysjepa.runtime.time_limit import TimeLimitExceeded, time_limit
from crysjepa.runtime.worker_pool import Done, WorkerPool

LOCAL = "local"
LOST_TRIES = 3
"""How often a task is sent whose process was lost, before the task is held to have done it."""
FAULT_TRIES = 10
"""How often one is sent whose accelerator failed."""
IN_FLIGHT = 2000
"""Tasks that the executor has at a time, at most: so that a million do not fill the memory of the head."""
RETIRED_FOR = 20.0
"""Seconds after which a process whose accelerator failed hands on what it is given: too slow to take much."""
_FAULTS = ("CUDA error", "cudaError", "CUDA driver error", "uncorrectable ECC", "device-side assert",
           "unspecified launch failure", "HIP error", "NVML")  # fmt: skip

Reply = tuple[Literal["done", "raised", "late", "fault", "broken"], Any]

_EXECUTOR: ContextVar[Executor | None] = ContextVar("executor", default=None)


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

    def __enter__(self) -> ExecutorPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for future in self._at_work:
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

        Raises RuntimeError where a process cannot be set up, or the executor takes no more work.
        """
        while self._waiting or self._at_work:
            while self._waiting and len(self._at_work) < IN_FLIGHT:
                self._send(self._waiting.popleft())
            done, _ = wait(self._at_work, return_when=FIRST_COMPLETED)
            for future in done:
                task = self._at_work.pop(future)
                if (outcome := self._outcome(task, future)) is not None:
                    yield task.key, outcome

    def _send(self, task: _Sent) -> None:
        try:
            future = self._executor.submit(carry_out, self._set_up, task.payload, task.time_limit)
        except (BrokenExecutor, RuntimeError) as error:
            raise RuntimeError(
                f"the executor takes no more work ({describe_error(error)}): the same command goes on"
            ) from error
        self._at_work[future] = task

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
        if kind == "fault":
            if task.faults > 1:
                self._waiting.append(replace(task, faults=task.faults - 1))
                return None
            raise RuntimeError(f"{FAULT_TRIES} times an accelerator failed: {value}")
        return Done("done", value) if kind == "done" else Done(kind, trouble=value)


# -- in the process that carries a task out ---------------------------------------------------

_READY: dict[str, Callable[[Any], Any]] = {}
"""What this process was set up for, by a hash of it: the last one only, for force fields are large."""
_FAULT: list[str] = []
"""Why this process takes no further work, if it does not."""


def carry_out(set_up: bytes, payload: Any, limit: float | None) -> Reply:
    """Do a task, after setting this process up for it if need be. Never raises what the task raises."""
    if _FAULT:
        time.sleep(RETIRED_FOR)
        return "fault", _FAULT[0]
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
    trouble = describe_error(error)
    if any(word in f"{type(error).__name__}: {error}" for word in _FAULTS):
        _FAULT.append(trouble)
        return "fault", trouble
    return kind, trouble


# -- which executor --------------------------------------------------------------------------


@contextmanager
def executing_on(name: str | Executor | None) -> Iterator[None]:
    """In this block, chunks of work go to an executor: see :func:`find_executor`. It is shut down at the end.

    >>> from crysjepa import api
    >>> with api.executing_on("parsl@cluster.py"):                                      # doctest: +SKIP
    ...     api.relax("new.parquet", "relaxed.parquet")
    """
    executor = find_executor(name) if isinstance(name, str | None) else name
    token = _EXECUTOR.set(executor)
    try:
        yield
    finally:
        _EXECUTOR.reset(token)
        if executor is not None and executor is not name:
            executor.shutdown(cancel_futures=True)


def find_executor(name: str | None) -> Executor | None:
    """An executor by name; None for work on this machine.

    ``local``; ``parsl@FILE`` or ``parsl@MODULE``, with ``:NAME`` if its configuration has another name than
    ``config``; ``MODULE:CALLABLE``, which returns a ``concurrent.futures.Executor``.

    Raises
    ------
    UsageError
        For a name that nothing has, and for what is no executor.
    ImportError
        Where Parsl is not installed.
    """
    if name is None or name == LOCAL:
        return None
    engine, at, where = name.partition("@")
    if at and engine == "parsl":
        return _parsl(where)
    module, colon, attribute = name.partition(":")
    if at or not colon:
        raise UsageError(f"no executor {name!r}: give local, parsl@FILE, or module:callable")
    found = _attribute(importlib.import_module, module, attribute, name)
    executor = found() if callable(found) and not isinstance(found, Executor) else found
    if not isinstance(executor, Executor):
        raise UsageError(f"{name} gives a {type(executor).__name__}, which is no concurrent.futures.Executor")
    return executor


def _parsl(where: str) -> Executor:
    place, _, attribute = where.partition(":")
    try:
        from parsl.concurrent import ParslPoolExecutor
        from parsl.config import Config
    except ImportError as error:
        raise ImportError('Parsl is not installed: pip install "crysjepa[parsl]"') from error
    read = _module_of_file if place.endswith(".py") else importlib.import_module
    config = _attribute(read, place, attribute or "config", f"parsl@{where}")
    if not isinstance(config, Config):
        raise UsageError(f"parsl@{where} is no parsl.config.Config, but a {type(config).__name__}")
    found: Executor = ParslPoolExecutor(config=config)
    return found


def _attribute(read: Callable[[str], Any], place: str, name: str, whole: str) -> Any:
    try:
        return getattr(read(place), name)
    except (ImportError, FileNotFoundError, AttributeError) as error:
        raise UsageError(f"no executor {whole!r}: {describe_error(error)}") from error


def _module_of_file(path: str) -> Any:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def open_pool(
    setup: Callable[..., Callable[[Any], Any]],
    arguments: tuple[Any, ...],
    processes: int,
    environment: Mapping[str, str] | None = None,
) -> WorkerPool | ExecutorPool:
    """Workers for tasks: on the executor of :func:`executing_on`, else ``processes`` on this machine."""
    executor = _EXECUTOR.get()
    if executor is not None:
        return ExecutorPool(executor, setup, arguments, environment)
    return WorkerPool(setup, arguments, processes, environment)


def on_executor() -> bool:
    """Whether work goes to an executor."""
    return _EXECUTOR.get() is not None
