"""Loops over atoms and compounds as machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., object], *, loosely: bool = False) -> Any:
    """Numba's machine code, kept for the next process where there is a place to keep it.

    Without one (package and home both read-only, as in some containers) Numba refuses to decorate.
    It runs without Python's global lock. ``loosely`` lets it fuse and reorder sums, the same way each time;
    what is not a number stays so.
    """
    allowed = {"contract", "reassoc", "arcp"} if loosely else False
    options: dict[str, Any] = {"nogil": True, "fastmath": allowed}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)
