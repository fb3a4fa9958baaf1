"""Give variants the energies of a better teacher: SevenNet-l3i5, on the Materials Project's scale of 2020.

    python data/jepa_teacher.py known MP20.parquet MPTS52.parquet --out KNOWN.parquet
    python data/jepa_teacher.py label KNOWN.parquet V/*/*.parquet --out T --device cuda
    python data/jepa_teacher.py pack --known MP20.parquet MPTS52.parquet --labels L*.parquet \
        --variants V/*/*.parquet --teacher T/*.parquet --base PACKED.parquet --out PACKED2.parquet

Variants are shards of ``jepa_data.py variants`` (guided ones: crystals near the hull are what screening
looks at), --base is what ``jepa_data.py pack`` made, from labels L whose parents are known crystals. SevenNet
was trained on plain DFT energies: the corrections of 2020 are added, and elemental references are fitted on
known crystals of the training split: all that ``label`` was given, of which ``known`` draws enough. ``label``
writes a shard for each table of crystals and leaves alone those that are there: what was interrupted goes on,
and processes share the work by being given different tables. What ships learnt from variants of at most 10
sites (--max-sites). The table that ``pack`` makes holds these variants with energies by site, the known
crystals with DFT's energies, and some of the others, so that nothing is forgotten.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from ase import Atoms
from jepa_data import CRYSTAL, ENERGY, MAX_SITES, RELAXED
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import element_fractions
from crysjepa.core.crystals import Crystals
from crysjepa.energy.corrections import mp2020_corrections
from crysjepa.energy.elemental_references import ElementalReferences, fit_references
from crysjepa.relaxation.force_fields.base import check_energy, evaluate_batch
from crysjepa.runtime.errors import describe_error
from crysjepa.runtime.files import write_parquet

NUM_KNOWN, KNOWN_SITES = 1_300, 8
"""Known crystals that are drawn to fit references on, and the most sites of one that they are fitted on."""
HIGHEST, HIGHEST_REPLAYED = 3.0, 0.8
"""eV/atom; formation energies beyond which a variant, and one of the others, is left out."""
MAX_EDGES = {"cpu": 6_000, "cuda": 30_000}
"""Directed edges in one batch, some 30 a site. One takes 60 kB: 2 GB on a GPU, which processes may share."""


@dataclass(frozen=True)
class Teacher:
    """SevenNet-l3i5 without its forces: energies by site, of many crystals at once."""

    model: Any
    device: str

    @classmethod
    def load(cls, device: str) -> Teacher:
        """On ``"cpu"``, ``"cuda"`` or ``"cuda:0"``; its weights are in its wheel.

        Raises whatever is wrong with the installation or the device: later that would look as if each
        crystal were.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*torch\.jit\.", category=DeprecationWarning)
            from sevenn.util import model_from_checkpoint

            model: Any = model_from_checkpoint("7net-l3i5")[0]
        model.delete_module_by_key("force_output")
        model.key_grad = None
        model.set_is_batch_data(True)
        teacher = cls(model.to(device).eval().requires_grad_(False), device)
        salt = Atoms("NaCl", cell=[3.5, 3.5, 3.5], scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
        teacher.evaluate([teacher.graph(salt)])
        return teacher

    def graph(self, atoms: Atoms) -> Any:
        """What SevenNet sees of a crystal. Raises ValueError for an element that it does not know.

        On a GPU it would find that out in a way that ends the process.
        """
        from sevenn.atom_graph_data import AtomGraphData
        from sevenn.train.dataload import unlabeled_atoms_to_graph

        if unknown := set(atoms.numbers.tolist()) - set(self.model.type_map):
            raise ValueError(f"SevenNet does not know Z = {min(unknown)}")
        if not (np.isfinite(atoms.positions).all() and atoms.cell.volume > 0):
            raise ValueError("a coordinate is not finite, or the cell has no volume")
        return AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, self.model.cutoff))

    def batches(self, crystals: Crystals) -> Iterator[dict[int, Any]]:
        """Graphs by position, of at most :data:`MAX_EDGES` edges together unless one alone has more."""
        limit = MAX_EDGES[self.device.split(":")[0]]
        batch: dict[int, Any] = {}
        edges = 0
        for i, crystal in enumerate(crystals):
            try:
                graph = self.graph(crystal.to_atoms()[0])
            except Exception as error:  # noqa: BLE001 - third-party neighbour search; the crystal is left out
                print(f"{crystal.ids[0]} left out: {describe_error(error)}", flush=True)
                continue
            if batch and edges + graph.num_edges > limit:
                yield batch
                batch, edges = {}, 0
            batch[i] = graph
            edges += graph.num_edges
        if batch:
            yield batch

    @torch.no_grad()
    def evaluate(self, graphs: Sequence[Any]) -> list[NDArray[np.float64]]:
        """Energies by site in eV, (n,) of each graph, from one pass through the model."""
        from torch_geometric.data import Batch

        batch = self.model(Batch.from_data_list(list(graphs)).to(self.device))
        energies = batch["atomic_energy"].flatten().cpu().double()
        return [e.numpy() for e in energies.split([g.num_nodes for g in graphs])]


def site_energies(crystals: Crystals, teacher: Teacher) -> list[NDArray[np.float64] | None]:
    """Each site's share (n,) of the total energy in eV; None for a crystal that the teacher refuses."""
    found: list[NDArray[np.float64] | None] = [None] * len(crystals)
    for batch in teacher.batches(crystals):
        results: list[NDArray[np.float64] | str] = evaluate_batch(
            list(batch.values()), teacher.evaluate, check_energy
        )
        for i, result in zip(batch, results, strict=True):
            if isinstance(result, str):
                print(f"{crystals.ids[i]} left out: {result}", flush=True)
            else:
                found[i] = result
    return found


def label(args: argparse.Namespace) -> None:
    """A shard of energies by site for each table, with the corrections of 2020 shared out among the sites.

    Raises ValueError where a shard is there already and belongs to other crystals.
    """
    teacher = Teacher.load(args.device)
    for path in args.crystals:
        out = args.out / f"{path.resolve().parent.name}-{path.name}"
        crystals = Crystals.from_arrow(pq.read_table(path, columns=CRYSTAL))
        crystals = crystals[crystals.num_atoms <= args.max_sites]
        if out.exists():
            if pq.read_table(out, columns=["id"])["id"].to_pylist() != list(crystals.ids):
                raise ValueError(f"{out} is not of the crystals of {path}")
            continue
        found = zip(site_energies(crystals, teacher), mp2020_corrections(crystals), strict=True)
        lists = pa.array([None if e is None else e + c for e, c in found], pa.list_(pa.float64()))
        write_parquet(pa.table({"id": crystals.ids, "site_energies": lists}), out)
        print(f"{out}: {len(crystals) - lists.null_count} of {len(crystals)} crystals", flush=True)


def labels_of(paths: list[Path]) -> dict[str, NDArray[np.float64]]:
    """Finite energies by site (n,) in eV, by the crystal's id."""
    rows = pa.concat_tables([pq.read_table(p, columns=["id", "site_energies"]) for p in paths]).to_pylist()
    shares = {r["id"]: np.array(r["site_energies"]) for r in rows if r["site_energies"] is not None}
    return {i: e for i, e in shares.items() if np.isfinite(e).all()}


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


def draw_known(args: argparse.Namespace) -> None:
    """Some of the known crystals, to fit references on."""
    known, _ = known_of(args.known)
    rows = np.random.default_rng(5).permutation(known.num_rows)[:NUM_KNOWN]
    write_parquet(known.take(rows).select(CRYSTAL), args.out)


def references(known: pa.Table, shares: dict[str, NDArray[np.float64]]) -> ElementalReferences:
    """Fitted on the known crystals that have labels."""
    known = known.filter(pc.is_in(known["id"], pa.array(shares, pa.string())))
    return fit_references(
        Crystals.from_arrow(known.select(CRYSTAL)).compositions(),
        [float(shares[i].mean()) for i in known["id"].to_pylist()],
        known[ENERGY].to_pylist(),
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


def pack(args: argparse.Namespace) -> None:
    """One table for training: the variants that have labels, and what is kept of --base."""
    shares = labels_of(args.teacher)
    known, held_out = known_of(args.known)
    fitted = references(known, shares)
    print(f"elemental references: {fitted.mae:.4f} eV/atom on {fitted.num_fitted} known crystals", flush=True)
    drawn = [Crystals.from_arrow(pq.read_table(p, columns=CRYSTAL)) for p in sorted(args.variants)]
    variants = Crystals.concatenate(drawn)
    variants = variants[[i for i, id_ in enumerate(variants.ids) if id_ in shares]]
    _, unknown = fitted.at(element_fractions(variants))
    variants = variants[np.setdiff1d(np.arange(len(variants)), list(unknown))]
    lessons = taught(variants, [shares[i] for i in variants.ids], fitted, held_out)
    base = pq.read_table(args.base)
    rows = pa.concat_tables([pq.read_table(p, columns=["id", "kind"]) for p in args.labels])
    parents = set(rows.filter(pc.equal(rows["kind"], "parent"))["id"].to_pylist())
    kept = replayed(base, parents, set(variants.ids), args.replay)
    packed = pa.concat_tables([kept, lessons.select(kept.column_names).cast(kept.schema)])
    write_parquet(packed, args.out)
    print(f"{packed.num_rows} crystals, {lessons.num_rows} of them by SevenNet-l3i5: {args.out}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    drawing = verbs.add_parser("known")
    drawing.add_argument("known", type=Path, nargs="+")
    labelling = verbs.add_parser("label")
    labelling.add_argument("crystals", type=Path, nargs="+")
    labelling.add_argument("--device", default="cpu")
    labelling.add_argument("--max-sites", type=int, default=MAX_SITES)
    packing = verbs.add_parser("pack")
    for name in ("--known", "--labels", "--variants", "--teacher"):
        packing.add_argument(name, type=Path, nargs="+", required=True)
    packing.add_argument("--base", type=Path, required=True)
    packing.add_argument("--replay", type=int, default=15_000)
    for sub in (drawing, labelling, packing):
        sub.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    {"known": draw_known, "label": label, "pack": pack}[args.verb](args)


if __name__ == "__main__":
    main()
