"""Crystals before relaxation, labelled with what they relax to: what a screening saves.

The labels are made once (``--relabel``) and kept with the benchmark: id, a hash of the crystal, and its
energy above the hull after relaxation or the reason why it has none. A label counts only for the very same
crystal.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import check_scales, load_references
from crysjepa.energy.hull import Hull
from crysjepa.generators.base import load_generator
from crysjepa.relaxation.relax import RelaxSettings, relax_crystals
from crysjepa.runtime.files import file_hash, write_parquet
from crysjepa.weights import shipped
from ranking.data import as_array, crystal_hashes, read_diffcsp
from ranking.scoring import say
from ranking.store import GENERATION, Store

FORCE_FIELD = "chgnet"
SETTINGS = RelaxSettings(fmax=0.1, max_steps=150)
SIZES = {"DiffCSP": 1000, "crysjepa": 300}
SEED = 7

_SCHEMA = pa.schema(
    [
        ("set", pa.string()),
        ("id", pa.string()),
        ("crystal", pa.string()),
        ("converged", pa.bool_()),
        ("e_above_hull", pa.float64()),
        ("hull_entries", pa.int64()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class RelaxedLabels:
    """Of the crystals of one set, in their order: energies above the hull after relaxation (B,) in eV/atom,
    NaN where that failed; which (B,) have a label at all; and which converged.
    """

    e_above_hull: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    converged: NDArray[np.bool_]


def draw_sets(
    data: Path,
    generator: Path | None,
    store: Store,
    sizes: dict[str, int] = SIZES,
    names: Collection[str] = tuple(SIZES),
) -> dict[str, Crystals]:
    """The crystals of both sets (or of those ``names``) as they were generated; without a generator's
    weights, the first alone.
    """
    sets = {"DiffCSP": read_diffcsp(data, sizes["DiffCSP"])}
    if "crysjepa" not in names:
        return sets
    path = generator or shipped("generator")
    if not path.exists():
        say(f"no weights of a generator at {path}: its set is left out")
        return sets

    def make() -> pa.Table:
        say(f"generate {sizes['crysjepa']} crystals")
        return load_generator(path).sample(sizes["crysjepa"], seed=SEED).crystals.to_arrow()

    parts = (file_hash(path), str(SEED), str(sizes["crysjepa"]))
    drawn = replace(store, packages=GENERATION).table("generated", parts, make)
    return sets | {"crysjepa": Crystals.from_arrow(drawn)}


def make_labels(sets: dict[str, Crystals], hull: Hull, shards: Path, processes: int) -> pa.Table:
    """Relax every crystal and put its energy above the hull; finished chunks are kept in ``shards``."""
    references = load_references(FORCE_FIELD, hull.scale)
    check_scales(references.scale, hull.scale)
    rows: list[dict[str, Any]] = []
    for name, crystals in sets.items():
        done = relax_crystals(
            crystals,
            force_field=FORCE_FIELD,
            settings=SETTINGS,
            processes=processes,
            shards=shards,
            progress=lambda n, total, name=name: say(f"relax {name}: {n} of {total}"),  # type: ignore[misc]
        )
        energies = {i: record.energy_per_atom for i, record in done.records.items()}
        for id_, hash_, composition in zip(
            crystals.ids, crystal_hashes(crystals), crystals.compositions(), strict=True
        ):
            row: dict[str, Any] = {"set": name, "id": id_, "crystal": hash_, "reason": done.failures.get(id_)}
            if id_ not in done.failures:
                formation, reason = references.formation_energy_per_atom(composition, energies[id_])
                found = hull.e_above_hull(composition, formation)
                row |= {
                    "converged": done.records[id_].converged,
                    "e_above_hull": found.e_above_hull,
                    "hull_entries": found.num_entries,
                    "reason": reason or found.reason,
                }
            rows.append(row)
        protocol = {**protocol_of(hull), "force_field_version": done.force_field.version}
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    return table.replace_schema_metadata({b"crysjepa": json.dumps(protocol, sort_keys=True).encode()})


def protocol_of(hull: Hull) -> dict[str, Any]:
    """What labels are relative to."""
    return {
        "force_field": FORCE_FIELD,
        "relaxation": SETTINGS.model_dump(mode="json"),
        "hull": hull.content_hash,
        "hull_source": hull.source,
        "hull_scale": hull.scale,
    }


def write_labels(path: Path, table: pa.Table) -> None:
    """All or nothing."""
    write_parquet(table, path)


def labelled_sets(path: Path) -> set[str]:
    """The sets that have labels in a file; none where there is no file."""
    return set(pq.read_table(path, columns=["set"])["set"].to_pylist()) if path.exists() else set()


def read_labels(path: Path, name: str, crystals: Crystals, hull: Hull) -> RelaxedLabels:
    """Labels of one set. Raises ValueError where they were made otherwise, or against another hull."""
    table = pq.read_table(path)
    stated = json.loads((table.schema.metadata or {}).get(b"crysjepa", b"{}"))
    wanted = protocol_of(hull)
    if differ := sorted(k for k in wanted if stated.get(k) != wanted[k]):
        raise ValueError(
            f"{path.name} was made with another {', '.join(differ)}: make it anew with --relabel"
        )
    rows = {row["id"]: row for row in table.to_pylist() if row["set"] == name}
    ours = [rows.get(i) for i in crystals.ids]
    same = [r is not None and r["crystal"] == h for r, h in zip(ours, crystal_hashes(crystals), strict=True)]
    kept = [row if fits else None for row, fits in zip(ours, same, strict=True)]
    return RelaxedLabels(
        as_array([row and row["e_above_hull"] for row in kept]),
        np.array(same, dtype=bool),
        np.array([bool(row and row["converged"]) for row in kept], dtype=bool),
    )
