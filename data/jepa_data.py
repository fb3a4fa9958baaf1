"""Make what Crys-JEPA is trained on: known crystals and their variants, with CHGNet's energies by site.

    python data/jepa_data.py variants MP20.parquet MPTS52.parquet --out V/1 --num 60000 --seed 1
    python data/jepa_data.py variants MP20.parquet MPTS52.parquet --out V/2 --num 30000 --seed 2 \
        --guide JEPA.safetensors --hull HULL.parquet
    python data/jepa_data.py variants MP20.parquet MPTS52.parquet --out V/4 --num 20000 --seed 4 --wild
    python data/jepa_data.py relabel L*.parquet --out V/3
    python data/jepa_data.py pack --known MP20.parquet MPTS52.parquet --labels L*.parquet \
        --sites V/*/*.parquet --references REFERENCES.json --out PACKED.parquet

Known crystals have the columns of a crystal, formation_energy_per_atom and split; labelled ones (L) have
kind (parent, rattle, sub, sub+rattle), parent and formation_energy_per_atom, where three consecutive ``sub``
rows are one crystal at three volumes. CHGNet's total energy is a sum over sites: with elemental references
taken off, each site has a share of the formation energy, and a crystal gives as many labels as it has sites.
A guided variant is one that the model finds near the hull, at the volume that the model finds best: like the
crystals that screening has to tell apart. A wild one (``--wild``) has any other elements in a cell that does
not fit: what poor generators make, and what a model must have seen to tell that it is hopeless. All of it
goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pymatgen.core import Element
from scipy.optimize import nnls

from crysjepa.core.chemical_systems import element_fractions
from crysjepa.core.crystals import ARROW_SCHEMA, Crystals
from crysjepa.energy.hull import Hull
from crysjepa.energy.lower_hull import LowerHull
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.relaxation.force_fields.chgnet import ChgnetForceField
from crysjepa.runtime.files import write_parquet

CRYSTAL = ARROW_SCHEMA.names
ENERGY, RELAXED = "formation_energy_per_atom", "relaxed_formation_energy_per_atom"
ELEMENTS = sorted(
    (z for z in range(1, 95) if z not in (2, 10, 18, 36, 54, 85, 86, 87, 88)),
    key=lambda z: Element.from_Z(z).mendeleev_no,
)
"""Those that are swapped, by Mendeleev number: neighbours are alike."""
VOLUMES = np.array([0.92, 0.95, 0.98, 1.01, 1.04, 1.07, 1.10])
MAX_SITES = 24
HIGHEST = 15.0
"""eV/atom; what has a higher formation energy is left out."""
NEAR_HULL, FAR, SHARE_OF_FAR = 0.15, 0.6, 0.12
"""eV/atom: guided variants below the first are kept, and this share of those below the second."""


@dataclass(frozen=True)
class Variants:
    """Known crystals with elements swapped for alike ones, volumes by the elements, some distorted."""

    known: Crystals
    wild: bool = False

    @cached_property
    def volume_of(self) -> NDArray[np.float64]:
        """Å³ per atom of each element, from the known crystals' volumes by non-negative least squares."""
        counts = np.zeros((len(self.known), 119))
        rows = np.repeat(np.arange(len(self.known)), self.known.num_atoms)
        np.add.at(counts, (rows, self.known.atomic_numbers), 1)
        per_atom = self.known.volumes / self.known.num_atoms
        scaled = counts / self.known.num_atoms[:, None] / per_atom[:, None]
        prior = 0.02 * np.eye(119)
        target = np.concatenate([np.ones(len(per_atom)), np.full(119, 0.02 * per_atom.mean())])
        return np.maximum(nnls(np.vstack([scaled, prior]), target)[0], 3.0)

    def draw(self, rng: np.random.Generator, id_: str) -> tuple[Crystals, str] | None:
        """One variant and its parent's id; None where no swap was found."""
        parent = self.known[int(rng.integers(len(self.known)))]
        if self.wild:
            return _misfit(rng, parent, id_), parent.ids[0]
        swaps = _swaps(rng, parent.atomic_numbers)
        if not swaps:
            return None
        numbers = np.array([swaps.get(z, z) for z in parent.atomic_numbers.tolist()])
        ratio = self.volume_of[numbers].sum() / self.volume_of[parent.atomic_numbers].sum()
        cell = parent.lattices[0] * (ratio * np.exp(rng.normal(0, 0.04))) ** (1 / 3)
        coords = parent.frac_coords
        if rng.random() < 0.5:
            strain = rng.normal(0, 0.015, (3, 3))
            cell = cell @ (np.eye(3) + (strain + strain.T) / 2)
            moves = rng.normal(0, rng.choice([0.02, 0.05, 0.12]), coords.shape)
            coords = coords + moves @ np.linalg.inv(cell)
        variant = Crystals(numbers, coords % 1, cell[None], parent.num_atoms, (id_,))
        return variant, parent.ids[0]


def _misfit(rng: np.random.Generator, parent: Crystals, id_: str) -> Crystals:
    """Any elements for some of its own, the cell up to a fifth shorter or longer, sites moved."""
    present = np.unique(parent.atomic_numbers)
    old = rng.choice(present, size=rng.integers(0, len(present) + 1), replace=False)
    swaps = dict(zip(old.tolist(), rng.choice(ELEMENTS, len(old), replace=False).tolist(), strict=True))
    numbers = np.array([swaps.get(z, z) for z in parent.atomic_numbers.tolist()])
    cell = parent.lattices[0] * rng.uniform(0.8, 1.2)
    moves = rng.normal(0, rng.choice([0.0, 0.1, 0.25]), parent.frac_coords.shape)
    coords = (parent.frac_coords + moves @ np.linalg.inv(cell)) % 1
    return Crystals(numbers, coords, cell[None], parent.num_atoms, (id_,))


def _swaps(rng: np.random.Generator, numbers: NDArray[np.int64]) -> dict[int, int]:
    present = {z for z in numbers.tolist() if z in ELEMENTS}
    if not present:
        return {}
    swaps: dict[int, int] = {}
    for old in rng.choice(sorted(present), size=rng.integers(1, len(present) + 1), replace=False).tolist():
        for _ in range(20):
            place = ELEMENTS.index(old) + round(rng.laplace(0, 7))
            if 0 <= place < len(ELEMENTS) and ELEMENTS[place] not in present | set(swaps.values()):
                swaps[old] = ELEMENTS[place]
                break
    return swaps


def guided(crystals: Crystals, model: CrysJepa, hull: LowerHull, rng: np.random.Generator) -> Crystals:
    """Each crystal at the best of :data:`VOLUMES`, if that is near the hull."""
    scaled = [
        Crystals(c.atomic_numbers, c.frac_coords, c.lattices * v ** (1 / 3), c.num_atoms, c.ids)
        for c in crystals
        for v in VOLUMES
    ]
    energies = model.energies(model.embed(Crystals.concatenate(scaled))).reshape(len(crystals), len(VOLUMES))
    best = energies.argmin(axis=1)
    kept = []
    heights, _ = hull.heights(element_fractions(crystals))
    for i, height in enumerate(heights.tolist()):
        above = energies[i, best[i]] - height
        if above < NEAR_HULL or (above < FAR and rng.random() < SHARE_OF_FAR):
            kept.append(scaled[i * len(VOLUMES) + int(best[i])])
    return Crystals.concatenate(kept)


def make_variants(args: argparse.Namespace) -> None:
    """Shards of labelled variants in ``--out``."""
    known = Crystals.concatenate([Crystals.from_arrow(pq.read_table(p, columns=CRYSTAL)) for p in args.known])
    variants = Variants(known[np.flatnonzero(known.num_atoms <= 16)], args.wild)
    kind = "w" if args.wild else "v"
    force_field = ChgnetForceField(args.device)
    model = CrysJepa.load(args.guide) if args.guide else None
    hull = LowerHull(Hull.read(args.hull)) if args.guide else None
    for shard in range(-(-args.num // 1000)):
        out = args.out / f"{shard:04d}.parquet"
        if out.exists():
            continue
        rng = np.random.default_rng((args.seed, shard))
        drawn = (variants.draw(rng, f"{kind}{args.seed}-{shard}-{i}") for i in range(1000))
        pairs = [d for d in drawn if d is not None]
        crystals = Crystals.concatenate([c for c, _ in pairs])
        parents = {c.ids[0]: parent for c, parent in pairs}
        if model is not None and hull is not None:
            crystals = guided(crystals, model, hull, rng)
        table = labelled(crystals, force_field)
        table = table.append_column("parent", pa.array([parents[i] for i in table["id"].to_pylist()]))
        write_parquet(table, out)
        print(f"{out}: {table.num_rows} crystals", flush=True)


def relabel(args: argparse.Namespace) -> None:
    """Energies by site of labelled crystals: parents, rattled ones, the best of three volumes."""
    force_field = ChgnetForceField(args.device)
    for path in args.labels:
        out = args.out / Path(path).name
        if out.exists():
            continue
        table = pq.read_table(path)
        kind, energies = np.array(table["kind"].to_pylist()), table[ENERGY].to_numpy()
        wanted = (kind == "parent") | (kind == "rattle")
        for rows in _triples(table):
            wanted[rows[np.argmin(energies[rows])]] = True
        crystals = Crystals.from_arrow(table.select(CRYSTAL))
        write_parquet(labelled(crystals[wanted & (crystals.num_atoms <= MAX_SITES)], force_field), out)
        print(out, flush=True)


def labelled(crystals: Crystals, force_field: ChgnetForceField) -> pa.Table:
    """Crystals with ``site_energies``, CHGNet's total energies in eV; those that have none are left out."""
    found = force_field.site_energies(crystals.to_atoms())
    kept = [i for i, f in enumerate(found) if not isinstance(f, str)]
    lists = pa.array([np.asarray(found[i], dtype=np.float32) for i in kept], pa.list_(pa.float32()))
    return crystals[kept].to_arrow().append_column("site_energies", lists)


def pack(args: argparse.Namespace) -> None:
    """One table for training; crystals of held-out chemical systems are left out."""
    references = np.full(119, np.nan)
    for symbol, energy in json.loads(args.references.read_text(encoding="utf-8")).items():
        references[Element(symbol).Z] = energy
    held_out: set[str] = set()
    dft: dict[str, float] = {}
    for path in args.known:
        table = pq.read_table(path)
        test = np.array(table["split"].to_pylist()) == "test"
        held_out |= set(Crystals.from_arrow(table.select(CRYSTAL))[test].chemical_systems())
        dft |= dict(zip(table["id"].to_pylist(), table[ENERGY].to_pylist(), strict=True))
    sites: dict[str, Any] = {}
    own: list[pa.Table] = []
    for path in args.sites:
        table = pq.read_table(path)
        if "parent" in table.column_names:
            own.append(table)
        sites |= dict(zip(table["id"].to_pylist(), table["site_energies"].to_pylist(), strict=True))
    parts: list[tuple[Crystals, NDArray[np.float64] | None, NDArray[np.float64] | None]] = []
    parts += [_with_energies(pq.read_table(path), dft) for path in args.labels]
    parts += [(Crystals.from_arrow(t.select(CRYSTAL)), None, None) for t in own]
    tables = [_packed(*part, sites, references, held_out) for part in parts]
    packed = pa.concat_tables(tables)
    write_parquet(packed, args.out)
    print(f"{packed.num_rows} crystals, {args.out}")


def _with_energies(
    table: pa.Table, dft: dict[str, float]
) -> tuple[Crystals, NDArray[np.float64], NDArray[np.float64]]:
    """Parents have DFT's energies; rattled ones relax to their parents, one at three volumes to the best."""
    kind, parents = table["kind"].to_pylist(), table["parent"].to_pylist()
    energies = table[ENERGY].to_numpy().astype(float)
    relaxed = np.full(len(energies), np.nan)
    for rows in _triples(table):
        relaxed[rows] = energies[rows].min()
    for i, (k, parent) in enumerate(zip(kind, parents, strict=True)):
        if k in ("parent", "rattle"):
            relaxed[i] = dft[parent]
        if k == "parent":
            energies[i] = dft[parent]
    return Crystals.from_arrow(table.select(CRYSTAL)), energies, relaxed


def _packed(
    crystals: Crystals,
    energies: NDArray[np.float64] | None,
    relaxed: NDArray[np.float64] | None,
    sites: dict[str, Any],
    references: NDArray[np.float64],
    held_out: set[str],
) -> pa.Table:
    """Training columns; where ``energies`` is None they are the means over the sites."""
    shares = np.full(len(crystals.atomic_numbers), np.nan)
    for i, id_ in enumerate(crystals.ids):
        if id_ in sites:
            rows = slice(crystals.offsets[i], crystals.offsets[i + 1])
            shares[rows] = np.asarray(sites[id_]) - references[crystals.atomic_numbers[rows]]
    if energies is None:
        energies = np.add.reduceat(shares, crystals.offsets[:-1]) / crystals.num_atoms
    fit = np.array([s not in held_out for s in crystals.chemical_systems()])
    fit &= (crystals.num_atoms <= MAX_SITES) & (energies < HIGHEST) & np.isfinite(energies)
    kept, by_site = crystals[fit], shares[np.repeat(fit, crystals.num_atoms)]
    table = kept.to_arrow().append_column(ENERGY, pa.array(energies[fit]))
    none = np.full(len(crystals), np.nan)
    known = pa.array((none if relaxed is None else relaxed)[fit], from_pandas=True)
    table = table.append_column(RELAXED, known)
    lists = pa.ListArray.from_arrays(
        pa.array(kept.offsets.astype(np.int32)), pa.array(by_site.astype(np.float32), from_pandas=True)
    )
    return table.append_column("site_energies", lists)


def _triples(table: pa.Table) -> Iterator[NDArray[np.int64]]:
    """Rows of one crystal at three volumes."""
    kind, numbers = table["kind"].to_pylist(), table["atomic_numbers"].to_pylist()
    parents = table["parent"].to_pylist()
    i = 0
    while i + 2 < len(kind):
        same = all(kind[j] == "sub" and parents[j] == parents[i] for j in range(i, i + 3))
        if same and numbers[i] == numbers[i + 1] == numbers[i + 2]:
            yield np.arange(i, i + 3)
            i += 3
        else:
            i += 1


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    variants = verbs.add_parser("variants")
    variants.add_argument("known", type=Path, nargs="+")
    variants.add_argument("--num", type=int, required=True)
    variants.add_argument("--seed", type=int, default=0)
    variants.add_argument("--wild", action="store_true")
    variants.add_argument("--guide", type=Path)
    variants.add_argument("--hull", type=Path)
    again = verbs.add_parser("relabel")
    again.add_argument("labels", type=Path, nargs="+")
    packing = verbs.add_parser("pack")
    for name in ("--known", "--labels", "--sites"):
        packing.add_argument(name, type=Path, nargs="+", required=True)
    packing.add_argument("--references", type=Path, required=True)
    for sub in (variants, again):
        sub.add_argument("--device", default="cpu", help="of CHGNet; default: %(default)s")
    for sub in (variants, again, packing):
        sub.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.verb == "variants" and args.guide and not args.hull:
        parser.error("--guide needs --hull: near which hull?")
    torch.set_num_threads(1)
    {"variants": make_variants, "relabel": relabel, "pack": pack}[args.verb](args)


if __name__ == "__main__":
    main()
