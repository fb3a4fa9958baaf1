"""How the pages write numbers, formulas and symbols, and the words for an order of crystals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from crysjepa.report.results import plain, real

_DISTANCES = {"jepa-distance": "distance D_C", "fingerprint": "distance of fingerprints"}
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def score_meaning(ranker: str) -> str:
    """What a ranker's score is, with its unit; "" if the ranker was not recorded."""
    if not ranker or ranker == "random":
        return "drawn at random" if ranker else ""
    return _DISTANCES.get(ranker, "energy above hull, eV/atom")


@dataclass(frozen=True)
class Along:
    """The words for an order of crystals along a column: a distance has near ones, any other number low ones.

    ``ranker`` is what the column ``score`` is by, if that was recorded.
    """

    column: str
    ranker: str = ""

    @property
    def is_distance(self) -> bool:
        return self.column.endswith("distance") or (self.column == "score" and self.ranker in _DISTANCES)

    @property
    def name(self) -> str:
        """Of the column, for people."""
        if self.column == "score":
            return f"score by {self.ranker}" if self.ranker else "score"
        return plain(self.column.replace("_", " ") if self.is_distance else self.column, 40)

    @property
    def first(self) -> str:
        return "nearest" if self.is_distance else "lowest"

    @property
    def last(self) -> str:
        return "farthest" if self.is_distance else "highest"

    @property
    def those_first(self) -> str:
        """Which crystals come first."""
        return f"nearest to known ones ({self.name})" if self.is_distance else f"with the lowest {self.name}"


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and values of a nested dictionary, in its own order."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from flat(value, f"{path}.{plain(key)}" if path else plain(key))
    elif isinstance(tree, str):
        yield path, plain(tree)
    elif path:
        yield path, plain(json.dumps(tree, ensure_ascii=False))


# -- numbers and formulas ------------------------------------------------------------------------


def number(value: float | None, digits: int = 3) -> str:
    """A number with a proper minus sign, "–" if there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if not float(text.replace(",", "")) else text.replace("-", "\N{MINUS SIGN}")


def significant(value: float | None) -> str:
    """A number with four significant digits, "–" if there is none."""
    return "–" if value is None else f"{value:#.4g}".rstrip(".").replace("-", "\N{MINUS SIGN}")


def percent(value: Any) -> str:
    """A fraction as percent with one decimal, "–" if there is none."""
    fraction = real(value)
    return "–" if fraction is None else f"{100 * fraction:.1f} %"


def interval_text(interval: Sequence[float] | None) -> str:
    """An interval of fractions in percent."""
    return "–" if not interval else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def rate_with_interval(metrics: Mapping[str, Any], name: str) -> str:
    """A rate of ``metrics.json`` in percent, "51.4 (47–56)"; "–" if it was not judged."""
    if metrics.get(name) is None:
        return "–"
    low, high = metrics["intervals"][name]
    return f"{100 * metrics[name]:.1f} ({100 * low:.0f}–{100 * high:.0f})"


def share_with_interval(rate: Mapping[str, Any] | None) -> str:
    """A ``share`` and its ``interval`` in percent, as :func:`rate_with_interval` writes them."""
    if not rate:
        return "–"
    return rate_with_interval({"rate": rate["share"], "intervals": {"rate": rate["interval"]}}, "rate")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, without an empty line around it."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

    return "\n".join([line(columns), "|" + "---|" * len(columns), *map(line, rows)])


def formula(text: str) -> Markup:
    """A formula with its numbers as subscripts; any other text as it is."""
    if not re.fullmatch(r"(?:[A-Z][a-z]?|[()\[\]\d.])+", text):  # no part can match in two ways: never slow
        return escape(text)
    parts = re.split(r"(?<=[A-Za-z)\]])(\d+(?:\.\d+)?)", text)
    return Markup("").join(Markup("<sub>{}</sub>").format(p) if i % 2 else p for i, p in enumerate(parts))


def space_group(text: str) -> Markup:
    """A Hermann–Mauguin symbol with its bars and screw axes, such as P2_1/c or Fm-3m."""
    if not re.fullmatch(r"[PABCFIR][-/_\dabcdemn]*(?: ?\(\d+\))?", text):
        return escape(text)
    parts = re.split(r"(-\d|_\d)", text)
    marks = {"-": Markup('<span class="bar">{}</span>'), "_": Markup("<sub>{}</sub>")}
    return Markup("").join(marks[p[0]].format(p[1]) if i % 2 else p for i, p in enumerate(parts))


def drawn_formula(text: str) -> str:
    """Subscripts as characters, for places without markup; "" for what is no short formula."""
    if len(text) > 24 or not re.fullmatch(r"(?:[A-Z][a-z]?|[()\d])+", text):
        return ""
    return re.sub(r"\d+", lambda m: m[0].translate(_SUBSCRIPTS), text)


def breakable(path: str) -> Markup:
    """A path that may be broken after a slash."""
    return Markup("/<wbr>").join(escape(part) for part in path.split("/"))
