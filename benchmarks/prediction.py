"""How often is a known structure among the predicted ones, and where is it lost otherwise?

    python benchmarks/prediction.py run --data FOLDER --out FOLDER     # goes on where it stood
    python benchmarks/prediction.py table                              # from the kept rows

Compounds are drawn at random from the test part of MP-20 and MPTS-52 (split by chemical system), of which
neither the flow nor Crys-JEPA saw anything in training. The true structure is the lowest known one of the
formula. No crystal of the formula, whatever its structure, is among the parents of prototypes. CHGNet has
seen them all.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from judging.prediction_stages import LOST, lost_at, places_of
from progress import say

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import symmetry_of
from crysjepa.core.validity import reduced_formulas
from crysjepa.evaluation.rates import wilson_interval
from crysjepa.generators.constraints import EXCLUDED_BY_DEFAULT
from crysjepa.generators.flow.formula_rules import formula_keys
from crysjepa.generators.flow.sampling import FlowSampler
from crysjepa.prediction.means import Means
from crysjepa.prediction.predict import predict_structures
from crysjepa.prediction.settings import PredictSettings
from crysjepa.prediction.target import Target
from crysjepa.relaxation.formation_energies import formation_energies
from crysjepa.runtime.files import write_text

NUM, MAX_SITES = 200, 20
BEST = (1, 5, 20)
LOOKED_AT = 75
"""Compounds, the first, that were looked at while settings and orders were chosen."""
KEPT = Path(__file__).parent / "judging" / "prediction.jsonl"
TABLES = ("mp20_bt.parquet", "mpts52.parquet")


def compounds(data: Path, flow: FlowSampler, *, num: int = NUM, seed: int = 1) -> list[Crystals]:
    """The known crystals of ``num`` formulas, in random order; of each the lowest first.

    All are of the test part, with the lowest of two elements or more, of at most :data:`MAX_SITES` sites in
    its primitive cell, none of them radioactive or a noble gas; and of no formula that the flow was trained
    on, as a substitution perhaps.
    """
    parts = [pq.read_table(data / name) for name in TABLES]
    shared = [c for c in parts[0].column_names if all(c in p.column_names for p in parts)]
    table = pa.concat_tables([p.select(shared) for p in parts], promote_options="permissive")
    table = table.filter(pc.equal(table["split"], "test"))
    _, first = np.unique(table["id"].to_pylist(), return_index=True)
    table = table.take(np.sort(first))
    crystals = Crystals.from_arrow(table.select(["id", "atomic_numbers", "frac_coords", "lattice"]))
    energies = np.array(table["formation_energy_per_atom"].to_pylist(), dtype=float)
    by_formula: dict[Any, list[int]] = {}
    for row, formula in enumerate(reduced_formulas(crystals)):
        by_formula.setdefault(formula, []).append(row)
    fit = [
        sorted(rows, key=lambda row: (energies[row], crystals.ids[row]))
        for formula, rows in sorted(by_formula.items())
        if len(formula) > 1
        and not {z for z, _ in formula} & EXCLUDED_BY_DEFAULT
        and formula_keys([formula])[0] not in flow.known
    ]
    found = list[Crystals]()
    for place in np.random.default_rng(seed).permutation(len(fit)).tolist():
        own = crystals[fit[place]]
        if len(found) < num and _primitive_sites(own[0]) <= MAX_SITES:
            found.append(own)
    return found


def _primitive_sites(crystal: Crystals) -> int:
    try:
        return len(symmetry_of(crystal, 0.1).prim_std_cell.numbers)
    except ValueError:
        return int(crystal.num_atoms[0])


def run(data: Path, out: Path, settings: PredictSettings, after: int, most: int | None) -> None:
    """Predict one compound after the other; what has its line in ``rows.jsonl`` is not predicted again.

    Compounds number ``after`` + 1 to ``most``.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "rows.jsonl"
    done = {r["id"] for r in rows_of(path)}
    means: Means | None = None
    first = Means.of("NaCl", settings, processes=1)
    for place, known in enumerate(compounds(data, first.flow)[:most]):
        if place < after or known.ids[0] in done:
            continue
        formula = known.reduced_formulas()[0]
        means = replace(means or first, target=Target.parse(formula, settings.max_sites))
        row = compared(known, means, out / "runs" / known.ids[0])
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"place": place, **row}, sort_keys=True) + "\n")
        say(f"{place + 1}: {formula} {row['ranks']}, {row['lost']['20']}, {row['seconds']:.0f} s")


def compared(known: Crystals, means: Means, folder: Path) -> dict[str, Any]:
    """Predict, and look for the true structure at every step."""
    began, of_cores = time.perf_counter(), cpu_seconds()
    summary = predict_structures(means, folder)
    seconds, of_cores = time.perf_counter() - began, cpu_seconds() - of_cores
    true = known[0]
    table = CandidateTable.read(folder / "candidates.parquet")
    proposed = CandidateTable.read(folder / "steps" / "proposed.parquet")
    relaxed = formation_energies(
        true, means.references, force_field=means.settings.force_field,
        settings=means.settings.relaxation, processes=1,
    )  # fmt: skip
    places = places_of(true, proposed, table, means.judges)
    lowest = [e for e in table.column("formation_energy_per_atom", table.ok_ids) if e is not None]
    own = relaxed.formation.get(true.ids[0])
    any_known = places_of(known, proposed, table).rank
    return {
        "id": true.ids[0],
        "formula": true.reduced_formulas()[0],
        "num_sites": _primitive_sites(true),
        "num_elements": len(set(true.atomic_numbers.tolist())),
        "polymorphs": len(known),
        "ranks": {"true": places.rank, "any known": any_known},
        "lost": {str(best): lost_at(places, best) for best in BEST},
        "places": vars(places),
        # of the relaxed true structure, over the lowest that was found
        "true_above_lowest": None if own is None or not lowest else own - min(lowest),
        "counts": summary["counts"],
        "proposals": summary["proposals"],
        "judges": list(means.judges),
        "seconds": seconds,
        "cpu_seconds": of_cores,
    }


def cpu_seconds() -> float:
    """Of this process and its workers that have ended, whatever else the machine had to do."""
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + workers.ru_utime + workers.ru_stime


def rows_of(path: Path) -> list[dict[str, Any]]:
    """A row for each compound that is done."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


ORDERS = {
    "by energy and cost of swaps": "likely_rank",
    "by energy, of the last judge": "rank",
    "by energy, of the force field that relaxed": "first_rank",
    "by the cost of swaps alone": "prototype",
}


def page(rows: Sequence[dict[str, Any]]) -> str:
    """Rates of the compounds never looked at, with their intervals, and where the others were lost."""
    rows = [r for r in rows if r["place"] >= LOOKED_AT]
    if not rows:
        return f"There is no compound yet beyond the first {LOOKED_AT}, which were looked at."
    lines = ["| the true structure is among the best | n | found | 95 % (Wilson) |", "|---|---|---|---|"]
    for best in BEST:
        for name, key in ORDERS.items():
            places = [r["places"][key] for r in rows]
            hits = sum(p is not None and p <= best for p in places)
            lines.append(_rate(f"{best}, {name}", hits, len(rows)))
    small = [r for r in rows if r["num_elements"] <= 3]
    for name, part in (("1, of two or three elements", small),
                       ("1, of four or more", [r for r in rows if r["num_elements"] > 3])):  # fmt: skip
        hits = sum(r["places"]["likely_rank"] == 1 for r in part)
        lines.append(_rate(name, hits, len(part)))
    lines += ["", "| lost, of the best 1 / 5 / 20 | 1 | 5 | 20 |", "|---|---|---|---|"]
    counts = {best: Counter(r["lost"][str(best)] for r in rows) for best in BEST}
    for stage in LOST:
        lines.append(f"| {stage} | {' | '.join(str(counts[best][stage]) for best in BEST)} |")
    own = [r["true_above_lowest"] for r in rows if r["true_above_lowest"] is not None]
    above = sum(v > 0.001 for v in own)
    seconds = [r["cpu_seconds"] for r in rows]
    lines += [
        "",
        "Relaxed alike, the true structure lies more than 1 meV/atom above the lowest that was found in "
        f"{above} of {len(own)}. {np.mean(seconds):.0f} seconds of one core a compound "
        f"(median {np.median(seconds):.0f}, most {max(seconds, default=0.0):.0f}).",
        "",
    ]
    return "\n".join(lines)


def _rate(name: str, hits: int, num: int) -> str:
    if not num:
        return f"| {name} | 0 | | |"
    low, high = wilson_interval(hits, num)
    return f"| {name} | {num} | {hits}, {100 * hits / num:.0f} % | {100 * low:.0f}–{100 * high:.0f} % |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=Path, default=KEPT, help="what the table is made of")
    parser.add_argument("--most", type=int, help="only so many compounds")
    parser.add_argument("--after", type=int, default=0, help="only those after so many")
    parser.add_argument("--settings", type=json.loads, default={}, help="of the prediction, as JSON")
    given = parser.parse_args()
    if given.what == "run":
        if given.data is None or given.out is None:
            parser.error("run needs --data and --out")
        settings = PredictSettings(**{**given.settings, "known": False})
        run(given.data, given.out, settings, given.after, given.most)
        given.rows = given.out / "rows.jsonl"
    text = page(rows_of(given.rows))
    if given.out is not None:
        write_text(given.out / "prediction.md", text)
    print(text)


if __name__ == "__main__":
    main()
