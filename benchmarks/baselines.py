"""Published samples of other generators through one protocol: the paper's Table 1 and Fig. 1(a).

    python benchmarks/baselines.py run --data FOLDER --out FOLDER [--num 300] [--only DiffCSP FlowMM]
    python benchmarks/baselines.py trends --out FOLDER [--known 3000]
    python benchmarks/baselines.py table [--out FOLDER]

``run`` judges the first crystals of each set in FOLDER/peers by ``crysjepa evaluate`` (CHGNet, the bundled
hull and known crystals), a hundred at a time, puts them together, and keeps a row for each crystal in
``judging/baselines.parquet``. A run that was stopped goes on. ``trends`` adds the distance 𝒟 of appendix D.4
from the nearest of some known crystals, drawn at random. ``table`` writes ``baselines.md`` and
``baselines.svg`` of the rows that are kept; it needs no data.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from progress import say
from ranking.page import table_head, table_row

from crysjepa import api, datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.given import energy_metadata
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.rates import crystal_metrics
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.report.evaluation import points
from crysjepa.report.evaluation_figures import plane_figure
from crysjepa.report.style import save_figure
from crysjepa.report.wording import rate_with_interval
from crysjepa.runtime.files import write_text

KEPT = Path(__file__).parent / "judging" / "baselines.parquet"
BLOCK = 100
PROTOCOL = Protocol()
COLUMNS = (
    "id", "status", "stage", "valid", "stable", "unique", "novel", "e_above_hull", "novelty_grade",
    "hull_support", "hull_warning", "hull_entries", "converged", "energy_per_atom_initial", "energy_per_atom",
)  # fmt: skip
TREND = """
# Nearer and farther crystals

`python benchmarks/baselines.py trends --out OUT`: the trends of appendix D.4. 𝒟 is the distance of
fingerprints (CrystalNN and Magpie) from the nearest of 3,000 of the 27,708 known crystals, drawn at
random, so it is too large for all. Percent of the half of a set, with 95 % (Wilson); crystals without a
fingerprint are in neither.
"""
TREND_SAYS = """
As the paper says: the farther a generated crystal is from known ones, the seldomer it is stable, and the
more often it is novel.
"""
DISTANCE = "fingerprint_distance"
NOT_KEPT = ("reason", "atomic_numbers", "frac_coords", "lattice")
SHOWN = ("valid", "stable", "novel", "sun", "vsun", "vsun_new_formula", "vsun_supported")
INTRO = """# Published samples

`python benchmarks/baselines.py run --data FOLDER --out OUT`, then `table`: the first crystals of each
set as it was published, by the protocol of all results, with Wilson intervals of 95 %, in percent of all
crystals. *Lowered* is the median of what relaxation gains, in meV/atom: a set near 0 was relaxed before
it was published.
"""
BESIDE = """
The paper's Table 1 has some of these generators, judged by MatterSim, with MP-2023 as hull and as
novelty set. Its percentages, and what the published samples give here:
"""
WHY = """
They differ for four reasons. CHGNet puts crystals some 40 meV/atom lower than DFT does
([measured](results_dft.md)). The bundled hull and novelty set are smaller than MP-2023: generators that
learnt from MP-20 repeat crystals whose structures are not in it, so N is too high, and the new formulas
are what to look at. The paper drew samples of its own. The files of CDVAE, LLaMA-2 and FlowMM hold
relaxed crystals, and the first two seem to be selections: nearly all are valid and stable. So their rows
are no rates of a generator.
"""


class Set(NamedTuple):
    """A published sample, and the paper's S, N, S.U.N. and V.S.U.N. of that generator, if it has them."""

    path: str
    paper: tuple[float, float, float, float] | None = None


_PUBLISHED = "peers/as_published"
SETS = {
    "CDVAE": Set(f"{_PUBLISHED}/crystal-text-llm_cdvae_first300.csv", (29.9, 96.5, 27.0, 22.8)),
    "DiffCSP": Set("peers/diffcsp_mp20_first2000.parquet", (45.9, 83.6, 30.9, 25.6)),
    "DiffCSP++": Set(f"{_PUBLISHED}/DiffCSPpp_mp20_first1000.pt", (39.7, 82.8, 23.8, 20.3)),
    "FlowMM": Set(f"{_PUBLISHED}/flowmm_mp20_first300.csv", (40.8, 83.1, 25.3, 21.0)),
    "CrystalFormer": Set(f"{_PUBLISHED}/CrystalFormer_mp_20_first300.csv.gz"),
    "LLaMA-2 70B": Set(f"{_PUBLISHED}/crystal-text-llm_llama2-70b_first300.csv"),
    "WyckoffTransformer + DiffCSP++": Set(f"{_PUBLISHED}/WyckoffTransformer_DiffCSPpp_first300.json.gz"),
}


def run(data: Path, out: Path, num: int, only: list[str]) -> None:
    """Judge the first ``num`` of each set, and keep the rows."""
    for name, known in SETS.items():
        if only and name not in only:
            continue
        table = datasets.load(data / known.path)
        table = CandidateTable(table.frame.iloc[:num].reset_index(drop=True))
        keep(name, judged(table, out / folder_of(name)))
        say(name)


def judged(table: CandidateTable, folder: Path) -> CandidateTable:
    """Every verdict: relaxed in blocks, so that more crystals can be added, and judged as one set."""
    parts = []
    for start in range(0, len(table), BLOCK):
        block, place = table.frame.iloc[start : start + BLOCK], folder / f"block-{start // BLOCK}"
        path = place.with_suffix(".parquet")
        if not path.exists():
            CandidateTable(block.reset_index(drop=True)).write(path)
        api.evaluate(path, place, protocol=PROTOCOL, progress=tell)
        parts.append(CandidateTable.read(place / "crystals.parquet"))
    joined = folder / f"relaxed-{len(table)}.parquet"
    about = energy_metadata(force_field_info(PROTOCOL.force_field), PROTOCOL.relaxation)
    CandidateTable.concatenate(parts).write(joined, about)
    place = folder / f"all-{len(table)}"
    api.evaluate(joined, place, protocol=PROTOCOL, progress=tell)
    return CandidateTable.read(place / "crystals.parquet")


def trends(out: Path, num: int, known: int) -> None:
    """Add the distance of fingerprints from the nearest of ``known`` crystals to the rows that are kept."""
    table, nearest = datasets.load("known"), out / f"known-{known}.parquet"
    table.only(np.random.default_rng(0).choice(table.ok_ids, known, replace=False)).write(nearest)
    kept = pd.read_parquet(KEPT)
    for name in SETS:
        place = out / folder_of(name) / f"all-{num}"
        if place.exists():
            api.tradeoff(place, reference=nearest, progress=tell)
            add_distances(kept, name, place)
    kept.to_parquet(KEPT, index=False)


def add_distances(kept: pd.DataFrame, name: str, place: Path) -> None:
    """Those of one set, which ``tradeoff`` wrote into its folder."""
    found = pd.read_parquet(place / "tradeoff.parquet").set_index("id")[DISTANCE]
    rows = kept["set"] == name
    kept.loc[rows, DISTANCE] = kept.loc[rows, "id"].map(found).astype(float)


def keep(name: str, table: CandidateTable) -> None:
    """The set's rows in place of those that were kept of it."""
    rows = table.frame[[c for c in COLUMNS if c in table.frame]].assign(set=name)
    before = pd.read_parquet(KEPT) if KEPT.exists() else pd.DataFrame()
    others = before[before["set"] != name] if len(before) else before
    pd.concat([others, rows], ignore_index=True).to_parquet(KEPT, index=False)


def metrics_of(rows: pd.DataFrame) -> dict[str, Any]:
    """Rates with their intervals, of rows that are kept."""
    own = rows.drop(columns="set").reset_index(drop=True).assign(**dict.fromkeys(NOT_KEPT))
    return crystal_metrics(CandidateTable(own))


def table(out: Path) -> str:
    """The section in Markdown; the figure goes beside it."""
    kept = pd.read_parquet(KEPT)
    measured: dict[str, dict[str, Any]] = {}
    for name in SETS:
        rows = kept[kept["set"] == name]
        if len(rows):
            lowered = (rows["energy_per_atom_initial"] - rows["energy_per_atom"]).median()
            measured[name] = {**metrics_of(rows), "lowered": 1000 * lowered}
    heads = (
        "",
        "n",
        "V",
        "S",
        "N",
        "S.U.N.",
        "V.S.U.N.",
        "new formula",
        "and supported",
        "lowered",
    )
    lines, beside = table_head(*heads), table_head("", "S", "N", "S.U.N.", "V.S.U.N.")
    for name, metrics in sorted(measured.items(), key=lambda item: -item[1]["vsun"]):
        rates = (rate_with_interval(metrics, key) for key in SHOWN)
        lines.append(table_row([name, f"{metrics['num_crystals']:,}", *rates, f"{metrics['lowered']:.0f}"]))
        if (paper := SETS[name].paper) is not None:
            beside.append(table_row([f"{name}, the paper", *(f"{v:.1f}" for v in paper)]))
            keys = ("stable", "novel", "sun", "vsun")
            here = (rate_with_interval(metrics, key) for key in keys)
            beside.append(table_row([f"{name}, here", *here]))
    picture = "![Stability against novelty of each set, with intervals: Fig. 1(a)](baselines.svg)"
    parts = [INTRO, *lines, "", picture, BESIDE, *beside, WHY]
    if DISTANCE in kept:
        parts += [TREND, *trend_rows(kept), TREND_SAYS]
    text = "\n".join(parts)
    figure = plane_figure(points(list(measured.items())))
    if figure is not None:
        save_figure(figure, out / "baselines.svg")
    write_text(out / "baselines.md", text)
    return text


def trend_rows(kept: pd.DataFrame) -> list[str]:
    """S and N of the half of each set that is nearer to known crystals, and of the other."""
    found = table_head("", "median 𝒟", "S: nearer half", "farther half", "N: nearer half", "farther half")
    for name in SETS:
        rows = kept[(kept["set"] == name) & kept[DISTANCE].notna()]
        if len(rows):
            middle = rows[DISTANCE].median()
            nearer = rows[DISTANCE] <= middle
            halves = [metrics_of(rows[nearer]), metrics_of(rows[~nearer])]
            cells = [rate_with_interval(half, flag) for flag in ("stable", "novel") for half in halves]
            found.append(table_row([name, f"{middle:.2f}", *cells]))
    return found


def folder_of(name: str) -> str:
    """The name of a set's folder."""
    return "".join(c if c.isalnum() else "-" for c in name)


def tell(stage: str, done: int, total: int) -> None:
    """Progress, when a stage is done."""
    if done == total:
        say(f"{stage} {done} of {total}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    running, tabling = verbs.add_parser("run"), verbs.add_parser("table")
    trending = verbs.add_parser("trends")
    trending.add_argument("--known", type=int, default=3000)
    trending.add_argument("--num", type=int, default=300)
    trending.add_argument("--out", type=Path, required=True)
    running.add_argument("--data", type=Path, required=True)
    running.add_argument("--num", type=int, default=300)
    running.add_argument("--only", nargs="*", default=[], choices=list(SETS))
    running.add_argument("--out", type=Path, required=True)
    tabling.add_argument("--out", type=Path, default=Path())
    chosen = parser.parse_args()
    if chosen.verb == "run":
        run(chosen.data, chosen.out, chosen.num, chosen.only)
    elif chosen.verb == "trends":
        trends(chosen.out, chosen.num, chosen.known)
    else:
        sys.stdout.write(table(chosen.out))


if __name__ == "__main__":
    main()
