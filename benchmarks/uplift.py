"""Uplift: what selection before relaxation is worth, in hits per relaxation, for every number of relaxations.

    python benchmarks/uplift.py rows --data FOLDER --judged FOLDER [--only DiffCSP DiffCSP++]
    python benchmarks/uplift.py table [--out FOLDER] [--figure FILE.svg]

``rows`` scores the unrelaxed crystals of sets that ``benchmarks/baselines.py run`` has relaxed and judged,
all of them, into the folder ``--judged``; the scores know nothing of that. A row for each crystal is kept in
``judging/uplift.parquet``. ``table`` writes ``uplift.md`` and ``uplift.svg`` of these; it needs no data.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from baselines import SETS, folder_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from ranking.page import table_head, table_row
from scipy.stats import hypergeom

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.validity import invalid_structures, reduced_formulas
from crysjepa.energy.known_hull import NAME, known_formulas, known_hull
from crysjepa.evaluation.rates import flag_columns, wilson_interval
from crysjepa.evaluation.reference import Known
from crysjepa.ranking.registry import RankerContext, make_ranker
from crysjepa.report.style import INK, MUTED, ROUND_COLOURS, in_house_style, save_figure
from crysjepa.runtime.files import write_text

Flags = NDArray[np.bool_]

KEPT = Path(__file__).parent / "judging" / "uplift.parquet"
UNRELAXED = ("DiffCSP", "DiffCSP++")
"""Two sets that are published as they were generated."""
RANKERS = ("jepa-hull", "jepa-relaxed")
HITS = {"stable": "S", "sun": "S.U.N.", "vsun_new_formula": "V.S.U.N., new formula"}
ORDERS = ("jepa-hull", "jepa-relaxed", "jepa-relaxed, new formulas first")
SHARES = (0.1, 0.2, 0.5)
DECILES = 10
POINTS = 120
"""Of each curve; it begins at ten relaxations."""


def make_rows(data: Path, judged: Path, only: list[str]) -> pd.DataFrame:
    """Scores before relaxation beside verdicts after it, a row a crystal."""
    context = RankerContext(Known.load(NAME).crystals(), hull=known_hull())
    rankers = {name: make_ranker(name, context) for name in RANKERS}
    known, parts = known_formulas(), []
    for name in only:
        (place,) = (judged / folder_of(name)).glob("all-*/crystals.parquet")
        after = CandidateTable.read(place)
        before = datasets.load(data / SETS[name].path)
        crystals = before.crystals([i for i in after.ids if i in set(before.ok_ids)])
        invalid = invalid_structures(crystals)
        sound = crystals.select([i for i in crystals.ids if i not in invalid])
        rows: dict[str, Any] = {"set": name, "id": after.ids}
        for ranker, made in rankers.items():
            scored = made.score(sound)
            rows[ranker] = [scored[i].value if i in scored else None for i in after.ids]
        formulas = dict(zip(crystals.ids, reduced_formulas(crystals), strict=True))
        rows["formula_is_new"] = [i in formulas and formulas[i] not in known for i in after.ids]
        flags = flag_columns(after)
        rows |= {hit: flags[hit] for hit in HITS}
        parts.append(pd.DataFrame(rows))
        sys.stderr.write(f"{name}: {len(after)} crystals, {len(invalid)} not scored\n")
    return pd.concat(parts, ignore_index=True)


def order_of(rows: pd.DataFrame, name: str) -> NDArray[np.int64]:
    """Rows in the order in which they are relaxed; those without a score come last."""
    ranker, _, first = name.partition(", ")
    scores = rows[ranker].to_numpy(dtype=float)
    scores = np.where(np.isfinite(scores), scores, np.inf)
    later = ~rows["formula_is_new"].to_numpy(dtype=bool) if first else np.zeros(len(rows), dtype=bool)
    return np.lexsort((np.arange(len(rows)), scores, later))


def hits_by(rows: pd.DataFrame, order: NDArray[np.int64], hit: str) -> NDArray[np.int64]:
    """(B,) hits among the first 1, 2, …, B relaxed."""
    return np.cumsum(rows[hit].to_numpy(dtype=bool)[order]).astype(np.int64)


def by_chance(total: int, hits: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % range of the hits among the first 1, 2, …, ``total``, drawn at random."""
    k = np.arange(1, total + 1)
    low, high = (hypergeom.ppf(q, total, hits, k) for q in (0.025, 0.975))
    return low, high


def page(kept: pd.DataFrame) -> str:
    """Tables."""
    lines = ["# Uplift of selection before relaxation", ""]
    for name, rows in _pools(kept).items():
        unscored = int(rows[RANKERS[0]].isna().sum())
        lines += [f"## {name}: {len(rows):,} crystals, {unscored} without a score", ""]
        lines += [*uplift_table(rows), "", *decile_table(rows), ""]
    return "\n".join(lines)


def _pools(kept: pd.DataFrame) -> dict[str, pd.DataFrame]:
    sets = {str(n): rows.reset_index(drop=True) for n, rows in kept.groupby("set", sort=False)}
    together = {" and ".join(sets): kept.reset_index(drop=True)} if len(sets) > 1 else {}
    return together | sets


def uplift_table(rows: pd.DataFrame) -> list[str]:
    """Hits per relaxation among the best, in percent, with the ratio to relaxing at random."""
    lines = table_head(
        "hits per relaxation, %", "order", "all (random)", *(f"best {100 * s:g} %" for s in SHARES)
    )
    for hit, words in HITS.items():
        base = float(rows[hit].mean())
        for name in ORDERS:
            found, cells = hits_by(rows, order_of(rows, name), hit), []
            for share in SHARES:
                best = max(1, round(share * len(rows)))
                rate = found[best - 1] / best
                low, high = (100 * x for x in wilson_interval(int(found[best - 1]), best))
                ratio = f", ×{rate / base:.2f}" if base else ""
                cells.append(f"{100 * rate:.1f} ({low:.0f}–{high:.0f}){ratio}")
            lines.append(table_row([words, f"`{name}`", f"{100 * base:.1f}", *cells]))
    return lines


def decile_table(rows: pd.DataFrame) -> list[str]:
    """Hits per relaxation in each tenth of the order, in percent."""
    lines = table_head("decile, %", "order", *(str(number + 1) for number in range(DECILES)))
    for hit, words in HITS.items():
        for name in ORDERS:
            parts = np.array_split(rows[hit].to_numpy(dtype=bool)[order_of(rows, name)], DECILES)
            lines.append(table_row([words, f"`{name}`", *(f"{100 * p.mean():.0f}" for p in parts)]))
    return lines


@in_house_style
def draw(kept: pd.DataFrame) -> Figure:
    """Hits per relaxation by the number of relaxations, a panel for each kind of hit, all sets together."""
    name, rows = next(iter(_pools(kept).items()))
    figure = Figure(figsize=(13.2, 4.2), layout="constrained")
    panels = figure.subplots(1, len(HITS))
    for panel, (hit, words) in zip(panels, HITS.items(), strict=True):
        _panel(panel, rows, hit)
        panel.set(title=words, xlabel=f"relaxed, of {len(rows)} ({name})", ylim=(0, None))
    panels[0].set_ylabel("hits per relaxation, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _panel(panel: Axes, rows: pd.DataFrame, hit: str) -> None:
    shown = np.unique(np.linspace(10, len(rows), POINTS).astype(int))
    low, high = (100 * ends[shown - 1] / shown for ends in by_chance(len(rows), int(rows[hit].sum())))
    panel.fill_between(shown, low, high, color=MUTED, alpha=0.18, linewidth=0, label="random, 95 %")
    panel.axhline(100 * rows[hit].mean(), color=INK, linewidth=0.8, linestyle=":")
    for name, colour, style in zip(ORDERS, ROUND_COLOURS, ("-", "--", "-."), strict=False):
        found = 100 * hits_by(rows, order_of(rows, name), hit)[shown - 1] / shown
        panel.plot(shown, found, color=colour, linestyle=style, linewidth=1.5, label=name)
    panel.grid(True)


def keep(rows: pd.DataFrame, path: Path = KEPT) -> None:
    """The rows in place of those that were kept of these sets."""
    before = pd.read_parquet(path) if path.exists() else rows.iloc[:0]
    others = before[~before["set"].isin(rows["set"].unique())]
    pd.concat([others, rows], ignore_index=True).to_parquet(path, index=False)


def main() -> None:
    """Either of the two verbs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    making, tabling = verbs.add_parser("rows"), verbs.add_parser("table")
    making.add_argument("--data", type=Path, required=True)
    making.add_argument("--judged", type=Path, required=True, help="--out of benchmarks/baselines.py run")
    making.add_argument("--only", nargs="*", default=list(UNRELAXED), choices=list(SETS))
    tabling.add_argument("--out", type=Path, default=Path("uplift"))
    tabling.add_argument("--figure", type=Path, help="default: uplift.svg in --out")
    args = parser.parse_args()
    if args.verb == "rows":
        keep(make_rows(args.data, args.judged, args.only))
        return
    kept = pd.read_parquet(KEPT)
    args.out.mkdir(parents=True, exist_ok=True)
    save_figure(draw(kept), args.figure or args.out / "uplift.svg")
    write_text(args.out / "uplift.md", page(kept))
    print(page(kept))


if __name__ == "__main__":
    main()
