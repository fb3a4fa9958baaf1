"""What long benchmarks say while they run, on standard error."""

from __future__ import annotations

import sys
import time

from crysjepa.runtime.progress import Progress


def say(line: str) -> None:
    """One line, with the time of day."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def tenths(name: str) -> Progress:
    """A ``progress(done, total)`` that speaks up at every tenth."""
    last = [-1]

    def tell(done: int, total: int) -> None:
        if (tenth := 10 * done // max(total, 1)) > last[0]:
            last[0] = tenth
            say(f"{name} {done} of {total}")

    return tell
