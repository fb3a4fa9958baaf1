"""The look of the report's figures, whatever matplotlib settings the user has.

Colours are Okabe and Ito's, and every series has a marker or a hatch of its own as well. ``INK``,
``MUTED``, ``LINE`` and ``PAPER`` stand for the page's own colours, which :mod:`crysjepa.report.svg`
puts in their place, so that a figure reads well on a dark page too.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from crysjepa.runtime.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#1d2227", "#5d656e", "#d5d9de", "#fdfdfc"
ROUND_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
ROUND_MARKERS = ("o", "s", "^", "D", "v", "P")
HIGHLIGHT = "#d55e00"

_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "text.parse_math": False,  # a "$" in somebody's text is a dollar sign
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "crysjepa",
}

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's defaults and the report's settings, whatever the user's own are."""
    import matplotlib.style

    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # Names that a user gave may hold letters the measuring font lacks; the page's font is another.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def in_house_style(draw: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        with house_style():
            return draw(*args, **kwargs)

    return styled


def new_figure(**options: Any) -> Figure:
    """An empty figure. Matplotlib is imported with the first: a page without figures does not wait for it."""
    from matplotlib.figure import Figure

    return Figure(layout="constrained", **options)


def save_figure(figure: Figure, path: Path) -> None:
    """As a file that stands by itself: light background, no date, all or nothing."""
    kind = path.suffix[1:]
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with house_style():
        figure.savefig(buffer, format=kind, metadata=metadata, facecolor=PAPER, dpi=160)
    write_bytes(path, buffer.getvalue())
