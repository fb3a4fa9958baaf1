"""How fast crysjepa judges crystals, and that its verdicts are those of the plain way of doing it.

    python benchmarks/evaluation.py --data FOLDER --out FOLDER
    python benchmarks/evaluation.py --data FOLDER --out FOLDER --num 100 --diagrams 50    # to try it out

FOLDER holds mp20_bt.parquet, mpts52.parquet (known crystals), mp20_hull.parquet (compounds and formation
energies), wbm_dev.parquet and peers/diffcsp_mp20_first2000.parquet. Into --out go evaluation.json and
evaluation.md. Everything runs on one thread of one process and is timed in seconds of the processor, but for
the fingerprints, for which the machine should do nothing else. Exit status 1 means that a verdict differs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import argparse
import sys
from pathlib import Path
from typing import Any

from judging.hulls import compare_hulls
from judging.matching import compare_matching
from judging.prints import compare_fingerprints

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.energy.hull import Hull
from crysjepa.runtime.files import write_json, write_text
from crysjepa.runtime.run_directory import versions

TARGETS = {"matching": 5.0, "hull": 10.0, "fingerprints": 3.0}


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
    parser.add_argument("--out", type=Path, default=Path("evaluation"), help="default: %(default)s")
    parser.add_argument("--num", type=int, default=2000, help="generated crystals to match")
    parser.add_argument("--compositions", type=int, default=10_000, help="candidates for the hull")
    parser.add_argument("--diagrams", type=int, default=10_000, help="of these with a PhaseDiagram")
    parser.add_argument("--fingerprints", type=int, default=1000, help="crystals to fingerprint")
    chosen = parser.parse_args()
    result = run(chosen.data, chosen.num, chosen.compositions, chosen.diagrams, chosen.fingerprints)
    write_json(chosen.out / "evaluation.json", result)
    write_text(chosen.out / "evaluation.md", page(result))
    print(page(result))
    if result["matching"]["num_differ"] or result["hull"]["differ"]:
        sys.exit(1)


def run(data: Path, num: int, compositions: int, diagrams: int, prints: int) -> dict[str, Any]:
    """All measurements."""
    generated = _crystals(data / "peers" / "diffcsp_mp20_first2000.parquet")
    known = Crystals.concatenate([_crystals(data / f"{name}.parquet") for name in ("mp20_bt", "mpts52")])
    matching = compare_matching(generated[:num], known)
    matching["num_differ"] = sum(
        len(matching[k]) for k in ("unique_differ", "novel_differ", "saved_index_differ")
    )
    candidates = Crystals.concatenate([generated, _crystals(data / "wbm_dev.parquet"), known])[:compositions]
    hull = compare_hulls(candidates, Hull.read(data / "mp20_hull.parquet"), diagrams=diagrams)
    return {
        "matching": matching,
        "hull": hull,
        "fingerprints": compare_fingerprints(generated[:prints]),
        "versions": versions(),
    }


def _crystals(path: Path) -> Crystals:
    table = datasets.load(path)
    return table.crystals(table.ok_ids)


def page(result: dict[str, Any]) -> str:
    """The table as Markdown."""
    m, h, f = result["matching"], result["hull"], result["fingerprints"]
    lines = [
        "`python benchmarks/evaluation.py --data FOLDER --out FOLDER`",
        "",
        "| what | on | plain way | crysjepa | times as fast | target | differ |",
        "|---|---|---|---|---|---|---|",
        _row("uniqueness and novelty, from crystals in memory", _matched(m), m["plain_seconds"], m["seconds"],
             TARGETS["matching"], m["num_differ"]),
        _row("the same, beside the loop's calls of `fit` alone", _matched(m), m["plain_seconds_in_fit"],
             m["seconds"], None, m["num_differ"]),
        _row("the same, known crystals reduced by an earlier run", _matched(m), m["plain_seconds_in_fit"],
             m["seconds_with_saved_index"], None, m["num_differ"]),
        _row("energies above hull", f"{h['num_diagrams']:,} of {h['num_compositions']:,} compositions",
             h["diagram_seconds_on_sample"], h["seconds_on_sample"], TARGETS["hull"], len(h["differ"])),
    ]  # fmt: skip
    if "not_measured" in f:
        lines.append(f"| fingerprints | – | – | – | not measured: {f['not_measured']} | 3 | – |")
    else:
        lines.append(
            _row("fingerprints", f"{f['num_crystals']:,} crystals, {f['processes']} processes",
                 f["plain_seconds"], f["seconds"], TARGETS["fingerprints"], "–")
        )  # fmt: skip
    lines += [
        "",
        f"The plain loop called `StructureMatcher.fit` {m['plain_fits']:,} times; {m['num_unique']:,} of the "
        f"crystals are unique, {m['num_novel']:,} novel. The plain way's time in the first row counts making "
        "pymatgen's structures and formulas, in the second and third only its calls of `fit`; crysjepa's "
        "seconds count everything.",
        "On one core, in seconds of the processor; fingerprints by the clock, matminer's one by one in one "
        "process.",
        f"All {h['num_compositions']:,} compositions took {h['seconds']:.2f} s; the largest difference from "
        f"PhaseDiagram is {h['largest_difference']:.1e} eV/atom.",
    ]
    return "\n".join(lines) + "\n"


def _matched(m: dict[str, Any]) -> str:
    return f"{m['num_crystals']:,} crystals, {m['num_reference']:,} known"


def _row(what: str, on: str, plain: float, ours: float, target: float | None, differ: int | str) -> str:
    aim = "–" if target is None else f"{target:g}"
    return f"| {what} | {on} | {plain:.2f} s | {ours:.2f} s | {plain / ours:.1f} | {aim} | {differ} |"


if __name__ == "__main__":
    main()
