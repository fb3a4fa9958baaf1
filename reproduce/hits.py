"""Hits an hour: crystals found valid, stable, unique and novel, by all the time that it took to find them.

    python reproduce/hits.py --data FOLDER --out FOLDER

On the same cores, one way after the other, everything counted from the first draw to the last verdict
(known crystals are indexed before; of the first way, verdicts are not counted). First what one would do
without crysjepa: substitution into known crystals, each relaxed by CHGNet's own StructOptimizer in a loop,
with torch's threads on all cores. Then substitution and the flow with everything relaxed by crysjepa; and
the same drawn --more times over, the valid, unique and novel ranked by what they are expected to relax to,
and only the best relaxed. Judged by the preset default with CHGNet against mp20_hull; FOLDER holds
mp20_bt.parquet and mp20_hull.parquet. Into --out go hits.json, hits.md, hits.svg and what is done: a way
that ended is not done again. Nothing else should run meanwhile.
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
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.protocol import Protocol
from crysjepa.evaluation.rates import wilson_interval
from crysjepa.generators.registry import GeneratorOptions
from crysjepa.runtime.files import (
    file_hash,
    read_json,
    write_json,
    write_text,
)
from crysjepa.runtime.threads import default_processes

if TYPE_CHECKING:
    from pymatgen.core import Structure

SEED = 23


@dataclass(frozen=True)
class Way:
    """How candidates are found: who draws (None: the shipped flow), how many times over, who relaxes."""

    name: str
    source: str | None
    more: int = 1
    by_hand: bool = False


def find(way: Way, num: int, data: Path, folder: Path, cores: int) -> Path:
    """All that comes before the verdicts, into ``folder``; the path of what is to be relaxed and judged."""
    known, hull = data / "mp20_bt.parquet", data / "mp20_hull.parquet"
    generated = folder / "generated.parquet"
    options = GeneratorOptions(parents=known)
    more = num * way.more
    api.generate(more, generated, generator=way.source, options=options, seed=SEED, processes=cores)
    chosen = generated
    if way.more > 1:
        as_drawn, fit = folder / "as-drawn", folder / "fit.parquet"
        ranked, chosen = folder / "ranked.parquet", folder / "chosen.parquet"
        unrelaxed = Protocol(relax=False)
        api.evaluate(generated, as_drawn, reference=known, protocol=unrelaxed, processes=cores)
        judged = CandidateTable.read(as_drawn / "crystals.parquet")
        CandidateTable.from_crystals(judged.crystals(judged.ok_ids)).write(fit)
        api.screen(fit, known, ranked, by="jepa-relaxed", hull=hull)
        rows = pq.read_table(ranked, columns=["id", "rank"]).to_pylist()
        ranks = {r["id"]: r["rank"] for r in rows}
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


def measured(way: Way, num: int, data: Path, out: Path, cores: int) -> dict[str, Any]:
    """Hits and seconds of one way; a way that was not done to its end is done anew."""
    folder = out / re.sub(r"[^a-z]+", "-", way.name.lower())
    path = folder / "hits.json"
    if not path.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {way.name}: {num}\n")
        started = time.perf_counter()
        chosen, judged = find(way, num, data, folder, cores), folder / "judged"
        seconds = time.perf_counter() - started
        known, hull = data / "mp20_bt.parquet", data / "mp20_hull.parquet"
        api.evaluate(chosen, judged, reference=known, hull=hull, processes=cores)
        if (
            not way.by_hand
        ):  # its crystals are relaxed already: one look at their forces, which costs it nothing
            seconds = time.perf_counter() - started
        metrics = read_json(judged / "metrics.json")
        write_json(path, {
            "name": way.name, "drawn": num * way.more, "relaxed": num, "seconds": seconds,
            "hits": round(metrics["vsun"] * metrics["num_crystals"]), "vsun": metrics["vsun"],
            "vsun_at_0": metrics["vsun_at_0"], "num_crystals": metrics["num_crystals"],
        })  # fmt: skip
    return read_json(path)


def page(rows: list[dict[str, Any]], num: int, more: int, cores: int) -> str:
    """A table."""
    by = {row["name"]: 3600 * row["hits"] / row["seconds"] for row in rows}
    best = {r["name"]: 3600 * r["vsun_at_0"] * r["num_crystals"] / r["seconds"] for r in rows}
    head = (
        *("way", "drawn", "relaxed", "hits", "V.S.U.N. of the relaxed", "minutes", "hits an hour"),
        *("times the first way", "on the hull", "of these an hour", "times the first way"),
    )
    lines = [f"`python reproduce/hits.py --data FOLDER --out FOLDER --num {num} --more {more}`", ""]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        low, high = wilson_interval(row["hits"], row["num_crystals"])
        rate = by[row["name"]]
        lines.append(
            f"| {row['name']} | {row['drawn']} | {row['relaxed']} | {row['hits']} "
            f"| {100 * row['vsun']:.1f} % ({100 * low:.0f}–{100 * high:.0f}) | {row['seconds'] / 60:.1f} "
            f"| {rate:.0f} | {rate / by[rows[0]['name']]:.2f} | {100 * row['vsun_at_0']:.1f} % "
            f"| {best[row['name']]:.0f} | {best[row['name']] / best[rows[0]['name']]:.2f} |"
        )
    lines += [
        "",
        f"{cores} cores; everything counted but the index of known crystals and, of the first way, the "
        "verdicts. CHGNet, 0.1 eV/Å.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
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
        "num": args.num, "more": args.more, "cores": args.cores, "crysjepa": __version__,
        "data": {n: file_hash(args.data / n) for n in ("mp20_bt.parquet", "mp20_hull.parquet")},
    }  # fmt: skip
    saved = args.out / "plan.json"
    if saved.exists() and read_json(saved) != own:
        sys.exit(f"{args.out} holds other hits: name another folder")
    write_json(saved, own)
    measured(Way("index", "substitution", more=2), 4, args.data, args.out, args.cores)
    rows = []
    for way in ways:
        rows.append(measured(way, args.num, args.data, args.out, args.cores))
        write_json(args.out / "hits.json", {"cores": args.cores, "rows": rows})
        write_text(args.out / "hits.md", page(rows, args.num, args.more, args.cores))
    draw_hits(rows, args.out / "hits.svg")
    sys.stdout.write(page(rows, args.num, args.more, args.cores))


if __name__ == "__main__":
    main()
