"""The verbs ``relax`` and ``hull``: energies of a force field."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.force_field_hull import force_field_hull
from crysjepa.evaluation.given import energies_told
from crysjepa.relaxation.relax import RelaxSettings, relax_crystals
from crysjepa.workflows.inputs import Report, Source, beside, check_file, resolve_device, stage


def relax(
    source: Source,
    out: Source,
    *,
    force_field: str = "chgnet",
    settings: RelaxSettings | None = None,
    device: str = "auto",
    progress: Report | None = None,
) -> CandidateTable:
    """Relax crystals with a force field; a run that was interrupted goes on from ``OUT.shards``.

    The file's metadata say where its energies come from. How long each took, which no two runs agree on, goes
    to ``OUT.seconds.csv``.
    """
    check_file(out)
    table = datasets.load(str(source))
    shards = beside(out, ".shards")
    done = relax_crystals(
        table.crystals(table.ok_ids),
        force_field=force_field,
        settings=settings,
        device=resolve_device(device),
        shards=shards,
        progress=stage(progress, "relax"),
    )
    relaxed = done.apply_to(table)
    relaxed.write(out, energies_told(done.force_field, done.settings))
    pd.Series(done.seconds(), name="seconds").rename_axis("id").to_csv(beside(out, ".seconds.csv"))
    shutil.rmtree(shards, ignore_errors=True)
    return relaxed


def hull(
    source: Source,
    out: Source,
    *,
    force_field: str = "chgnet",
    settings: RelaxSettings | None = None,
    device: str = "auto",
    progress: Report | None = None,
) -> pa.Table:
    """Make a hull of a force field's own energies; what was interrupted goes on from ``OUT.shards``.

    See :func:`crysjepa.evaluation.force_field_hull.force_field_hull`.
    """
    check_file(out)
    shards = beside(out, ".shards")
    rows = force_field_hull(
        datasets.load(str(source)), Path(out), force_field=force_field, settings=settings,
        source=Path(source).name, device=resolve_device(device), shards=shards, progress=progress,
    )  # fmt: skip
    shutil.rmtree(shards, ignore_errors=True)
    return rows
