"""Quicker vectors of three components for functions of libraries, which find them under NumPy's names.

The results are NumPy's to the last bit, as the same sums are formed in the same order. What is left out is
NumPy's look at arrays that might be of any shape and type, and whatever was computed before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def with_names(function: Callable[..., Any], **names: Any) -> Any:
    """A library's function that finds other things under some of the names of its module.

    The library itself, and whoever else uses it, see nothing of that. Raises KeyError for a name that the
    module does not have: the library is not the one that this was written for.
    """
    if not isinstance(function, FunctionType):
        raise TypeError(f"{function!r} is not a function written in Python")
    before = function.__globals__
    missing = [name for name in names if name not in before]
    if missing:
        raise KeyError(f"{function.__module__} has no {', '.join(missing)}")
    changed = FunctionType(
        function.__code__, {**before, **names}, function.__name__, function.__defaults__, function.__closure__
    )
    changed.__kwdefaults__ = function.__kwdefaults__
    return changed


def _numpy_with(**names: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(np), **names})


# -- arrays ----------------------------------------------------------------------------------


def _dot(a: Array, b: Array) -> Any:
    return a.dot(b)


def _norm(a: Array) -> float:
    return math.sqrt(a.dot(a))


def _cross(a: Array, b: Array) -> Array:
    x, y, z = a.tolist()
    u, v, w = b.tolist()
    return np.array((y * w - z * v, z * u - x * w, x * v - y * u))


SHORT_ARRAYS = _numpy_with(dot=_dot, cross=_cross, linalg=SimpleNamespace(norm=_norm))
"""NumPy for arrays of shape (3,)."""


# -- vectors that remember -------------------------------------------------------------------

_NUMBERS = count()


class Vector:
    """A vector of shape (3,) that remembers what was computed of it, and with which other vectors.

    For functions that compute the same over and over: order parameters look at all triples of neighbours, and
    most of what they need depends on two of the three.
    """

    __slots__ = ("array", "differences", "inners", "length", "number", "rests", "unit")

    def __init__(self, array: Array) -> None:
        self.array = array
        self.length = math.sqrt(array.dot(array))
        self.unit: Vector | None = None
        # Others are known by their numbers: if vectors held each other, only the garbage collector, whose
        # rounds take longer than the sums, would free them.
        self.number = next(_NUMBERS)
        self.differences: dict[int, Vector] = {}
        self.inners: dict[int, float] = {}
        self.rests: dict[int, Vector] = {}

    def __sub__(self, other: Vector) -> Vector:
        found = self.differences.get(other.number)
        if found is None:
            found = self.differences[other.number] = Vector(self.array - other.array)
        return found

    def __truediv__(self, divisor: float) -> Vector:
        if divisor != self.length:
            return Vector(self.array / divisor)
        if self.unit is None:
            self.unit = Vector(self.array / divisor)
        return self.unit

    def __getitem__(self, axis: int) -> Any:
        return self.array[axis]


def _inner(a: Vector, b: Vector) -> float:
    found = a.inners.get(b.number)
    if found is None:
        found = a.inners[b.number] = b.inners[a.number] = float(a.array.dot(b.array))
    return found


def _length(a: Vector) -> float:
    return a.length


def gramschmidt(vin: Vector, uin: Vector) -> Vector:
    """The part of ``vin`` orthogonal to ``uin``. Raises ValueError where ``uin`` is 0, as pymatgen's."""
    found = vin.rests.get(uin.number)
    if found is None:
        square = _inner(uin, uin)
        if square <= 0.0:
            raise ValueError("Zero or negative inner product!")
        found = vin.rests[uin.number] = Vector(vin.array - (_inner(vin, uin) / square) * uin.array)
    return found


VECTORS = _numpy_with(inner=_inner, linalg=SimpleNamespace(norm=_length))
"""NumPy for :class:`Vector`."""
