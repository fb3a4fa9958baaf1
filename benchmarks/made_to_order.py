"""Hard, light and cheap: what a run towards an objective finds, and what its loop learns.

    python benchmarks/made_to_order.py hide --out FOLDER --elastic elastic_tensor.csv \\
        --binaries mp-binary-pbe-elasticity-2025.1.json.gz
    python benchmarks/made_to_order.py hard --out FOLDER        # half an hour on two cores
    python benchmarks/made_to_order.py hard --out FOLDER --max-elements 2
    python benchmarks/made_to_order.py refine --out FOLDER --seeds 0 1
    python benchmarks/made_to_order.py table --out FOLDER

``elastic_tensor.csv`` is that of ``benchmarks/moduli.py``; the binaries (Materials Project, CC BY 4.0, PBE)
are in the repository of MatCalc, in ``benchmark_data``. Bulk moduli in both are DFT's.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from held_out_hull import write_hull
from progress import say
from pymatgen.core import Structure

from crysjepa import datasets
from crysjepa.closed_hull.settings import EFFORTS
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import Formula, reduced_formulas
from crysjepa.discovery.config import DiscoverConfig, Wanted
from crysjepa.discovery.loop import discover_crystals
from crysjepa.energy.compositions import Fractions
from crysjepa.energy.hull import Hull
from crysjepa.energy.known_hull import known_formulas, known_hull
from crysjepa.evaluation.protocol import Trust
from crysjepa.evaluation.rates import wilson_interval
from crysjepa.evaluation.run import Protocol
from crysjepa.matching.uniqueness import novel
from crysjepa.properties.aims import Aims
from crysjepa.relaxation.relax import RelaxSettings
from crysjepa.runtime.files import read_json, write_json
from crysjepa.runtime.progress import Lines

BULK, DENSITY, PRICE = 250.0, 8.0, 60.0
"""GPa; g/cm³, of steel; USD/kg, of the dearest element, above that of tungsten."""
OBJECTIVES = (f"bulk_modulus>={BULK:g}", f"density<={DENSITY:g}", f"element_price<={PRICE:g}")
MOST = 600.0
"""GPa: beyond, a calculation went wrong."""
NEAR = 0.1
"""eV/atom above the hull: what lies higher is no known phase that one could find."""
DFT = "dft_bulk_modulus"
LEARNT = ("bulk_modulus>=200", f"element_price<={PRICE:g}")
"""What the loop learns towards: the base meets it often enough to be counted."""
RELAXATION = RelaxSettings(fmax=0.1, max_steps=60, time_limit=120)


def hide(out: Path, elastic: Path, binaries: Path) -> None:
    """Write known crystals and the hull without every known phase that is hard, light and cheap by DFT.

    A formula of which no other phase is known is taken from the lists of known formulas too; from the hull,
    where the hidden phase is the lowest.
    """
    out.mkdir(parents=True, exist_ok=True)
    known, hull = datasets.load("known"), known_hull()
    table = _hard(elastic, binaries)
    table.write(out / "hard.parquet")
    phases = table.crystals()
    crystals = known.crystals(known.ok_ids)
    formulas = dict(zip(crystals.ids, reduced_formulas(crystals), strict=True))
    asked = set(reduced_formulas(phases))
    near = [i for i, a in _above(known, crystals).items() if formulas[i] in asked and a <= NEAR]
    matches = novel(crystals.select(near), phases).matches
    ids = [i for i in near if matches[i] is not None]
    left = {formulas[i] for i in crystals.ids if i not in set(ids)}
    gone = sorted({formulas[i] for i in ids} - left)
    write(known, [i for i in known.ids if i not in set(ids)], out / "reference.parquet")
    write(known, ids, out / "hidden.parquet")
    taken = {_fractions(f) for f in gone}
    kept = {c: e for c, e in hull.compounds.items() if _rounded(c) not in taken}
    write_hull(Hull(kept, hull.scale, "known, without hard phases"), out / "hull.parquet")
    write_json(out / "hidden.json", {"formulas": [list(map(list, f)) for f in gone]})
    print(
        f"{len(ids)} phases hidden, with {len(gone)} formulas and {len(hull.compounds) - len(kept)} compounds"
    )


def _hard(elastic: Path, binaries: Path) -> CandidateTable:
    """Phases that meet :data:`OBJECTIVES` by DFT's bulk modulus, which is a column."""
    cheap = Aims.parse(OBJECTIVES[1:])
    assert cheap is not None
    csv = pd.read_csv(elastic, comment="#")
    there = [
        (Structure.from_str(poscar, fmt="poscar"), float(modulus))
        for poscar, modulus in zip(csv["poscar"], csv["K_VRH"], strict=True)
    ]
    there += [
        (Structure.from_dict(row["structure"]), float(row["bulk_modulus_vrh"] or "nan"))
        for row in json.loads(gzip.decompress(binaries.read_bytes()))
    ]
    hard = [(structure, modulus) for structure, modulus in there if BULK <= modulus <= MOST]
    ids = [f"hard-{i}" for i in range(len(hard))]
    table = CandidateTable.from_crystals(Crystals.from_structures([s for s, _ in hard], ids))
    table = table.with_column(DFT, {i: m for i, (_, m) in zip(ids, hard, strict=True)}, "Float64")
    measured = cheap.measure(table, table.ids)
    values = zip(ids, *(measured.column(o.of.column) for o in cheap.objectives), strict=True)
    return table.only(i for i, *v in values if None not in v and cheap.met(v))


def _above(known: CandidateTable, crystals: Crystals) -> dict[str, float]:
    hull, found = known_hull(), {}
    energies = known.column("formation_energy_per_atom", crystals.ids)
    for id_, composition, energy in zip(crystals.ids, crystals.compositions(), energies, strict=True):
        above = None if energy is None else hull.e_above_hull(composition, energy).e_above_hull
        found[id_] = float("inf") if above is None else above
    return found


def _fractions(formula: Formula) -> tuple[tuple[str, float], ...]:
    from crysjepa.core.chemical_systems import element_symbols

    total, symbols = sum(n for _, n in formula), element_symbols()
    return tuple(sorted((symbols[z], round(n / total, 9)) for z, n in formula))


def _rounded(compound: Fractions) -> tuple[tuple[str, float], ...]:
    return tuple(sorted((e, round(f, 9)) for e, f in compound))


def write(table: CandidateTable, ids: list[str], path: Path) -> None:
    """Some rows of a table."""
    table.only(ids).write(path, table.metadata)


def hard(out: Path, num: int, seed: int, max_elements: int | None) -> None:
    """Run towards :data:`OBJECTIVES`; what :func:`hide` took away is not there."""
    hidden = read_json(out / "hidden.json")
    for formula in hidden["formulas"]:
        known_formulas().pop(tuple(map(tuple, formula)), None)  # type: ignore[attr-defined]
    reference, hull = str(out / "reference.parquet"), str(out / "hull.parquet")
    close = EFFORTS["quick"].model_copy(update={"parents": reference})
    config = DiscoverConfig(
        reference=reference, hull=hull, source="substitution", objectives=OBJECTIVES,
        constraints=None if max_elements is None else Wanted(max_elements=max_elements),
        num=num, num_refined=num // 2, oversample=30, control=60, seed=seed,
        protocol=Protocol(relaxation=RELAXATION, min_hull_entries=1, trust=Trust(close=close, most=40)),
    )  # fmt: skip
    of = "" if max_elements is None else f"-of-{max_elements}"
    _run(config, out / f"hard{of}-{seed}")


def refine(out: Path, seeds: list[int]) -> None:
    """For each seed, a loop of two refinements towards :data:`LEARNT`, and one that learns at random."""
    for seed in seeds:
        config = DiscoverConfig(
            objectives=LEARNT, num=240, num_refined=120, oversample=6, control=200, rounds=2,
            learning_control=True, seed=seed,
            protocol=Protocol(relaxation=RELAXATION, min_hull_entries=1, trust=None),
        )  # fmt: skip
        _run(config, out / f"refine-{seed}")


def _run(config: DiscoverConfig, out: Path) -> None:
    with Lines(say, every=60) as lines:
        discover_crystals(config, out, progress=lines.report)


def table(out: Path) -> str:
    """What the finished runs in a folder say."""
    lines = list[str]()
    for run in sorted(out.glob("refine-*/metrics.json")) + sorted(out.glob("hard-*/metrics.json")):
        metrics = read_json(run)
        lines += [f"\n{run.parent.name}: " + ", ".join(o["objective"] for o in metrics["objectives"]), ""]
        lines += [
            "| crystals | n | meet the targets | and are stable | and V.S.U.N. |",
            "|---|---|---|---|---|",
        ]
        for entry in metrics["rounds"]:
            kinds = {
                "chosen": entry,
                "at random": entry.get("control"),
                "learnt at random": entry.get("learnt_at_random"),
            }
            for kind, rates in kinds.items():
                if rates is not None and rates.get("aimed"):
                    lines.append(f"| {entry['name']}, {kind} | {_cells(rates['aimed'])} |")
        if run.parent.name.startswith("hard"):
            lines += ["", found_again(out, run.parent)]
    return "\n".join(lines)


def _cells(aimed: Mapping[str, Any]) -> str:
    cells = [str(aimed["num"])]
    for name in ("meets_targets", "stable_and_meets", "vsun_and_meets"):
        low, high = aimed["intervals"][name]
        cells.append(f"{100 * aimed[name]:.1f} ({100 * low:.0f}–{100 * high:.0f}) %")
    return " | ".join(cells)


def found_again(out: Path, run: Path) -> str:
    """How many hidden phases were drawn, relaxed, listed, by StructureMatcher; and what DFT has of others."""
    phases = CandidateTable.read(out / "hidden.parquet").crystals()
    drawn = [CandidateTable.read(p) for p in sorted(run.glob("round-*/drawn.parquet"))]
    candidates = CandidateTable.read(run / "candidates.parquet")
    ranks = zip(candidates.ids, candidates.column("shortlist_rank"), strict=True)
    listed = [i for i, rank in ranks if rank is not None]
    parts = {
        "drawn": Crystals.concatenate([t.crystals() for t in drawn]),
        "relaxed": candidates.crystals(),
        "listed": candidates.crystals(listed),
    }
    said = []
    for name, crystals in parts.items():
        again = [i for i, m in novel(phases, _like(crystals, phases)).matches.items() if m is not None]
        low, high = wilson_interval(len(again), len(phases))
        names = ", ".join(phases.select(again).reduced_formulas())
        share = f"{100 * len(again) / len(phases):.0f} %, {100 * low:.0f}–{100 * high:.0f}"
        said.append(f"{name} {len(again)} of {len(phases)} ({share}: {names or 'none'})")
    return f"Of the hidden phases: {'; '.join(said)}.\n\n{_by_dft(out, candidates, listed)}"


def _like(crystals: Crystals, others: Crystals) -> Crystals:
    """Those with a formula of the others."""
    formulas = set(reduced_formulas(others))
    return crystals[[row for row, f in enumerate(reduced_formulas(crystals)) if f in formulas]]


def _by_dft(out: Path, candidates: CandidateTable, listed: list[str]) -> str:
    """What DFT's lists have of the crystals that were relaxed, with both bulk moduli."""
    hard = CandidateTable.read(out / "hard.parquet")
    dft = dict(zip(hard.ids, hard.column(DFT), strict=True))
    ours = dict(zip(candidates.ids, candidates.column("bulk_modulus"), strict=True))
    own = _like(candidates.crystals(), hard.crystals())
    matches = {i: m for i, m in novel(own, hard.crystals()).matches.items() if m is not None}
    lines = []
    for id_, formula in zip(own.ids, own.reduced_formulas(), strict=True):
        if id_ in matches:
            name = f"{formula}, listed" if id_ in listed else formula
            lines.append(f"{name}: {ours[id_] or float('nan'):.0f} ({dft[matches[id_]]:.0f} by DFT)")
    return f"Hard by DFT, whether hidden or never in the lists: {'; '.join(lines) or 'none'} (GPa)."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("hide", "hard", "refine", "table"):
        verb = verbs.add_parser(name)
        verb.add_argument("--out", type=Path, required=True)
        if name == "hide":
            verb.add_argument("--elastic", type=Path, required=True)
            verb.add_argument("--binaries", type=Path, required=True)
        if name == "hard":
            verb.add_argument("--num", type=int, default=160)
            verb.add_argument("--seed", type=int, default=0)
            verb.add_argument("--max-elements", type=int, help="2: binaries, as all that is hidden")
        if name == "refine":
            verb.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked = parser.parse_args()
    if asked.verb == "hide":
        hide(asked.out, asked.elastic, asked.binaries)
    elif asked.verb == "hard":
        hard(asked.out, asked.num, asked.seed, asked.max_elements)
    elif asked.verb == "refine":
        refine(asked.out, asked.seeds)
    else:
        print(table(asked.out))


if __name__ == "__main__":
    main()
