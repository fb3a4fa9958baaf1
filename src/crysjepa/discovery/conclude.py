"""The end of a run: one table of all rounds, their metrics, the short list and the map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crysjepa.checks.check import with_bonding
from crysjepa.core.candidates import CandidateTable
from crysjepa.discovery.aimed import judged_again
from crysjepa.discovery.controls import OTHER
from crysjepa.discovery.means import Means
from crysjepa.discovery.summary import run_metrics
from crysjepa.energy.kept_hull import FILE as HULL
from crysjepa.energy.kept_hull import keep_hull
from crysjepa.evaluation.probability import expected_confirmations
from crysjepa.generators.registry import plug_in_of
from crysjepa.io import write_cif
from crysjepa.jepa.embeddings import read_embeddings
from crysjepa.ranking.selection import with_shortlist
from crysjepa.runtime.files import read_json, write_json, write_parquet

ARTEFACTS = ("candidates.parquet", "metrics.json", "reference_map.parquet", HULL)


def conclude(
    means: Means, rounds: Sequence[CandidateTable], joined: CandidateTable, looked_into: CandidateTable | None
) -> None:
    """Write :data:`ARTEFACTS` and ``shortlist/*.cif``.

    ``joined`` has the ranked tables of all ``rounds``, without repeats; ``looked_into`` the same after the
    hull was closed, if it was.
    """
    folder, config = means.folder, means.config
    each = [folder / f"round-{r}" for r in range(len(rounds))]
    best = joined if looked_into is None else looked_into
    if means.aims is not None and looked_into is None:  # merits of a round are relative to that round
        best = judged_again(best, means.aims, ())
    table = with_shortlist(
        best, config.shortlist, aimed=means.aims is not None, front_first=config.combine == "pareto"
    )
    table = _with_map(table, means, each)
    counts = [CandidateTable.read(f / "drawn.parquet").counts() for f in each]
    at_random = (f / "control.parquet" for f in each)
    controls = [CandidateTable.read(p) if p.exists() else None for p in at_random]
    others = [f / OTHER / "control.parquet" for f in each]
    learnt = [CandidateTable.read(p) if p.exists() else None for p in others]
    draws = [read_json(f / "draws.json") for f in each]
    found = run_metrics(
        config, means.evaluator, list(rounds), counts, joined, means.ranker_notes(), controls, learnt
    )
    found["asked"] = config.wanted.describe()
    if plug_in_of(config.generator)[0] is not None:
        found["protocol"]["generator"] = means.generator_origin
    if means.fixed:
        found["notes"].append(f"The generator {config.generator} was not refined: {means.fixed}.")
    if means.aims is not None:
        found["objectives"] = means.aims.describe()
        found["combine"] = config.combine
    for entry, made in zip(found["rounds"], draws, strict=True):
        entry["draws"], entry["thrown_away"] = made["drawn"], made["rejected"]
    ranks = dict(zip(table.ids, table.column("shortlist_rank"), strict=True))
    listed = [i for i, rank in ranks.items() if rank is not None]
    table = with_bonding(table, listed)
    found["shortlist"] = len(listed)
    if looked_into is not None:
        trust = read_json(folder / "trust.json")
        found["trust"] = {**trust, "expected": expected_confirmations(table, listed)}
    write_json(folder / "metrics.json", found)
    files = _write_shortlist(table, sorted(listed, key=lambda i: ranks[i]), ranks, folder / "shortlist")
    table = table.with_column("cif_file", {**dict.fromkeys(table.ids), **files}, "string")
    keep_hull(means.hull, table, folder)
    table.write(folder / "candidates.parquet", means.evaluator.energies())


def _with_map(table: CandidateTable, means: Means, rounds: Sequence[Path]) -> CandidateTable:
    """Two principal components of the reference's embeddings, and where the candidates fall in them."""
    index = means.ranking().index
    reference = index.embeddings.astype(np.float64)
    mean = reference.mean(axis=0)
    axes = np.linalg.svd(reference - mean, full_matrices=False)[2][:2]
    axes = np.pad(axes, ((0, 2 - len(axes)), (0, 0)))  # a reference of one crystal spans no plane
    axes *= np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]
    xy = (reference - mean) @ axes.T
    background = {"id": list(index.ids), "x": xy[:, 0], "y": xy[:, 1]}
    write_parquet(pa.table(background), means.folder / "reference_map.parquet")
    places: dict[str, NDArray[np.float64]] = {}
    for folder in rounds:
        ids, embeddings = read_embeddings(folder / "embeddings.parquet")
        places |= dict(zip(ids, (embeddings - mean) @ axes.T, strict=True)) if ids else {}
    for column, axis in (("map_x", 0), ("map_y", 1)):
        table = table.with_column(column, {i: float(p[axis]) for i, p in places.items()}, "Float64")
    return table


def _write_shortlist(
    table: CandidateTable, order: list[str], ranks: dict[str, int], folder: Path
) -> dict[str, str]:
    """A CIF for each crystal of the short list; its path in the run folder by id."""
    for stale in folder.glob("*.cif"):
        stale.unlink()
    formulas = table.column("formula", order)
    names = [f"{ranks[i]:03d}-{f}-{i}" for i, f in zip(order, formulas, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    written, _ = write_cif(table.crystals(order), folder, names=names)
    return {id_: f"{folder.name}/{path.name}" for id_, path in written.items()}
