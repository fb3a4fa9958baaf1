"""Fit ``p_stable`` and ``p_on_hull`` (:mod:`crysjepa.evaluation.probability`) on crystals with DFT energies.

    python benchmarks/fit_probability.py --data FOLDER
    python benchmarks/fit_probability.py --data FOLDER --rows hide_and_seek.parquet
    python benchmarks/fit_probability.py --data FOLDER --label 2000 --work FOLDER    # judges' energies anew

FOLDER holds wbm_dev.parquet (see benchmarks/README.md). What is fitted on what is told in
benchmarks/judging/probability_rows.py. Files of further rows have ``e_above_hull_NAME`` of judges,
``hull_support``, ``hull_entries``, ``chemical_system``, and ``label``, the energy above the full hull by DFT.
How good it is: benchmarks/probability.py.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from judging.probability_rows import (
    FOLDS,
    JUDGES,
    LABELS,
    THIRDS,
    WBM,
    asked,
    fit,
    label,
    reliability,
    rows_of_wbm,
    to_fit_on,
    with_more,
)

import crysjepa
from crysjepa.energy.known_hull import known_hull
from crysjepa.evaluation.probability import (
    FILE,
    HIGHEST,
    LIMITS,
    LOWEST,
    RIDGE,
    SOFT,
    ProbabilityModel,
)
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.runtime.files import file_hash, write_text

OUT = Path(crysjepa.__file__).parent / "weights" / FILE
BEWARE = (
    "Both judges learnt from the Materials Project, and its hull, which stands for the full one, lacks what "
    "nobody has computed: of new chemistry the chances are too high. Hulls closed by a force field's "
    "competitors are not in the rows, unless 'more' names some."
)


def card(rows: pd.DataFrame, data: Path, more: list[Path]) -> dict[str, Any]:
    """What the model was fitted on and how its chances turn out, of rows with the columns of ``asked``."""
    own = rows[rows["id"].notna()] if "id" in rows else rows
    return {
        "what": "the chance that DFT puts a crystal within a limit of the full hull",
        "made_by": "benchmarks/fit_probability.py",
        "limits": dict(LIMITS),
        "constants": {"lowest": LOWEST, "highest": HIGHEST, "soft": SOFT, "ridge": RIDGE},
        "labels": "WBM's DFT formation energies on the correction scheme of 2020, above the bundled hull",
        "geometry": "as DFT relaxed them; candidates stand as a force field relaxed them",
        "num_crystals": int(own["id"].nunique()),
        "num_systems": int(rows["chemical_system"].nunique()),
        "num_rows": len(rows),
        "rows_by_hull": {str(k): int(v) for k, v in rows["hull"].value_counts(sort=False).items()},
        "hull": known_hull().content_hash,
        "data": {WBM: file_hash(data / WBM), LABELS.name: file_hash(LABELS)},
        "more": {path.name: file_hash(path) for path in more},
        "reliability": {
            "what": f"chances of {FOLDS} folds by chemical system, each by a model fitted on the others",
            "curves": reliability(rows),
        },
        "judges": {name: force_field_info(name).version for name in JUDGES},
        "versions": {name: version(name) for name in ("crysjepa", "numpy", "scipy", "pymatgen")},
        "beware": BEWARE,
    }


def main() -> None:
    """Fit, and write the model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with wbm_dev.parquet")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="Parquet files with further rows")
    parser.add_argument("--thirds", type=int, default=THIRDS, help="poorer hulls; default: %(default)s")
    parser.add_argument("--label", type=int, metavar="NUM", help="first compute judges' energies of so many")
    parser.add_argument("--work", type=Path, help="with --label: where finished work is kept")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--out", type=Path, default=OUT, help="default: where the shipped one is")
    args = parser.parse_args()
    if args.label:
        if args.work is None:
            parser.error("--label goes with --work")
        label(args.data, args.label, args.work, args.processes)
    rows = to_fit_on(with_more(rows_of_wbm(args.data, thirds=args.thirds), args.rows))
    asked(rows)
    model: ProbabilityModel = fit(rows, card(rows, args.data, args.rows))
    write_text(args.out, model.to_json())
    print(f"{len(model.models)} regressions on {len(rows)} rows: {args.out}")


if __name__ == "__main__":
    main()
