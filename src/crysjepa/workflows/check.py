"""The verb ``check``: does a crystal of the short list make sense?"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Unpack

from crysjepa import datasets
from crysjepa.checks.check import check_crystals
from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.given import is_run, listed, results_of, rows_of_run
from crysjepa.evaluation.reference import Known
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.runtime.execution import Execution, ExecutionOptions
from crysjepa.workflows.inputs import Source
from crysjepa.workflows.output import Output, check_folder


def check(
    source: Source,
    out: Source,
    *,
    reference: Source = NAME,
    force_field: str = "chgnet",
    phonons: bool = True,
    elastic: bool = True,
    seconds: float | None = 1800.0,
    **how: Unpack[ExecutionOptions],
) -> CandidateTable:
    """Phonons, elastic constants, bonding and orderings of a short list, in ``OUT/checked.parquet``.

    Of a finished run it is the short list that is checked. ``seconds`` are for one crystal's phonons and
    elastic constants. A check that was stopped goes on from ``OUT/shards``. See
    :func:`crysjepa.checks.check.check_crystals`.
    """
    check_folder(out)
    run = Execution(**how)
    info = force_field_info(force_field)
    place = Output(Path(out) / "checked.parquet")
    settings = {
        "force_field": {"name": info.name, "version": info.version},
        "phonons": phonons,
        "elastic": elastic,
        "seconds": seconds,
    }
    read = {"input": _results_of(source), "reference": reference}
    if place.found("check", settings, read, overwrite=run.overwrite) is not None:
        return CandidateTable.read(place.path)
    shards = Path(out) / "shards"
    rows = rows_of_run(source) if is_run(source) else datasets.load(str(source))
    table = check_crystals(
        listed(rows), reference=Known.load(reference).crystals(),
        force_field=force_field, device=run.found_device, processes=run.processes, phonons=phonons,
        elastic=elastic, seconds=seconds, shards=shards, progress=run.progress,
    )  # fmt: skip
    about = {"force_field": info.name, "version": info.version, "reference": str(reference)}
    place.write(table, {"sense": about})
    shutil.rmtree(shards, ignore_errors=True)
    return table


def _results_of(source: Source) -> Source:
    """The file that counts of a finished run: its log, and results beside it, may change."""
    return results_of(Path(source)) if is_run(source) else source
