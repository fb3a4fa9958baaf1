"""One protocol for judging crystals: relax, give them energies against a hull, decide V, S, U and N.

``crysjepa evaluate`` and every round of ``crysjepa discover`` go through :class:`Judge`, so that their
numbers can be compared.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from crysjepa import __version__, datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.elemental_references import check_scales
from crysjepa.energy.hull import ASSUMED_SCALE, Hull
from crysjepa.energy.known_hull import NAME
from crysjepa.evaluation.diversity import diversity
from crysjepa.evaluation.evaluator import Judge
from crysjepa.evaluation.given import (
    EnergyOrigin,
    check_formation_energies,
    energies_told,
    with_given_energies,
    with_given_formation_energies,
)
from crysjepa.evaluation.protocol import PRESETS, Protocol, preset
from crysjepa.evaluation.rates import (
    METRICS,
    batch_metrics,
    bootstrap_intervals,
    by_round,
    crystal_metrics,
)
from crysjepa.evaluation.reference import Known, Report, find_references, model_of
from crysjepa.evaluation.result_files import citation, judge_name, scored, seal
from crysjepa.evaluation.shortlist import shortlist_again
from crysjepa.evaluation.trust import (
    close_hull,
    is_of_trust,
    not_closable,
    trust_inputs,
    usable_judges,
    with_trust,
    worth_a_bet,
)
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.matching.uniqueness import FormulaIndex
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.report.evaluation import write_evaluation
from crysjepa.runtime.files import file_hash, read_json, write_json
from crysjepa.runtime.run_directory import Run, locked

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

_STABILITY = {
    "stable": "boolean",
    "e_above_hull": "Float64",
    "hull_entries": "Int64",
    "hull_support": "string",
    "hull_gaps": "string",
    "hull_systems": "string",
    "hull_warning": "string",
}
ARTEFACTS = ("crystals.parquet", "metrics.json")
_OPTIONAL = (
    "novel", "matches", "matches_finetuning", "novelty_grade", "known_compound", "new_prototype",
    "prototype_of", "prototype_unknown", "batch",
)  # fmt: skip
"""Columns that not every judgement has: those of an earlier one are not kept."""
_RELAXING = ("relax", "relaxation", "force_field")
"""Settings of a protocol that relaxation depends on: all others may change, and nothing is relaxed again."""
_CRYSTALS = ("crystals", "force_field", "device", "energies")
"""Inputs likewise."""


def evaluate_crystals(
    table: CandidateTable,
    *,
    reference: str | Path = NAME,
    hull: str | Path | Hull | None = None,
    out: Path,
    protocol: Protocol | None = None,
    finetuned_on: str | Path | None = None,
    origin: EnergyOrigin | None = None,
    scale: str | None = None,
    shards: Path | None = None,
    device: str = "cpu",
    processes: int = 1,
    overwrite: bool = False,
    progress: Report | None = None,
) -> dict[str, Any]:
    """Judge crystals; write ``crystals.parquet``, ``metrics.json`` and ``evaluation.html`` into ``out``.

    Where the protocol asks for ``trust``, the hull of the promising ones is closed, and the competing
    crystals that were found are written to ``competitors.parquet``.

    A run that was stopped goes on where it stood. With another hull, reference or threshold the crystals in
    ``out`` are judged anew, from the energies that are there; the earlier results go to ``out/earlier-1``.
    The known crystals, reduced for the matcher, are kept in the cache folder, so that the next set of
    crystals finds them ready.

    Parameters
    ----------
    reference
        A file, folder or data set name.
    hull
        Likewise, or a hull; by default the bundled one and the energies of the reference
        (:func:`~crysjepa.energy.load_hull.hull_or_default`). Without relaxation and without a ``hull``
        stability is not computed (null), and neither are S.U.N. and V.S.U.N. Without relaxation and with one,
        the energies that the crystals come with are compared with it: those of ``origin``, or else their
        ``formation_energy_per_atom``.
    finetuned_on
        What the generator was fine-tuned on: nothing that matches it is novel.
    origin
        Where the column ``energy_per_atom`` is from: such crystals are judged by these energies, as they are.
        A row without an energy keeps its state.
    scale
        Of the column ``formation_energy_per_atom`` that the crystals come with; None for the assumed one.
    shards
        Where finished chunks of the relaxation are kept and looked for, as those that another machine
        relaxed; by default in ``out``.
    processes
        How many compare crystals. They decide nothing but the time it takes.

    Returns
    -------
    dict
        What ``metrics.json`` holds: ``num_crystals``, every rate of
        :data:`~crysjepa.evaluation.rates.METRICS` as a fraction of all crystals, their Wilson ``intervals``
        and ``bootstrap`` intervals, ``batches`` (mean and standard deviation; None unless the protocol has
        batches), ``by_round`` (the same rates of each round of a run), ``shortlist`` (how a run's short list
        held up), ``hull``, ``novelty_set`` and ``judge`` by name, ``diversity``, ``metrics`` (version of
        each), the ``protocol``, its ``citation``, and hashes by which a change is noticed.

    Raises
    ------
    ValueError
        Before anything is relaxed, if crystals relaxed so cannot be compared with the hull; without
        relaxation, if a hull is named and the crystals have no energies that it could judge.
    """
    protocol = protocol or Protocol()
    if protocol.trust is not None and not protocol.relax:
        raise ValueError(
            "a closed hull and further judges need energies: leave out --no-relax, or --close and --judges"
        )
    if origin is not None and hull is not None and not protocol.relax:  # as they are, and nothing is relaxed
        protocol = protocol.model_copy(update={"relax": True, "force_field": origin.force_field})
    if origin is not None and not origin.fits(protocol):
        origin = None
    if origin is not None:
        protocol = protocol.model_copy(update={"relaxation": origin.relaxation})
    by_formation_energies = hull is not None and not protocol.relax
    if by_formation_energies:
        check_formation_energies(table)
    known = Known.load(reference)
    tuned = None if finetuned_on is None else Known.load(finetuned_on)
    found_hull = None
    if protocol.relax or hull is not None:
        found_hull = hull if isinstance(hull, Hull) else known.hull_or_default(hull)
    own = protocol_inputs(protocol, known, found_hull, device) | {"crystals": table.content_hash()}
    if by_formation_energies and found_hull is not None:
        check_scales(scale or ASSUMED_SCALE, found_hull.scale, allow_mixed=protocol.allow_mixed_scales)
    own["energies"] = "computed" if origin is None and not by_formation_energies else "given"
    if origin is not None:
        _check_version(own.get("force_field"), origin)
        own["force_field"] = origin.version
    if protocol.relax:
        own |= trust_inputs(protocol)
    if tuned is not None:
        own["finetuning_set"] = tuned.table.content_hash()
    settings = protocol.model_dump(mode="json")

    def prepared() -> Judge:
        references = None
        if found_hull is not None and protocol.relax:
            references = find_references(protocol, found_hull, known, device=device, progress=progress)
            check_scales(references.scale, found_hull.scale, allow_mixed=protocol.allow_mixed_scales)
            if protocol.trust is not None:
                usable_judges(protocol.trust, protocol, found_hull, known, device)
                if protocol.trust.close is not None and (reason := not_closable(found_hull, CrysJepa.load())):
                    raise ValueError(f"the hull cannot be closed: {reason}")
        return Judge.prepare(
            protocol, known, found_hull, references,
            device=device, finetuned_on=tuned, processes=processes,
        )  # fmt: skip

    ready = prepared() if _judged_otherwise(out, settings, own) else None  # what fails, fails before it moves
    if ready is not None:
        _held = locked(out)  # nothing of a process that is at work there is moved
        _set_aside(out)
    run = Run(out, {"evaluate": settings}, own, overwrite=overwrite)

    def work() -> None:
        judge = ready or prepared()
        cache = _restored(judge)
        stale = [c for c in table.frame if c in _OPTIONAL or is_of_trust(c)]
        fresh = CandidateTable(table.frame.drop(columns=stale))
        if origin is not None:
            relaxed = with_given_energies(fresh)
        elif by_formation_energies:
            relaxed = with_given_formation_energies(fresh)
        elif protocol.relax:
            relaxed = judge.relax(fresh.undecided(), shards or out / "relax", progress)
        else:
            relaxed = fresh.undecided()
        judged = judge.judge(relaxed, progress)
        if judge.hull is None:
            judged = CandidateTable(judged.frame.drop(columns=[c for c in _STABILITY if c in judged]))
        for name, dtype in _STABILITY.items():
            judged = judged if name in judged else judged.with_column(name, {}, dtype)
        described = {**judge.describe(), "stability_judged": judge.hull is not None}
        told, stated = judge.energies(), None if scale is None else {"scale": scale}
        if origin is not None:
            described["force_field_version"] = told["energies"]["version"] = origin.version
        about_trust = None
        if protocol.trust is not None and judge.hull is not None:
            ids, closing = worth_a_bet(judged, protocol.trust), None
            if (close := protocol.trust.close) is not None:
                closing = close_hull(judged, ids, judge, close, work=out / "trust", progress=progress)
                theirs = energies_told(force_field_info(protocol.force_field), close.relaxation)
                closing.competitors.write(run.path("competitors.parquet"), theirs)
            trusted = with_trust(
                judged,
                ids,
                judge,
                known,
                protocol.trust,
                closing=closing,
                work=out / "trust",
                progress=progress,
            )
            judged, about_trust = trusted.table, trusted.told
        judged.write(run.path("crystals.parquet"), told if protocol.relax else stated)
        written = CandidateTable.read(run.path("crystals.parquet"))
        metrics = _metrics(written, described, device)
        if about_trust is not None:
            metrics["trust"] = about_trust
        if listed := shortlist_again(table, scored(written, described)):
            metrics["shortlist"] = listed
        write_json(run.path("metrics.json"), seal(metrics, written))
        _save(judge, cache)

    run.stage("evaluate", ARTEFACTS, work)
    run.stage("report", ["evaluation.html"], lambda: write_evaluation(out))
    return read_json(run.path("metrics.json"))


def _check_version(here: str | None, origin: EnergyOrigin) -> None:
    """Raises ValueError if energies are of another model than the one whose references would be used."""
    if here is not None and model_of(here) != model_of(origin.version):
        raise ValueError(
            f"the energies are of {origin.force_field} {origin.version}, and here is {here}, with other "
            "elemental references: relax anew (--relax), or judge with the version that made them"
        )


def _judged_otherwise(out: Path, settings: dict[str, Any], inputs: dict[str, str]) -> bool:
    """Whether ``out`` has results of the same relaxed crystals by another hull, reference or setting."""
    if not (out / "run.json").is_file() or not (out / "config.json").is_file():
        return False
    record, before = read_json(out / "run.json"), read_json(out / "config.json").get("evaluate")
    if not record["stages"] or not isinstance(before, dict) or record["versions"]["crysjepa"] != __version__:
        return False
    then, now = ({k: s.get(k) for k in _RELAXING} for s in (before, settings))
    if then != now or any(record["inputs"].get(k) != inputs.get(k) for k in _CRYSTALS):
        return False  # another relaxation: the run says so
    return bool(before != settings or record["inputs"] != inputs)


def _set_aside(out: Path) -> None:
    """Move the results out of the way, to ``earlier-N``."""
    numbers = [int(p.name.rsplit("-", 1)[1]) for p in out.glob("earlier-*") if p.name[8:].isdecimal()]
    folder = out / f"earlier-{1 + max(numbers, default=0)}"
    folder.mkdir()
    for name in ("config.json", "run.json"):
        shutil.copy(out / name, folder / name)
    for name in (*ARTEFACTS, "competitors.parquet", "evaluation.html"):
        if (out / name).is_file():
            (out / name).rename(folder / name)
    # A run of which no stage is done may have any settings; until this is written, it is the old one.
    write_json(out / "run.json", {**read_json(out / "run.json"), "stages": {}})


def _metrics(table: CandidateTable, protocol: dict[str, Any], device: str) -> dict[str, Any]:
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
