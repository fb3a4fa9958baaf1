"""One protocol for judging crystals: relax, give them energies against a hull, decide V, S, U and N.

``crysjepa evaluate`` and every round of ``crysjepa discover`` go through
:class:`~crysjepa.evaluation.evaluator.Evaluator`, so that their
numbers can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.hull import Hull
from crysjepa.energy.kept_hull import keep_hull
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.diversity import diversity
from crysjepa.evaluation.earlier import ARTEFACTS, judged_otherwise, set_aside
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.evaluation.genbench import genbench_part
from crysjepa.evaluation.given import (
    Given,
    energy_metadata,
    with_given_energies,
    with_given_formation_energies,
)
from crysjepa.evaluation.plan import Plan, plan_of, protocol_inputs
from crysjepa.evaluation.protocol import PRESETS, Protocol, preset
from crysjepa.evaluation.published import PUBLISHED
from crysjepa.evaluation.rates import (
    METRICS,
    batch_metrics,
    bootstrap_intervals,
    by_round,
    crystal_metrics,
)
from crysjepa.evaluation.reference import Known, find_references
from crysjepa.evaluation.result_files import citation, judge_name, scored, with_checksum
from crysjepa.evaluation.shortlist import shortlist_again
from crysjepa.evaluation.trust import close_hull, is_of_trust, promising_ids, with_trust
from crysjepa.matching.uniqueness import FormulaIndex
from crysjepa.properties.aims import JUDGED
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.relaxation.relax import relax_crystals
from crysjepa.report.evaluation import write_evaluation
from crysjepa.runtime.execution import Execution, ExecutionOptions, resolve_device
from crysjepa.runtime.files import read_json, write_json
from crysjepa.runtime.parts import part_in
from crysjepa.runtime.progress import StageProgress, of_stage
from crysjepa.runtime.run_directory import Run, locked

__all__ = [
    "PRESETS", "Evaluator", "Judge", "Known", "Protocol", "evaluate_crystals", "find_references", "preset",
    "protocol_inputs",
]  # fmt: skip

Judge = Evaluator
"""The name of an evaluator before."""

_STABILITY = {
    "stable": "boolean",
    "e_above_hull": "Float64",
    "hull_entries": "Int64",
    "hull_support": "string",
    "hull_gaps": "string",
    "hull_systems": "string",
    "hull_warning": "string",
}
_OPTIONAL = (
    "novel", "matches", "matches_finetuning", "novelty_grade", "known_compound", "known_structures",
    "new_prototype", "prototype_of", "prototype_unknown", "batch", *PUBLISHED,
)  # fmt: skip
"""Columns that not every judgement has: those of an earlier one are not kept."""


class JudgingOptions(ExecutionOptions, total=False):
    """Keywords of whatever judges crystals; what they mean is said in :class:`Judging`."""

    anew: bool
    shards: str | Path | None


@dataclass(frozen=True, kw_only=True)
class Judging(Execution):
    """How crystals are judged.

    Attributes
    ----------
    anew
        Relax crystals that come with energies all the same.
    shards
        Where finished chunks of the relaxation are kept and looked for, as those that another machine
        relaxed; by default in the folder of the results.
    """

    anew: bool = False
    shards: str | Path | None = None


def evaluate_crystals(
    crystals: CandidateTable | Given,
    out: Path,
    *,
    reference: str | Path = NAME,
    hull: str | Path | Hull | None = None,
    protocol: Protocol | None = None,
    finetuned_on: str | Path | None = None,
    **how: Unpack[JudgingOptions],
) -> dict[str, Any]:
    """Judge crystals; write ``crystals.parquet``, ``metrics.json`` and ``evaluation.html`` into ``out``.

    ``hull.parquet`` has what they were compared with; with ``trust`` the hull of the promising ones is closed
    (``competitors.parquet``). A run that was stopped goes on. With another hull, reference or threshold the
    crystals in ``out`` are judged anew from the energies there; the earlier results go to ``out/earlier-1``.

    Parameters
    ----------
    crystals
        A table, or one that says where its column ``energy_per_atom`` is from: such crystals are judged by
        these energies, as they are, and a row without an energy keeps its state. The scale of the column
        ``formation_energy_per_atom`` is the one stated there, or else the assumed one.
    reference
        A file, folder or data set name.
    hull
        Likewise, or a hull; by default the bundled one and the energies of the reference
        (:func:`~crysjepa.energy.load_hull.hull_or_default`). Without relaxation and without a ``hull``
        stability is not computed (null), and neither are S.U.N. and V.S.U.N. Without relaxation and with one,
        the energies that the crystals come with are compared with it: their ``energy_per_atom`` of a known
        origin, or else their ``formation_energy_per_atom``.
    finetuned_on
        What the generator was fine-tuned on: nothing that matches it is novel.
    how
        See :class:`Judging`; ``processes`` compare crystals, by default one.

    Returns what ``metrics.json`` holds. Raises ValueError before anything is relaxed, if crystals and hull
    cannot be compared, and if a hull is named for crystals without relaxation and energies.
    """
    given = crystals if isinstance(crystals, Given) else Given(crystals, None)
    table, execution = given.table, Judging(**how)
    given = replace(given, origin=None) if execution.anew else given
    protocol, progress = protocol or Protocol(), execution.progress
    device = resolve_device(execution.device) if protocol.relax else "cpu"  # to look for one takes torch
    plan = plan_of(given, reference, hull, protocol, finetuned_on, device)
    settings = plan.protocol.model_dump(mode="json")
    prepare = partial(plan.evaluator, device=device, processes=execution.processes or 1, progress=progress)
    shards = Path(execution.shards or out / "relax")
    if part_in(shards) is not None:
        _relax_part(plan, table, shards, device, progress)
    # what fails, fails before results of before are moved
    comes_with = plan.origin is not None or plan.given
    ready = prepare() if judged_otherwise(out, settings, plan.inputs, own_energies=comes_with) else None
    if ready is not None:
        _held = locked(out)  # nothing of a process that is at work there is moved
        set_aside(out)
    run = Run(out, {"evaluate": settings}, plan.inputs, overwrite=execution.overwrite)
    work = partial(_evaluate, plan, table=table, run=run, shards=shards, progress=progress)
    run.stage("evaluate", ARTEFACTS, lambda: work(ready or prepare()))
    run.stage("report", ["evaluation.html"], lambda: write_evaluation(out))
    return read_json(run.path("metrics.json"))


def _evaluate(
    plan: Plan,
    evaluator: Evaluator,
    table: CandidateTable,
    run: Run,
    shards: Path,
    progress: StageProgress | None,
) -> None:
    """Judge, and write the table and the metrics."""
    cache = _restored(evaluator)
    judged = _judged(plan, evaluator, table, shards, progress)
    described = {**evaluator.describe(), "stability_judged": evaluator.hull is not None}
    if plan.origin is not None:
        described["force_field_version"] = plan.origin.version
    judged, trust = _trusted(plan, evaluator, judged, run, progress)
    if evaluator.hull is not None:
        keep_hull(evaluator.hull, judged, run.folder)
    judged.write(run.path("crystals.parquet"), plan.about(evaluator))
    written = CandidateTable.read(run.path("crystals.parquet"))
    metrics = {**_metrics(written, described, evaluator.device), **trust, **genbench_part(written, evaluator)}
    if listed := shortlist_again(table, scored(written, described)):
        metrics["shortlist"] = listed
    write_json(run.path("metrics.json"), with_checksum(metrics, written))
    _save(evaluator, cache)


def _relax_part(
    plan: Plan, table: CandidateTable, shards: Path, device: str, progress: StageProgress | None
) -> None:
    """This part's share of the relaxation. Raises PartDone; ValueError where there is nothing to relax."""
    if not plan.protocol.relax or plan.origin is not None:
        raise ValueError("nothing is relaxed here, and only relaxation is shared out: leave --part out")
    fresh, of = _fresh(table).undecided(), plan.protocol
    relax_crystals(
        fresh.crystals(fresh.ok_ids), force_field=of.force_field, settings=of.relaxation, device=device,
        shards=shards, progress=of_stage(progress, "relax"),
    )  # fmt: skip


def _fresh(table: CandidateTable) -> CandidateTable:
    """Without what an earlier judgement said."""
    stale = [c for c in table.frame if c in _OPTIONAL or c in JUDGED or is_of_trust(c)]
    return CandidateTable(table.frame.drop(columns=stale))


def _judged(
    plan: Plan, evaluator: Evaluator, table: CandidateTable, shards: Path, progress: StageProgress | None
) -> CandidateTable:
    """The crystals with energies, relaxed or as they came, and every verdict."""
    fresh = _fresh(table)
    if plan.origin is not None:
        relaxed = with_given_energies(fresh)
    elif plan.given:
        relaxed = with_given_formation_energies(fresh)
    elif plan.protocol.relax:
        relaxed = evaluator.relax(fresh.undecided(), shards, progress)
    else:
        relaxed = fresh.undecided()
    judged = evaluator.evaluate(relaxed, progress)
    if evaluator.hull is None:
        judged = CandidateTable(judged.frame.drop(columns=[c for c in _STABILITY if c in judged]))
    for name, dtype in _STABILITY.items():
        judged = judged if name in judged else judged.with_column(name, {}, dtype)
    return judged


def _trusted(
    plan: Plan, evaluator: Evaluator, judged: CandidateTable, run: Run, progress: StageProgress | None
) -> tuple[CandidateTable, dict[str, Any]]:
    """With the closed hull and further judges, where the protocol asks for them; what metrics say of it."""
    trust = plan.protocol.trust
    if trust is None or evaluator.hull is None:
        return judged, {}
    ids, closing, work = promising_ids(judged, trust), None, run.path("trust")
    if trust.close is not None:
        closing = close_hull(judged, ids, evaluator, trust.close, work=work, progress=progress)
        theirs = energy_metadata(force_field_info(plan.protocol.force_field), trust.close.relaxation)
        closing.competitors.write(run.path("competitors.parquet"), theirs)
    found = with_trust(
        judged, ids, evaluator, plan.known, trust, closing=closing, work=work, progress=progress
    )
    return found.table, {"trust": found.metrics}


def _metrics(table: CandidateTable, protocol: dict[str, Any], device: str) -> dict[str, Any]:
    """``num_crystals``, every rate of :data:`~crysjepa.evaluation.rates.METRICS` as a fraction of all
    crystals, their Wilson ``intervals`` and ``bootstrap`` intervals, ``batches`` (mean and standard
    deviation; None unless the protocol has batches), ``by_round`` (the same rates of each round of a run),
    ``hull``, ``novelty_set`` and ``judge`` by name, ``diversity``, ``metrics`` (version of each), the
    ``protocol`` and its ``citation``.
    """
    table = scored(table, protocol)
    numbers = crystal_metrics(table)
    size, wanted = protocol["batch_size"], protocol["num_batches"]
    return {
        **numbers,
        "bootstrap": bootstrap_intervals(table),
        "batches": batch_metrics(table, size, wanted) if size else None,
        "by_round": by_round(table),
        "hull": protocol.get("hull"),
        "novelty_set": protocol["novelty_set_name"],
        "judge": judge_name(protocol),
        "diversity": diversity(table),
        "metrics": {name: metric.version for name, metric in METRICS.items()},
        "protocol": protocol,
        "citation": citation(protocol),
        "device": device,
    }


# -- the reduced reference, kept from one evaluation to the next -----------------------------


def _restored(evaluator: Evaluator) -> tuple[Path, int] | None:
    """Where the reduced reference is kept, and how much of it is there; None where nothing is to be kept."""
    if not isinstance(evaluator.reference, FormulaIndex):
        return None
    path = datasets.cache_folder() / "matching" / f"{evaluator.reference.key[:32]}.parquet"
    evaluator.reference.restore(path)
    return path, evaluator.reference.num_reduced


def _save(evaluator: Evaluator, cache: tuple[Path, int] | None) -> None:
    if cache is None or not isinstance(evaluator.reference, FormulaIndex):
        return
    path, before = cache
    if evaluator.reference.num_reduced > before:
        try:
            evaluator.reference.save(path)
        except OSError:  # a cache folder that cannot be written to costs time, not results
            return
