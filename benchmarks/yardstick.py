"""What a poor hull and a small novelty set add to a rate: the same crystals and energies, judged by both.

    python benchmarks/yardstick.py --data FOLDER --old-run RUN --run RUN --held held_out_hull.json --ranked
    WBM.parquet \
        --sets "substitution, at random=a.parquet" ... --out FOLDER

``--old-run`` is a quick run as crysjepa made it at commit 0da81c1, by FLLA's hull of 2015; ``--run`` one of
today. ``--sets`` are crystals as ``crysjepa relax`` wrote them; they are judged, and nothing is relaxed.
``--ranked`` is what ``crysjepa screen wbm_dev.parquet`` wrote, without a flag. FOLDER of ``--data`` holds
``mp20_bt.parquet`` and ``mp20_hull.parquet``, the yardstick before, and ``wbm_dev.parquet``. Writes
``yardstick.md`` and ``yardstick.svg``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from crysjepa import api
from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.limits import within
from crysjepa.evaluation.protocol import preset
from crysjepa.evaluation.rates import crystal_metrics, wilson_interval
from crysjepa.report.rate_names import RATE_LETTERS
from crysjepa.report.style import INK, house_style, save_figure
from crysjepa.report.wording import rate_with_interval
from crysjepa.runtime.files import read_json, write_text

STABLE = 0.1
BARS = {
    "vsun": ("V.S.U.N.", "#0072B2"),
    "vsun_new_formula": ("with a new formula", "#E69F00"),
    "vsun_supported": ("and the hull supported", "#009E73"),
}
Row = tuple[str, str, str]


class Judgements:
    """One folder of results for each set and yardstick; what is there is not judged again."""

    def __init__(self, data: Path, out: Path, name: str) -> None:
        self.data, self.out, self.name = data, out, name

    def by_known(self, source: Path, folder: str) -> tuple[dict[str, Any], CandidateTable]:
        """By the bundled data set."""
        return self._judge(source, self.out / "judged" / folder / "known", {})

    def by_mp20(self, source: Path, folder: str) -> tuple[dict[str, Any], CandidateTable]:
        """By MP-20's compounds and the 14,258 crystals that were the novelty set."""
        old = {"reference": self.data / "mp20_bt.parquet", "hull": self.data / "mp20_hull.parquet"}
        return self._judge(source, self.out / "judged" / folder / "mp20", old)

    def _judge(self, source: Path, out: Path, given: dict[str, Any]) -> tuple[dict[str, Any], CandidateTable]:
        metrics = api.evaluate(source, out, protocol=preset(self.name), **given)
        return metrics, CandidateTable.read(out / "crystals.parquet")


def energies(table: CandidateTable, ids: list[str] | None = None) -> np.ndarray:
    """Energies above hull in eV/atom; NaN where there is none."""
    values = table.column("e_above_hull", ids)
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def listed(table: CandidateTable) -> list[str]:
    """Ids of a run's short list."""
    return [i for i, r in zip(table.ids, table.column("shortlist_rank"), strict=True) if r is not None]


def spread(values: np.ndarray) -> str:
    """Median and lowest, in words."""
    return f"median {np.nanmedian(values):.2f}, lowest {np.nanmin(values):.2f} eV/atom"


def share(hits: np.ndarray | list[bool]) -> str:
    """A share in percent with its Wilson interval."""
    low, high = wilson_interval(int(np.sum(hits)), len(hits))
    return f"{100 * np.mean(hits):.1f} % ({100 * low:.0f}–{100 * high:.0f}) of {len(hits)}"


def order(one: np.ndarray, other: np.ndarray) -> str:
    """Spearman's correlation of two sets of energies above hull."""
    both = np.isfinite(one) & np.isfinite(other)
    return f"{spearmanr(one[both], other[both]).statistic:.2f}"


def quick_rows(
    judgements: Judgements, old_run: Path, run: Path, held: dict[str, Any]
) -> list[tuple[str, ...]]:
    """The quick run: as printed then, the same crystals by the bundled data set, and the run of today."""
    then, now = (CandidateTable.read(r / "candidates.parquet") for r in (old_run, run))
    _, again = judgements.by_known(old_run, "old-run")
    printed, today = (read_json(r / "metrics.json")["rounds"] for r in (old_run, run))

    def rounds(table: CandidateTable, key: str) -> str:
        frames = (table.frame[table.frame["round"] == r].reset_index(drop=True) for r in (0, 1))
        return ", ".join(rate_with_interval(crystal_metrics(CandidateTable(f)), key) for f in frames)

    def known_formulas(table: CandidateTable, ids: list[str]) -> list[bool]:
        return [g != "new formula" for g in table.column("novelty_grade", ids)]

    old_list, new_list = listed(then), listed(now)
    sure = [bool(v) for v in again.column("stable")]
    chance = ", ".join(
        f"{rate_with_interval(r['control'], 'vsun')} ({rate_with_interval(r['control'], 'vsun_new_formula')})"
        for r in today
    )
    return [
        (
            "quick run, V.S.U.N. in %: base, refined",
            ", ".join(rate_with_interval(r, "vsun") for r in printed),
            rounds(again, "vsun"),
            ", ".join(rate_with_interval(r, "vsun") for r in today),
        ),
        (
            "with a new formula",
            "not told",
            rounds(again, "vsun_new_formula"),
            ", ".join(rate_with_interval(r, "vsun_new_formula") for r in today),
        ),
        (
            "its control, drawn at random: V.S.U.N. (with a new formula)",
            "none",
            "none",
            chance,
        ),
        ("its energies above hull", spread(energies(then)), spread(energies(again)), spread(energies(now))),
        (
            "Spearman between those printed and those by a hull that the run had not seen",
            order(energies(then), energies(again)) + " (by `known`)",
            "",
            f"{held['shortlist']['spearman']:.2f} (short list; a third of the systems held out)",
        ),
        (
            "short list: at most 0.1 eV/atom above the hull",
            share(within(energies(then, old_list), STABLE)),
            f"{share(within(energies(again, old_list), STABLE))}; of all relaxed {100 * np.mean(sure):.1f} %",
            f"{share(within(energies(now, new_list), STABLE))}; of all relaxed {share(within(energies(now), STABLE))}",
        ),
        (
            "short list: carries the formula of a known compound",
            "not told",
            share(known_formulas(again, old_list)),
            share(known_formulas(now, new_list)),
        ),
        (
            "its first",
            _first(then, old_list),
            _first(again, old_list, then),
            _first(now, new_list),
        ),
    ]


def _first(table: CandidateTable, ids: list[str], ranked: CandidateTable | None = None) -> str:
    ranks = (ranked or table).column("shortlist_rank", ids)
    top = min(zip(ranks, ids, strict=True))[1]
    formula, above, entries = (table.column(c, [top])[0] for c in ("formula", "e_above_hull", "hull_entries"))
    support = f", {table.column('hull_support', [top])[0]}" if "hull_support" in table else ""
    return f"{formula}, {above:.2f} eV/atom, hull entries {entries}{support}"


def set_rows(
    names: dict[str, Path], judgements: Judgements
) -> tuple[list[tuple[str, ...]], list[dict[str, Any]]]:
    """Sets of relaxed crystals by both yardsticks: rows of the two tables."""
    before_after = list[tuple[str, ...]]()
    side = list[dict[str, Any]]()
    for number, (name, path) in enumerate(names.items()):
        old, old_table = judgements.by_mp20(path, f"set-{number}")
        new, table = judgements.by_known(path, f"set-{number}")
        before_after.append(
            (
                f"{name}: V.S.U.N. in %",
                rate_with_interval(old, "vsun"),
                f"{rate_with_interval(new, 'vsun')}; with a new formula "
                f"{rate_with_interval(new, 'vsun_new_formula')}",
                "",
            )
        )
        side.append({"name": name, "spread": spread(energies(table)), **new})
        if "best" in name or "first" in name:
            values = [energies(t) for t in (old_table, table)]
            before_after.append((f"{name}: above the hull", *map(spread, values), ""))
    return before_after, side


def auc_row(ranked: Path, data: Path) -> tuple[str, ...]:
    """``screen`` on WBM, labels as published, no flag."""
    scores = {r["id"]: r["score"] for r in pq.read_table(ranked, columns=["id", "score"]).to_pylist()}
    labels = pq.read_table(data / "wbm_dev.parquet", columns=["id", "e_above_hull"]).to_pylist()
    values = np.array([np.inf if scores[r["id"]] is None else scores[r["id"]] for r in labels])
    worst = np.where(np.isfinite(values), values, np.nanmax(values[np.isfinite(values)]) + 1)
    auc = roc_auc_score([within(r["e_above_hull"], STABLE) for r in labels], -worst)
    told = f"{auc:.3f} (n = {len(labels)}, {int((~np.isfinite(values)).sum())} without a score ranked last)"
    return (
        "AUC of `screen` on WBM without a flag, labels as published",
        "0.731 (hull of `mp20_bt`)",
        "",
        told,
    )


def figure(rows: list[dict[str, Any]]) -> Figure:
    """V.S.U.N., with a new formula, and supported: a row a set, a bar each with its Wilson interval."""
    with house_style():
        drawing = Figure(figsize=(8.6, 0.9 + 0.62 * len(rows)), layout="constrained")
        axes = drawing.subplots()
        for k, (key, (label, colour)) in enumerate(BARS.items()):
            places = [i + 0.26 * (k - 1) for i in range(len(rows))]
            values = [100 * r[key] for r in rows]
            ends = np.array([[100 * v for v in r["intervals"][key]] for r in rows])
            reach = np.maximum(np.abs(ends.T - np.array(values)), 0)
            axes.barh(places, values, height=0.24, color=colour, label=label)
            axes.errorbar(values, places, xerr=reach, fmt="none", ecolor=INK, elinewidth=0.9, capsize=2)
        axes.set_yticks(range(len(rows)), [f"{r['name']}\nn = {r['num_crystals']}" for r in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of all crystals of the row, CHGNet, hull and novelty by known")
        drawing.legend(loc="outside lower center", ncols=3)
    return drawing


def main() -> None:
    """Judge, and write the page and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--old-run", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--held", type=Path, required=True)
    parser.add_argument("--ranked", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", required=True, help="NAME=RELAXED.parquet")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    judgements = Judgements(chosen.data, chosen.out, "strict")
    names = {s.split("=", 1)[0]: Path(s.split("=", 1)[1]) for s in chosen.sets}
    held = json.loads(chosen.held.read_text(encoding="utf-8"))
    rows, side = set_rows(names, judgements)
    run = read_json(chosen.run / "metrics.json")
    lines = [
        "# Before and after",
        "",
        "`python benchmarks/yardstick.py`. As printed: by crysjepa at 0da81c1, in a quick run by FLLA's hull of 2015, for sets "
        "by the hull of MP-20's compounds and novelty against 14,258 of its crystals. The same by `known`: the very same "
        "crystals and CHGNet energies, judged by the bundled data set. In brackets: Wilson intervals of 95 %.",
        "",
        "| what | as printed | the same by `known` | today |",
        "|---|---|---|---|",
        *(
            f"| {' | '.join(r)} |"
            for r in (
                *quick_rows(judgements, chosen.old_run, chosen.run, held),
                *rows,
                auc_row(chosen.ranked, chosen.data),
            )
        ),
        "",
        "# Sources side by side",
        "",
        f"Judged by `{run['judge']}`, preset `strict`; hull `{side[0]['hull']}` "
        f"({side[0]['protocol']['hull_compounds']:,} compounds); novelty against `{side[0]['novelty_set']}` "
        f"({side[0]['protocol']['novelty_set_size']:,} crystals). Percent of all crystals of the row.",
        "",
        f"| | crystals | {' | '.join(RATE_LETTERS.values())} | above the hull |",
        "|---" * (3 + len(RATE_LETTERS)) + "|",
        *(
            f"| {r['name']} | {r['num_crystals']} | "
            f"{' | '.join(rate_with_interval(r, k) for k in RATE_LETTERS)} | {r['spread']} |"
            for r in side
        ),
        "",
        "New formula: V.S.U.N., and no compound of the formula is known. And supported: of these, where the hull is "
        "supported and gives no warning.",
        "",
        "![V.S.U.N. of each source, with a new formula, and where the hull is supported](yardstick.svg)",
    ]
    write_text(chosen.out / "yardstick.md", "\n".join(lines) + "\n")
    quick = []
    for entry in run["rounds"]:
        quick.append({**entry, "name": f"quick run, {entry['name']}: chosen"})
        quick.append({**entry["control"], "name": f"quick run, {entry['name']}: at random"})
    save_figure(figure([*quick, *side]), chosen.out / "yardstick.svg")


if __name__ == "__main__":
    main()
