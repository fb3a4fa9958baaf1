"""The syntax of CIF: data blocks, items and numbers. gemmi parses; names are compared in lower case.

``_cell.length_a`` of the newer dictionaries is ``_cell_length_a`` here.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import gemmi

from crysjepa.runtime.notes import ReadError as ReadError

MAX_CRYSTAL_BYTES = 10_000_000
"""Text of one crystal beyond this size is not parsed."""

_MINUS_SIGNS = "\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d"
_SPACES = "\u00a0\u2007\u202f\u3000\x0b\x0c"
_PLAIN = str.maketrans({**dict.fromkeys(_MINUS_SIGNS, "-"), **dict.fromkeys(_SPACES, " "), "\r": "\n"})

_USED = re.compile(r"_(atom_site|cell|symmetry|space_group|chemical_formula|magnetic|parent_)")


def brief(error: BaseException) -> str:
    """The first line of an error's message, or its type."""
    lines = str(error).strip().splitlines()
    return (lines[0][:160] if lines else "") or type(error).__name__


# -- blocks ----------------------------------------------------------------------------------------------


Content = gemmi.cif.Block | str
"""A data block, or the text of a malformed one."""


def split_blocks(text: str) -> list[tuple[str, Content]]:
    """Name and content of each data block that could hold a crystal.

    Blocks without cell and sites (a publication's bibliography, say) are left out, unless there is no other.

    Raises
    ------
    ReadError
        If there is no data block at all.
    """
    text = _plain(text)
    blocks: list[tuple[str, Content]] = []
    if len(text) <= MAX_CRYSTAL_BYTES:  # else each piece for itself
        with suppress(ReadError):
            blocks = [(block.name.strip(), block) for block in _parsed(text)]
    if not blocks:
        blocks = [part for piece in _pieces(text) for part in _sound_or_smaller(piece)]
    if not blocks:
        raise ReadError("no data block: not a CIF")
    return [block for block in blocks if _may_hold_a_crystal(block[1])] or blocks[:1]


def parse_block(text: str) -> gemmi.cif.Block:
    """The one data block of a text.

    Raises
    ------
    ReadError
        If it is malformed, or not one.
    """
    if len(text) > MAX_CRYSTAL_BYTES:
        limit = MAX_CRYSTAL_BYTES / 1e6
        raise ReadError(f"{len(text) / 1e6:.0f} MB of text for one crystal (limit {limit:.0f})")
    blocks = _parsed(_plain(text))
    if len(blocks) != 1:
        raise ReadError(f"{len(blocks)} data blocks instead of one")
    return blocks[0]


def _plain(text: str) -> str:
    """ASCII text: what means minus becomes one, any other foreign sign an escape. None is deleted."""
    text = text.replace("\r\n", "\n").translate(_PLAIN)
    return text if text.isascii() else text.encode("ascii", "backslashreplace").decode()


def _parsed(text: str) -> list[gemmi.cif.Block]:
    try:
        return list(gemmi.cif.read_string(text, check_level=0))  # names are compared in items_of
    except (ValueError, RuntimeError) as error:
        raise ReadError(_syntax(brief(error))) from error


def _syntax(message: str) -> str:
    if "Wrong number of values in loop" in message:
        return "a loop is incomplete: the file seems truncated"
    where = re.match(r"string:(\d+):\d+\(\d+\): (.*)", message)
    return f"unparsable CIF, line {where[1]}: {where[2]}" if where else f"unparsable CIF: {message}"


def _pieces(text: str) -> list[str]:
    """The text from each ``data_`` to the next, those inside text fields passed over."""
    starts, at, in_text = [], 0, False
    for line in text.splitlines(keepends=True):
        if line.startswith(";"):
            in_text = not in_text
        elif not in_text and re.match(r"[ \t]*data_", line, re.IGNORECASE):
            starts.append(at)
        at += len(line)
    return [text[start:end] for start, end in itertools.pairwise([*starts, len(text)])]


def _sound_or_smaller(piece: str) -> list[tuple[str, Content]]:
    """The block of a piece; if it is malformed, an unclosed text field may have hidden further ones."""
    if len(piece) <= MAX_CRYSTAL_BYTES:
        with suppress(ReadError):
            return [(block.name.strip(), block) for block in _parsed(piece)]
    parts = re.split(r"^(?=[ \t]*data_)", piece, flags=re.MULTILINE | re.IGNORECASE)
    return [(part.split(maxsplit=1)[0][len("data_") :], part) for part in parts if part.strip()]


def _may_hold_a_crystal(block: Content) -> bool:
    telling = r"_(cell.length|atom_site)"
    if isinstance(block, str):
        return re.search(rf"^[ \t]*{telling}", block, re.MULTILINE | re.IGNORECASE) is not None
    return any(re.match(telling, tag, re.IGNORECASE) for item in block for tag in _tags(item))


def _tags(item: gemmi.cif.Item) -> list[str]:
    if isinstance(item.pair, list | tuple):
        return [item.pair[0]]
    return list(item.loop.tags) if item.loop is not None else []


# -- items -----------------------------------------------------------------------------------------------


class Items(NamedTuple):
    """What a block says of a crystal: values by name, and the loop in which each name stands."""

    values: Mapping[str, list[str]]
    loops: Mapping[str, int]

    def one(self, name: str) -> str | None:
        """The value of ``name``; None if it is unknown (``?``) or not applicable (``.``).

        Raises
        ------
        ReadError
            If there are several.
        """
        known = dict.fromkeys(v for v in self.values.get(name, ()) if not is_null(v))
        if len(known) > 1:
            raise ReadError(f"{name} has {len(known)} values")
        return next(iter(known), None)

    def known(self, *names: str) -> tuple[str, ...]:
        """All distinct values of these names that are known."""
        return tuple(dict.fromkeys(v for name in names for v in self.values.get(name, ()) if not is_null(v)))


def items_of(block: gemmi.cif.Block) -> Items:
    """The items of a block that say something of a crystal.

    Raises
    ------
    ReadError
        If a name is there twice with different values.
    """
    values: dict[str, list[str]] = {}
    loops: dict[str, int] = {}
    for number, item in enumerate(block):
        tags = _tags(item)
        if not any(_USED.match(tag.lower()) for tag in tags):
            continue
        cells = [item.pair[1]] if item.loop is None else item.loop.values
        plain_tags = [tag.lower().replace(".", "_") for tag in tags]
        if repeated := next((tag for tag in plain_tags if plain_tags.count(tag) > 1), None):
            raise ReadError(f"{repeated} is there twice in one loop: which one holds?")
        columns = {tag: cells[i :: len(tags)] for i, tag in enumerate(tags)}
        for tag, column in columns.items():
            name = tag.lower().replace(".", "_")
            if not _USED.match(name):
                continue
            plain = [_unquoted(value) for value in column]
            if values.setdefault(name, plain) != plain:
                what = (
                    "two loops of atom sites" if name.startswith("_atom_site_") else f"{name} is there twice"
                )
                raise ReadError(f"{what}: which one holds?")
            loops[name] = number
    return Items(values, loops)


def _unquoted(value: str) -> str:
    return gemmi.cif.as_string(value) if value[:1] in "'\";" and value else value


def is_null(value: str) -> bool:
    """Whether a value is unknown or not applicable."""
    return value.strip() in ("", "?", ".")


def number(text: str, what: str) -> float:
    """A number, its uncertainty in brackets left off.

    Raises
    ------
    ReadError
        For anything else; ``what`` begins the reason.
    """
    value = gemmi.cif.as_number(text)
    if math.isnan(value) or ("(" in text and not re.search(r"\(\d*\)$", text)):
        if re.fullmatch(r"[-+]?(nan|inf|infinity|\d[\d.]*e\d+)", text, re.IGNORECASE):
            raise ReadError(f"{what} is not finite ({text[:40]})")
        raise ReadError(f"{what} is {shown(text)}, not a number")
    return value


def shown(text: str) -> str:
    """A short piece of a file, quoted; the escapes of foreign signs as they are."""
    return repr(text[:40]).replace("\\\\", "\\")
