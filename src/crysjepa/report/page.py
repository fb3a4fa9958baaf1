"""A run's results as one self-contained HTML page, ``report.html``.

The page is made from saved files only, loads nothing from anywhere and runs no script. Every
text that comes from a file is escaped: ids, formulas and reasons are other people's.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from crysjepa.energy.support import SUPPORT_SAYS
from crysjepa.report.cards import formula_of, make_card
from crysjepa.report.figures import hull_figure, map_figure, rates_figure
from crysjepa.report.funnel import funnel, near_misses, passed, reasons, shortlist
from crysjepa.report.objectives import RATES as AIMED
from crysjepa.report.objectives import aims_of, front_figure, rows_of, values_of
from crysjepa.report.rate_names import RATES
from crysjepa.report.results import Results, plain, rate_interval, read_results, real, with_controls
from crysjepa.report.sentences import caveats, change, converged, headline, listed_notes, plainly
from crysjepa.report.style import INK, LINE, MUTED, PAPER, house_style, save_figure
from crysjepa.report.wording import (
    breakable,
    drawn_formula,
    flat,
    formula,
    number,
    percent,
    score_meaning,
    significant,
    space_group,
)
from crysjepa.runtime.files import write_bytes

MAX_ROWS = 200
"""Rows of the short list that the page shows; it says how many more there are."""

_PAGE_COLOURS = {INK: "currentColor", MUTED: "var(--muted)", LINE: "var(--line)", PAPER: "var(--paper)"}
_MAX_REASONS = 12
_MAX_FORMULAS, _MAX_LABELS = 15, 60  # on the map: with formula, with rank


def write_report(run: str | Path) -> Path:
    """Write ``report.html`` into a run folder from the results saved there, and return its path.

    The same files give the same bytes, whatever the order of their rows.

    Raises
    ------
    FileNotFoundError
        If a result is missing; the message names the verb that makes it.
    ValueError
        If a result cannot be read; the message names the file.
    """
    run = Path(run)
    html = render(read_results(run))
    write_bytes(run / "report.html", html.encode("utf-8", "replace"))
    return run / "report.html"


def page_environment() -> jinja2.Environment:
    """How every page is made: what it is given is text, and what it is not given is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("crysjepa.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(results: Results) -> str:
    """The page as text."""
    environment = page_environment()
    environment.filters |= {
        "number": number,
        "percent": percent,
        "significant": significant,
        "formula": formula,
        "space_group": space_group,
        "breakable": breakable,
        "count": lambda n: f"{n:,}",
        "whole": lambda n: number(real(n), 0),
        "reprefix": _reprefix,
    }
    listed = shortlist(results)
    missed = [] if listed else near_misses(results)
    shown = missed or [(row, ()) for row in listed[:MAX_ROWS]]
    aims = aims_of(results)
    cards = [
        replace(make_card(results, row, texts, f"c{i}"), values=values_of(results, aims, row))
        for i, (row, texts) in enumerate(shown)
    ]
    ranker = plain(results.protocol.get("ranker"), 60)
    survived = passed(results.generated)["stable"]
    survivors = int(survived.sum())
    new = None
    if "novelty_grade" in results.frame:
        new = int((results.generated["novelty_grade"] == "new formula").fillna(False)[survived].sum())
    return environment.get_template("report.html.j2").render(
        headline=headline(results, survivors, len(listed), new),
        total=len(results.generated),
        listed=len(listed),
        survivors=survivors,
        cards=cards,
        rounds=results.rounds,
        rows=with_controls(results.rounds),
        plainly=plainly(results, listed),
        support_says=SUPPORT_SAYS,
        likely=any(card.chance is not None for card in cards),
        closed="closed_hull" in results.trust,
        funnels=[(part, funnel(results, part)) for part in results.rounds],
        reasons=reasons(results),
        max_reasons=_MAX_REASONS,
        aims=aims,
        aimed=(list(AIMED.values()), rows_of(results.rounds)),
        rates=RATES,
        interval=rate_interval,
        change=change(results.rounds),
        figure=_figures(results, listed),
        converged=converged(results),
        threshold=results.threshold,
        ranker=ranker,
        score_meaning=score_meaning(ranker),
        caveats=caveats(results, listed),
        notes=listed_notes(results.metrics.get("notes")),
        protocol=list(flat(results.protocol)),
        details=[
            ("Configuration", "config.json", list(flat(results.config))),
            ("Versions, seeds, hashes and times", "run.json", list(flat(results.run))),
        ],
    )


# -- figures -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """The page's figures as inline SVG, None where there was nothing to draw."""

    rates: Markup | None
    hull: Markup | None
    map: Markup | None
    front: Markup | None


def _figures(results: Results, listed: Sequence[int]) -> Figures:
    labels = dict.fromkeys(listed, "")
    for i, row in enumerate(listed[:_MAX_LABELS]):
        name = drawn_formula(formula_of(results, row)) if i < _MAX_FORMULAS else ""
        labels[row] = f"{i + 1} {name}".strip()
    rates = rates_figure(with_controls(results.rounds))
    hull = hull_figure(results.frame, results.rounds, results.threshold)
    front = front_figure(results, aims_of(results), listed)
    plane = map_figure(results.frame, results.rounds, results.reference_map, labels)
    return Figures(
        inline_svg(rates, "rates", "Rates of each round with their intervals; the table has the numbers"),
        inline_svg(hull, "hull", "Histograms of the energy above hull, one for each round"),
        inline_svg(plane, "map", "Map of the embeddings with known crystals, candidates and short list"),
        inline_svg(front, "front", "Properties that were asked for against the energy above the hull"),
    )


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


def _reprefix(picture: Markup, copy: int) -> Markup:
    """A picture shown a second time, under ids of its own."""
    return Markup(re.sub(r'(id="|url\(#)(c\d+-)', rf"\g<1>s{copy}\g<2>", str(picture)))
