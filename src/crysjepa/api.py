"""The verbs of the command line as plain functions: files in, files out.

>>> from crysjepa import api
>>> api.generate(1000, out="new.parquet", seed=1)                                        # doctest: +SKIP
>>> api.screen("new.parquet", reference="known", by="jepa-hull", out="ranked.parquet")  # doctest: +SKIP

A script that calls them needs no ``if __name__ == "__main__":``, though they start processes: these do not
import the script, unless its own functions or classes are sent to them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from crysjepa import datasets
from crysjepa.checks.check import check_crystals
from crysjepa.core.candidates import CandidateTable
from crysjepa.dft.gpaw.run import dft_run as dft_run
from crysjepa.dft.vasp.collect import dft_collect as dft_collect
from crysjepa.dft.vasp.export import dft_export as dft_export
from crysjepa.discovery.config import PRESETS, DiscoverConfig
from crysjepa.discovery.loop import discover_crystals
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.force_field_hull import force_field_hull
from crysjepa.evaluation.given import energies_of as energies_of
from crysjepa.evaluation.given import energies_told, is_run, read_given, results_of
from crysjepa.evaluation.reference import Known
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.nn.checkpoint import read_header
from crysjepa.relaxation.force_fields.registry import force_field_info, force_field_status
from crysjepa.relaxation.relax import RelaxSettings, relax_crystals
from crysjepa.report.page import write_report
from crysjepa.runtime.run_directory import versions
from crysjepa.weights import shipped
from crysjepa.workflows.diagnose import MAX_CRYSTALS, diagnose_table
from crysjepa.workflows.evaluate import compare as compare
from crysjepa.workflows.evaluate import compete as compete
from crysjepa.workflows.evaluate import evaluate as evaluate
from crysjepa.workflows.evaluate import tradeoff as tradeoff
from crysjepa.workflows.generate import Generated as Generated
from crysjepa.workflows.generate import generate as generate
from crysjepa.workflows.inputs import Report, Source, resolve_device
from crysjepa.workflows.inputs import beside as _beside
from crysjepa.workflows.inputs import stage as _stage
from crysjepa.workflows.output import Output, OutputError, check_folder
from crysjepa.workflows.screen import Screened as Screened
from crysjepa.workflows.screen import embed as embed
from crysjepa.workflows.screen import screen as screen
from crysjepa.workflows.train import FINETUNING as FINETUNING
from crysjepa.workflows.train import finetune as finetune
from crysjepa.workflows.train import pretrain as pretrain
from crysjepa.workflows.train import train as train


def relax(
    source: Source,
    out: Source,
    *,
    force_field: str = "chgnet",
    settings: RelaxSettings | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Report | None = None,
) -> CandidateTable:
    """Relax crystals with a force field; a run that was interrupted goes on from ``OUT.shards``.

    The file's metadata say where its energies come from, and how it was made: an ``out`` that is there and
    was made just so is read, one that was made otherwise is refused unless ``overwrite``. How long each took,
    which no two runs agree on, goes to ``OUT.seconds.csv``.
    """
    place, info = Output(out), force_field_info(force_field)
    told = {
        "force_field": {"name": info.name, "version": info.version},
        "settings": (settings or RelaxSettings()).model_dump(mode="json"),
    }
    if place.found("relax", told, {"input": source}, overwrite=overwrite) is not None:
        return CandidateTable.read(out) if place.has_everything else datasets.load(str(out))
    table = datasets.load(str(source))
    if place.kind == "poscar" and len(table) != 1:
        raise OutputError(f"a POSCAR holds one crystal, not {len(table)}: write .extxyz, .cif or a folder")
    shards = _beside(out, ".shards")
    done = relax_crystals(
        table.crystals(table.ok_ids),
        force_field=force_field,
        settings=settings,
        device=resolve_device(device),
        shards=shards,
        progress=_stage(progress, "relax"),
    )
    relaxed = done.apply_to(table)
    place.write(relaxed, energies_told(done.force_field, done.settings))
    pd.Series(done.seconds(), name="seconds").rename_axis("id").to_csv(_beside(out, ".seconds.csv"))
    shutil.rmtree(shards, ignore_errors=True)
    return relaxed


def hull(
    source: Source,
    out: Source,
    *,
    force_field: str = "chgnet",
    settings: RelaxSettings | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Report | None = None,
) -> pa.Table:
    """Make a hull of a force field's own energies; what was interrupted goes on from ``OUT.shards``.

    See :func:`crysjepa.evaluation.force_field_hull.force_field_hull`.
    """
    place, info = Output(out, only="a hull is no table of structures"), force_field_info(force_field)
    told = {
        "force_field": {"name": info.name, "version": info.version},
        "settings": None if settings is None else settings.model_dump(mode="json"),
    }
    if place.found("hull", told, {"input": source}, overwrite=overwrite) is not None:
        return pq.read_table(out)
    shards = _beside(out, ".shards")
    rows = force_field_hull(
        datasets.load(str(source)), Path(out), force_field=force_field, settings=settings,
        source=Path(source).name, device=resolve_device(device), shards=shards, progress=progress,
        about={"made": place.made},
    )  # fmt: skip
    shutil.rmtree(shards, ignore_errors=True)
    return rows


def diagnose(
    model: Source | None = None,
    source: Source = NAME,
    out: Source | None = None,
    *,
    max_crystals: int = MAX_CRYSTALS,
    seed: int = 0,
    device: str = "auto",
    progress: Report | None = None,
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


def discover(
    out: Source,
    *,
    config: DiscoverConfig | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Report | None = None,
) -> Path:
    """The whole loop, from known crystals to a short list and its page, whose path is returned.

    See :func:`crysjepa.discovery.loop.discover_crystals`.
    """
    chosen = config or PRESETS["quick"]
    return discover_crystals(
        chosen, Path(out), device=resolve_device(device), overwrite=overwrite, progress=progress
    )


def check(
    source: Source,
    out: Source,
    *,
    reference: Source = NAME,
    force_field: str = "chgnet",
    phonons: bool = True,
    elastic: bool = True,
    seconds: float | None = 1800.0,
    device: str = "auto",
    processes: int | None = None,
    overwrite: bool = False,
    progress: Report | None = None,
) -> CandidateTable:
    """Phonons, elastic constants, bonding and orderings of a short list, in ``OUT/checked.parquet``.

    Of a finished run it is the short list that is checked. ``seconds`` are for one crystal's phonons and
    elastic constants. See :func:`crysjepa.checks.check.check_crystals`.
    """
    check_folder(out)
    info = force_field_info(force_field)
    place = Output(Path(out) / "checked.parquet")
    told = {
        "force_field": {"name": info.name, "version": info.version},
        "phonons": phonons,
        "elastic": elastic,
        "seconds": seconds,
    }
    read = {"input": _results_of(source), "reference": reference}
    if place.found("check", told, read, overwrite=overwrite) is not None:
        return CandidateTable.read(place.path)
    table = check_crystals(
        _listed(read_given(source).table), reference=Known.load(reference).crystals(),
        force_field=force_field, device=resolve_device(device), processes=processes, phonons=phonons,
        elastic=elastic, seconds=seconds, progress=progress,
    )  # fmt: skip
    about = {"force_field": info.name, "version": info.version, "reference": str(reference)}
    place.write(table, {"sense": about})
    return table


def _results_of(source: Source) -> Source:
    """The file that counts of a finished run: its log, and results beside it, may change."""
    return results_of(Path(source)) if is_run(source) else source


def _listed(table: CandidateTable) -> CandidateTable:
    """The rows of the short list, where there is one."""
    if "shortlist_rank" not in table:
        return table
    return CandidateTable(table.frame[table.frame["shortlist_rank"].notna()].reset_index(drop=True))


def report(run: Source) -> Path:
    """Write ``report.html`` of a finished run anew from its saved results, and return its path."""
    return write_report(run)


def doctor() -> list[tuple[str, bool, str]]:
    """What works here: (name, whether it works, detail) for libraries, devices, weights and force fields."""
    found = [(name, True, version) for name, version in versions().items()]
    for name in ("jepa", "generator"):
        header = read_header(shipped(name))
        found.append((f"weights: {name}", True, f"{header['origin']['steps']} steps"))
    cuda = torch.cuda.is_available()
    detail = (
        torch.cuda.get_device_name() if cuda else f"no CUDA device that torch {torch.__version__} can use"
    )
    found += [("device: cpu", True, f"{torch.get_num_threads()} threads"), ("device: cuda", cuda, detail)]
    return found + [(f"force field: {n}", works, detail) for n, works, detail in force_field_status()]
