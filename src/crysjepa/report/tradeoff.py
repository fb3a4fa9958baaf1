"""The page of ``crysjepa tradeoff``: curves and the energies of one set, from its folder."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from crysjepa.core.candidates import CandidateTable
from crysjepa.report.embedding import Table
from crysjepa.report.evaluation import page
from crysjepa.report.evaluation_figures import energies_figure, tradeoff_figure
from crysjepa.report.rate_names import RATE_LETTERS
from crysjepa.report.results import numbers, plain, real
from crysjepa.report.svg import save_figures
from crysjepa.report.wording import Along, flat, percent, significant
from crysjepa.runtime.files import read_json, write_parquet, write_text

_KEPT = ("structure_distance", "composition_distance", "no_fingerprint")


def _captions(along: Along) -> dict[str, str]:
    by = f"percentiles of the {along.name}" if along.is_distance else f"percentiles of {along.name}"
    return {
        "tradeoff": f"Cumulative rates over {by}, as over those of the distance in Fig. 1(b) and 5(a) of the "
        "paper, with bootstrap 95 % intervals.",
        "tradeoff_energies": f"Energies above hull of the {along.first} and the {along.last} half by "
        f"{along.name}.",
    }


def write_tradeoff(folder: Path, table: CandidateTable) -> Path:
    """Write ``tradeoff.html``, ``tradeoff.parquet`` and figures beside ``tradeoff.json``; the page's path."""
    result = read_json(folder / "tradeoff.json")
    curves = result["curves"]
    frame = table.frame
    column = curves["column"]
    kept = ["id", column, *(c for c in _KEPT if c in frame)]
    write_parquet(pa.Table.from_pandas(frame[kept], preserve_index=False), folder / "tradeoff.parquet")
    distance, energy = numbers(frame, column), numbers(frame, "e_above_hull")
    middle = curves["distances"][len(curves["distances"]) // 2 - 1]
    along = Along(column, plain(result["protocol"].get("ranker"), 40))
    captions = _captions(along)
    halves = {
        f"{along.first} half": energy[distance <= middle],
        f"{along.last} half": energy[distance > middle],
    }
    figures = {
        "tradeoff": tradeoff_figure(curves, along),
        "tradeoff_energies": energies_figure(
            {name: values for name, values in halves.items() if len(values)},
            real(result["protocol"].get("e_above_hull_max")),
        ),
    }
    inline = save_figures(figures, folder, captions)
    first, last = ({k: v[at] for k, v in curves["rates"].items()} for at in (0, -1))
    share = curves["percentiles"][0]
    parts = [
        f"{RATE_LETTERS[k]} {percent(first[k])} among the {share} % {along.those_first}, "
        f"{percent(last[k])} in all"
        for k in ("stable", "novel")
        if k in first
    ]
    left_out = curves["without_distance"]
    notes = [*result["notes"]]
    if left_out:
        notes.append(
            f"{left_out:,} of {curves['num_crystals']:,} crystals have no {along.name} and are left out here."
        )
    html = page(
        kicker=f"stability and novelty along {along.name}",
        title="Trade-off",
        headline="; ".join(parts) or "Neither stability nor novelty was judged.",
        lines=notes,
        tables=[_table(curves, along)],
        figures=inline,
        captions=captions,
        details=[("Protocol", list(flat(result["protocol"]))), ("Versions", list(flat(result["versions"])))],
    )
    path = folder / "tradeoff.html"
    write_text(path, html)
    return path


def _table(curves: dict[str, object], along: Along) -> Table:
    rates = curves["rates"]
    assert isinstance(rates, dict)
    names = [k for k in ("stable", "novel", "unique", "sun", "vsun") if k in rates]
    lists = [curves[k] for k in ("percentiles", "num", "distances")]
    rows = []
    for at, (percentile, num, distance) in enumerate(zip(*lists, strict=True)):
        rows.append(
            (f"{percentile} %", f"{num:,}", significant(distance), *(percent(rates[k][at]) for k in names))
        )
    columns = (along.first, "crystals", along.name, *(RATE_LETTERS[k] for k in names))
    note = f"Of the crystals {along.those_first}, up to each percentile."
    return Table("Cumulative rates", columns, rows, note)
