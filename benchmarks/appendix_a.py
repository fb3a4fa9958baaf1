"""Energies above hull from total energies (paper, Eq. 7 and appendix A), beside those by fitted references.

    python benchmarks/appendix_a.py --elements MP-PBE-Element-Refs.json.gz [--data FOLDER]

Eq. 7 compares a force field's total energy, with the Materials Project's corrections of 2020, with the total
energies of the entries. An entry's total energy is its formation energy and the elements' total energies; so
Eq. 7 is Eq. 6 with DFT's own elements for references, where crysjepa fits them to formation energies. What
differs is the mean over a composition of the differences of the references.

The file, with DFT's total energies of elemental crystals (Materials Project, PBE), is in the repository of
MatCalc, in ``src/matcalc/elemental_refs``.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
from judging.probability_rows import JUDGES, LABELS, rows_of_wbm

from crysjepa import datasets
from crysjepa.core.chemical_systems import element_fractions, element_symbols
from crysjepa.energy.elemental_references import load_references
from crysjepa.energy.limits import within
from crysjepa.evaluation.judge_names import above_hull_column
from crysjepa.evaluation.rates import wilson_interval

SCALE = "materials_project"
LIMIT = 0.1


def of_dft(path: Path) -> dict[str, float]:
    """The lowest energy per atom (eV) of each element's crystals."""
    elements = json.loads(gzip.decompress(path.read_bytes()))
    return {e: min(row["energy_per_atom"]) for e, row in elements.items()}


def page(elements: Path, data: Path | None) -> str:
    """A line for each force field: how far the references differ, and what that does to verdicts."""
    dft, symbols = of_dft(elements), element_symbols()
    known = datasets.load("known")
    fractions = element_fractions(known.crystals(known.ok_ids))
    lines = [
        "| force field | elements | fitted less DFT's, median (lowest to highest), meV | mean absolute shift "
        "of a known crystal's energy, meV/atom |",
        "|---|---|---|---|",
    ]
    shifts = {}
    for judge in JUDGES:
        fitted = load_references(judge, SCALE).energies
        both = {z: fitted[s] - dft[s] for z, s in symbols.items() if s in fitted and s in dft}
        shift = np.full(fractions.shape[1], np.nan)
        shift[list(both)] = list(both.values())
        shifts[judge] = shift
        moved = 1000 * _of(fractions, shift)
        values = 1000 * np.array(list(both.values()))
        lines.append(
            f"| {judge} | {len(both)} | {np.median(values):.0f} ({values.min():.0f} to {values.max():.0f}) "
            f"| {np.nanmean(np.abs(moved)):.0f} of {np.isfinite(moved).sum():,} |"
        )
    return "\n".join([*lines, "", *(_verdicts(data, shifts) if data is not None else [])])


def _of(fractions: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Mean over each composition (B,), NaN where an element has none."""
    return np.where(fractions > 0, fractions * shift, 0.0).sum(axis=1)


def _verdicts(data: Path, shifts: dict[str, np.ndarray]) -> list[str]:
    """Of WBM's crystals, by DFT's verdict: how often each way agrees."""
    rows = rows_of_wbm(data, thirds=0)
    rows = rows[rows["label"].notna()].reset_index(drop=True)
    table = datasets.load(str(data / "wbm_dev.parquet"))
    fractions = element_fractions(table.crystals(rows["id"].tolist()))
    lines = [
        f"| force field | references | n | agrees with DFT at {LIMIT:g} eV/atom | mean error, meV/atom "
        "| mean absolute |",
        "|---|---|---|---|---|---|",
    ]
    for judge, shift in shifts.items():
        above, truth = rows[above_hull_column(judge)].to_numpy(float), rows["label"].to_numpy(float)
        by_dft = above + _of(fractions, shift)  # less the elements' own, plus what was taken for them
        there = np.isfinite(above) & np.isfinite(by_dft)
        for name, values in (("fitted (Eq. 6)", above), ("DFT's elements (Eq. 7)", by_dft)):
            same = within(values[there], LIMIT) == within(truth[there], LIMIT)
            low, high = wilson_interval(int(same.sum()), len(same))
            error = 1000 * (values[there] - truth[there])
            lines.append(
                f"| {judge} | {name} | {len(same)} | {100 * same.mean():.1f} % ({100 * low:.1f}–"
                f"{100 * high:.1f}) | {error.mean():+.0f} | {np.abs(error).mean():.0f} |"
            )
    return [*lines, "", f"Of WBM's crystals with energies in {LABELS.name}, as DFT relaxed them."]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--elements", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with wbm_dev.parquet")
    asked = parser.parse_args()
    print(page(asked.elements, asked.data))


if __name__ == "__main__":
    main()
