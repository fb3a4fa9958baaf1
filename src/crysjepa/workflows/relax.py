"""The verbs ``relax`` and ``hull``: energies of a force field."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Unpack

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.force_field_hull import force_field_hull
from crysjepa.evaluation.given import energy_metadata
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.relaxation.relax import RelaxSettings, energies_before, relax_crystals
from crysjepa.runtime.execution import Execution, ExecutionOptions
from crysjepa.runtime.notes import note
from crysjepa.workflows.inputs import Source, beside
from crysjepa.workflows.output import Output


def relax(
    source: Source,
    out: Source,
    *,
    force_field: str = "chgnet",
    settings: RelaxSettings | None = None,
    **how: Unpack[ExecutionOptions],
) -> CandidateTable:
    """Relax crystals with a force field; a run that was interrupted goes on from ``OUT.shards``.

    The file's metadata say where its energies come from, and how it was made: an ``out`` that is there and
    was made just so is read, one that was made otherwise is refused unless ``overwrite``. How long each took,
    which no two runs agree on, goes to ``OUT.seconds.csv``.
    """
    run, place, info = Execution(**how), Output(out), force_field_info(force_field)
    options = {
        "force_field": {"name": info.name, "version": info.version},
        "settings": (settings or RelaxSettings()).model_dump(mode="json"),
    }
    if place.found("relax", options, {"input": source}, overwrite=run.overwrite) is not None:
        return CandidateTable.read(out) if place.has_everything else datasets.load(str(out))
    table = datasets.load(str(source))
    place.check_holds(len(table))
    shards = beside(out, ".shards")
    done = relax_crystals(
        table.crystals(table.ok_ids),
        force_field=force_field,
        settings=settings,
        device=run.found_device,
        processes=run.processes,
        shards=shards,
        progress=run.stage("relax"),
    )
    relaxed = done.apply_to(table)
    gone = [
        n for n in energies_before(table) if table.frame[n].notna().sum() > relaxed.frame[n].notna().sum()
    ]
    if gone:
        note(f"{', '.join(gone)} of relaxed crystals left empty: these values were of the structures before")
    place.write(relaxed, energy_metadata(done.force_field, done.settings))
    pd.Series(done.seconds(), name="seconds").rename_axis("id").to_csv(beside(out, ".seconds.csv"))
    shutil.rmtree(shards, ignore_errors=True)
    return relaxed


def hull(
    source: Source,
    out: Source,
    *,
    force_field: str = "chgnet",
    settings: RelaxSettings | None = None,
    **how: Unpack[ExecutionOptions],
) -> pa.Table:
    """Make a hull of a force field's own energies; what was interrupted goes on from ``OUT.shards``.

    See :func:`crysjepa.evaluation.force_field_hull.force_field_hull`.
    """
    place, info = Output(out, only="a hull is no table of structures"), force_field_info(force_field)
    run = Execution(**how)
    options = {
        "force_field": {"name": info.name, "version": info.version},
        "settings": None if settings is None else settings.model_dump(mode="json"),
    }
    if place.found("hull", options, {"input": source}, overwrite=run.overwrite) is not None:
        return pq.read_table(out)
    shards = beside(out, ".shards")
    rows = force_field_hull(
        datasets.load(str(source)), Path(out), force_field=force_field, settings=settings,
        source=Path(source).name, device=run.found_device, processes=run.processes, shards=shards,
        progress=run.progress, about={"made": place.made},
    )  # fmt: skip
    shutil.rmtree(shards, ignore_errors=True)
    return rows
