"""JSON text a member at a time, however long the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from crysjepa.io.cells import once
from crysjepa.io.cif.blocks import ReadError, brief

MAX_VALUE = 100_000_000
"""Characters of one value (a structure, or a column of a table) that are parsed."""
_BLOCK = 1_000_000
_BLANK = re.compile(r"[ \t\r\n\ufeff]*")

Item = tuple[str, Any]
"""The name that the file gives, or nothing; and the value, or the reason (a ReadError) for none."""


class JsonText:
    """JSON text, of which no more is in memory than the member that is being parsed."""

    def __init__(self, handle: TextIO) -> None:
        self.handle, self.buffer, self.at, self.ended = handle, "", 0, False
        self.damaged = False
        self._decoder = json.JSONDecoder(object_pairs_hook=once)

    def peek(self) -> str:
        """The next character that is not blank, or nothing at the end."""
        while True:
            self.at = _BLANK.match(self.buffer, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self._more(_BLOCK):
                return ""

    def _more(self, size: int) -> bool:
        block = "" if self.ended else self.handle.read(size)
        self.ended = not block
        self.buffer, self.at = self.buffer[self.at :] + block, 0
        return bool(block)

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self.buffer, self.at)
            except RecursionError as error:
                raise ReadError("JSON nested too deeply") from error
            except ValueError as error:
                if len(self.buffer) - self.at > MAX_VALUE:
                    raise ReadError(f"a value of more than {MAX_VALUE / 1e6:.0f} MB") from error
                if not self._more(max(_BLOCK, len(self.buffer) - self.at)):
                    raise ReadError(f"unparsable or truncated JSON: {brief(error)}") from error
            else:
                if end < len(self.buffer) or not self._more(_BLOCK):  # a number may go on
                    self.at = end
                    return found

    def members(self) -> Iterator[Item]:
        """Members of the list or object that begins here; for all behind a fault, one that says so."""
        try:
            yield from self._members()
        except ReadError as error:
            self.damaged = True
            yield "", error

    def rest(self) -> Iterator[Item]:
        """Values behind the first, of JSON lines under the name of JSON; or what is wrong with them."""
        while not self.damaged and self.peek():
            try:
                yield "", self.value()
            except ReadError as error:
                self.damaged = True
                yield "", error

    def _members(self) -> Iterator[Item]:
        closing = {"[": "]", "{": "}"}[self.peek()]
        self.at += 1
        while (mark := self.peek()) != closing:
            key = ""
            if closing == "}":
                key = self.value() if mark == '"' else ""
                if self.peek() != ":":
                    raise ReadError("unparsable or truncated JSON: a colon is missing")
                self.at += 1
            yield str(key), self.value()
            if (mark := self.peek()) not in (",", closing):
                raise ReadError("unparsable or truncated JSON: a comma is missing")
            self.at += mark == ","
        self.at += 1
