"""The comparison of several sets of crystals: page, Markdown, CSV, Parquet and figures, from its JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crysjepa.report.embedding import Table
from crysjepa.report.evaluation import mean_std, page, points
from crysjepa.report.evaluation_figures import energies_figure, plane_figure
from crysjepa.report.rate_names import COLUMNS
from crysjepa.report.results import plain, real
from crysjepa.report.svg import save_figures
from crysjepa.report.wording import flat, interval_text, markdown_table, percent
from crysjepa.report.yardsticks import yardstick_table
from crysjepa.runtime.files import read_json, write_parquet, write_text

CAPTIONS = {
    "plane": "Stability against novelty with Wilson 95 % intervals, as in Fig. 1(a) of the paper.",
    "energies": "Energies above hull, as in Fig. 4 of the paper. The dashed line is the limit of stability.",
}


def write_comparison(out: str | Path, energies: Mapping[str, NDArray[np.float64]]) -> Path:
    """Write every form of ``comparison.json`` in ``out``, and return the page's path.

    ``energies`` holds e_above_hull in eV/atom of each set's crystals, NaN where there is none.
    """
    out = Path(out)
    result = read_json(out / "comparison.json")
    rows = result["rows"]
    write_text(out / "comparison.md", markdown(result))
    write_text(out / "comparison.csv", _csv(rows))
    write_parquet(_arrow(rows), out / "comparison.parquet")
    limit = real(result["protocol"].get("e_above_hull_max"))
    figures = {
        "plane": plane_figure(points([(row["name"], row) for row in rows])),
        "energies": energies_figure(energies, limit),
    }
    inline = save_figures(figures, out, CAPTIONS)
    html = page(
        kicker="comparison of crystals",
        title="Comparison of crystals",
        headline=headline(result),
        lines=notes(result),
        tables=_tables(result),
        figures=inline,
        captions=CAPTIONS,
        details=[("Protocol", list(flat(result["protocol"]))), ("Versions", list(flat(result["versions"])))],
    )
    path = out / "comparison.html"
    write_text(path, html)
    return path


def headline(result: Mapping[str, Any]) -> str:
    """Who is first, and whether by more than chance."""
    rows, key = result["rows"], result["ranked_by"]
    what = COLUMNS[key]
    first = rows[0]
    text = f"{plain(first['name'], 60)}: {what} {percent(first[key])}"
    if len(rows) == 1:
        return f"{text}; there is nothing to compare it with."
    second = rows[1]
    apart = "which may be chance" if second["tie"] or second["tie"] is None else "more than chance allows"
    return f"{text}, before {plain(second['name'], 60)} with {percent(second[key])}, {apart}."


def notes(result: Mapping[str, Any]) -> list[str]:
    """What must be known to read the table."""
    found = [f"Protocol of the first row: {result['citation']}"] if result["citation"] else []
    if result["differences"]:
        found.append("These results were NOT obtained in the same way: see the differences below.")
    tuned = [f"{r['name']} ({r['finetuning_set']})" for r in result["rows"] if r["finetuning_set"]]
    if tuned:
        found.append(f"Judged against a fine-tuning set too: {', '.join(tuned)}.")
    return found


def _tables(result: Mapping[str, Any]) -> list[Table]:
    rows = result.get("yardsticks")
    yardsticks = [yardstick_table(rows)] if rows else []
    return [shares(result), ranking(result), *yardsticks, *difference_table(result)]


def shares(result: Mapping[str, Any]) -> Table:
    """A line a set, in percent: mean ± standard deviation over batches where there are batches."""
    batched = any(row["batches"] for row in result["rows"])
    rows = [
        (
            str(row["rank"]),
            plain(row["name"], 60),
            f"{row['num_crystals']:,}",
            *(_cell(row, key) for key in COLUMNS),
        )
        for row in result["rows"]
    ]
    note = "Percent of all crystals, ranked by " + COLUMNS[result["ranked_by"]] + "."
    if batched:
        note += " Mean ± standard deviation over batches where the protocol has batches."
    return Table("Rates", ("", "set", "crystals", *COLUMNS.values()), rows, note)


def _cell(row: Mapping[str, Any], key: str) -> str:
    if row["batches"] and row["batches"]["rates"].get(key):
        return mean_std(row["batches"]["rates"][key])
    value = real(row.get(key))
    return "–" if value is None else f"{100 * value:.1f}"


def ranking(result: Mapping[str, Any]) -> Table:
    """The ranking with its intervals."""
    key = result["ranked_by"]
    rows = []
    for row in result["rows"]:
        behind = "–" if row["behind"] is None else interval_text(row["behind"])
        tie = {True: "yes", False: "no", None: "–"}[row["tie"]]
        interval = interval_text(row["intervals"].get(key))
        rows.append((str(row["rank"]), plain(row["name"], 60), percent(row[key]), interval, behind, tie))
    note = "Behind: the difference from the row before, bootstrap 95 %. A tie is one that may be chance."
    columns = ("", "set", COLUMNS[key], "95 % interval (Wilson)", "behind", "tie")
    return Table("Ranking", columns, rows, note)


def difference_table(result: Mapping[str, Any]) -> list[Table]:
    """In what the protocols differ, if they do."""
    if not result["differences"]:
        return []
    rows = [
        (plain(line.partition(": ")[0]), plain(line.partition(": ")[2])) for line in result["differences"]
    ]
    return [Table("Differences of protocol", ("setting", "source"), rows)]


# -- files ---------------------------------------------------------------------------------------


def markdown(result: Mapping[str, Any]) -> str:
    """The page's tables as Markdown."""
    parts = [f"# {headline(result)}", *notes(result)]
    for table in _tables(result):
        parts += [f"## {table.title}", table.note, markdown_table(table.columns, table.rows)]
    return "\n\n".join(p for p in parts if p) + "\n"


def _flat_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        flat_row: dict[str, Any] = {k: row[k] for k in ("rank", "name", "num_crystals", "preset")}
        for key in COLUMNS:
            low, high = row["intervals"].get(key) or (None, None)
            batch = (row["batches"] or {"rates": {}})["rates"].get(key) or {"mean": None, "std": None}
            flat_row |= {
                key: row.get(key), f"{key}_low": low, f"{key}_high": high,
                f"{key}_batch_mean": batch["mean"], f"{key}_batch_std": batch["std"],
            }  # fmt: skip
        found.append(flat_row)
    return found


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    flat_rows = _flat_rows(rows)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(flat_rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat_rows)
    return buffer.getvalue()


def _arrow(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    flat_rows = _flat_rows(rows)
    kinds: dict[str, pa.DataType] = {
        "rank": pa.int64(), "name": pa.string(), "num_crystals": pa.int64(), "preset": pa.string()
    }  # fmt: skip
    columns = {
        name: pa.array([row[name] for row in flat_rows], type=kinds.get(name, pa.float64()))
        for name in flat_rows[0]
    }
    return pa.table(columns)
