"""``crysjepa diagnose``: from a table of crystals to numbers, maps and a page about an embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.energy.known_hull import NAME
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.diagnostics.equivalent_cells import TOLERANCE
from crysjepa.jepa.diagnostics.maps import UmapMissing, atom_map, crystal_map
from crysjepa.jepa.diagnostics.measures import Diagnosis, diagnose_model
from crysjepa.report.embedding import MAPS, write_diagnosis
from crysjepa.runtime.execution import Execution, resolve_device
from crysjepa.runtime.files import write_json, write_parquet
from crysjepa.runtime.progress import StageProgress
from crysjepa.runtime.run_directory import versions
from crysjepa.workflows.inputs import Source, canonical, sound
from crysjepa.workflows.output import check_folder

MAX_CRYSTALS = 5000
"""Crystals that are looked at unless told otherwise."""


def diagnose_table(
    model: CrysJepa,
    table: CandidateTable,
    out: Path | None = None,
    *,
    source: str = "",
    max_crystals: int = MAX_CRYSTALS,
    seed: int = 0,
    device: str = "cpu",
    progress: StageProgress | None = None,
) -> dict[str, Any]:
    """Diagnose a model on (a seeded sample of) the crystals of a table.

    With ``out``, that folder gets ``diagnosis.json``, ``diagnosis.html``, figures as PNG and SVG, and, where
    umap-learn is installed, the maps they show as Parquet. Without, nothing is written and no map is made.

    Returns
    -------
    What ``diagnosis.json`` holds: ``model``, ``data``, ``settings``, ``versions``, ``maps`` (for each, None
    or why there is none), everything of :class:`~crysjepa.jepa.diagnostics.measures.Diagnosis`, and
    ``not_embedded``: each id that has no embedding, with stage and reason.

    Raises ValueError if ``max_crystals`` is below 2, or fewer than two crystals can be embedded.
    """
    if max_crystals < 2:
        raise ValueError(f"--max-crystals is {max_crystals}: it takes at least 2 to compare")
    readable = len(table.ok_ids)
    table = _sample(table, max_crystals, seed)
    sampled = len(table.ok_ids)
    prepared = sound(table) if model.invariant else canonical(table, Execution(progress=progress))
    fit, crystals = prepared.table, prepared.crystals
    _check_some(fit, crystals)
    diagnosis = diagnose_model(
        model, crystals, _energies(fit, crystals), _splits(fit, crystals),
        seed=seed, device=device, progress=progress,
    )  # fmt: skip
    result = diagnosis.to_dict() | {
        "model": _describe(model),
        "data": {
            "source": source,
            "num_rows": len(table) + readable - sampled,
            "num_readable": readable,
            "num_sampled": sampled,
            "seed": seed,
            **_embedded(diagnosis),
        },
        "settings": {"max_crystals": max_crystals, "seed": seed},
        "tolerance": TOLERANCE,
        "versions": versions(),
        "not_embedded": _not_embedded(fit.decide("embed", diagnosis.failures, Status.FAILED)),
        "maps": dict.fromkeys(MAPS, "no folder was asked for"),
    }
    del result["failures"]  # they are among not_embedded
    if out is not None:
        result["maps"] = _write_maps(model, diagnosis, out, seed=seed, device=device, progress=progress)
        write_json(out / "diagnosis.json", result)
        write_diagnosis(out)
    return result


def _embedded(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "num_embedded": len(diagnosis.crystals),
        "num_with_energy": int(np.isfinite(diagnosis.energies).sum()),
        "content_hash": diagnosis.crystals.content_hash(),
    }


def _not_embedded(table: CandidateTable) -> dict[str, dict[str, Any]]:
    rows = zip(table.ids, *(table.column(name) for name in ("status", "stage", "reason")), strict=True)
    return {i: {"stage": stage, "reason": reason} for i, status, stage, reason in rows if status != Status.OK}


# -- crystals --------------------------------------------------------------------------------------


def _sample(table: CandidateTable, most: int, seed: int) -> CandidateTable:
    """At most so many of the readable crystals, and every row that has none, sorted by id."""
    ids = sorted(table.ok_ids)
    if len(ids) > most:
        rows = np.random.default_rng(seed).choice(len(ids), most, replace=False)
        ids = [ids[r] for r in rows]
    frame = table.frame[table.frame["id"].isin(ids) | (table.frame["status"] != Status.OK)]
    return CandidateTable(frame.sort_values("id", kind="stable").reset_index(drop=True))


def _check_some(table: CandidateTable, crystals: Crystals) -> None:
    if len(crystals) < 2:
        reasons = [r for r in table.column("reason") if r is not None]
        example = f", for example: {reasons[0]}" if reasons else ""
        raise ValueError(
            f"{len(crystals)} of {len(table)} crystals can be embedded, and it takes 2 to compare{example}"
        )


def _energies(table: CandidateTable, crystals: Crystals) -> np.ndarray | None:
    name = "formation_energy_per_atom"
    if name not in table:
        return None
    values = pd.to_numeric(pd.Series(table.column(name, crystals.ids), dtype=object), errors="coerce")
    found = values.to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isfinite(found), found, np.nan)


def _splits(table: CandidateTable, crystals: Crystals) -> list[str | None] | None:
    return table.column("split", crystals.ids) if "split" in table else None


def _describe(model: CrysJepa) -> dict[str, Any]:
    config = model.model.config
    return {
        "objective": config.objective,
        "invariant": model.invariant,
        "has_energies": model.has_energies,
        "scale": model.scale,
        "num_parameters": sum(p.numel() for p in model.model.parameters()),
        "content_hash": model.content_hash,
        "config": config.to_dict(),
        "origin": model.origin,
    }


# -- maps ------------------------------------------------------------------------------------------


def _write_maps(
    model: CrysJepa,
    diagnosis: Diagnosis,
    out: Path,
    *,
    seed: int,
    device: str,
    progress: StageProgress | None,
) -> dict[str, str | None]:
    """Write the maps that can be made; for each, None or the reason why there is none."""
    found: dict[str, str | None] = {}
    for done, name in enumerate(MAPS):
        if progress is not None:
            progress("map", done, len(MAPS))
        try:
            if name == "crystals":
                ids = diagnosis.crystals.ids
                frame = crystal_map(diagnosis.embeddings, ids, diagnosis.energies, seed=seed)
            else:
                frame = atom_map(model, diagnosis.crystals, seed=seed, device=device)
        except (UmapMissing, ValueError) as error:
            found[name] = str(error)
            (out / MAPS[name]).unlink(missing_ok=True)  # one of an earlier diagnosis, perhaps
        else:
            found[name] = None
            write_parquet(pa.Table.from_pandas(frame, preserve_index=False), out / MAPS[name])
    if progress is not None:
        progress("map", len(MAPS), len(MAPS))
    return found


def diagnose(
    model: Source | None = None,
    source: Source = NAME,
    out: Source | None = None,
    *,
    max_crystals: int = MAX_CRYSTALS,
    seed: int = 0,
    device: str = "auto",
    progress: StageProgress | None = None,
) -> dict[str, Any]:
    """Is an embedding collapsed, or worth something? Numbers; with ``out``, maps and a page in that folder.

    ``model`` is a checkpoint, by default the shipped one. See
    :func:`crysjepa.workflows.diagnose.diagnose_table`.
    """
    if out is not None:
        check_folder(out)
    chosen, jepa = resolve_device(device), CrysJepa.load(model)
    return diagnose_table(
        jepa, datasets.load(str(source)), None if out is None else Path(out),
        source=Path(source).name, max_crystals=max_crystals, seed=seed, device=chosen, progress=progress,
    )  # fmt: skip
