"""Where work is done: in processes of this machine, or on an executor of someone else's.

That is Parsl, or any ``concurrent.futures.Executor``. Work is of three kinds (:data:`KINDS`), and each may
have an executor of its own: drawing crystals on CPUs, say, and relaxing them on GPUs.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from crysjepa.runtime.errors import describe_error
from crysjepa.runtime.executor_pool import ExecutorPool
from crysjepa.runtime.notes import UsageError
from crysjepa.runtime.worker_pool import WorkerPool

LOCAL = "local"
Kind = Literal["generate", "relax", "check"]
"""Kinds of work: crystals drawn; relaxed, or evaluated as they are; phonons and elastic constants."""
KINDS: tuple[Kind, ...] = ("generate", "relax", "check")


@dataclass(frozen=True)
class Executors:
    """An executor for each kind of work that is not done on this machine.

    Attributes
    ----------
    of
        By kind.
    devices
        By kind: the device of its workers, where that is known (an executor of Parsl's has
        ``available_accelerators`` or not; any other may have an attribute ``device``).
    close
        Called at the end.
    """

    of: Mapping[Kind, Executor]
    devices: Mapping[Kind, str] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None


_EXECUTORS: ContextVar[Executors | None] = ContextVar("executors", default=None)


@contextmanager
def executing_on(name: str | Executor | None) -> Iterator[None]:
    """In this block, chunks of work go to an executor (:func:`find_executors`). It is shut down at the end.

    >>> from crysjepa import api
    >>> with api.executing_on("parsl@cluster.py"):                                      # doctest: +SKIP
    ...     api.relax("new.parquet", "relaxed.parquet")
    """
    found = _for_all(name) if isinstance(name, Executor) else find_executors(name)
    token = _EXECUTORS.set(found)
    try:
        yield
    finally:
        _EXECUTORS.reset(token)
        if found is not None:
            found.close()


def find_executors(name: str | None) -> Executors | None:
    """Executors by name; None for work on this machine.

    ``local``; ``parsl@FILE`` or ``parsl@MODULE``, with ``:NAME`` if its configuration has another name than
    ``config``; ``MODULE:CALLABLE``, which returns a ``concurrent.futures.Executor``, or a dictionary of them
    by kind. In a configuration of Parsl's, executors whose label is a kind of work do that kind, the others
    all else.

    Raises
    ------
    UsageError
        For a name that nothing has, for what is no executor, and for a kind of work that would go to workers
        with and without accelerators.
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
    made = found() if callable(found) and not isinstance(found, Executor) else found
    by_kind: dict[Any, Any] = dict(made) if isinstance(made, Mapping) else dict.fromkeys(KINDS, made)
    if not by_kind:
        raise UsageError(f"{name} gives no executor")
    for kind, executor in by_kind.items():
        if kind not in KINDS:
            raise UsageError(f"{name} has an executor for {kind!r}: kinds of work are {', '.join(KINDS)}")
        if not isinstance(executor, Executor):
            kind_of = type(executor).__name__
            raise UsageError(f"{name} gives a {kind_of}, which is no concurrent.futures.Executor")

    def close() -> None:
        for executor in set(by_kind.values()):
            executor.shutdown(cancel_futures=True)

    return Executors(by_kind, _devices_of(by_kind), close)


def _for_all(executor: Executor) -> Executors:
    """One that is somebody's already, and stays open."""
    by_kind: dict[Kind, Executor] = dict.fromkeys(KINDS, executor)
    return Executors(by_kind, _devices_of(by_kind))


def _devices_of(executors: Mapping[Kind, Executor]) -> dict[Kind, str]:
    return {k: str(device) for k, e in executors.items() if (device := getattr(e, "device", None))}


def _parsl(where: str) -> Executors:
    place, _, attribute = where.partition(":")
    try:
        from parsl import DataFlowKernel
        from parsl.concurrent import ParslPoolExecutor
        from parsl.config import Config
    except ImportError as error:
        raise ImportError('Parsl is not installed: pip install "crysjepa[parsl]"') from error
    read = _module_of_file if place.endswith(".py") else importlib.import_module
    config = _attribute(read, place, attribute or "config", f"parsl@{where}")
    if not isinstance(config, Config):
        raise UsageError(f"parsl@{where} is no parsl.config.Config, but a {type(config).__name__}")
    rest = [e for e in config.executors if e.label not in KINDS]
    chosen = {k: [e for e in config.executors if e.label == k] or rest for k in KINDS}
    devices: dict[Kind, str] = {}
    for kind, executors in chosen.items():
        if len(have := {bool(getattr(e, "available_accelerators", ())) for e in executors}) > 1:
            labels = ", ".join(e.label for e in executors)
            raise UsageError(
                f"parsl@{where}: {labels} would {kind}, some with accelerators and some without: "
                f"label one of them {kind!r}"
            )
        devices[kind] = "cuda" if have == {True} else "cpu"
    kernel = DataFlowKernel(config)
    pools = {k: ParslPoolExecutor(dfk=kernel, executors=[e.label for e in c]) for k, c in chosen.items() if c}
    return Executors(pools, devices, _closing(kernel))


_WATCH = """
import os, signal, sys
if not sys.stdin.buffer.read():
    for process in map(int, sys.argv[1:]):
        os.kill(process, signal.SIGTERM)
"""


def _closing(kernel: Any) -> Callable[[], None]:
    """What shuts Parsl down. If this process is killed, its interchanges end all the same: else they would
    live on, and hold their blocks, with all nodes, until the walltime.
    """
    processes = [getattr(e, "interchange_proc", None) for e in kernel.executors.values()]
    ids = [str(p.pid) for p in processes if p is not None]
    if not ids:
        return cast(Callable[[], None], kernel.cleanup)
    watcher = subprocess.Popen(
        [sys.executable, "-c", _WATCH, *ids], stdin=subprocess.PIPE, start_new_session=True
    )

    def close() -> None:
        watcher.communicate(b"closed")
        kernel.cleanup()

    return close


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
    kind: Kind,
    setup: Callable[..., Callable[[Any], Any]],
    arguments: tuple[Any, ...],
    processes: int,
    environment: Mapping[str, str] | None = None,
    preload: Sequence[str] = ("torch",),
) -> WorkerPool | ExecutorPool:
    """Workers for tasks of a kind: on the executor of :func:`executing_on`, else ``processes`` here."""
    if (executor := _executor_for(kind)) is not None:
        return ExecutorPool(executor, setup, arguments, environment)
    return WorkerPool(setup, arguments, processes, environment, preload)


def _executor_for(kind: Kind) -> Executor | None:
    found = _EXECUTORS.get()
    return None if found is None else found.of.get(kind)


def on_executor(kind: Kind) -> bool:
    """Whether work of this kind goes to an executor."""
    return _executor_for(kind) is not None


def device_for(kind: Kind, here: str) -> str:
    """The device that work of this kind is done on: that of its executor if known, else the one ``here``."""
    found = _EXECUTORS.get()
    return here if found is None else found.devices.get(kind, here)
