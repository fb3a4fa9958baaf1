"""The page of ``crysjepa reproduce``: tables, figures, Markdown, from ``reproduction.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crysjepa.report.embedding import Table
from crysjepa.report.evaluation import mean_std, page, points
from crysjepa.report.evaluation_figures import plane_figure
from crysjepa.report.rate_bars import whiskers
from crysjepa.report.style import ROUND_COLOURS, in_house_style, new_figure
from crysjepa.report.svg import save_figures
from crysjepa.report.wording import flat, percent, rate_with_interval
from crysjepa.runtime.files import read_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {
    None: "base model", "jepa-distance": "D_C (the paper's)", "random": "random choice",
    "chgnet": "CHGNet, above the training set's hull", "jepa-hull": "jepa-hull (crysjepa's)",
    "fingerprint": "fingerprints, to the nearest training crystal",
}  # fmt: skip
_SHOWN = {"valid": "V", "stable": "S", "novel": "N", "sun": "S.U.N.", "vsun": "V.S.U.N."}


class Published(NamedTuple):
    """Of the paper's tables, mean percentages."""

    valid: float | None
    stable: float
    novel: float
    sun: float
    vsun: float


PUBLISHED: dict[str, dict[str | None, Published]] = {
    "paper-mp20": {
        None: Published(82.1, 48.4, 78.0, 27.8, 23.3),
        "fingerprint": Published(94.1, 53.1, 72.9, 22.9, 21.9),
        "chgnet": Published(96.8, 74.7, 77.4, 39.8, 38.2),
        "jepa-distance": Published(99.0, 76.6, 83.3, 45.2, 44.9),
    },
    "paper-alex-mp20": {
        None: Published(None, 69.0, 61.8, 33.2, 28.8),
        "jepa-distance": Published(None, 78.9, 85.1, 64.7, 64.6),
    },
}
"""Tables 1 and 2, and Table 3."""
CAPTIONS = {
    "plane": "Stability against novelty with 95 % intervals, before and after refinement: Fig. 1(a), 5(b).",
    "sweep": "V.S.U.N. after refinement against the share k that is learnt from, and 𝒩: Fig. 7.",
}


def write_reproduction(out: str | Path) -> Path:
    """Write ``reproduction.md``, ``reproduction.html`` and figures of ``reproduction.json``: the page."""
    out = Path(out)
    found = read_json(out / "reproduction.json")
    tables = [refinement(found), choices(found), beside_the_paper(found), departures(found)]
    rows = [r for r in found["rows"] if not r["swept"]]
    figures = {
        "plane": plane_figure(points([(_name(r), _metrics(r)) for r in rows])),
        "sweep": sweep_figure(found["rows"]),
    }
    inline = save_figures(figures, out, CAPTIONS)
    write_text(out / "reproduction.md", markdown(found, tables))
    html = page(
        kicker="the paper's experiment", title="Reproduction", headline=headline(found), lines=_lines(found),
        tables=tables, figures=inline, captions=CAPTIONS,
        details=[("Plan", list(flat(found["plan"]))), ("Versions", list(flat(found["versions"])))],
    )  # fmt: skip
    path = out / "reproduction.html"
    write_text(path, html)
    return path


def headline(found: Mapping[str, Any]) -> str:
    """Base to refined, in a sentence."""
    base = found["rows"][0]
    text = f"The base model: V.S.U.N. {_with_interval(base, 'vsun')}"
    for row in found["rows"]:
        if row["ranker"] == "jepa-distance" and not row["swept"]:
            return f"{text}; refined by D_C: {_with_interval(row, 'vsun')}, {_ratio(row)} times the base."
    return f"{text}."


def _lines(found: Mapping[str, Any]) -> list[str]:
    plan = found["plan"]
    scale = Fraction(plan["scale"]).limit_denominator(4096)
    return [
        f"{plan['preset']} at scale {scale}: {plan['num']:,} crystals drawn, networks {plan['size']}.",
        f"Relaxed and judged by {plan['force_field']}, against {Path(plan['hull']).name}; novelty is "
        f"judged against {Path(plan['reference']).name}.",
    ]


def refinement(found: Mapping[str, Any]) -> Table:
    """Tables 1 to 3 in shape."""
    rows = [
        (
            _name(row), *(_with_interval(row, key) for key in (*_SHOWN, "vsun_as_the_paper")), _ratio(row),
            _seeds(row), f"{row['num_crystals']:,}",
        )
        for row in found["rows"]
    ]  # fmt: skip
    seeds = len(found["plan"]["seeds"])
    over = (
        f"over the {seeds} seeds of fine-tuning, which are few, and over crystals; all share one base model"
        if seeds > 1
        else "over crystals alone: with one seed it does not say what another fine-tuning would give"
    )
    note = (
        "Percent of all that was drawn, with Wilson intervals of 95 %, which know of no difference between "
        "seeds. In the first V.S.U.N. nothing is novel that matches what the generator learnt from; the "
        f"second counts it as novel, like the paper. The ratio's interval is {over}."
    )
    more = ("V.S.U.N., novelty as in the paper", "times the base", "of each seed", "n")
    return Table("What the generator becomes", ("", *_SHOWN.values(), *more), rows, note)


def choices(found: Mapping[str, Any]) -> Table:
    """What each ranker chose of the pool."""
    rows = [
        (
            _name(row),
            f"{row['chosen']:,} of {row['chosen_of']:,}",
            percent(row["chosen_stable"] / max(row["chosen"], 1)),
        )
        for row in found["rows"]
        if row["chosen"] is not None
    ]
    note = "Stable by the judge and its hull. A random choice with the first seed."
    return Table("What was learnt from", ("", "of the V.U.N. crystals", "stable"), rows, note)


def beside_the_paper(found: Mapping[str, Any]) -> Table:
    """Means and standard deviations over batches, and the paper's means."""
    published = PUBLISHED[found["plan"]["preset"]]
    rows = []
    for row in found["rows"]:
        theirs = published.get(row["ranker"])
        if row["swept"] or theirs is None:
            continue
        rows.append((_name(row), *(mean_std(row["spread"].get(key)) for key in _SHOWN)))
        rows.append((f"{_name(row)}, the paper", *(_plain(getattr(theirs, key)) for key in _SHOWN)))
    note = (
        "Percent, mean ± standard deviation over batches; what was learnt from may count as novel, like in "
        "the paper. The paper's models, its judge and its hull are others (see below): compare the ratio of "
        "two rows, not the rows."
    )
    return Table("Beside the paper", ("", *_SHOWN.values()), rows, note)


def departures(found: Mapping[str, Any]) -> Table:
    """In what this is not the paper's experiment."""
    rows = [(d["paper"], d["here"], d["reason"]) for d in found["deviations"]]
    return Table("Where it departs from the paper", ("the paper", "here", "reason"), rows)


def markdown(found: Mapping[str, Any], tables: Sequence[Table]) -> str:
    """The tables as text."""
    parts = ["# Reproduction", headline(found), *_lines(found)]
    for table in tables:
        parts.append(f"## {table.title}")
        parts += [table.note] if table.note else []
        lines = [table.columns, ("---",) * len(table.columns), *table.rows]
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in lines))
    return "\n\n".join(parts) + "\n"


@in_house_style
def sweep_figure(rows: Sequence[Mapping[str, Any]]) -> Figure | None:
    """V.S.U.N. against k, and against the share of the pool; None where neither was varied."""
    ours = [r for r in rows if r["ranker"] == "jepa-distance"]
    if not any(r["swept"] for r in ours):
        return None
    figure = new_figure(figsize=(9.0, 3.6))
    panels = figure.subplots(1, 2, sharey=True)
    main = next(r for r in ours if not r["swept"])
    for panel, key, other, label in (
        (panels[0], "learnt", "share", "k, share of the V.U.N. crystals, %"),
        (panels[1], "share", "keep", "N, % of all that were drawn"),
    ):
        line = [{**r, "learnt": r["chosen"] / r["chosen_of"]} for r in ours if r[other] == main[other]]
        line.sort(key=lambda r: r[key])
        rates = [r["rates"]["vsun"] for r in line]
        panel.errorbar(
            [100 * r[key] for r in line], [100 * v for v in rates],
            yerr=whiskers(rates, [r["intervals"]["vsun"] for r in line]),
            fmt="o-", color=ROUND_COLOURS[0], capsize=2,
        )  # fmt: skip
        panel.set_xscale("log")
        panel.set_xticks([100 * r[key] for r in line], [f"{100 * r[key]:.3g}" for r in line])
        panel.set_xticks([], minor=True)
        panel.set_xlabel(label)
    panels[0].set_ylabel("V.S.U.N. of the refined model, %")
    return figure


def _name(row: Mapping[str, Any]) -> str:
    name = NAMES.get(row["ranker"], str(row["ranker"]))
    if not row["swept"]:
        return name
    return f"{name}, k = {100 * row['keep']:g} %, {100 * row['share']:g} % of the pool"


def _metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's rates as ``metrics.json`` has them."""
    return {**row["rates"], "intervals": row["intervals"]}


def _with_interval(row: Mapping[str, Any], key: str) -> str:
    return rate_with_interval(_metrics(row), key)


def _ratio(row: Mapping[str, Any]) -> str:
    if row["ratio"] is None:
        return "–"
    return "{:.2f} ({:.2f}–{:.2f})".format(*row["ratio"])


def _seeds(row: Mapping[str, Any]) -> str:
    return "–" if row["ranker"] is None else ", ".join(f"{100 * v:.1f}" for v in row["by_seed"])


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
