"""The table of one set of crystals by several yardsticks, from ``yardsticks.json``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crysjepa.report.embedding import Table
from crysjepa.report.results import plain
from crysjepa.report.wording import markdown_table, share_with_interval
from crysjepa.runtime.files import read_json, write_text

FILE = "yardsticks.json"
COLUMNS = {
    "valid": "valid",
    "stable_at_0": "at most 0 eV/atom",
    "stable": "at most the limit",
    "unique": "unique",
    "novel": "novel",
    "headline_at_0": "headline at 0",
    "headline": "headline at the limit",
}
SAYS = {
    "mattergen": "MatterGen: the headline is S.U.N., which does not ask for validity; validity is smact's; "
    "two crystals are the same once elements that may share a site are one element.",
    "genbench": "LeMat-GenBench: the headline at 0 is its SUN, at the limit its MetaSUN; a crystal must be "
    "valid, by its rules, to count in any column.",
}
_OWN = "{name}: the headline is V.S.U.N., which asks for validity too (the rule “{rule}”)."


def yardstick_tables(folder: Path, metrics: Mapping[str, Any]) -> list[Table]:
    """The table of a folder whose ``metrics.json`` holds ``metrics``; none where it has none."""
    rows = read_rows(folder, metrics)
    return [yardstick_table(rows)] if rows else []


def read_rows(folder: Path, metrics: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Rows of ``yardsticks.json``; None where there is none, or where it is of an earlier judgement."""
    path = folder / FILE
    if not path.is_file():
        return None
    found = read_json(path)
    return found["rows"] if found["of"] == metrics.get("hash") else None


def yardstick_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row a yardstick: percent of all crystals with Wilson 95 % intervals."""
    sets = ("set",) if "name" in rows[0] else ()
    cells = [
        (
            plain(row["yardstick"], 40),
            *(plain(row["name"], 60) for _ in sets),
            f"{row['num_crystals']:,}",
            *(share_with_interval(row["rates"].get(key)) for key in COLUMNS),
        )
        for row in rows
    ]
    limits = sorted({row["limit"] for row in rows})
    first = rows[0]
    says = dict.fromkeys(
        SAYS.get(row["yardstick"])
        or _OWN.format(name=plain(row["yardstick"], 40), rule=plain(row["composition_rule"], 40))
        for row in rows
    )
    raw = dict.fromkeys(plain(row.get("name", row["yardstick"]), 60) for row in rows if row["as_given"])
    relative = [plain(first[key], 80) or "none" for key in ("judge", "hull", "novelty_set")]
    note = (
        f"Percent of all crystals, Wilson 95 % intervals. Limit: {' or '.join(map(str, limits))} eV/atom. "
        f"All rows: judge {relative[0]}, hull {relative[1]}, novelty against {relative[2]}; not the "
        f"boards' own. {' '.join(says)}"
    )
    if raw:
        by = " by GenBench's definitions" if sets else ""
        note += f" Judged as handed in and not relaxed{by}: {', '.join(raw)}."
    return Table("By the yardsticks of the field", ("yardstick", *sets, "n", *COLUMNS.values()), cells, note)


def write_yardsticks(out: Path) -> None:
    """``yardsticks.md`` and ``yardsticks.csv`` from ``yardsticks.json``."""
    rows = read_json(out / FILE)["rows"]
    table = yardstick_table(rows)
    write_text(
        out / "yardsticks.md",
        f"# {table.title}\n\n{markdown_table(table.columns, table.rows)}\n\n{table.note}\n",
    )
    plain_rows = [_flat(row) for row in rows]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(plain_rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain_rows)
    write_text(out / "yardsticks.csv", buffer.getvalue())


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {k: v for k, v in row.items() if k != "rates"}
    for key in COLUMNS:
        rate = row["rates"].get(key) or {"share": None, "interval": (None, None)}
        low, high = rate["interval"]
        found |= {key: rate["share"], f"{key}_low": low, f"{key}_high": high}
    return found
