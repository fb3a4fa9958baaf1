"""What every reader gives: a crystal, or the reason for none; and what they share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from crysjepa.io.cif.blocks import RawCrystal, ReadError, brief

ID_COLUMNS = ("material_id", "id")
"""Names of the column, or of the frame's value, that holds a crystal's own id; the first that is there."""


class Quoted(str):
    """Text that its source says is text, such as ``"007"`` in JSON; in a CSV every cell is text."""

    __slots__ = ()


class Entry(NamedTuple):
    """One crystal as its source has it, or the ``reason`` for none; and the source's other values.

    ``lost`` names those that a table does not hold.
    """

    name: str
    crystal: RawCrystal | None
    reason: str = ""
    extra: Mapping[str, Any] = {}
    lost: tuple[str, ...] = ()


def attempt(name: str, read: Callable[[], RawCrystal], extra: Mapping[str, Any] | None = None) -> Entry:
    """What ``read`` returns, or the reason why it cannot, whatever it raises."""
    try:
        return Entry(name, read(), extra=extra or {})
    except BaseException as error:  # noqa: BLE001 - one crystal never ends the others; extension modules panic
        return Entry(name, None, reason_of(error), extra or {})


def reason_of(error: BaseException) -> str:
    """Why a crystal or a file could not be read; what is meant to end the program is raised again."""
    if isinstance(error, ReadError):
        return str(error)
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | Warning):
        raise error
    if isinstance(error, MemoryError):
        return "not enough memory to read it"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return f"unreadable ({type(error).__name__}: {brief(error)})"


def check_numbers(words: Iterable[str]) -> None:
    """Raise ReadError for a word such as ``0_25``, which Python takes for 25."""
    if odd := next((word for word in words if "_" in word), None):
        raise ReadError(f"{odd[:40]!r} is not a number")


def decode(data: bytes) -> str:
    """Text of a file of unknown encoding; a byte that is not UTF-8 becomes ``\\xe9`` and the like."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="backslashreplace")


def unicode_name(name: str) -> str:
    """``name`` as valid Unicode: a byte of a file's name that is not UTF-8 becomes ``\\xE9`` and the like."""
    try:
        name.encode()
        return name
    except UnicodeEncodeError:
        pass
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()


def own_name(values: Mapping[str, Any]) -> str:
    """The id among a source's values, or nothing."""
    for column in ID_COLUMNS:
        if (value := values.get(column)) is not None:
            return id_text(value)
    return ""


def id_text(value: Any) -> str:
    """An id as text: 101.0, which a table with gaps makes of 101, is ``101``; nothing for what is no id."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else str(value) * (value == value)
    return str(value).strip() if isinstance(value, str | int) else ""
