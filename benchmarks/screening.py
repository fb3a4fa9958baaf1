"""Compare everything that crysjepa can rank crystals by: how well, how fast, and before relaxation.

    python benchmarks/screening.py --data FOLDER --out FOLDER
    python benchmarks/screening.py --data FOLDER --out FOLDER --relabel    # once, after the crystals change

FOLDER holds mp20_bt.parquet, mpts52.parquet, mp20_hull.parquet, wbm_dev.parquet and
peers/diffcsp_mp20_first2000.parquet (see benchmarks/README.md). Into --out go screening.json, screening.md
and screening.svg, and what was computed on the way: a run that was killed goes on from there.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ranking.command import Options, relabel_sets, run_benchmark


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
    parser.add_argument("--out", type=Path, default=Path("screening"), help="default: %(default)s")
    parser.add_argument("--jepa", type=Path, help="a Crys-JEPA model; by default the one that ships")
    parser.add_argument("--generator", type=Path, help="a generator; by default the one that ships")
    parser.add_argument("--quick", action="store_true", help="a few crystals of each set, to try it out")
    parser.add_argument("--threads", type=int, help="of every ranker; by default one for each core")
    parser.add_argument(
        "--labels",
        type=Path,
        default=Path(__file__).with_name("relaxed_labels.parquet"),
        help="what crystals relax to; default: %(default)s",
    )
    parser.add_argument("--relabel", action="store_true", help="make --labels: relaxes 1,300 crystals")
    parser.add_argument("--first", type=int, help="with --relabel: only the first so many of each set")
    chosen = parser.parse_args()
    if chosen.first is not None and not chosen.relabel:
        parser.error("--first goes with --relabel")
    options = Options(
        data=chosen.data,
        out=chosen.out,
        labels=chosen.labels,
        jepa=chosen.jepa,
        generator=chosen.generator,
        quick=chosen.quick,
        threads=chosen.threads or len(os.sched_getaffinity(0)),
        first=chosen.first,
    )
    if chosen.relabel:
        relabel_sets(options)
    else:
        run_benchmark(options)


if __name__ == "__main__":
    main()
