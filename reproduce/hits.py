"""Hits an hour: crystals that hold up, by all the time that it took to find them.

    python reproduce/hits.py --out FOLDER

A hit is valid, unique, novel, of a formula that is not known, and at most 0.1 eV/atom above the *closed* hull
by two judges, CHGNet and SevenNet, each by its own energies. Hull and known crystals are the bundled ones.

On the same cores, one way after the other, everything counted from the first draw to the last verdict by the
known hull (known crystals are indexed before; of the first way, verdicts are not counted). First what one
would do without crysjepa: substitution into known crystals, each relaxed by CHGNet's own StructOptimizer in
a loop, with torch's threads on all cores. Then substitution and the flow with everything relaxed by
crysjepa; and the same drawn --more times over, the valid, unique and novel of a formula not known, where the
hull is supported, ranked by what they are expected to relax to, and only the best relaxed. Then the V.S.U.N.
crystals of a formula not known go through `crysjepa compete --effort quick`: its seconds are told apart,
for they are what it costs to be sure and not to find. Into --out go hits.json, hits.md, hits.svg and what is
done: a way that ended is not done again. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shutil
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow.parquet as pq
from figures import draw_hits
from steps import best

from crysjepa import __version__, api
from crysjepa.closed_hull.settings import EFFORTS
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.known_hull import NAME
from crysjepa.energy.limits import within
from crysjepa.energy.support import Support
from crysjepa.evaluation.given import energy_metadata
from crysjepa.evaluation.protocol import Protocol, Trust
from crysjepa.evaluation.rates import AT_HULL, flag_columns, wilson_interval
from crysjepa.generators.registry import GeneratorOptions
from crysjepa.matching.grades import Grade
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.runtime.files import read_json, write_json, write_text
from crysjepa.runtime.threads import default_processes

if TYPE_CHECKING:
    from pymatgen.core import Structure

SEED = 23
SECOND = "sevennet-l3i5"
"""The second judge."""


@dataclass(frozen=True)
class Way:
    """How candidates are found: who draws (None: the shipped flow), how many times over, who relaxes."""

    name: str
    source: str | None
    more: int = 1
    by_hand: bool = False


def find(way: Way, num: int, folder: Path, cores: int) -> Path:
    """All that comes before the verdicts, into ``folder``; the path of what is to be relaxed and judged."""
    generated = folder / "generated.parquet"
    options = GeneratorOptions(parents=NAME)
    more = num * way.more
    api.generate(more, generated, generator=way.source, options=options, seed=SEED, processes=cores)
    chosen = generated
    if way.more > 1:
        as_drawn, fit = folder / "as-drawn", folder / "fit.parquet"
        ranked, chosen = folder / "ranked.parquet", folder / "chosen.parquet"
        unrelaxed = Protocol(relax=False)
        api.evaluate(generated, as_drawn, protocol=unrelaxed, processes=cores)
        judged = CandidateTable.read(as_drawn / "crystals.parquet")
        grades = dict(zip(judged.ids, judged.column("novelty_grade"), strict=True))
        new = [i for i in judged.ok_ids if grades[i] == Grade.NEW_FORMULA]
        CandidateTable.from_crystals(judged.crystals(new)).write(fit)
        api.screen(fit, NAME, ranked, by="jepa-relaxed")
        rows = pq.read_table(ranked, columns=["id", "rank", "hull_support"]).to_pylist()
        ranks = {r["id"]: r["rank"] for r in rows if r["hull_support"] == Support.SUPPORTED}
        best(CandidateTable.read(fit).with_column("screen_rank", ranks, "Int64"), num).write(chosen)
    if way.by_hand:
        chosen = folder / "relaxed.parquet"
        relax_by_hand(generated, chosen, cores)
    return chosen


def relax_by_hand(source: Path, out: Path, threads: int) -> None:
    """What CHGNet's documentation shows: its optimiser, one crystal after the other; to the same fmax."""
    import torch
    from chgnet.model import StructOptimizer

    torch.set_num_threads(threads)
    table, settings = CandidateTable.read(source), Protocol().relaxation
    crystals = table.crystals(table.ok_ids)
    relaxed: list[tuple[str, Structure]] = []
    failures = dict.fromkeys(sorted(set(table.ids) - set(crystals.ids)), "it could not be drawn")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        relaxer = StructOptimizer(use_device="cpu")
        for id_, structure in zip(crystals.ids, crystals.to_structures(), strict=True):
            try:
                found = relaxer.relax(structure, fmax=settings.fmax, steps=settings.max_steps, verbose=False)
            except Exception as error:  # noqa: BLE001 - whatever CHGNet makes of it is this crystal's reason
                failures[id_] = str(error)
                continue
            relaxed.append((id_, cast("Structure", found["final_structure"])))
    own = Crystals.from_structures([s for _, s in relaxed], ids=[id_ for id_, _ in relaxed])
    CandidateTable.from_crystals(own, failures, stage="relax").write(out)


def confirmed(judged: Path, folder: Path, cores: int) -> dict[str, Any]:
    """How many V.S.U.N. crystals of a formula not known hold up on the closed hull, by both judges."""
    table = CandidateTable.read(judged / "crystals.parquet")
    flags = flag_columns(table)["vsun_new_formula"] or []
    ids = [i for i, hit in zip(table.ids, flags, strict=True) if hit]
    found = {"vsun_new_formula": len(ids), "hits": 0, "hits_at_0": 0, "seconds_closing": 0.0}
    if not ids:
        return found
    chosen = folder / "to-close.parquet"
    of = energy_metadata(force_field_info("chgnet"), Protocol().relaxation)
    rows = table.frame["id"].isin(ids).to_numpy(dtype=bool)
    CandidateTable(table.frame[rows].reset_index(drop=True)).write(chosen, of)
    trust = Trust(close=EFFORTS["quick"], judges=SECOND, which="all", most=None)
    started = time.perf_counter()
    api.compete(chosen, folder / "closed", trust=trust, processes=cores)
    found["seconds_closing"] = time.perf_counter() - started
    closed = CandidateTable.read(folder / "closed" / "crystals.parquet")
    columns = ("e_above_closed_hull", f"e_above_hull_{SECOND.replace('-', '_')}")
    heights = [h for h in zip(*map(closed.column, columns), strict=True) if None not in h]
    for name, limit in (("hits", Protocol().e_above_hull_max), ("hits_at_0", AT_HULL)):
        found[name] = sum(within(max(h), limit) for h in heights)
    return found


def measured(way: Way, num: int, out: Path, cores: int) -> dict[str, Any]:
    """Hits and seconds of one way; a way that was not done to its end is done anew."""
    folder = out / re.sub(r"[^a-z]+", "-", way.name.lower())
    path = folder / "hits.json"
    if not path.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {way.name}: {num}\n")
        started = time.perf_counter()
        chosen, judged = find(way, num, folder, cores), folder / "judged"
        seconds = time.perf_counter() - started
        api.evaluate(chosen, judged, processes=cores)
        if (
            not way.by_hand
        ):  # its crystals are relaxed already: one look at their forces, which costs it nothing
            seconds = time.perf_counter() - started
        metrics = read_json(judged / "metrics.json")
        write_json(path, {
            "name": way.name, "drawn": num * way.more, "relaxed": num, "seconds": seconds,
            "vsun": metrics["vsun"], "num_crystals": metrics["num_crystals"],
            **confirmed(judged, folder, cores),
        })  # fmt: skip
    return read_json(path)


def page(rows: list[dict[str, Any]], num: int, more: int, cores: int) -> str:
    """A table."""
    found = [3600 * row["hits"] / row["seconds"] for row in rows]
    sure = [3600 * row["hits"] / (row["seconds"] + row["seconds_closing"]) for row in rows]
    head = (
        *("way", "drawn", "relaxed", "V.S.U.N., new formula", "hits", "% of the relaxed", "on both hulls"),
        *("minutes to find", "minutes to confirm", "hits an hour of finding", "times the first way"),
        *("times the second", "hits an hour of both", "times the first way", "times the second"),
    )
    lines = ["# Hits an hour", "", f"`python reproduce/hits.py --out FOLDER --num {num} --more {more}`", ""]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row, rates in zip(rows, zip(found, sure, strict=True), strict=True):
        low, high = wilson_interval(row["hits"], row["num_crystals"])
        times = []
        for rate, all_rates in zip(rates, (found, sure), strict=True):
            others = (*all_rates[:2], 0.0)[:2]  # of the first two ways
            times += [f"{rate:.0f}", *(f"{rate / other:.1f}" if other else "–" for other in others)]
        share = f"{100 * row['hits'] / row['num_crystals']:.1f} ({100 * low:.0f}–{100 * high:.0f})"
        minutes = [f"{row[name] / 60:.1f}" for name in ("seconds", "seconds_closing")]
        counts = [row[name] for name in ("name", "drawn", "relaxed", "vsun_new_formula", "hits")]
        cells = (*counts, share, row["hits_at_0"], *minutes, *times)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        f"{cores} cores. A hit is valid, unique, novel, of a formula not known, and at most 0.1 eV/atom "
        f"above the closed hull by CHGNet and by {SECOND}. Time to find: all up to the verdicts by the "
        "known hull, but for the index of known crystals and, of the first way, the verdicts. Relaxed by "
        "CHGNet to 0.1 eV/Å. Hull and known crystals: `known`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num", type=int, default=300, help="crystals relaxed by each way")
    parser.add_argument("--more", type=int, default=20, help="crystals drawn for each that is relaxed")
    parser.add_argument("--cores", type=int, default=default_processes("cpu"))
    args = parser.parse_args()
    ways = [
        Way("substitution, all relaxed by CHGNet's own loop", "substitution", by_hand=True),
        Way("substitution, all relaxed", "substitution"),
        Way("substitution, screened", "substitution", args.more),
        Way("flow, all relaxed", None),
        Way("flow, screened", None, args.more),
    ]
    own = {
        "num": args.num, "more": args.more, "cores": args.cores, "crysjepa": __version__, "second": SECOND,
    }  # fmt: skip
    saved = args.out / "plan.json"
    if saved.exists() and read_json(saved) != own:
        sys.exit(f"{args.out} holds other hits: name another folder")
    write_json(saved, own)
    measured(Way("index", "substitution", more=20), 4, args.out, args.cores)
    rows = []
    for way in ways:
        rows.append(measured(way, args.num, args.out, args.cores))
        write_json(args.out / "hits.json", {"cores": args.cores, "rows": rows})
        write_text(args.out / "hits.md", page(rows, args.num, args.more, args.cores))
    draw_hits(rows, args.out / "hits.svg")
    sys.stdout.write(page(rows, args.num, args.more, args.cores))


if __name__ == "__main__":
    main()
