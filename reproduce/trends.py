"""Stability against novelty along the distance from known crystals, before and after refinement (Fig. 5).

    python reproduce/trends.py BEFORE AFTER --reference mp20_bt.parquet --out FOLDER

BEFORE and AFTER are folders of ``crysjepa evaluate``, or such as ``base/sample`` and ``base/…-steps/sample``
of an experiment of refinement. The distance is 𝒟 of appendix D.4.2, which needs the extra ``fingerprints``
and, once, some tens of minutes for the fingerprints of the known crystals; with ``--by embedding``, that to
the nearest known crystal in the embedding of Crys-JEPA, in seconds; or any column of the folders. Writes
``trends.json``, ``trends.md`` and ``trends.svg``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from figures import draw_trends

from crysjepa import api, datasets
from crysjepa.evaluation.result_files import read_result
from crysjepa.evaluation.tradeoff import nearest_squares, tradeoff_curves
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.ranking.reference_index import ReferenceIndex
from crysjepa.report.wording import rate_with_interval
from crysjepa.runtime.files import (
    read_json,
    write_json,
    write_text,
)
from crysjepa.runtime.threads import default_processes

SHOWN = (10, 25, 50, 75, 100)
RATES = {"stable": "S", "novel": "N", "vsun": "V.S.U.N."}


def curves_of(folder: Path, reference: Path, by: str) -> dict[str, Any]:
    """Cumulative rates along the distance."""
    if by != "embedding":
        api.tradeoff(folder, reference=reference, by=by, processes=default_processes("cpu"))
        curves: dict[str, Any] = read_json(folder / "tradeoff.json")["curves"]
        return curves
    table, known = read_result(folder)[-1].table, datasets.load(str(reference))
    embedder, crystals = JepaEmbedder(CrysJepa.load()), table.crystals()
    cache = datasets.cache_folder() / "indexes"
    cache.mkdir(parents=True, exist_ok=True)
    index = ReferenceIndex.build(embedder, known.crystals(known.ok_ids), cache=cache)
    own = embedder.embed(crystals)
    nearest = np.sqrt(nearest_squares(own.vectors.astype(float), index.embeddings.astype(float)))
    distances = {crystals.ids[row]: float(d) for row, d in zip(own.rows, nearest, strict=True)}
    column = "embedding_distance"
    return tradeoff_curves(table.with_column(column, distances, "Float64"), column)


def table(found: dict[str, dict[str, Any]]) -> str:
    """Rates among the nearest crystals, a row for each set and share."""
    head = ["", "nearest", "crystals", "up to a distance of", *RATES.values()]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, curves in found.items():
        for percentile in SHOWN:
            at = curves["percentiles"].index(percentile)
            there = {rate: curves["rates"][rate][at] for rate in RATES}
            there["intervals"] = {rate: curves["intervals"][rate][at] for rate in RATES}
            rates = [rate_with_interval(there, rate) for rate in RATES]
            distance = f"{curves['distances'][at]:.3g}"
            lines.append(
                "| " + " | ".join([name, f"{percentile} %", str(curves["num"][at]), distance, *rates]) + " |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--reference", type=Path, required=True, help="what the generator was trained on")
    parser.add_argument("--by", default="fingerprint", help="fingerprint, embedding, or a column")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    found = {n: curves_of(getattr(args, n), args.reference, args.by) for n in ("before", "after")}
    write_json(args.out / "trends.json", found)
    write_text(args.out / "trends.md", table(found))
    draw_trends(found, args.out / "trends.svg")
    sys.stdout.write(table(found))


if __name__ == "__main__":
    main()
