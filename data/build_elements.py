"""Build src/crysjepa/energy/references/elements.parquet from matcalc 0.7.0's source distribution.

Elemental crystals of the Materials Project with their energies (PBE, no corrections): of each element the one
of lowest energy, and those at most 30 meV/atom above it, for a force field may order them in another way.

    python data/build_elements.py [--sdist matcalc-0.7.0.tar.gz]
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pymatgen.core import Structure
from pypi_sdist import member_of_sdist

from crysjepa.core.crystals import Crystals
from crysjepa.runtime.files import write_parquet

SDIST_SHA256 = "4e3f9ed95dc828afc1f7fa3278cc2014cc4aa16de3f02d97cf61f8ff1f1e90e5"
MEMBER = "matcalc-0.7.0/src/matcalc/elemental_refs/MP-PBE-Element-Refs.json.gz"
OUT = Path(__file__).parents[1] / "src" / "crysjepa" / "energy" / "references" / "elements.parquet"
WITHIN = 0.03
"""eV/atom above the lowest."""
MOST, MAX_SITES = 4, 40
"""Of an element, and sites of any but its lowest."""

METADATA = {
    "scale": "materials_project_uncorrected",
    "units": {"energy_per_atom": "eV/atom", "lattice": "Å, rows a, b, c"},
    "source": f"{MEMBER} in the source distribution of matcalc 0.7.0 on PyPI",
    "sdist_sha256": SDIST_SHA256,
    "citation": "A. Jain et al., The Materials Project, APL Materials 1 (2013) 011002, doi:10.1063/1.4812323",
    "licence": "CC BY 4.0 (Materials Project data), as collected in matcalc (BSD 3-clause)",
}


def chosen(element: str, structures: list[Any], energies: list[float]) -> list[tuple[str, Structure, float]]:
    """Id, structure and energy (eV/atom) of those kept, the lowest first."""
    order = sorted(range(len(energies)), key=energies.__getitem__)
    near = [i for i in order[1:] if energies[i] <= energies[order[0]] + WITHIN]
    small = [i for i in near if len(structures[i]["sites"]) <= MAX_SITES]
    return [
        (f"{element}-{k}", Structure.from_dict(structures[i]), energies[i])
        for k, i in enumerate([order[0], *small][:MOST])
    ]


def main() -> None:
    """Download or open the distribution, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sdist", type=Path, help="matcalc-0.7.0.tar.gz, if you have it")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    content = member_of_sdist(args.sdist, "matcalc", "0.7.0", SDIST_SHA256, MEMBER)
    found = [
        row
        for element, entry in sorted(json.loads(gzip.decompress(content)).items())
        for row in chosen(element, entry["structure"], entry["energy_per_atom"])
    ]
    crystals = Crystals.from_structures([s for _, s, _ in found], ids=[i for i, _, _ in found])
    table = crystals.to_arrow().append_column("energy_per_atom", pa.array([e for _, _, e in found]))
    told = json.dumps(METADATA, sort_keys=True, ensure_ascii=False)
    write_parquet(table.replace_schema_metadata({"crysjepa": told}), args.out)
    print(f"{len(found)} crystals of {len({i.split('-')[0] for i in crystals.ids})} elements: {args.out}")


if __name__ == "__main__":
    main()
