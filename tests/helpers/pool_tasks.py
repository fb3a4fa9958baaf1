"""Work for a pool, found by import path in worker processes; light, so that workers start fast."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def set_up_arithmetic() -> Callable[[Any], Any]:
    return do_arithmetic


def do_arithmetic(payload: Any) -> Any:
    if payload == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if payload == "exit":
        os._exit(3)
    if payload == "sleep":
        time.sleep(600)
    if payload == "environment":
        return os.environ.get("OMP_NUM_THREADS")
    return os.getpid() if payload == "pid" else 1 / payload


def set_up_and_die() -> Callable[[Any], Any]:
    os._exit(5)


def set_up_and_raise() -> Callable[[Any], Any]:
    raise LookupError("no weights here")


def tell_pid_and_sleep() -> None:
    with Path(os.environ["NASTY_PIDS"]).open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    time.sleep(600)


def die_once(mark: str, value: int) -> int:
    """Take the process with it the first time, as a lack of memory may."""
    if value < 0 or (value % 3 == 0 and not Path(f"{mark}{value}").exists()):
        Path(f"{mark}{value}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if value == 100:
        raise LookupError("a hundred")
    return value * value


def set_up_die_once(mark: str) -> Callable[[Any], Any]:
    return lambda value: die_once(mark, value)
