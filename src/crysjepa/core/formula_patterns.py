"""Formulas that are asked for: exact ones such as LiMnPO4, and anonymous ones such as ABX3.

Light, so that the command line can look at a formula before anything is read.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import gemmi

from crysjepa.core.limits import MAX_SITES

LETTERS = frozenset("ABCDEMX")
"""Letters that may stand for any element. B and C are elements as well."""
_GROUP = re.compile(r"\(([^()]+)\)(\d*)")
_PART = re.compile(r"([A-Z][a-z]?)(\d*)")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_HOW = "give one such as LiMnPO4, or letters for any elements such as ABX3"


@dataclass(frozen=True)
class FormulaPattern:
    """A reduced formula, of these elements or of any.

    Attributes
    ----------
    name
        As it was given, reduced.
    counts
        Atoms of each element in a formula unit, without a common divisor.
    elements
        Atomic numbers in the order of ``counts``, rising; None for an anonymous formula, whose counts rise.
    factor
        By what the formula that was given was divided.
    """

    name: str
    counts: tuple[int, ...]
    elements: tuple[int, ...] | None = None
    factor: int = field(default=1, compare=False)

    @classmethod
    def parse(cls, text: str) -> FormulaPattern:
        """From text.

        A formula is anonymous if one of its symbols is a letter of :data:`LETTERS` that is no element (A, D,
        E, M, X). Then all of them are such letters, each for another element; B among them only beside A, and
        C beside A and B.

        Raises
        ------
        ValueError
            For what is no formula, and for one that could be read in two ways.
        """
        counts = _counts(text.strip().translate(_SUBSCRIPTS))
        unknown = [s for s in counts if s not in LETTERS and not _number(s)]
        if unknown:
            raise ValueError(f"{unknown[0]!r} in the formula {text} is no element: {_HOW}")
        factor = math.gcd(*counts.values())
        reduced = {s: n // factor for s, n in counts.items()}
        name = "".join(s + str(n) * (n > 1) for s, n in reduced.items())
        if all(_number(s) for s in counts):
            pairs = sorted((_number(s), n) for s, n in reduced.items())
            return cls(name, tuple(n for _, n in pairs), tuple(z for z, _ in pairs), factor)
        _refuse_ambiguous(text, counts)
        return cls(name, tuple(sorted(reduced.values())), None, factor)

    @property
    def num_elements(self) -> int:
        """How many elements it has."""
        return len(self.counts)

    @property
    def num_atoms(self) -> int:
        """Atoms of a formula unit."""
        return sum(self.counts)

    @property
    def exact(self) -> tuple[tuple[int, int], ...] | None:
        """(Atomic number, count) pairs in rising order; None for an anonymous formula."""
        return None if self.elements is None else tuple(zip(self.elements, self.counts, strict=True))

    def fits(self, formula: Sequence[tuple[int, int]]) -> bool:
        """Whether a reduced formula, (atomic number, count) pairs in rising order, is one of these."""
        if self.elements is not None:
            return tuple(formula) == self.exact
        return tuple(sorted(n for _, n in formula)) == self.counts


def _number(symbol: str) -> int:
    """The atomic number; 0 for what is no element, deuterium by its own letter included."""
    return 0 if symbol == "D" else int(gemmi.Element(symbol).atomic_number)


def _counts(text: str) -> dict[str, int]:
    """Atoms by symbol, in the order of the text. Raises ValueError for what is no formula."""
    flat = text
    while (found := _GROUP.search(flat)) is not None:
        many = int(found[2] or 1)
        if not (inner := _PART.findall(found[1])) or _PART.sub("", found[1]):
            break
        inside = "".join(f"{s}{int(n or 1) * many}" for s, n in inner)
        flat = flat[: found.start()] + inside + flat[found.end() :]
    if not flat or _PART.sub("", flat):
        raise ValueError(f"{text!r} is no formula: {_HOW}")
    counts: Counter[str] = Counter()
    for symbol, n in _PART.findall(flat):
        counts[symbol] += int(n or 1)
    if 0 in counts.values() or counts.total() > MAX_SITES:
        raise ValueError(f"{text!r} is no formula of 1 to {MAX_SITES} atoms: {_HOW}")
    return dict(counts)


def _refuse_ambiguous(text: str, counts: dict[str, int]) -> None:
    """Raises ValueError for an anonymous formula whose symbols could also be elements."""
    letters = [s for s in counts if not _number(s)]
    beyond = [s for s in counts if s not in LETTERS]
    if beyond:
        raise ValueError(
            f"the formula {text} has letters for any element ({', '.join(letters)}) and elements "
            f"({', '.join(beyond)}): use letters alone ({', '.join(sorted(LETTERS))}), and say with "
            "--elements or --chemical-system which elements they may be"
        )
    for letter, needs in (("B", "A"), ("C", "AB")):
        if letter in counts and not set(needs) <= counts.keys():
            meant = {"B": "boron", "C": "carbon"}[letter]
            raise ValueError(
                f"{letter} in the formula {text} may be {meant} or any element: beside "
                f"{' and '.join(needs)} it stands for any; for {meant}, name all elements"
            )
