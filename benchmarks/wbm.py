"""Stable or not: Matbench Discovery's numbers for Crys-JEPA on a sample of WBM, without relaxation.

    python benchmarks/wbm.py --data FOLDER --out FOLDER [--figure FILE.svg]
    python benchmarks/wbm.py label --data FOLDER --work FOLDER      # force fields' energies anew

FOLDER of ``--data`` is that of benchmarks/screening.py. Beside ``jepa-hull`` and ``jepa-relaxed`` stand
static energies of CHGNet and SevenNet of the same crystals, which are kept (``judging/wbm_judges.parquet``
and ``wbm_judges_rest.parquet``), and the cascade: a force field evaluates only the crystals that
``jepa-hull`` puts nearest to the hull. The crystals are as DFT left them; the published rows of other models
are of the whole of WBM, most of them from the structures before relaxation. Writes ``wbm.json`` and
``wbm.md`` into ``--out``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from judging.board import (
    NUMBERS,
    PREVALENCE,
    Floats,
    board_numbers,
    cascade,
    halves,
    judged_by_board,
    with_threshold_of_the_other_half,
)
from judging.probability_rows import JUDGES, LABELS, WBM, sample, static_energies, write_rows
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from ranking.data import SCALE, as_array, read_hull, read_known, read_wbm
from ranking.metrics import Estimate
from ranking.page import table_head, table_row
from ranking.scales import scheme_shift

from crysjepa import datasets
from crysjepa.core.chemical_systems import element_fractions
from crysjepa.core.crystals import Crystals
from crysjepa.energy.lower_hull import LowerHull
from crysjepa.evaluation.judge_names import energy_column
from crysjepa.ranking.registry import RankerContext, make_ranker
from crysjepa.report.style import MUTED, ROUND_COLOURS, ROUND_MARKERS, in_house_style, save_figure
from crysjepa.runtime.files import write_json, write_text

REST = LABELS.with_name("wbm_judges_rest.parquet")
"""Judges' energies of 1,500 crystals that :data:`LABELS` does not have: the next 1,000 in the order of
chemical systems, then those that ``jepa-hull`` puts nearest to the hull."""
RANKERS = ("jepa-hull", "jepa-relaxed")
SHARES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of all crystals, that a force field evaluates."""
UNDECIDED = 0.1
ON_SCALE = "on the hull's scale"
"""The labels that the cascade is shown for."""
NEXT, NEAREST = 1000, 500
STRAIN, DISPLACEMENT = 0.03, 0.1
"""Of the distorted crystals: standard deviations of the strain of all lengths, and of coordinates in Å."""
PUBLISHED = {
    "CHGNet (relaxes)": (0.613, 3.361, 0.514, 0.758, 0.132, 0.851, 0.063, 0.103, 0.689),
    "ESNet": (0.572, 3.498, 0.535, 0.614, 0.098, 0.857, 0.109, 0.194, -0.114),
    "ALIGNN": (0.567, 3.206, 0.490, 0.672, 0.128, 0.841, 0.093, 0.154, 0.297),
    "EMA-GNN": (0.558, 2.753, 0.421, 0.826, 0.208, 0.797, 0.086, 0.141, 0.412),
    "Wrenformer": (0.466, 2.256, 0.345, 0.719, 0.250, 0.745, 0.110, 0.186, -0.018),
    "Voronoi RF": (0.333, 1.579, 0.241, 0.535, 0.308, 0.668, 0.148, 0.212, -0.329),
}
"""In the order of :data:`NUMBERS`: of the board's 215,488 unique prototypes, from its model files of
2026-07-16 (EMA-GNN: of 2026-08-08). All but CHGNet predict from the structures before relaxation."""
WITH_INTERVAL = ("F1", "DAF", "precision", "recall")


@dataclass(frozen=True)
class Sample:
    """Crystals (B) of WBM, what is predicted of them, and two kinds of truth: eV/atom above the hull (B,).

    ``evaluated``: the first chemical systems of :func:`~judging.probability_rows.sample`, in which both force
    fields have evaluated every crystal. They are drawn at random; which others were evaluated is not.
    """

    crystals: Crystals
    predictions: dict[str, Floats]
    truths: dict[str, Floats]
    evaluated: NDArray[np.bool_]


def read_sample(data: Path) -> Sample:
    """Score the crystals by Crys-JEPA, and read what the force fields say of them."""
    hull, wbm, context = read_hull(data), read_wbm(data), _context(data)
    predictions = {}
    for name in RANKERS:
        ranker = make_ranker(name, context)
        for what, crystals in (("", wbm.crystals), (", distorted", distorted(wbm.crystals))):
            scored = ranker.score(crystals)
            predictions[name + what] = as_array([scored[i].value for i in crystals.ids])
    kept = kept_energies()
    table = datasets.load(str(data / WBM))
    order = sample(table, len(table))
    first = set(order[: next((n for n, i in enumerate(order) if i not in kept.index), len(order))])
    evaluated = np.array([i in first for i in wbm.crystals.ids])
    heights = LowerHull(hull).heights(element_fractions(wbm.crystals))[0]
    kept = kept.reindex(list(wbm.crystals.ids))
    for judge in JUDGES:
        formation = kept[f"formation_{energy_column(judge)}"].to_numpy(dtype=float)
        predictions[judge] = formation - heights
    truths = {
        ON_SCALE: wbm.e_above_hull + scheme_shift(wbm.crystals),
        "as published": wbm.e_above_hull,
    }
    return Sample(wbm.crystals, predictions, truths, evaluated)


def kept_energies() -> pd.DataFrame:
    """Judges' energies by id, of crystals as DFT left them."""
    rows = pd.concat([pd.read_parquet(path) for path in (LABELS, REST) if path.exists()])
    return rows[rows["geometry"] == "dft"].set_index("id")


def distorted(crystals: Crystals, seed: int = 0) -> Crystals:
    """The same, cells strained alike in all directions and sites displaced: as if not yet relaxed."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(0.0, STRAIN, size=(len(crystals), 1, 1)))
    lattices = crystals.lattices * scale
    moves = rng.normal(0.0, DISPLACEMENT, size=crystals.frac_coords.shape)
    inverse = np.repeat(np.linalg.inv(lattices), crystals.num_atoms, axis=0)
    # x = X L for rows: a Cartesian displacement u moves fractional coordinates by u L⁻¹
    frac_coords = crystals.frac_coords + np.einsum("ni,nij->nj", moves, inverse)
    return replace(crystals, lattices=lattices, frac_coords=frac_coords % 1.0)


def measure(sampled: Sample, rounds: int) -> dict[str, Any]:
    """What ``wbm.json`` holds: all crystals, and those that every force field has evaluated."""
    found: dict[str, Any] = {"board_prevalence": PREVALENCE, "labels": {}}
    found |= {"num": len(sampled.crystals), "num_evaluated": int(sampled.evaluated.sum())}
    undecided = cascade(sampled.predictions["jepa-hull"], np.full(found["num"], -99.0), UNDECIDED) == -99.0
    found["undecided"] = int(undecided.sum())
    found["undecided_without"] = {
        j: int((undecided & ~np.isfinite(sampled.predictions[j])).sum()) for j in JUDGES
    }
    for label, truth in sampled.truths.items():
        tables = {}
        for weighting, prevalence in (("as it is", None), ("at the board's prevalence", PREVALENCE)):
            tables[weighting] = {
                "all": _judged(sampled, truth, prevalence, rounds),
                "evaluated": _evaluated(sampled, truth, prevalence, rounds),
            }
        found["labels"][label] = {"prevalence": float(np.mean(truth <= 0)), "tables": tables}
    return found


def _judged(sampled: Sample, truth: Floats, prevalence: float | None, rounds: int) -> dict[str, Any]:
    jepa = sampled.predictions["jepa-hull"]
    half = halves(sampled.crystals.chemical_systems())
    moved, thresholds = with_threshold_of_the_other_half(jepa, truth, half, prevalence)
    predictions = {n: v for n, v in sampled.predictions.items() if n not in JUDGES}
    predictions["jepa-hull, threshold of the other half"] = moved
    predictions |= {cascade_name(j): cascade(jepa, sampled.predictions[j], UNDECIDED) for j in JUDGES}
    return {"rows": _rows(predictions, truth, prevalence, rounds), "thresholds": list(thresholds)}


def _evaluated(sampled: Sample, truth: Floats, prevalence: float | None, rounds: int) -> dict[str, Any]:
    there = sampled.evaluated
    some = {n: v[there] for n, v in sampled.predictions.items() if n == "jepa-hull" or n in JUDGES}
    jepa, labels = some["jepa-hull"], truth[there]
    predictions = some | {cascade_name(j): cascade(jepa, some[j], UNDECIDED) for j in JUDGES}
    curves = {
        judge: {
            f"{share:g}": numbers(cascade(jepa, some[judge], share), labels, prevalence) for share in SHARES
        }
        for judge in JUDGES
    }
    return {"rows": _rows(predictions, labels, prevalence, rounds), "curves": curves}


def _rows(
    predictions: Mapping[str, Floats], truth: Floats, prevalence: float | None, rounds: int
) -> dict[str, Any]:
    judged = judged_by_board(predictions, truth, prevalence, rounds=rounds)
    return {name: {k: e.to_dict() for k, e in row.items()} for name, row in judged.items()}


def numbers(predicted: Floats, truth: Floats, prevalence: float | None) -> dict[str, float]:
    """The board's numbers without intervals."""
    return {name: float(v[0]) for name, v in board_numbers(predicted, truth, prevalence).items()}


def cascade_name(judge: str) -> str:
    """For tables."""
    return f"jepa-hull, then {judge} for {100 * UNDECIDED:.0f} %"


# -- the page ---------------------------------------------------------------------------------


def page(found: Mapping[str, Any]) -> str:
    """Tables."""
    lines = ["# WBM by the numbers of Matbench Discovery", ""]
    for label, rows in found["labels"].items():
        for weighting, judged in rows["tables"].items():
            prevalence = rows["prevalence"] if weighting == "as it is" else found["board_prevalence"]
            lines += [f"## Labels {label}, {weighting}: {100 * prevalence:.1f} % stable", ""]
            lines += [f"All {found['num']:,} crystals:", "", *board_table(judged["all"]["rows"]), ""]
            first, second = (1000 * t for t in judged["all"]["thresholds"])
            lines += [f"Thresholds of the other halves: {first:+.0f} and {second:+.0f} meV/atom.", ""]
            lines += [f"The {found['num_evaluated']:,} crystals that both force fields evaluated:", ""]
            lines += [*board_table(judged["evaluated"]["rows"]), ""]
    lines += ["## Published, of the whole of WBM", "", *published_table(), ""]
    lines += ["## The cascade", "", *cascade_table(found), ""]
    missing = ", ".join(f"{num} without {name}" for name, num in found["undecided_without"].items())
    lines += [f"Of {found['undecided']:,} undecided of all: {missing}.", ""]
    return "\n".join(lines)


def board_table(rows: Mapping[str, Any]) -> list[str]:
    """A row a prediction; 95 % intervals by bootstrap in brackets."""
    lines = table_head("", *NUMBERS)
    for name, row in rows.items():
        cells = [with_interval(Estimate(**row[k]), shown=k in WITH_INTERVAL) for k in NUMBERS]
        lines.append(table_row([name, *cells]))
    return lines


def with_interval(estimate: Estimate, *, shown: bool) -> str:
    """Such as ``0.718 (0.700–0.735)``."""
    if estimate.value is None:
        return "–"
    if not shown or estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def published_table() -> list[str]:
    """The board's own rows."""
    lines = table_head("published", *NUMBERS)
    for name, values in PUBLISHED.items():
        lines.append(table_row([name, *(f"{v:.3f}" for v in values)]))
    return lines


def cascade_table(found: Mapping[str, Any]) -> list[str]:
    """F1 and DAF by the share that a force field evaluates, of the labels on the hull's scale."""
    rows = found["labels"][ON_SCALE]
    weightings = list(rows["tables"])
    heads = [f"{judge}, {w}: {n}" for judge in JUDGES for w in weightings for n in ("F1", "DAF")]
    said = f"Labels {ON_SCALE}; {found['num_evaluated']:,} crystals."
    lines = [said, "", *table_head("evaluated", *heads)]
    for share in SHARES:
        parts = [(judge, rows["tables"][w]["evaluated"]["curves"]) for judge in JUDGES for w in weightings]
        curves = [curve[judge][f"{share:g}"] for judge, curve in parts]
        cells = [f"{numbers[n]:.3f}" for numbers in curves for n in ("F1", "DAF")]
        lines.append(table_row([f"{100 * share:.0f} %", *cells]))
    return lines


@in_house_style
def draw(found: Mapping[str, Any]) -> Figure:
    """F1 by the share evaluated, at both prevalences."""
    rows = found["labels"][ON_SCALE]
    figure = Figure(figsize=(9.2, 3.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (weighting, judged) in zip(panels, rows["tables"].items(), strict=True):
        _panel(panel, judged["evaluated"]["curves"])
        prevalence = rows["prevalence"] if weighting == "as it is" else found["board_prevalence"]
        panel.set(
            title=f"{weighting}: {100 * prevalence:.1f} % stable", xlabel="% evaluated by the force field"
        )
    panels[0].set_ylabel("F1 at 0 eV/atom")
    panels[0].legend(loc="lower right")
    return figure


def _panel(panel: Axes, curves: Mapping[str, Any]) -> None:
    for number, (judge, curve) in enumerate(curves.items()):
        x, y = [100 * s for s in SHARES], [curve[f"{s:g}"]["F1"] for s in SHARES]
        panel.plot(
            x, y, color=ROUND_COLOURS[number], marker=ROUND_MARKERS[number], markersize=5, linewidth=1.4,
            label=f"jepa-hull, then {judge}",
        )  # fmt: skip
    panel.axhline(next(iter(curves.values()))["0"]["F1"], color=MUTED, linewidth=0.9, linestyle=":")
    panel.grid(True)


# -- the command line -------------------------------------------------------------------------


def label(data: Path, work: Path, processes: int | None) -> None:
    """Write :data:`REST`; what is done is kept in ``work``."""
    table = datasets.load(str(data / WBM))
    there = set(pd.read_parquet(LABELS).query("geometry == 'dft'")["id"])
    rest = [i for i in sample(table, len(table)) if i not in there]
    wbm, context = read_wbm(data), _context(data)
    scored = make_ranker("jepa-hull", context).score(wbm.crystals)
    nearest = sorted(rest[NEXT:], key=lambda i: abs(scored[i].value or 0.0))[:NEAREST]
    write_rows(static_energies(table, rest[:NEXT] + nearest, work, processes), REST)


def _context(data: Path) -> RankerContext:
    known = read_known(data)
    return RankerContext(known.crystals, known.formation_energies, scale=SCALE, hull=read_hull(data))


def main() -> None:
    """Either of the two commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("table", "label"), default="table")
    parser.add_argument("--data", type=Path, required=True, help="folder with wbm_dev.parquet")
    parser.add_argument("--out", type=Path, default=Path("wbm"), help="default: %(default)s")
    parser.add_argument("--figure", type=Path, help="default: cascade.svg in --out")
    parser.add_argument("--work", type=Path, default=Path("wbm/work"), help="of label: finished work")
    parser.add_argument("--processes", type=int, help="of label")
    parser.add_argument("--rounds", type=int, default=1000, help="resamples; default: %(default)s")
    args = parser.parse_args()
    if args.what == "label":
        label(args.data, args.work, args.processes)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    found = measure(read_sample(args.data), args.rounds)
    write_json(args.out / "wbm.json", found)
    save_figure(draw(found), args.figure or args.out / "cascade.svg")
    write_text(args.out / "wbm.md", page(found))
    print(page(found))


if __name__ == "__main__":
    main()
