"""Figures as SVG inside a page, in the page's colours, and as files of their own."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from crysjepa.report.style import INK, LINE, MUTED, PAPER, house_style, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE_COLOURS = {INK: "currentColor", MUTED: "var(--muted)", LINE: "var(--line)", PAPER: "var(--paper)"}


def inline_svg(figure: Figure | None, name: str, label: str) -> Markup | None:
    """A figure as an SVG element to stand inside HTML, in the page's colours, without dates or outside names.

    ``name`` goes before every id, so that the ids of several figures differ. No figure gives None.
    """
    if figure is None:
        return None
    buffer = io.StringIO()
    with house_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _strip(root, name)
    width, height = root.attrib["viewBox"].split()[2:]
    for key in ("version", "width", "height"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": label, "class": "plot"}
    root.attrib["style"] = f"aspect-ratio:{float(width):g}/{float(height):g}"
    # Serialised by ElementTree, which escapes text and attributes.
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def save_figures(
    figures: Mapping[str, Figure | None], folder: Path, captions: Mapping[str, str]
) -> dict[str, Markup | None]:
    """Write each figure as PNG and SVG, and hand them back for a page; files of one that is None go."""
    for name, figure in figures.items():
        for path in (folder / f"{name}.png", folder / f"{name}.svg"):
            if figure is None:
                path.unlink(missing_ok=True)
            else:
                save_figure(figure, path)
    return {n: inline_svg(f, n, captions[n]) for n, f in figures.items() if f is not None}


def _strip(element: ElementTree.Element, name: str) -> None:
    """Drop namespaces, metadata and style sheets; make ids and references to them begin with ``name``."""
    element.tag = element.tag.rpartition("}")[2]
    old = dict(element.attrib)
    element.attrib.clear()
    for key, value in old.items():
        key = key.rpartition("}")[2]
        if key == "id":
            if element.tag == "g":  # matplotlib's own names of groups; nothing refers to them
                continue
            value = f"{name}-{value}"
        elif key == "href" and value.startswith("#"):
            value = f"#{name}-{value[1:]}"
        elif key in ("style", "clip-path", "fill", "stroke"):
            value = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", value)
            value = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", value)
            for colour, place in _PAGE_COLOURS.items():
                value = value.replace(colour, place)
        element.set(key, value)
    for child in list(element):
        if child.tag.rpartition("}")[2] in ("metadata", "style"):
            element.remove(child)
        else:
            _strip(child, name)
