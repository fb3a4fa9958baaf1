"""A time limit for Python code that may never end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TimeLimitExceeded(BaseException):
    """The time is up. Not an Exception, so that code which catches those cannot swallow it."""


@contextmanager
def time_limit(seconds: float, *, of_cpu: bool = False) -> Iterator[None]:
    """Raise :class:`TimeLimitExceeded` within the block after so many seconds, of the process's own CPU time
    where that is asked for: what a busy machine computes is then what a free one does.

    Works in a process's main thread, where the system has timer signals; elsewhere there is no limit. A call
    into compiled code is interrupted when it comes back.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise TimeLimitExceeded

    timer, number = (signal.ITIMER_PROF, signal.SIGPROF) if of_cpu else (signal.ITIMER_REAL, signal.SIGALRM)
    before = signal.signal(number, stop)
    signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(number, before)
