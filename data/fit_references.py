"""Fit elemental references of a force field to published formation energies.

Two ways to come by the force field's energies:

    # from a table that has them already (Parquet: an id, a total energy per atom)
    python data/fit_references.py --crystals a.parquet b.parquet --labels labels-*.parquet \\
        --label-id parent --label-energy chgnet_energy_per_atom --label-where kind=parent \\
        --force-field chgnet --version 0.3.0 --scale materials_project --source "..." --out references.json

    # by computing them, for the structures as they are
    python data/fit_references.py --crystals flla --force-field chgnet \\
        --scale materials_project_2015 --source "..." --out references.json

``--crystals`` are data sets (names or files that ``crysjepa.datasets.load`` takes) with a column
``formation_energy_per_atom``. The result is what ``crysjepa.energy.elemental_references.read_references``
reads.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences, fit_references


def main() -> None:
    options = parse()
    crystals, formation = load_crystals(options.crystals)
    if options.labels:
        energies = read_labels(options.labels, options.label_id, options.label_energy, options.label_where)
        version = options.version
    else:
        energies, version = compute(crystals, options.force_field, options.batch)
    fitted = fit_references(
        crystals.compositions(),
        [energies.get(i) for i in crystals.ids],
        [formation[i] for i in crystals.ids],
        force_field=options.force_field,
        scale=options.scale,
        source=options.source,
        min_count=options.min_count,
    )
    write(replace(fitted, version=version), options.out)
    print(f"{len(fitted.energies)} elements from {fitted.num_fitted} crystals, MAE {fitted.mae} eV/atom")
    for element, reason in fitted.excluded.items():
        print(f"without {element}: {reason}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crystals", nargs="+", required=True, help="data sets with formation energies")
    parser.add_argument(
        "--labels", nargs="+", type=Path, help="Parquet files with the force field's energies"
    )
    parser.add_argument("--label-id", default="id", help="column of --labels with the crystal's id")
    parser.add_argument("--label-energy", default="energy_per_atom", help="column of --labels, total eV/atom")
    parser.add_argument("--label-where", metavar="COLUMN=VALUE", help="use only these rows of --labels")
    parser.add_argument("--force-field", required=True)
    parser.add_argument("--version", help="the force field's version (with --labels)")
    parser.add_argument("--scale", required=True, help="scale of the formation energies in --crystals")
    parser.add_argument("--source", required=True, help="data and licence, for people")
    parser.add_argument("--min-count", type=int, default=3, help="leave out elements in fewer crystals")
    parser.add_argument("--batch", type=int, default=256, help="crystals between two lines of progress")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def load_crystals(names: list[str]) -> tuple[Crystals, dict[str, float | None]]:
    """Structures of all data sets, the first of each id, and their formation energies."""
    batches: list[Crystals] = []
    formation: dict[str, float | None] = {}
    for name in names:
        table = datasets.load(name)
        crystals = table.crystals()
        new = crystals[np.array([i not in formation for i in crystals.ids], dtype=bool)]
        formation.update(zip(new.ids, table.column("formation_energy_per_atom", new.ids), strict=True))
        batches.append(new)
    return Crystals.concatenate(batches), formation


def read_labels(paths: list[Path], id_: str, energy: str, where: str | None) -> dict[str, float]:
    """Total energies per atom by id; of several for one id, the first."""
    energies: dict[str, float] = {}
    column, _, value = (where or "").partition("=")
    for path in sorted(paths):
        table = pq.read_table(path, columns=[id_, energy, *([column] if column else [])])
        for row in table.to_pylist():
            if not column or str(row[column]) == value:
                energies.setdefault(row[id_], row[energy])
    return energies


def compute(crystals: Crystals, force_field: str, batch: int) -> tuple[dict[str, float], str]:
    """Static energies per atom; a crystal that the force field refuses is named and left out."""
    from crysjepa.relaxation.force_fields.registry import get_force_field

    field = get_force_field(force_field)
    energies: dict[str, float] = {}
    for start in range(0, len(crystals), batch):
        part = crystals[start : start + batch]
        for id_, atoms, result in zip(
            part.ids, part.to_atoms(), field.evaluate(part.to_atoms()), strict=True
        ):
            if isinstance(result, str):
                print(f"{id_}: {result}", file=sys.stderr)
            else:
                energies[id_] = result.energy / len(atoms)
        print(f"{start + len(part)}/{len(crystals)}", file=sys.stderr)
    return energies, field.version


def write(references: ElementalReferences, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(references.to_json(), encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    main()
