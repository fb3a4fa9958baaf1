"""What an energy above hull is worth where the hull lacks compounds; a short list by a fuller hull.

A third of the chemical systems is taken out of the bundled hull. What is then relaxed and listed by the
poorer hull is judged again by the whole one, which the run has not seen: crystals of files that come with
energies, over several thirds, by the verdict of :mod:`crysjepa.energy.support`; and the short list of a quick
run.

    python benchmarks/held_out_hull.py --out FOLDER [--relaxed RELAXED.parquet ...] [--thirds 4] [--no-run]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from crysjepa import api
from crysjepa.core.validity import reduced_formulas
from crysjepa.discovery.config import PRESETS
from crysjepa.energy.elemental_references import load_references
from crysjepa.energy.hull import Fractions, Hull
from crysjepa.energy.known_hull import known_hull
from crysjepa.energy.limits import within
from crysjepa.energy.support import HullSupport, Support, systems_of
from crysjepa.evaluation.given import read_given
from crysjepa.evaluation.rates import wilson_interval
from crysjepa.runtime.files import write_json, write_parquet, write_text

SHARE = 1 / 3
RISEN = 0.05
"""eV/atom: a crystal whose energy above hull is higher by more than this had missed a competitor."""
STABLE = 0.1


def without_some(hull: Hull, seed: int) -> Hull:
    """The hull without the compounds of a random third of its chemical systems."""
    systems = sorted({_system(c) for c in hull.compounds})
    order = np.random.default_rng(seed).permutation(len(systems))
    held = {systems[i] for i in order[: round(SHARE * len(systems))]}
    kept = {c: e for c, e in hull.compounds.items() if _system(c) not in held}
    return Hull(kept, hull.scale, f"two thirds of {hull.source}")


def _system(compound: Fractions) -> tuple[str, ...]:
    return tuple(e for e, _ in compound)


def write_hull(hull: Hull, path: Path) -> None:
    """As ``--hull`` reads it."""
    formulas = ["".join(f"{e}{f:.12f}" for e, f in compound) for compound in hull.compounds]
    table = pa.table({"composition": formulas, "formation_energy_per_atom": list(hull.compounds.values())})
    about = {b"crysjepa": json.dumps({"scale": hull.scale}).encode()}
    write_parquet(table.replace_schema_metadata(about), path)


def gaps_of(files: list[Path], thirds: int) -> list[dict[str, Any]]:
    """A row for each crystal and poorer hull: its verdict, and its energy above both hulls in eV/atom."""
    whole, rows = known_hull(), []
    crystals = []
    for file in files:
        given = read_given(file)
        assert given.origin is not None, f"{file} says not of which force field its energies are"
        references = load_references(given.origin.force_field, whole.scale)
        batch = given.table.crystals(given.table.ok_ids)
        totals = given.table.column("energy_per_atom", batch.ids)
        for formula, composition, total in zip(
            reduced_formulas(batch), batch.compositions(), totals, strict=True
        ):
            energy, _ = references.formation_energy_per_atom(composition, total)
            if energy is not None:
                crystals.append((formula, composition, energy))
    true = [whole.e_above_hull(c, e).e_above_hull for _, c, e in crystals]
    systems = systems_of(f for f, _, _ in crystals)
    for seed in range(thirds):
        poorer = without_some(whole, seed)
        support = HullSupport(poorer)
        for (_, composition, energy), system, above in zip(crystals, systems, true, strict=True):
            seen = poorer.e_above_hull(composition, energy).e_above_hull
            verdict = str(support.of(system).verdict)
            rows.append({"third": seed, "support": verdict, "seen": seen, "true": above})
    return rows


def table_of(rows: list[dict[str, Any]]) -> list[str]:
    """A Markdown table by verdict, with and without those too far below the hull."""
    lines = [
        "| where the poorer hull is | crystals | energy too low by over 0.05 eV/atom | of those that it puts "
        "within ±0.1 eV/atom: too low by over 0.05 | at most 0.1 by the whole hull | Spearman of both |",
        "|---|---|---|---|---|---|",
    ]
    for verdict in (*map(str, Support), "all"):
        part = [r for r in rows if verdict in ("all", r["support"])]
        near = [r for r in part if within(abs(r["seen"]), STABLE)]
        order = spearmanr([r["seen"] for r in near], [r["true"] for r in near]).statistic
        cells = [
            _rate([r["true"] - r["seen"] > RISEN for r in part]),
            _rate([r["true"] - r["seen"] > RISEN for r in near]),
            _rate([within(r["true"], STABLE) for r in near]),
            f"{order:.3f}",
        ]
        lines.append(f"| {verdict} | {len(part)} | {' | '.join(cells)} |")
    return lines


def _rate(hits: list[bool]) -> str:
    if not hits:
        return "–"
    low, high = wilson_interval(sum(hits), len(hits))
    return f"{100 * sum(hits) / len(hits):.1f} % ({100 * low:.0f}–{100 * high:.0f}) of {len(hits)}"


def main() -> None:
    """Both parts, as ``held_out_hull.md`` and ``.json`` in --out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--relaxed", type=Path, nargs="*", default=[], help="what crysjepa relax wrote")
    parser.add_argument("--thirds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of the third that the quick run does not see")
    parser.add_argument("--no-run", action="store_true", help="leave the quick run out")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    lines = [
        "# A third of the hull held out",
        "",
        "`python benchmarks/held_out_hull.py`: a random third of the chemical systems is taken out of the "
        "bundled hull, and what the poorer hull says is compared with the whole. LeMat-Bulk's counts, by "
        "which the verdicts are made, know nothing of energies.",
        "",
    ]
    if args.relaxed:
        rows = gaps_of(args.relaxed, args.thirds)
        found["by_support"] = rows
        lines += [
            f"Relaxed crystals of {len(args.relaxed)} files, each judged without {args.thirds} different "
            "thirds (so that the rows are not independent), with Wilson intervals of 95 %:",
            "",
            *table_of(rows),
            "",
        ]
    if not args.no_run:
        hull = args.out / "two-thirds.parquet"
        write_hull(without_some(known_hull(), args.seed), hull)
        api.discover(
            args.out / "run",
            config=PRESETS["quick"].model_copy(update={"hull": str(hull), "seed": args.seed}),
        )
        metrics = api.evaluate(args.out / "run", args.out / "whole")
        found["shortlist"] = listed = metrics["shortlist"]
        now, all_now = (100 * part["stable"] for part in (listed, listed["control"]))
        lines += [
            f"Short list of {listed['num']} by two thirds of the hull, judged by the whole: Spearman of the "
            f"energies above hull {listed['spearman']:.3f}, median shift "
            f"{1000 * listed['median_shift']:.1f} meV/atom; stable {now:.0f} % (of all {all_now:.0f} %).",
            "",
        ]
    write_json(args.out / "held_out_hull.json", found)
    write_text(args.out / "held_out_hull.md", "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
