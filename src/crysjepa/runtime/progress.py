"""Progress where there is no terminal: plain lines, and the log in a run's folder."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

Progress = Callable[[int, int], None]
"""progress(done, total)"""
StageProgress = Callable[[str, int, int], None]
"""progress(stage, done, total)"""


def of_stage(progress: StageProgress | None, name: str) -> Progress | None:
    """Progress of one stage, as ``progress(done, total)``."""
    return None if progress is None else lambda done, total: progress(name, done, total)


def in_part(progress: StageProgress | None, name: str) -> StageProgress | None:
    """Progress of one part of a larger work, whose name stands behind each stage's."""
    return None if progress is None else lambda stage, done, total: progress(f"{stage} ({name})", done, total)


def stage_name(stage: str) -> str:
    """A stage without the remark after " · ", which may change while the stage is the same."""
    return stage.partition(" · ")[0]


LOG = "log.txt"
FIRST, EVERY = 4.0, 10.0
"""Seconds until the first line, and between two."""
RECENT, APART = 60.0, 1.0
"""Seconds that a rate is of, and at least between two looks at the work."""


class Lines:
    """A line of progress now and then: time, stage, done of total, rate, and an estimate of what is left.

    It is written even where nothing was done meanwhile, so that one sees that there is still someone at work.
    The rate is that of the last minute. It is counted from what was done first, which waited for workers to
    start, and told once as long again has passed: until then there is none, and no estimate.
    Use it in a ``with`` block; ``report(stage, done, total)`` tells it where the work stands.

    Parameters
    ----------
    write
        Called with each line, from a thread of its own.
    first, every
        Seconds until the first line, and at least between two.
    """

    def __init__(self, write: Callable[[str], None], *, first: float = FIRST, every: float = EVERY) -> None:
        self._write, self._every = write, every
        self._began = time.monotonic()
        self._due = self._began + first
        self._stage: tuple[str, int, int] | None = None
        self._stage_began, self._before = self._began, 0
        self._first_took = 0.0
        self._seen: deque[tuple[float, int]] = deque()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Lines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def report(self, stage: str, done: int, total: int) -> None:
        """Where the work stands; a total of 0 is not known."""
        with self._lock:
            if self._stage is None or stage_name(self._stage[0]) != stage_name(stage):
                self._stage_began, self._before = time.monotonic(), done
                self._seen.clear()
            self._stage = (stage, done, total)
            self._look(time.monotonic(), done)

    def _run(self) -> None:
        while not self._ended.wait(max(0.0, self._due - time.monotonic())):
            with self._lock:
                line = self._line()
            self._write(line)
            self._due = time.monotonic() + self._every

    def _line(self) -> str:
        now = time.monotonic()
        if self._stage is None:
            return f"at work for {_span(now - self._began)}"
        stage, done, total = self._stage
        parts = [f"{stage} {done}/{total}" if total else f"{stage} {done}"]
        rate = self._rate(now)
        if rate is None:
            parts.append(f"for {_span(now - self._stage_began)}")
        else:
            parts.append(f"{rate:.3g}/s" if rate >= 1 else f"{_span(1 / rate)} each")
            if total > done:
                parts.append(f"about {_span((total - done) / rate)} left")
        return ", ".join(parts)

    def _look(self, now: float, done: int) -> None:
        """Keep where the work stands: what was done first, and from then on a look a second."""
        if done <= (self._seen[-1][1] if self._seen else self._before):
            return
        if not self._seen:
            self._first_took = now - self._stage_began
        elif now - self._seen[-1][0] < APART:
            return
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > RECENT:
            self._seen.popleft()

    def _rate(self, now: float) -> float | None:
        """Done a second of late; None where too little was seen."""
        if not self._seen or self._stage is None:
            return None
        began, before = self._seen[0]
        done = self._stage[1] - before
        return done / (now - began) if done > 0 and now - began >= self._first_took else None


class Log:
    """What is said, with the time, kept until there is a run's folder to write it to.

    A folder that holds files of others, and no log, is left alone: the run will be refused there.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._folder: Path | None = None
        self._lock = threading.Lock()

    def put_in(self, folder: Path) -> None:
        """From now on, lines go to ``folder/log.txt``, once the folder is made."""
        own = any((folder / name).exists() for name in (LOG, "run.json", "manifest.json"))
        if own or not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            self._folder = folder

    def add(self, text: str) -> None:
        """A line, or several."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with self._lock:
            self._lines += [f"{stamp}  {line}" for line in text.splitlines()]
        self.flush()

    def flush(self) -> None:
        """Write what is not written yet. A log that cannot be written ends no run."""
        with self._lock:
            if self._folder is None or not self._lines or not self._folder.is_dir():
                return
            try:
                with (self._folder / LOG).open("a", encoding="utf-8") as file:
                    file.write("".join(f"{line}\n" for line in self._lines))
            except OSError:
                return
            self._lines = []


def _span(seconds: float) -> str:
    """Such as ``12 s``, ``4 min`` and ``1.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
