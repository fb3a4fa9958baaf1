"""Loops over atoms and compounds as machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., object], *, fastmath: bool = False) -> Any:
    """Numba's machine code, kept for the next process where there is a place to keep it.

    Without one (package and home both read-only, as in some containers) Numba refuses to decorate.
    It runs without Python's global lock. ``fastmath`` lets it reorder sums, the same way each time.
    """
    try:
        return numba.njit(nogil=True, cache=True, fastmath=fastmath)(function)
    except RuntimeError:
        return numba.njit(nogil=True, fastmath=fastmath)(function)
