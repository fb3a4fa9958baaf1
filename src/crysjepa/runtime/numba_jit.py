"""Loops over atoms and compounds as machine code."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any


class Compiled:
    """A function that Numba makes machine code of when it is first called, from Python or by another.

    Numba takes a fifth of a second to import: nobody waits for it who calls no such function.
    """

    def __init__(self, function: Callable[..., object], options: dict[str, Any]) -> None:
        self.__wrapped__, self.__doc__, self._options = function, function.__doc__, options

    @cached_property
    def dispatcher(self) -> Any:
        """As Numba has it."""
        import numba

        _let_numba_know()
        try:
            return numba.njit(cache=True, **self._options)(self.__wrapped__)
        except RuntimeError:  # package and home are both read-only, as in some containers
            return numba.njit(**self._options)(self.__wrapped__)

    def __call__(self, *args: Any) -> Any:
        return self.dispatcher(*args)


@lru_cache(maxsize=1)
def _let_numba_know() -> None:
    """A compiled function that another one names stands for its dispatcher."""
    from numba.core.typing.typeof import typeof_impl

    @typeof_impl.register(Compiled)
    def type_of(function: Compiled, context: Any) -> Any:
        return typeof_impl(function.dispatcher, context)


def compiled(function: Callable[..., object], *, loosely: bool = False) -> Any:
    """Numba's machine code, kept for the next process where there is a place to keep it.

    It runs without Python's global lock. ``loosely`` lets it fuse and reorder sums, the same way each time;
    what is not a number stays so.
    """
    return Compiled(
        function, {"nogil": True, "fastmath": {"contract", "reassoc", "arcp"} if loosely else False}
    )
