"""Hide all compounds of some chemical systems, search for them, and compare with the truth, DFT's.

    python benchmarks/hide_and_seek.py run --data FOLDER --out FOLDER      # hours; goes on where it stood
    python benchmarks/hide_and_seek.py table                               # from the kept rows
    python benchmarks/hide_and_seek.py budgets                             # two budgets, from the kept rows

The systems are drawn at random from the bundled hull's: half from the test split of MP-20, of which the
embedding saw nothing in training, half from those in which WBM has crystals. All their compounds leave the
hull and the prototypes. What is then found is compared at the composition of each hidden compound: the height
of the hull without, with what was found, and as DFT has it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from crysjepa import datasets
from crysjepa.closed_hull.prototypes import Prototypes
from crysjepa.closed_hull.search import Closed, CompeteSettings, Search
from crysjepa.core.chemical_systems import atomic_numbers, element_fractions
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.energy.hull import Fractions, Hull
from crysjepa.energy.known_hull import NAME, known_hull
from crysjepa.energy.lower_hull import LowerHull
from crysjepa.energy.support import System, name_of
from crysjepa.evaluation.force_field_hull import AS_THEY_ARE
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.rates import wilson_interval
from crysjepa.evaluation.reference import Known, find_references
from crysjepa.generators.constraints import NOBLE_GASES, RADIOACTIVE
from crysjepa.generators.substitution.parents import Parents
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.relaxation.formation_energies import formation_energies
from crysjepa.report.style import house_style, save_figure
from crysjepa.runtime.files import write_json, write_parquet, write_text

KEPT = Path(__file__).parent / "judging" / "hide_and_seek.parquet"
WIDE = KEPT.with_name("hide_and_seek_wide.parquet")
"""The same systems with ``--settings '{"static": 80, "relaxed": 20, "rounds": 3}'``."""
DEEP = 0.02
"""eV/atom: compounds hidden by more than this are to be found; hulls deeper than DFT's by more are false."""
NEAR = 0.05
"""eV/atom above the closed hull up to which a competitor is put to the second judge."""
QUOTA = {"test split": {2: 30, 3: 70}, "with WBM crystals": {2: 20, 3: 45, 4: 35}}
AT_ONCE = 10


def chosen_systems(data: Path, seed: int = 1) -> dict[System, str]:
    """The systems and where they were drawn from, kinds and sizes mixed so that any beginning is balanced."""
    truth = known_hull()
    numbers = atomic_numbers()
    known = {system_of(numbers[e] for e, _ in compound) for compound in truth.compounds}
    split = pq.read_table(data / "mp20_bt.parquet", columns=["atomic_numbers", "split"]).to_pylist()
    wbm = pq.read_table(data / "wbm_dev.parquet", columns=["atomic_numbers"]).to_pylist()
    sources = {
        "test split": {system_of(r["atomic_numbers"]) for r in split if r["split"] == "test"},
        "with WBM crystals": {system_of(r["atomic_numbers"]) for r in wbm},
    }
    rng = np.random.default_rng(seed)
    found: list[tuple[float, System, str]] = []
    taken: set[System] = set()
    for source, quota in QUOTA.items():
        for size, wanted in quota.items():
            fit = sorted(s for s in sources[source] if s in known and len(s) == size and s not in taken)
            fit = [s for s in fit if not set(s) & (NOBLE_GASES | RADIOACTIVE)]
            own: list[System] = []
            for place in rng.permutation(len(fit)).tolist():
                if len(own) < wanted and hidden_depth(fit[place], truth) > DEEP:
                    own.append(fit[place])
            taken |= set(own)
            found += [((k + 0.5) / len(own), s, source) for k, s in enumerate(own)]
    return {s: source for _, s, source in sorted(found)}


def system_of(numbers: Iterable[int]) -> System:
    """A chemical system, of atomic numbers."""
    return tuple(sorted(set(numbers)))


def compounds_of(system: System, hull: Hull) -> list[Fractions]:
    """The hull's compounds of exactly these elements."""
    return [c for c in hull.entries(name_of(system).split("-")) if len(c) == len(system)]


def without(hull: Hull, hidden: Iterable[System]) -> Hull:
    """The hull without all compounds of exactly these systems."""
    gone, numbers = set(hidden), atomic_numbers()
    left = {c: e for c, e in hull.compounds.items() if system_of(numbers[x] for x, _ in c) not in gone}
    return Hull(left, hull.scale, "hidden")


def hidden_depth(system: System, truth: Hull) -> float:
    """How far the truth lies below the hull without the system's compounds, at most (eV/atom)."""
    elements = name_of(system).split("-")
    own = Hull(truth.entries(elements), truth.scale, "truth")
    left = without(own, [system])
    return max(
        (left.energy(dict(c)) or 0.0) - (own.energy(dict(c)) or 0.0) for c in compounds_of(system, own)
    )


def run(data: Path, out: Path, judge: str | None, settings: CompeteSettings, most: int | None) -> None:
    """Close the hull of each system, ten at a time; what is there is not computed again."""
    systems = chosen_systems(data)
    truth = known_hull()
    hull, known = without(truth, systems), Known.load(NAME)
    references = find_references(Protocol(), truth, known)
    second = None if judge is None else find_references(Protocol(force_field=judge), truth, known)
    search = Search(
        Prototypes.of(Parents.of(datasets.load(NAME), NAME), cache=out / "prototypes"),
        CrysJepa.load(None),
        hull,
        references,
        settings=settings,
        hidden=frozenset(systems),
        shards=out / "shards",
    )
    told = json.dumps([settings.model_dump(mode="json"), judge, sorted(systems)], sort_keys=True)
    key = hashlib.sha256(told.encode()).hexdigest()[:12]
    order = list(systems)[:most]
    for start in range(0, len(order), AT_ONCE):
        path = out / f"rows-{key}-{start:04d}.parquet"
        if path.is_file():
            continue
        began, part = time.perf_counter(), order[start : start + AT_ONCE]
        closed = search.close(part)
        seconds = time.perf_counter() - began
        judged = hull if judge is None or second is None else by_judge(closed, hull, judge, second, out)
        both = time.perf_counter() - began
        rows = [
            row | {"source": systems[s], "seconds": seconds / len(part), "seconds_judge": both / len(part)}
            for s in part
            for row in compared(s, truth, hull, closed, judged)
        ]
        competitors = pa.table({"id": list(closed.crystals.ids), "energy": closed.energies})
        write_parquet(competitors, out / f"competitors-{key}-{start:04d}.parquet")
        write_parquet(pa.Table.from_pylist(rows), path)
        print(f"{start + len(part)} of {len(order)} systems, {both / len(part):.1f} s each", flush=True)
        done = sorted(out.glob(f"rows-{key}-*.parquet"))
        about = {"settings": settings.model_dump(mode="json"), "judge": judge, "key": key}
        joined = pa.concat_tables([pq.read_table(p) for p in done])
        write_parquet(joined.replace_schema_metadata({"crysjepa": json.dumps(about)}), out / "rows.parquet")


def by_judge(closed: Closed, hull: Hull, judge: str, references: ElementalReferences, out: Path) -> Hull:
    """The hull with the second judge's energies of the competitors near the closed hull."""
    near = near_hull(closed)
    if not len(near):
        return hull
    done = formation_energies(
        near, references, force_field=judge, settings=AS_THEY_ARE, shards=out / "judge-shards"
    )
    found = done.crystals.select(list(done.formation))
    return hull.joined(
        Hull.from_entries(
            found.compositions(),
            list(done.formation.values()),
            scale=hull.scale,
            source=judge,
            elements_alone=True,
        )
    )


def near_hull(closed: Closed) -> Crystals:
    """Competitors near the closed hull."""
    if not len(closed.crystals):
        return closed.crystals
    heights = LowerHull(closed.hull).heights(element_fractions(closed.crystals))[0]
    return closed.crystals[np.flatnonzero(closed.energies - heights < NEAR)]


def compared(system: System, truth: Hull, hull: Hull, closed: Closed, judged: Hull) -> list[dict[str, Any]]:
    """A row for each hidden compound: heights of the hull there, in eV/atom."""
    return [
        {
            "system": name_of(system),
            "formula": "".join(f"{e}{n:.6g}" for e, n in compound),
            "hull": hull.energy(dict(compound)),
            "truth": truth.energy(dict(compound)),
            "closed": closed.hull.energy(dict(compound)),
            "closed_judge": judged.energy(dict(compound)),
            "num_competitors": closed.tried[system],
            "num_relaxed": closed.num_relaxed[system],
            "converged": closed.converged[system],
        }
        for compound in compounds_of(system, truth)
    ]


def summary(rows: Sequence[dict[str, Any]], column: str) -> dict[str, Any]:
    """What the benchmark asks of a closed hull, over the hidden compounds."""
    deep = [r for r in rows if r["hull"] - r["truth"] > DEEP]
    shares = np.array([(r["hull"] - r[column]) / (r["hull"] - r["truth"]) for r in deep])
    errors = np.array([r[column] - r["truth"] for r in rows])
    return {
        "systems": len({r["system"] for r in rows}),
        "seconds": float(np.mean(list({r["system"]: r["seconds_judge"] for r in rows}.values()))),
        "hidden": len(rows),
        "deep": len(deep),
        "median_share": float(np.median(shares)),
        "found": float((shares >= 0.8).mean()),
        "mean_error": float(errors.mean()),
        "mean_absolute_error": float(np.abs(errors).mean()),
        "median_absolute_error": float(np.median(np.abs(errors))),
        "too_deep": float((errors < -DEEP).mean()),
    }


def _from(source: str, row: dict[str, Any]) -> bool:
    return bool(row["source"] == source)


def _of_size(size: int, row: dict[str, Any]) -> bool:
    return bool(row["system"].count("-") + 1 == size)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, a line for each judge and kind of system."""
    kinds: dict[str, Callable[[dict[str, Any]], bool]] = {
        "all": lambda r: True,
        **{source: partial(_from, source) for source in QUOTA},
        **{f"{n} elements": partial(_of_size, n) for n in (2, 3, 4)},
    }
    lines = [
        "| last word | systems | n | hidden compounds | of these deeper than 20 meV/atom | median share of "
        "the depth found | at least 0.8 found | mean error, meV/atom | mean absolute | median absolute | "
        "too deep by more than 20 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for column, judge in (("hull", "nobody: not closed"), ("closed", "chgnet"), ("closed_judge", "second")):
        for kind, belongs in kinds.items():
            own = [r for r in rows if belongs(r)]
            if not any(r["hull"] - r["truth"] > DEEP for r in own):
                continue
            s = summary(own, column)
            lines.append(
                f"| {judge} | {kind} | {s['systems']} | {s['hidden']} | {s['deep']} | "
                f"{s['median_share']:.2f} | {100 * s['found']:.0f} % | {1000 * s['mean_error']:+.0f} | "
                f"{1000 * s['mean_absolute_error']:.0f} | {1000 * s['median_absolute_error']:.0f} | "
                f"{100 * s['too_deep']:.1f} % |"
            )
    return "\n".join(lines)


def page(rows: Sequence[dict[str, Any]], about: dict[str, Any]) -> str:
    """The section of ``docs/results_closed_hull.md``."""
    search, systems = about["settings"], {r["system"] for r in rows}
    first = list({r["system"]: r for r in rows}.values())
    tried, relaxed = (np.mean([r[c] for r in first]) for c in ("num_competitors", "num_relaxed"))
    return "\n".join(
        [
            "# Hide and seek",
            "",
            "`python benchmarks/hide_and_seek.py table`, of rows made by `run`: all compounds of "
            f"{len(systems)} chemical systems taken out of the hull and of the prototypes, and searched for. At each "
            "hidden compound, the height of the hull without, with what was found, and by DFT. `hull`: nothing is "
            f"searched for. Competitors a system: {tried:.0f} evaluated by CHGNet as they are, {relaxed:.0f} relaxed "
            f"(at most {search['static']} and {search['relaxed']} a round, {search['rounds']} rounds), {summary(rows, 'closed')['seconds']:.0f} s on two cores that had other work too. Second: what is "
            f"within {NEAR} eV/atom of the closed hull, by {about['judge']} as CHGNet left it. CHGNet has seen the "
            "hidden compounds in its training, and so has SevenNet; the prototypes have not, nor has the embedding "
            "those of the test split.",
            "",
            table(rows),
            "",
            "![Depth found against depth hidden](hide_and_seek.svg)",
            "",
        ]
    )


def budgets(files: Sequence[Path]) -> str:
    """Runs of different settings side by side, on the systems that all of them have."""
    tables = [pq.read_table(file) for file in files]
    shared = set.intersection(*(set(t["system"].to_pylist()) for t in tables))
    lines = [
        "# Hide and seek by budget",
        "",
        f"`python benchmarks/hide_and_seek.py budgets`: the {len(shared)} systems that both runs have, chosen as above, of two to "
        "four elements.",
        "",
        "| evaluated, relaxed a system | rounds, at most | last word | hidden compounds | of these deeper than 20 meV/atom | median "
        "share of the depth found | at least 0.8 found | mean error, meV/atom | mean absolute | too deep by more than 20 | "
        "searches that converged | seconds a system, median |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for table in tables:
        search = json.loads(table.schema.metadata[b"crysjepa"])["settings"]
        rows = [r for r in table.to_pylist() if r["system"] in shared]
        first = list({r["system"]: r for r in rows}.values())
        tried, relaxed = (np.mean([r[c] for r in first]) for c in ("num_competitors", "num_relaxed"))
        ended = np.mean([r["converged"] for r in first])
        seconds = {n: np.median([r[n] for r in first]) for n in ("seconds", "seconds_judge")}
        for column, judge in (("closed", "chgnet"), ("closed_judge", "second")):
            s = summary(rows, column)
            low, high = wilson_interval(round(s["found"] * s["deep"]), s["deep"])
            few, many = wilson_interval(round(s["too_deep"] * s["hidden"]), s["hidden"])
            spent = seconds["seconds" if judge == "chgnet" else "seconds_judge"]
            lines.append(
                f"| {tried:.0f}, {relaxed:.0f} | {search['rounds']} | {judge} | {s['hidden']} | {s['deep']} | "
                f"{s['median_share']:.2f} | {100 * s['found']:.0f} % ({100 * low:.0f}–{100 * high:.0f}) | "
                f"{1000 * s['mean_error']:+.0f} | {1000 * s['mean_absolute_error']:.0f} | "
                f"{100 * s['too_deep']:.1f} % ({100 * few:.1f}–{100 * many:.1f}) | {100 * ended:.0f} % | {spent:.0f} |"
            )
    lines += [
        "",
        "The first two rows are of `crysjepa compete`'s default, 40 and 10 a round at most. Seconds are of two cores that had other "
        "work too, the last word's with the first judge's.",
    ]
    return "\n".join([*lines, ""])


def figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Hidden depth against what was found of it, by both judges."""
    with house_style():
        drawn = Figure(figsize=(6.4, 3.2))
        axes = drawn.subplots(1, 2, sharex=True, sharey=True)
        for axis, column, name in zip(
            axes, ("closed", "closed_judge"), ("CHGNet", "second judge"), strict=True
        ):
            hidden = np.array([r["hull"] - r["truth"] for r in rows])
            found = np.array([r["hull"] - r[column] for r in rows])
            high = max(hidden.max(), found.max()) * 1.3
            axis.plot([0.005, high], [0.005, high], lw=0.8, color="0.6")
            axis.scatter(np.maximum(hidden, 0.005), np.maximum(found, 0.005), s=7, alpha=0.5, lw=0)
            axis.set(xscale="log", yscale="log", xlabel="hidden depth, eV/atom", title=name)
        axes[0].set_ylabel("found, eV/atom")
        drawn.tight_layout()
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["run", "table", "budgets"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=Path, default=KEPT)
    parser.add_argument("--judge", default="sevennet-l3i5", help="the second judge; none for chgnet alone")
    parser.add_argument("--most", type=int, help="only so many systems")
    parser.add_argument("--settings", type=json.loads, default={}, help="of the search, as JSON")
    given = parser.parse_args()
    if given.what == "run":
        given.out.mkdir(parents=True, exist_ok=True)
        judge = None if given.judge == "none" else given.judge
        run(given.data, given.out, judge, CompeteSettings(**given.settings), given.most)
        given.rows = given.out / "rows.parquet"
    if given.what == "budgets":
        text = budgets([KEPT, WIDE])
        print(text)
        if given.out is not None:
            write_text(given.out / "budgets.md", text)
        return
    kept = pq.read_table(given.rows)
    rows = kept.to_pylist()
    text = page(rows, json.loads(kept.schema.metadata[b"crysjepa"]))
    print(text)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        write_text(given.out / "hide_and_seek.md", text)
        save_figure(figure(rows), given.out / "hide_and_seek.svg")
        numbers = {c: summary(rows, c) for c in ("hull", "closed", "closed_judge")}
        write_json(given.out / "hide_and_seek.json", numbers)


if __name__ == "__main__":
    main()
