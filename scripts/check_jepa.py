"""Measure a Crys-JEPA encoder: what its distance and its embedding are worth, and what they depend on.

    python scripts/check_jepa.py --known MP20.parquet MPTS52.parquet --hypothetical WBM.parquet [--jepa MODEL]

Prints the AUC of D_C (Eq. 11) for e_above_hull ≤ 0.1 eV/atom on the hypothetical crystals, the error of a
linear read-out of formation energies on held-out chemical systems (``split`` = ``test``), the effective rank,
and how far an embedding moves when the same crystal is described otherwise, as a share of the median distance
between crystals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import rankdata

from crysjepa.canonical import canonicalise
from crysjepa.crystals import Crystals
from crysjepa.jepa.pretrain import CrysJepa
from crysjepa.screen.reference import ReferenceIndex


def canonical(path: Path, *columns: str, most_sites: int = 20) -> tuple[Crystals, dict[str, NDArray]]:
    """Canonical crystals of a table, and columns in their order."""
    table = pq.read_table(path)
    table = table.filter(pa.compute.less_equal(table["num_sites"], most_sites))
    crystals, _ = canonicalise(Crystals.from_arrow(table))
    row = {id_: i for i, id_ in enumerate(table["id"].to_pylist())}
    order = [row[i] for i in crystals.ids]
    return crystals, {c: table[c].to_numpy(zero_copy_only=False)[order] for c in columns}


def area_under_curve(score: NDArray, positive: NDArray) -> float:
    """Chance that a positive has the lower score."""
    ranks = rankdata(-score)
    hits = int(positive.sum())
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * (~positive).sum()))


def redescribed(crystal: Crystals, how: str, rng: np.random.Generator) -> Crystals:
    """The same crystal with another origin, orientation, cell or a doubled cell."""
    numbers, coords, cell = crystal.atomic_numbers, crystal.frac_coords, crystal.lattices[0]
    if how == "origin":
        coords = coords + rng.random(3)
    elif how == "rotation":
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        cell = cell @ (turn * np.sign(np.linalg.det(turn)))
    elif how == "sheared cell":
        shear = np.array([[1.0, 1, 0], [0, 1, -1], [0, 0, 1]])
        cell, coords = shear @ cell, coords @ np.linalg.inv(shear)
    elif how == "doubled cell":
        coords = np.concatenate([coords * [0.5, 1, 1], coords * [0.5, 1, 1] + [0.5, 0, 0]])
        numbers, cell = np.concatenate([numbers, numbers]), cell * np.array([[2], [1], [1]])
    return Crystals(numbers, coords, cell[None], np.array([len(numbers)]), crystal.ids)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--known", type=Path, nargs="+", required=True)
    parser.add_argument("--hypothetical", type=Path, required=True)
    parser.add_argument("--jepa", type=Path)
    chosen = parser.parse_args()
    jepa = CrysJepa.load(chosen.jepa)

    parts = [canonical(p, "formation_energy_per_atom", "split") for p in chosen.known]
    known = Crystals.concatenate([c for c, _ in parts])
    energy = np.concatenate([v["formation_energy_per_atom"] for _, v in parts]).astype(float)
    held_out = np.concatenate([v["split"] for _, v in parts]) == "test"
    index = ReferenceIndex.build(jepa, known)
    crystals, values = canonical(chosen.hypothetical, "e_above_hull")
    embedded = jepa.embed(crystals)
    pairs = zip(embedded, crystals.chemical_systems(), strict=True)
    found = [index.distance(h, system).value for h, system in pairs]
    score = np.array([np.inf if d is None else d for d in found])
    stable = values["e_above_hull"].astype(float) <= 0.1
    best = np.argsort(score, kind="stable")[: len(score) // 10]
    print(f"known {len(known)}, hypothetical {len(crystals)}, without any reference {np.isinf(score).sum()}")
    auc = area_under_curve(score, stable)
    print(f"stable {stable.mean():.3f}, D_C: AUC {auc:.3f}, best tenth {stable[best].mean():.3f}")

    inputs = np.c_[index.embeddings, np.ones(len(known))].astype(float)
    weights = np.linalg.lstsq(inputs[~held_out], energy[~held_out], rcond=None)[0]
    error = np.abs(inputs[held_out] @ weights - energy[held_out]).mean()
    print(f"linear read-out on {held_out.sum()} held-out crystals: MAE {error:.3f} eV/atom")
    spectrum = np.linalg.svd(index.embeddings - index.embeddings.mean(axis=0), compute_uv=False) ** 2
    share = spectrum / spectrum.sum()
    print(f"effective rank {np.exp(-(share * np.log(share)).sum()):.1f} of {jepa.width}")

    rng = np.random.default_rng(0)
    sample = known[rng.choice(len(known), 300, replace=False)]
    base = jepa.embed(sample)
    gaps = np.linalg.norm(base[:, None] - base[None], axis=-1)
    typical = np.median(gaps[np.triu_indices(len(base), 1)])
    for how in ("origin", "rotation", "sheared cell", "doubled cell"):
        twins, _ = canonicalise(Crystals.concatenate([redescribed(c, how, rng) for c in sample]))
        moved = np.linalg.norm(jepa.embed(twins) - base, axis=1) / typical
        far = (moved > 0.01).mean()
        print(f"{how:>13}: median {np.median(moved):.4f}, largest {moved.max():.4f}, above 1 %: {far:.3f}")


if __name__ == "__main__":
    main()
