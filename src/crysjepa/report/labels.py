"""Labels of points in a figure, each where it covers nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crysjepa.report.style import INK, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox


def place_labels(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write labels where they cover neither one another nor a marked point; leave out what has no place."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    FigureCanvasAgg(figure).draw()
    # The layout is done; a label must not move the axes under the others.
    figure.set_layout_engine("none")
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    pixel = figure.dpi / 72
    marks = axes.transData.transform([(x, y) for x, y, _ in points]) if points else np.zeros((0, 2))
    taken = [Bbox.from_extents(*(m - 7 * pixel), *(m + 7 * pixel)) for m in marks]
    frame = axes.get_window_extent(renderer)
    for x, y, text in points:
        for dx, dy in _places():
            side = "left" if dx > 3 else "right" if dx < -3 else "center"
            note = axes.annotate(
                text,
                (x, y),
                (dx, dy),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=9,
                zorder=5,
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
                arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
                if np.hypot(dx, dy) > 16
                else None,
            )
            box = _text_box(note, renderer)
            inside = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            note.remove()


def _places() -> Iterator[tuple[float, float]]:
    """Offsets in points to try, nearest first."""
    for radius in (11, 20, 32, 46, 62):
        for angle in np.radians([0, 180, 90, 270, 35, 145, 215, 325]):
            yield radius * float(np.cos(angle)), radius * float(np.sin(angle))


def _text_box(note: Annotation, renderer: Any) -> Bbox:
    from matplotlib.text import Text

    note.update_positions(renderer)
    return Text.get_window_extent(note, renderer).padded(1.5)
