"""A run's results as one self-contained HTML page, ``report.html``.

The page is made from saved files only and loads nothing from anywhere. It runs two scripts that ship with
the package and stand in it (:mod:`crysjepa.report.scripts`), and is whole without them. Every text that comes
from a file is escaped: ids, formulas and reasons are other people's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from crysjepa.energy.support import SUPPORT_SAYS
from crysjepa.report.cards import formula_of
from crysjepa.report.crystals import crystal_list
from crysjepa.report.embedding import Table
from crysjepa.report.figures import hull_figure, map_figure, rates_figure
from crysjepa.report.funnel import funnel, near_misses, passed, reasons, shortlist
from crysjepa.report.html import page_environment
from crysjepa.report.hulls import Phase, hull_pictures, read_phases
from crysjepa.report.judged import judged_tables
from crysjepa.report.objectives import RATES as AIMED
from crysjepa.report.objectives import aims_of, front_figure, rows_of
from crysjepa.report.provenance import sources
from crysjepa.report.rate_names import RATES
from crysjepa.report.reliability import reliability_figure
from crysjepa.report.results import Results, plain, rate_interval, read_results, with_controls
from crysjepa.report.sentences import caveats, change, converged, headline, listed_notes, plainly
from crysjepa.report.svg import inline_svg
from crysjepa.report.wording import drawn_formula, flat, score_meaning
from crysjepa.runtime.files import write_bytes

MAX_ROWS = 200
"""Rows of the short list that the page shows; it says how many more there are."""

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
    html = render(read_results(run), read_phases(run))
    write_bytes(run / "report.html", html.encode("utf-8", "replace"))
    return run / "report.html"


def render(results: Results, phases: Sequence[Phase] = ()) -> str:
    """The page as text; ``phases`` are what the crystals compete with."""
    listed = shortlist(results)
    missed = [] if listed else near_misses(results)
    shown = missed or [(row, ()) for row in listed[:MAX_ROWS]]
    aims = aims_of(results)
    found = crystal_list(results, shown, aims)
    ranker = plain(results.protocol.get("ranker"), 60)
    survived = passed(results.generated)["stable"]
    survivors = int(survived.sum())
    new = None
    if "novelty_grade" in results.frame:
        new = int((results.generated["novelty_grade"] == "new formula").fillna(False)[survived].sum())
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            headline=headline(results, survivors, len(listed), new),
            total=len(results.generated),
            listed=len(listed),
            survivors=survivors,
            list=found,
            cards=found.cards,
            scripts=found.scripts,
            sources=sources(results),
            hulls=hull_pictures(results, [row for row, _ in shown], found.cards, phases),
            judged=_side_by_side(results, listed),
            reliability=inline_svg(
                reliability_figure(results.frame), "reliability", "Chances against what DFT says"
            ),
            rounds=results.rounds,
            rows=with_controls(results.rounds),
            plainly=plainly(results, listed),
            support_says=SUPPORT_SAYS,
            likely=any(card.chance is not None for card in found.cards),
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
    )


def _side_by_side(results: Results, listed: Sequence[int]) -> Table | None:
    """What several judges say of the short list; None by one judge, which the list itself shows."""
    part = results.frame.iloc[list(listed)]
    first = plain(results.protocol.get("force_field"), 40)
    tables = judged_tables(part, results.trust, "candidates.parquet", first) if results.judges else []
    return tables[0] if tables else None


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
