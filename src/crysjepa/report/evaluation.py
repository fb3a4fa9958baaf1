"""The page of ``crysjepa evaluate``: rates, spread and figures of one set, from what its folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.support import SUPPORT_SAYS, TOO_LOW, Support
from crysjepa.matching.grades import Grade
from crysjepa.report.crystals import crystal_list
from crysjepa.report.embedding import Table
from crysjepa.report.evaluation_figures import Point, energies_figure, plane_figure
from crysjepa.report.funnel import near_misses
from crysjepa.report.genbench import genbench_tables
from crysjepa.report.html import page_environment
from crysjepa.report.hulls import hull_pictures, read_phases
from crysjepa.report.judged import judged_tables
from crysjepa.report.provenance import sources
from crysjepa.report.rate_names import NAMES
from crysjepa.report.reliability import reliability_figure
from crysjepa.report.results import Results, numbers, plain, real, truths
from crysjepa.report.svg import inline_svg
from crysjepa.report.wording import flat, interval_text, number, percent, score_meaning
from crysjepa.report.yardsticks import yardstick_tables
from crysjepa.runtime.files import read_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LISTED = 60
"""Crystals on the page: each takes some hundredths of a second for its picture and its CIF."""
_MAX_REASONS = 15


def write_evaluation(folder: str | Path) -> Path:
    """Write ``evaluation.html`` from the folder's ``metrics.json`` and ``crystals.parquet``.

    The same files give the same bytes. Raises FileNotFoundError if one of them is missing:
    ``crysjepa evaluate`` makes them.
    """
    folder = Path(folder)
    metrics = read_json(folder / "metrics.json")
    table = CandidateTable.read(folder / "crystals.parquet")
    frame = table.frame
    figures = _figures(frame, metrics)
    html = page(
        kicker="evaluation of crystals",
        title="Evaluation of crystals",
        headline=headline(metrics),
        lines=[metrics["citation"]],
        tables=[
            rates_table(metrics),
            *batch_tables(metrics),
            *trust_tables(frame),
            *judged_tables(frame, metrics.get("trust"), "crystals.parquet", _judge(metrics)),
            spread_table(metrics),
            *genbench_tables(metrics.get("genbench")),
            *yardstick_tables(folder, metrics),
            ends_table(frame),
        ],
        figures={name: inline_svg(figure, name, name) for name, figure in figures.items()},
        captions={
            "energies": "Energies above hull, as in Fig. 4 of the paper. The dashed line is the limit.",
            "plane": "Stability against novelty, as in Fig. 1(a) of the paper.",
        },
        details=[("Protocol", list(flat(metrics["protocol"])))],
        **_crystals(table, metrics, folder),
    )
    path = folder / "evaluation.html"
    write_text(path, html)
    return path


def _figures(frame: pd.DataFrame, metrics: Mapping[str, Any]) -> dict[str, Figure]:
    """Those that have something to show: without any, matplotlib is not imported, which takes a while."""
    energies = numbers(frame, "e_above_hull")
    found: dict[str, Figure | None] = {}
    if np.isfinite(energies).any():
        limit = real(metrics["protocol"]["e_above_hull_max"])
        found["energies"] = energies_figure({"all crystals": energies}, limit)
    if place := points([("these crystals", metrics)]):
        found["plane"] = plane_figure(place)
    return {name: figure for name, figure in found.items() if figure is not None}


def _judge(metrics: Mapping[str, Any]) -> str:
    return plain(metrics["protocol"].get("force_field"), 40)


def _crystals(table: CandidateTable, metrics: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The parts of the page that list crystals, draw their hulls, and say whence each verdict is."""
    frame = table.frame.sort_values("id", kind="stable").reset_index(drop=True)
    results = Results(CandidateTable(frame), (), metrics, {}, {}, None, {})
    shown = near_misses(results, LISTED, every=True)
    found = crystal_list(results, shown)
    ranker = plain(results.protocol.get("ranker"), 60)
    judged = np.isfinite(numbers(frame, "p_stable")).any()
    chances = reliability_figure(frame) if judged else None
    return {
        "list": found if found.cards else None,
        "scripts": found.scripts,
        "left_out": len(frame) - len(shown),
        "hulls": hull_pictures(results, [row for row, _ in shown], found.cards, read_phases(folder)),
        "reliability": inline_svg(chances, "reliability", "Chances against what DFT says"),
        "sources": sources(results),
        "likely": any(card.chance is not None for card in found.cards),
        "aims": [],
        "rounds": (),
        "ranker": ranker,
        "score_meaning": score_meaning(ranker),
        "support_says": SUPPORT_SAYS,
    }


def headline(metrics: Mapping[str, Any]) -> str:
    """What it comes to, in a sentence."""
    total = metrics["num_crystals"]
    if not total:
        return "There were no crystals to evaluate."
    crystals = "The one crystal" if total == 1 else f"Of {total:,} crystals"
    if metrics["vsun"] is None:
        known = [
            f"{percent(metrics[k])} are {k}" for k in ("valid", "unique", "novel") if metrics[k] is not None
        ]
        return f"{crystals}: {', '.join(known) or 'nothing was judged'}; stability was not judged."
    return f"{crystals}: V.S.U.N. {percent(metrics['vsun'])}, S.U.N. {percent(metrics['sun'])}."


def points(results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Point]:
    """Places on the novelty–stability plane of the sets that have one, with bootstrap or Wilson intervals."""
    found = []
    for name, metrics in results:
        novel, stable = real(metrics.get("novel")), real(metrics.get("stable"))
        if novel is not None and stable is not None:
            both = [_interval(metrics, key) for key in ("novel", "stable")]
            found.append(Point(name, novel, stable, both[0], both[1]))
    return found


def _interval(metrics: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    found = (metrics.get("intervals") or {}).get(key)
    return None if not found else (float(found[0]), float(found[1]))


# -- tables --------------------------------------------------------------------------------------


def rates_table(metrics: Mapping[str, Any]) -> Table:
    """Every rate with both intervals."""
    rows = [
        (
            label,
            percent(metrics.get(key)),
            interval_text((metrics.get("intervals") or {}).get(key)),
            interval_text((metrics.get("bootstrap") or {}).get(key)),
        )
        for key, label in NAMES.items()
    ]
    note = (
        f"Shares of all {metrics['num_crystals']:,} crystals; what could not be judged counts against a rate."
    )
    return Table("Rates", ("", "share", "95 % interval (Wilson)", "95 % interval (bootstrap)"), rows, note)


def batch_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Mean and standard deviation over batches, where the protocol has batches."""
    batches = metrics.get("batches")
    if not batches:
        return []
    rows = [
        (label, mean_std(batches["rates"].get(key)))
        for key, label in NAMES.items()
        if batches["rates"].get(key)
    ]
    many = batches["num_batches"]
    note = f"{many} {'batch' if many == 1 else 'batches'} of {batches['size']:,}"
    if batches["wanted"] and many != batches["wanted"]:
        note += f"; the protocol asks for {batches['wanted']}"
    if batches["left_over"]:
        note += f"; {batches['left_over']:,} crystals fill no batch and do not count here"
    return [Table("Mean and standard deviation over batches", ("", "percent"), rows, note + ".")]


def mean_std(entry: Mapping[str, Any] | None) -> str:
    """Such as ``45.9 ± 1.8``, in percent."""
    if not entry:
        return "–"
    spread = "" if entry["std"] is None else f" ± {100 * entry['std']:.1f}"
    return f"{100 * entry['mean']:.1f}{spread}"


def trust_tables(frame: Any) -> list[Table]:
    """V.S.U.N. crystals by how new they are and by what the hull is worth there, where both were judged."""
    judged = ("valid", "stable", "unique", "novel")
    if not {*judged, "novelty_grade", "hull_support", "hull_warning"} <= set(frame.columns):
        return []
    hits = frame[np.logical_and.reduce([truths(frame, name).fillna(False).astype(bool) for name in judged])]
    rows = []
    for grade in (Grade.NEW_FORMULA, Grade.KNOWN_FORMULA):
        part = hits[(hits["novelty_grade"] == grade).fillna(False).astype(bool)]
        counts = [int((part["hull_support"] == s).fillna(False).sum()) for s in Support]
        counts.append(int(part["hull_warning"].notna().sum()))
        rows.append((str(grade), *(f"{n:,}" for n in counts)))
    note = (
        f"{SUPPORT_SAYS} Too low: more than {-TOO_LOW} eV/atom below the hull, a sign that a competitor is "
        "missing."
    )
    columns = ("V.S.U.N. crystals", *map(str, Support), "too low")
    return [Table("How new, and what the hull is worth", columns, rows, note)]


def spread_table(metrics: Mapping[str, Any]) -> Table:
    """Chemical systems, space groups, and troublesome elements."""
    found = metrics["diversity"]
    rows = []
    for key, label in (("chemical_systems", "chemical systems"), ("space_groups", "space groups")):
        entry = found[key]
        interval = entry["interval"]
        between = "–" if interval is None else f"{interval[0]:.1f} to {interval[1]:.1f}"
        rows.append((label, f"{entry['num']:,}", f"{number(entry['effective'], 1)} effective", between))
    for key in ("rare", "toxic", "radioactive"):
        rows.append(
            (f"with a {key} element", percent(found[key]["share"]), "", interval_text(found[key]["interval"]))
        )
    return Table("Spread, and elements to avoid", ("", "", "", "95 % interval"), rows)


def ends_table(frame: Any) -> Table:
    """Where crystals ended, and why, most frequent first."""
    ended = frame[frame["status"] != "ok"]
    keys = [(plain(s), plain(r, 90)) for s, r in zip(ended["stage"], ended["reason"], strict=True)]
    counts: dict[tuple[str, str], int] = {}
    for stage, reason in keys:
        kind = (stage, _general(reason))
        counts[kind] = counts.get(kind, 0) + 1
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [(stage, f"{n:,}", reason) for (stage, reason), n in order[:_MAX_REASONS]]
    rest = sum(n for _, n in order[_MAX_REASONS:])
    if rest:
        rows.append(("others", f"{rest:,}", "all in crystals.parquet"))
    return Table("Where crystals ended", ("stage", "crystals", "reason"), rows)


def _general(reason: str) -> str:
    """A reason without the id or number that makes it one crystal's own."""
    for start in ("duplicate of", "matches"):
        if reason.startswith(start):
            return f"{start} another" if start == "duplicate of" else "matches a known crystal"
    return "above the limit" if reason.endswith("eV/atom above the hull") else reason


# -- the page ------------------------------------------------------------------------------------


def page(**parts: Any) -> str:
    """``tables.html.j2`` as text: without crystals, and so without scripts, where no ``list`` is given."""
    return page_environment().get_template("tables.html.j2").render({"list": None, "scripts": ()} | parts)
