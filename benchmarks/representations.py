"""Train every representation of the paper, and ours, alike, and compare them in one table.

    python benchmarks/representations.py PACKED.parquet --data FOLDER --out FOLDER

The Transformer of appendix B at a laptop's size and the invariant encoder, each with the energy-weighted
InfoNCE (Eq. 9, 10), the same without weights, SIGReg + MSE (both appendix C.2), and energies: the same
crystals (PACKED, of data/jepa_data.py), batches and steps for all. Judged on WBM, with FOLDER's crystals
as reference: the paper's distance (Eq. 11), and the energy above the hull by a ridge read-out fitted on the
reference; and by ``crysjepa diagnose`` on the known crystals. A run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import torch
from ranking.data import read_hull, read_known, read_wbm
from ranking.metrics import judge_rankings
from ranking.scoring import say

from crysjepa.core.canonical import canonicalise
from crysjepa.core.chemical_systems import element_fractions, system_keys
from crysjepa.core.crystals import Crystals
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.diagnostics.measures import diagnose_model
from crysjepa.jepa.diagnostics.readouts import ridge
from crysjepa.jepa.invariant import InvariantConfig
from crysjepa.jepa.network import JepaConfig, Objective
from crysjepa.nn.training import TrainSettings
from crysjepa.nn.transformer import TransformerConfig
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.ranking.reference_index import ReferenceIndex
from crysjepa.runtime.files import write_json

NETWORKS: dict[str, TransformerConfig | InvariantConfig] = {
    "Transformer": TransformerConfig(layers=4, width=128, heads=8),
    "invariant": InvariantConfig(),
}
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
LIMIT, SHARE = 0.1, 0.1


def train(network: str, objective: Objective, table: Any, args: argparse.Namespace) -> CrysJepa:
    """One model, kept in ``--out``."""
    path = args.out / f"{network}--{objective}.safetensors"
    if not path.exists():
        crystals = Crystals.from_arrow(table.select(["id", "atomic_numbers", "frac_coords", "lattice"]))
        energies, relaxed = (
            table[name].to_numpy().astype(float)
            for name in ("formation_energy_per_atom", "relaxed_formation_energy_per_atom")
        )
        sites = table["site_energies"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        config = JepaConfig(NETWORKS[network], objective)
        if not config.invariant:  # canonical sites are in another order
            by_id = {i: row for row, i in enumerate(crystals.ids)}
            crystals, _ = canonicalise(crystals)
            rows = [by_id[i] for i in crystals.ids]
            energies, relaxed, sites = energies[rows], relaxed[rows], None
        settings = TrainSettings(
            steps=args.steps, batch_size=128, learning_rate=1e-3, warmup=100, record_every=50
        )
        model, training = CrysJepa.pretrain(
            crystals,
            energies,
            config,
            settings,
            relaxed_energies=relaxed,
            site_energies=sites,
            scale="materials_project",
            state=path.with_suffix(".state"),
            progress=lambda n, total: say(f"{path.stem}: {n} of {total}") if n % 100 == 0 else None,
        )
        model.save(path)
        write_json(path.with_suffix(".curve.json"), {"seconds": training.seconds, "curve": training.curve})
        path.with_suffix(".state").unlink()
    return CrysJepa.load(path)


def judge(model: CrysJepa, folder: Path) -> dict[str, Any]:
    """What an embedding is worth for screening, and what ``diagnose`` says of it."""
    known, wbm = read_known(folder), read_wbm(folder)
    reference, candidates = known.crystals, wbm.crystals
    if not model.invariant:
        reference, _ = canonicalise(reference)
        candidates, _ = canonicalise(candidates)
    of_known = dict(zip(known.crystals.ids, known.formation_energies, strict=True))
    energies = np.array([of_known[i] for i in reference.ids])
    above = dict(zip(wbm.crystals.ids, wbm.e_above_hull, strict=True))
    truth = np.array([above[i] for i in candidates.ids])
    index = ReferenceIndex.build(JepaEmbedder(model, "cpu"), reference)
    embedded = model.embed(candidates)
    distances = index.mean_square(embedded, system_keys(element_fractions(candidates)))
    read_out = ridge(model.embed(reference).astype(float), energies, embedded.astype(float))
    hull = read_hull(folder)
    heights = np.array([hull.energy(c) for c in candidates.compositions()], dtype=float)
    scores = {
        "distance": np.nan_to_num(distances, nan=np.inf),
        "energy": np.nan_to_num(read_out - heights, nan=np.inf),
    }
    judged, _ = judge_rankings(scores, truth, limits=(LIMIT,), shares=(SHARE,))
    some = reference[np.random.default_rng(0).choice(len(reference), 2000, replace=False)]
    diagnosis = diagnose_model(model, some, np.array([of_known[i] for i in some.ids]))
    return {"wbm": judged, **diagnosis.to_dict()}


def row(name: str, result: dict[str, Any]) -> str:
    """One line of the table."""
    network, objective = name.split("--")
    wbm, spread = result["wbm"], result["spread"]
    overall = result["agreement"][0]["spearman"]
    linear = next(r for r in result["readouts"] if r["name"] == "embedding, linear")
    cells = [
        network,
        objective,
        f"{result['seconds'] / 60:.1f}",
        f"{spread['effective_rank']:.1f}",
        "" if overall is None else f"{overall:.2f}",
        f"{linear['mae']:.3f}",
        *(f"{wbm[s][f'auc_{LIMIT:g}']['value']:.3f}" for s in ("distance", "energy")),
        *(f"{wbm[s][f'precision_{LIMIT:g}_best_{SHARE:g}']['value']:.2f}" for s in ("distance", "energy")),
    ]
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| encoder | objective | minutes | effective rank | Spearman of distance and \\|ΔE\\| | linear read-out, "
    "MAE (eV/atom) | AUC, Eq. 11 | AUC, read-out | best tenth, Eq. 11 | best tenth, read-out |"
)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("representations"))
    parser.add_argument(
        "--crystals", type=int, default=40_000, help="drawn from the table; default: %(default)s"
    )
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(args.table)
    rows = np.random.default_rng(0).permutation(table.num_rows)[: args.crystals]
    table = table.take(np.sort(rows))
    lines = [HEAD, "|---" * 10 + "|"]
    for network in NETWORKS:
        for objective in OBJECTIVES:
            name = f"{network}--{objective}"
            kept = args.out / f"{name}.json"
            if not kept.exists():
                model = train(network, objective, table, args)
                curve = json.loads((args.out / f"{name}.curve.json").read_text(encoding="utf-8"))
                write_json(kept, {"seconds": curve["seconds"], **judge(model, args.data)})
            lines.append(row(name, json.loads(kept.read_text(encoding="utf-8"))))
            say(lines[-1])
    (args.out / "representations.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
