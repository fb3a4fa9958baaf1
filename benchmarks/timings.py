"""How fast crysjepa is, each thing beside its peer in the same run, and how near to what the machine can do.

    python benchmarks/timings.py --data FOLDER --out FOLDER
    python benchmarks/timings.py --data FOLDER --out FOLDER --quick               # to try it out
    python benchmarks/timings.py --data FOLDER --out FOLDER --only flow ranking

FOLDER holds peers/diffcsp_mp20_first2000.parquet. Into --out go timings.json and timings.md. A row that is
done is not measured again. Nothing else should run meanwhile. Times are wall time on all cores unless a row
says otherwise, medians over rounds in which both sides take turns. The roofline is of one thread:
floating-point operations as torch counts them, a second, beside a matrix product of 2,000 by 2,000.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from progress import say
from ranking.timing import machine
from timed.page import page
from timed.rooflines import ROOFLINES, peak
from timed.rows import ROWS, Plan

from crysjepa.runtime.files import read_json, write_json, write_text
from crysjepa.runtime.run_directory import versions


def main() -> None:
    """Parse the command line, measure what is not measured yet, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
    parser.add_argument("--out", type=Path, default=Path("timings"), help="default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=[*ROWS, *ROOFLINES], help="some of the rows")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / ("quick.json" if args.quick else "timings.json")
    result = read_json(path) if path.exists() else {"rows": {}, "rooflines": {}}
    result |= {"machine": machine(), "versions": versions(), "quick": args.quick}
    plan = Plan(args.data, args.out, args.quick)
    for name, measure in ROWS.items():
        if name not in result["rows"] and (not args.only or name in args.only):
            say(name)
            result["rows"][name] = measure(plan)
            write_json(path, result)
    for name, roofline in ROOFLINES.items():
        if name not in result["rooflines"] and (not args.only or name in args.only):
            say(name)
            result["rooflines"][name] = roofline(plan) | {"peak": peak()}
            write_json(path, result)
    write_text(path.with_suffix(".md"), page(result))
    sys.stdout.write(page(result))


if __name__ == "__main__":
    main()
