"""Give variants the energies of a better teacher: SevenNet-l3i5, on the Materials Project's scale of 2020.

    python scripts/jepa_teacher.py --known MP20.parquet MPTS52.parquet --labels L*.parquet \
        --variants V/*/*.parquet --base PACKED.parquet --replay 15000 --work W --out PACKED2.parquet

Variants are shards of ``jepa_data.py variants`` (guided ones: crystals near the hull are what screening
looks at), --base is what ``jepa_data.py pack`` made, from labels L whose parents are known crystals. SevenNet
was trained on plain DFT energies: the corrections of 2020 are added, and elemental references are fitted on
known crystals of the training split, which it labels first. The table holds these variants with energies by
site, the known crystals with DFT's energies, and some of the others, so that nothing is forgotten. Labels go
to shards in --work: what was interrupted goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from ase.calculators.calculator import Calculator
from jepa_data import CRYSTAL, ENERGY, RELAXED
from numpy.typing import NDArray

from crysjepa.candidates import write_parquet
from crysjepa.chemical_systems import element_fractions
from crysjepa.crystals import Crystals
from crysjepa.energy.corrections import mp2020_corrections
from crysjepa.energy.references import ElementalReferences, fit_references

NUM_KNOWN, KNOWN_SITES, MAX_SITES = 1_300, 8, 10
"""Known crystals that references are fitted on, their most sites, and those of a variant."""
HIGHEST, HIGHEST_REPLAYED = 3.0, 0.8
"""eV/atom; formation energies beyond which a variant, and one of the others, is left out."""
SHARD = 100


def site_energies(crystals: Crystals, calculator: Calculator) -> list[NDArray[np.float64] | None]:
    """Each site's share (n,) of the total energy in eV; None for a crystal that the teacher refuses."""
    found: list[NDArray[np.float64] | None] = []
    for atoms in crystals.to_atoms():
        atoms.calc = calculator
        try:
            found.append(np.asarray(atoms.get_potential_energies(), dtype=float))
        except Exception as error:  # noqa: BLE001 - whatever a foreign calculator raises; the crystal is left out
            print(f"left out: {error}", flush=True)
            found.append(None)
    return found


def label(
    crystals: Crystals, calculator: Calculator, work: Path, name: str
) -> tuple[Crystals, list[NDArray]]:
    """Those that have energies, with the corrections of 2020 shared out among their sites."""
    shares: list[NDArray[np.float64] | None] = []
    for start in range(0, len(crystals), SHARD):
        path = work / f"{name}-{start:06d}.parquet"
        part = crystals[start : start + SHARD]
        if not path.exists():
            found = site_energies(part, calculator)
            lists = [
                None if e is None else e + c for e, c in zip(found, mp2020_corrections(part), strict=True)
            ]
            column = pa.array(lists, pa.list_(pa.float64()))
            write_parquet(pa.table({"id": part.ids, "site_energies": column}), path)
            print(path, flush=True)
        shares += [
            None if e is None else np.array(e) for e in pq.read_table(path)["site_energies"].to_pylist()
        ]
    good = [i for i, e in enumerate(shares) if e is not None and np.isfinite(e).all()]
    return crystals[good], [e for e in (shares[i] for i in good) if e is not None]


def known_of(paths: list[Path]) -> tuple[pa.Table, set[str]]:
    """Small known crystals of the training split, each id once; the chemical systems of the test split."""
    tables, held_out, seen = [], set[str](), set[str]()
    for path in paths:
        table = pq.read_table(path, columns=[*CRYSTAL, ENERGY, "split"])
        test = np.array(table["split"].to_pylist()) == "test"
        crystals = Crystals.from_arrow(table.select(CRYSTAL))
        held_out |= set(crystals[test].chemical_systems())
        new = np.array([i not in seen for i in crystals.ids])
        seen |= set(crystals.ids)
        tables.append(table.filter(pa.array(new & ~test & (crystals.num_atoms <= KNOWN_SITES))))
    return pa.concat_tables(tables), held_out


def references(known: pa.Table, calculator: Calculator, work: Path) -> ElementalReferences:
    """Fitted on some of the known crystals."""
    rows = np.random.default_rng(5).permutation(known.num_rows)[:NUM_KNOWN]
    crystals, shares = label(Crystals.from_arrow(known.take(rows).select(CRYSTAL)), calculator, work, "known")
    energies = dict(zip(known["id"].to_pylist(), known[ENERGY].to_pylist(), strict=True))
    return fit_references(
        crystals.compositions(),
        [float(e.mean()) for e in shares],
        [energies[i] for i in crystals.ids],
        force_field="sevennet-l3i5",
        scale="materials_project",
        source="known crystals",
    )


def taught(
    crystals: Crystals, shares: list[NDArray], fitted: ElementalReferences, held_out: set[str]
) -> pa.Table:
    """Training columns of the variants whose elements all have a reference."""
    mu = fitted.by_number()
    by_site = [e - mu[c.atomic_numbers] for e, c in zip(shares, crystals, strict=True)]
    energies = np.array([e.mean() for e in by_site])
    fit = np.array([s not in held_out for s in crystals.chemical_systems()]) & (energies < HIGHEST)
    table = crystals.to_arrow().append_column(ENERGY, pa.array(energies))
    table = table.append_column(RELAXED, pa.nulls(len(crystals), pa.float64()))
    return table.append_column("site_energies", pa.array(by_site, pa.list_(pa.float32()))).filter(
        pa.array(fit)
    )


def replayed(base: pa.Table, known: set[str], without: set[str], num: int) -> pa.Table:
    """The known crystals, the wild variants, and ``num`` of the others."""
    ids = np.array(base["id"].to_pylist())
    kept = np.array([i in known or i.startswith("w") for i in ids.tolist()])
    others = ~kept & ~np.isin(ids, sorted(without)) & (base[ENERGY].to_numpy() < HIGHEST_REPLAYED)
    some = np.random.default_rng(0).permutation(np.flatnonzero(others))[:num]
    return base.take(np.sort(np.concatenate([np.flatnonzero(kept), some])))


def main() -> None:
    """Parse the command line and make the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--known", "--labels", "--variants"):
        parser.add_argument(name, type=Path, nargs="+", required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--replay", type=int, default=15_000)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    from sevenn.calculator import SevenNetCalculator

    torch.set_num_threads(1)
    calculator = SevenNetCalculator("7net-l3i5", device="cpu")
    known, held_out = known_of(args.known)
    fitted = references(known, calculator, args.work)
    print(f"elemental references: {fitted.mae:.4f} eV/atom on {fitted.num_fitted} known crystals", flush=True)
    drawn = [Crystals.from_arrow(pq.read_table(p, columns=CRYSTAL)) for p in sorted(args.variants)]
    variants = Crystals.concatenate(drawn)
    variants = variants[np.flatnonzero(variants.num_atoms <= MAX_SITES)]
    _, unknown = fitted.at(element_fractions(variants))
    variants = variants[np.setdiff1d(np.arange(len(variants)), list(unknown))]
    lessons = taught(*label(variants, calculator, args.work, "variants"), fitted, held_out)
    base = pq.read_table(args.base)
    rows = pa.concat_tables([pq.read_table(p, columns=["id", "kind"]) for p in args.labels])
    parents = set(rows.filter(pc.equal(rows["kind"], "parent"))["id"].to_pylist())
    kept = replayed(base, parents, set(variants.ids), args.replay)
    packed = pa.concat_tables([kept, lessons.select(kept.column_names).cast(kept.schema)])
    write_parquet(packed, args.out)
    print(f"{packed.num_rows} crystals, {lessons.num_rows} of them by SevenNet-l3i5: {args.out}")


if __name__ == "__main__":
    main()
