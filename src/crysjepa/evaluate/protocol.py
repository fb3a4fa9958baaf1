"""One protocol for judging crystals: relax, give them energies against a hull, decide V, S, U and N.

``crysjepa evaluate`` and every round of ``crysjepa discover`` go through :class:`Judge`, so that their
numbers can be compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crysjepa import datasets
from crysjepa.candidates import CandidateTable
from crysjepa.energy.hull import Hull
from crysjepa.evaluate.diversity import diversity
from crysjepa.evaluate.hulls import load_hull
from crysjepa.evaluate.judge import Judge
from crysjepa.evaluate.known import Known, Report, find_references
from crysjepa.evaluate.presets import PRESETS, Protocol, preset
from crysjepa.evaluate.rates import METRICS, batch_metrics, bootstrap_intervals, crystal_metrics
from crysjepa.evaluate.results import citation, scored, seal
from crysjepa.nn.checkpoint import file_hash
from crysjepa.relax.force_fields import force_field_info
from crysjepa.report.evaluation import write_evaluation
from crysjepa.run import Run, read_json, write_json
from crysjepa.screen.matching import FormulaIndex

__all__ = [
    "PRESETS",
    "Judge",
    "Known",
    "Protocol",
    "Report",
    "evaluate_crystals",
    "find_references",
    "preset",
    "protocol_inputs",
]

_STABILITY = {"stable": "boolean", "e_above_hull": "Float64"}
ARTEFACTS = ("crystals.parquet", "metrics.json")


def evaluate_crystals(
    table: CandidateTable,
    *,
    reference: str | Path,
    hull: str | Path | None,
    out: Path,
    protocol: Protocol | None = None,
    finetuned_on: str | Path | None = None,
    shards: Path | None = None,
    device: str = "cpu",
    processes: int = 1,
    progress: Report | None = None,
) -> dict[str, Any]:
    """Judge crystals; write ``crystals.parquet``, ``metrics.json`` and ``evaluation.html`` into ``out``.

    A run that was stopped goes on where it stood. The known crystals, reduced for the matcher, are kept in
    the cache folder, so that the next set of crystals finds them ready.

    Parameters
    ----------
    reference, hull
        A file, folder or data set name. Without a hull, or without relaxation, stability is not computed
        (null), and neither are S.U.N. and V.S.U.N.
    finetuned_on
        What the generator was fine-tuned on: nothing that matches it is novel.
    shards
        Where finished chunks of the relaxation are kept and looked for, as those that another machine
        relaxed; by default in ``out``.
    processes
        How many compare crystals. They decide nothing but the time it takes.

    Returns
    -------
    dict
        What ``metrics.json`` holds: ``num_crystals``, every rate of
        :data:`~crysjepa.evaluate.rates.METRICS` as a fraction of all crystals, their Wilson ``intervals`` and
        ``bootstrap`` intervals, ``batches`` (mean and standard deviation; None unless the protocol has
        batches), ``diversity``, ``metrics`` (version of each), the ``protocol``, its ``citation``, and hashes
        by which a change is noticed.
    """
    protocol = protocol or Protocol()
    known = Known.load(reference)
    tuned = None if finetuned_on is None else Known.load(finetuned_on)
    found_hull = load_hull(hull) if hull is not None and protocol.relax else None
    own = protocol_inputs(protocol, known, found_hull, device) | {"crystals": table.content_hash()}
    if tuned is not None:
        own["finetuning_set"] = tuned.table.content_hash()
    run = Run(out, {"evaluate": protocol.model_dump(mode="json")}, own)

    def work() -> None:
        references = None
        if found_hull is not None:
            references = find_references(protocol, found_hull, known, device=device, progress=progress)
        judge = Judge.prepare(
            protocol, known, found_hull, references,
            device=device, finetuned_on=tuned, processes=processes,
        )  # fmt: skip
        cache = _restored(judge)
        fresh = table.undecided()
        relaxed = judge.relax(fresh, shards or out / "relax", progress) if protocol.relax else fresh
        judged = judge.judge(relaxed, progress)
        if judge.hull is None:
            judged = CandidateTable(judged.frame.drop(columns=[c for c in _STABILITY if c in judged]))
        for name, dtype in _STABILITY.items():
            judged = judged if name in judged else judged.with_column(name, {}, dtype)
        judged.write(run.path("crystals.parquet"))
        written = CandidateTable.read(run.path("crystals.parquet"))
        described = {**judge.describe(), "stability_judged": judge.hull is not None}
        write_json(run.path("metrics.json"), seal(_metrics(written, described, device), written))
        _save(judge, cache)

    run.stage("evaluate", ARTEFACTS, work)
    run.stage("report", ["evaluation.html"], lambda: write_evaluation(out))
    return read_json(run.path("metrics.json"))


def _metrics(table: CandidateTable, protocol: dict[str, Any], device: str) -> dict[str, Any]:
    table = scored(table, protocol)
    numbers = crystal_metrics(table)
    size, wanted = protocol["batch_size"], protocol["num_batches"]
    return {
        **numbers,
        "bootstrap": bootstrap_intervals(table),
        "batches": batch_metrics(table, size, wanted) if size else None,
        "diversity": diversity(table),
        "metrics": {name: metric.version for name, metric in METRICS.items()},
        "protocol": protocol,
        "citation": citation(protocol),
        "device": device,
    }


def protocol_inputs(protocol: Protocol, known: Known, hull: Hull | None, device: str) -> dict[str, str]:
    """Hashes of what a protocol reads, and the device: a run goes on only with the same."""
    found = {"reference": known.table.content_hash(), "device": device}
    if protocol.relax:
        found["force_field"] = force_field_info(protocol.force_field).version
    if hull is not None:
        found["hull"] = hull.content_hash
    if protocol.elemental_references is not None:
        found["elemental_references"] = file_hash(protocol.elemental_references)
    return found


# -- the reduced reference, kept from one evaluation to the next -----------------------------


def _restored(judge: Judge) -> tuple[Path, int] | None:
    """Where the reduced reference is kept, and how much of it is there; None where nothing is to be kept."""
    if not isinstance(judge.reference, FormulaIndex):
        return None
    path = datasets.cache_folder() / "matching" / f"{judge.reference.key[:32]}.parquet"
    judge.reference.restore(path)
    return path, judge.reference.num_reduced


def _save(judge: Judge, cache: tuple[Path, int] | None) -> None:
    if cache is None or not isinstance(judge.reference, FormulaIndex):
        return
    path, before = cache
    if judge.reference.num_reduced > before:
        try:
            judge.reference.save(path)
        except OSError:  # a cache folder that cannot be written to costs time, not results
            return
