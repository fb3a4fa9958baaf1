"""How good the chances of :mod:`crysjepa.evaluation.probability` are, on chemical systems not fitted on.

    python benchmarks/probability.py --data FOLDER --out FOLDER [--rows ROWS.parquet ...] [--figure FILE.svg]

FOLDER holds wbm_dev.parquet. In five folds by chemical system, the model is fitted on four and asked about
the fifth: reliability, Brier score and expected calibration error (ten bins of as many crystals each); AUC
on WBM beside that of the ranker ``jepa-hull`` and of the judges' own energies, on the same crystals; and
what it changes that CHGNet relaxes a crystal instead of DFT. Into --out go probability.json and
probability.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from judging.probability_figure import draw
from judging.probability_rows import (
    FOLDS,
    JUDGES,
    POORER,
    SETS,
    THIRDS,
    WBM,
    Floats,
    asked,
    name_of,
    rows_of_wbm,
    to_fit_on,
    with_more,
)
from ranking.metrics import judge_rankings

from crysjepa import datasets
from crysjepa.energy.known_hull import NAME, known_hull
from crysjepa.energy.limits import within
from crysjepa.energy.support import Support
from crysjepa.evaluation.judge_names import above_hull_column
from crysjepa.evaluation.probability import LIMITS
from crysjepa.evaluation.reference import Known
from crysjepa.ranking.registry import RankerContext, make_ranker
from crysjepa.runtime.files import write_json, write_text

BINS = 10


def calibration_error(chances: Floats, hits: Floats, bins: int = BINS) -> float:
    """Mean over bins of as many crystals each of |share of hits − mean chance|, weighted by their numbers."""
    order = np.argsort(chances, kind="stable")
    parts = [p for p in np.array_split(order, bins) if len(p)]
    return sum(len(p) * abs(hits[p].mean() - chances[p].mean()) for p in parts) / len(chances)


def scores(chances: Floats, hits: Floats) -> dict[str, Any]:
    """Brier score, that of always saying the share of hits, and the calibration error."""
    base = float(hits.mean())
    return {
        "num": len(hits),
        "share": base,
        "mean_chance": float(chances.mean()),
        "brier": float(np.mean((chances - hits) ** 2)),
        "brier_of_the_share": base * (1 - base),
        "ece": calibration_error(chances, hits),
    }


def calibration(rows: pd.DataFrame, more: list[Path]) -> list[dict[str, Any]]:
    """Scores of each model on the rows with a trustworthy label: by hull, and by the verdict there."""
    kept = to_fit_on(rows)
    parts = {
        "all": kept,
        "whole hull": kept[kept["hull"] == "whole"],
        "poorer hulls": kept[kept["hull"].str.startswith(POORER)],
    }
    parts |= {path.stem: kept[kept["hull"] == path.stem] for path in more}
    parts |= {f"{v}": kept[kept["hull_support"] == v] for v in map(str, Support)}
    found = []
    for target, limit in LIMITS.items():
        for judges in SETS:
            for name, part in parts.items():
                chances = part[f"{target} by {name_of(judges)}"].to_numpy(dtype=float)
                there = np.isfinite(chances)
                if not there.any():
                    continue
                hits = within(part["label"].to_numpy(dtype=float), limit).astype(float)
                what = {"target": target, "judges": name_of(judges), "rows": name}
                found.append(what | scores(chances[there], hits[there]))
    return found


def _or_last(score: float | None) -> float:
    return np.inf if score is None else score


def ranking(rows: pd.DataFrame, data: Path) -> dict[str, Any]:
    """AUC at 0.1 eV/atom of WBM, whole hull, all crystals that both judges have an energy of."""
    whole = rows[rows["hull"] == "whole"]
    whole = whole[whole[[above_hull_column(j) for j in JUDGES]].notna().all(axis=1)]
    table = datasets.load(str(data / WBM))
    crystals = table.crystals(whole["id"].tolist())
    ranker = make_ranker("jepa-hull", RankerContext(Known.load(NAME).crystals(), hull=known_hull()))
    scored = ranker.score(crystals)
    found: dict[str, Any] = {"num": len(whole)}
    orders = {"jepa-hull": np.array([_or_last(scored[i].value) for i in crystals.ids])}
    orders |= {j: whole[above_hull_column(j)].to_numpy(dtype=float) for j in JUDGES}
    orders |= {f"p_stable by {name_of(js)}": -whole[f"p_stable by {name_of(js)}"].to_numpy() for js in SETS}
    for label in ("published", "on_scale", "label"):
        truth = whole[label].to_numpy(dtype=float)
        judged, bootstrap = judge_rankings(orders, truth, limits=(0.1,), shares=(0.1,))
        auc = next(key for key in judged["jepa-hull"] if key.startswith("auc"))
        found[label] = {name: values[auc] for name, values in judged.items()}
        ahead = bootstrap.difference(f"p_stable by {name_of(JUDGES)}", "jepa-hull", auc)
        found[label]["difference"] = ahead.to_dict()
    return found


def geometry(rows: pd.DataFrame, relaxed: pd.DataFrame) -> dict[str, Any]:
    """The same crystals as DFT left them and as CHGNet relaxes them, whole hull, trustworthy labels."""
    mine, other = (f[(f["hull"] == "whole") & f["supported"]].set_index("id") for f in (rows, relaxed))
    columns = [above_hull_column(j) for j in JUDGES]
    ids = [i for i in other.index[other[columns].notna().all(axis=1)] if i in mine.index]
    found: dict[str, Any] = {"num": len(ids)}
    for judge, column in zip(JUDGES, columns, strict=True):
        change = other.loc[ids, column] - mine.loc[ids, column]
        found[judge] = {
            "median_change": float(change.median()),
            "mean_absolute_change": float(change.abs().mean()),
        }
    for target, limit in LIMITS.items():
        for name, frame in (("dft", mine), ("chgnet", other)):
            hits = within(mine.loc[ids, "label"].to_numpy(dtype=float), limit).astype(float)
            for judges in SETS:
                chances = frame.loc[ids, f"{target} by {name_of(judges)}"].to_numpy(dtype=float)
                found[f"{target} by {name_of(judges)}, geometry of {name}"] = scores(chances, hits)
    return found


def page(found: dict[str, Any]) -> str:
    """Tables."""
    lines = [
        "# How likely DFT is to agree",
        "",
        f"`python benchmarks/probability.py`: {found['crystals']} crystals of WBM in {found['systems']} "
        f"chemical systems, {FOLDS} folds by system; hulls: the bundled one, and {found['poorer_hulls']} "
        "without a third of its systems (so that rows are not independent). Calibration is of the crystals "
        "that the bundled hull supports. ECE: ten bins of as many rows each.",
        "",
        "| chance | judges | rows | n | share within | mean chance | Brier | of the share alone | ECE |",
        "|---" * 9 + "|",
    ]
    for r in found["calibration"]:
        numbers = f"{r['num']} | {r['share']:.3f} | {r['mean_chance']:.3f} | {r['brier']:.4f} | "
        numbers += f"{r['brier_of_the_share']:.4f} | {r['ece']:.4f}"
        lines.append(f"| {r['target']} | {r['judges']} | {r['rows']} | {numbers} |")
    ranks = found["ranking"]
    names = {
        "published": "as published",
        "on_scale": "on the hull's scale",
        "label": "above the bundled hull",
    }
    lines += [
        "",
        f"AUC at 0.1 eV/atom on {ranks['num']} crystals of WBM (95 % intervals by bootstrap), whole hull:",
        "",
        "| labels | " + " | ".join(k for k in ranks["label"]) + " |",
        "|---" * (1 + len(ranks["label"])) + "|",
    ]
    for label, name in names.items():
        cells = (f"{v['value']:.3f} ({v['low']:.3f}–{v['high']:.3f})" for v in ranks[label].values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "difference: the chance by both judges less jepa-hull.", ""]
    moved = found["geometry"]
    lines += [
        f"As CHGNet relaxes them instead of DFT ({moved['num']} crystals): energies change by "
        + ", ".join(
            f"{1000 * moved[j]['median_change']:+.1f} meV/atom (median; mean of the absolute change "
            f"{1000 * moved[j]['mean_absolute_change']:.1f}) for {j}"
            for j in JUDGES
        )
        + ".",
        "",
        "| chance | mean chance | share within | Brier | ECE |",
        "|---" * 5 + "|",
    ]
    for name, r in moved.items():
        if isinstance(r, dict) and "brier" in r:
            lines.append(
                f"| {name} | {r['mean_chance']:.3f} | {r['share']:.3f} | {r['brier']:.4f} | {r['ece']:.4f} |"
            )
    scale = found["scale"]
    lines += [
        "",
        "The bundled hull less MP-20's: median difference of heights "
        f"{1e3 * scale['median_height_difference']:.4f} meV/atom; at {100 * scale['lower']:.0f} % of the "
        f"crystals it is lower by over 1 meV/atom, at {100 * scale['higher']:.1f} % higher. WBM's formation "
        f"energies are moved by {1e3 * scale['mean_absolute_shift']:.0f} meV/atom (mean of absolute values, "
        f"at most {scale['largest_shift']:.2f} eV/atom) to be on the hull's correction scheme.",
        "",
        "![Chances against what DFT says](probability.svg)",
        "",
    ]
    return "\n".join(lines)


def scale_of(rows: pd.DataFrame) -> dict[str, float]:
    """How the labels' scale differs from the bundled hull's."""
    whole = rows[rows["hull"] == "whole"]
    shift = (whole["on_scale"] - whole["published"]).to_numpy()
    heights = (whole["on_scale"] - whole["label"]).to_numpy()  # bundled less MP-20's
    return {
        "median_height_difference": float(np.nanmedian(heights)),
        "lower": float(np.mean(heights < -1e-3)),
        "higher": float(np.mean(heights > 1e-3)),
        "mean_absolute_shift": float(np.nanmean(np.abs(shift))),
        "largest_shift": float(np.nanmax(np.abs(shift))),
    }


def main() -> None:
    """Everything, as ``probability.md`` and ``.json``, and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with wbm_dev.parquet")
    parser.add_argument("--out", type=Path, default=Path("probability"), help="default: %(default)s")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="Parquet files with further rows")
    parser.add_argument("--thirds", type=int, default=THIRDS, help="poorer hulls; default: %(default)s")
    parser.add_argument("--figure", type=Path, help="default: probability.svg in --out")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = with_more(rows_of_wbm(args.data, thirds=args.thirds), args.rows)
    relaxed = rows_of_wbm(args.data, geometry="chgnet", thirds=0)
    asked(rows, relaxed)
    found = {
        "crystals": int(rows["id"].nunique()),
        "systems": int(rows["chemical_system"].nunique()),
        "poorer_hulls": args.thirds,
        "calibration": calibration(rows, args.rows),
        "ranking": ranking(rows, args.data),
        "geometry": geometry(rows, relaxed),
        "scale": scale_of(rows),
    }
    draw(to_fit_on(rows), args.figure or args.out / "probability.svg")
    write_json(args.out / "probability.json", found)
    write_text(args.out / "probability.md", page(found))
    print(page(found))


if __name__ == "__main__":
    main()
