"""Structure prediction: from a formula to its polymorphs, the lowest in energy first.

Candidates come of known prototypes and of the flow's templates. Crys-JEPA ranks them by what they are
expected to relax to; the force field evaluates the best as they are, and relaxes the best of these.
Duplicates are merged. A crystal that leaves keeps its row, with the step and the reason.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.evaluation.given import energy_metadata
from crysjepa.evaluation.trust import close_hull, not_closable
from crysjepa.io import write_cif
from crysjepa.prediction.means import Means
from crysjepa.prediction.polymorphs import ordered, ordered_by, polymorphs_of
from crysjepa.prediction.steps import PROPOSALS, Evaluate, Judge, Merge, Propose, Relax, Score
from crysjepa.relaxation.force_fields.registry import force_field_info
from crysjepa.runtime.files import read_json, write_json
from crysjepa.runtime.run_directory import Run
from crysjepa.stages.stage import Runner

ARTEFACTS = ("candidates.parquet", "polymorphs.parquet", "predict.json")
STEPS = ("propose", "embed", "static", "relax", "merge")


def predict_structures(means: Means, out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Predict into the folder ``out``; a run that was interrupted goes on where it stood.

    Writes ``candidates.parquet`` (a row for every candidate, with its state and the reason),
    ``polymorphs.parquet`` (those that are left, the lowest first), ``cifs/*.cif`` of the lowest, and
    ``predict.json``, which is returned: what was found, and how many candidates each step had.

    Raises RunError if ``out`` holds another run, or other files.
    """
    config = {"formula": means.target.formula, **means.settings.model_dump(mode="json")}
    run = Run(out, config, means.inputs(), overwrite=overwrite)
    runner = Runner(run, report=means.report)
    table = runner(Propose(means=means))
    for stage in (Score, Evaluate, Relax, Merge, Judge):
        table = runner(stage(means=means), table)
    run.stage("close", ["steps/closed.parquet", "steps/closed.json"], lambda: _close(means, run, table))
    run.stage("conclude", ARTEFACTS, lambda: _conclude(means, run))
    return dict(read_json(run.path("predict.json")))


def _close(means: Means, run: Run, table: CandidateTable) -> None:
    """Energies above the hull; of the closed hull too, where that was asked for."""
    found: dict[str, Any] = {}
    settings, ids = means.settings.close, table.ok_ids
    closing = None
    if settings is not None and len(means.target.counts) > 1 and ids:
        if reason := not_closable(means.hull, means.model):
            found["note"] = f"the hull was not closed: {reason}"
        else:
            closing = close_hull(
                table, ids, means.evaluator, settings, model=means.model, work=run.path("steps"),
                processes=means.processes, progress=means.report,
            )  # fmt: skip
            found |= closing.metrics
    ordered(table, means, closing).write(run.path("steps/closed.parquet"))
    write_json(run.path("steps/closed.json"), found)


def _conclude(means: Means, run: Run) -> None:
    table = CandidateTable.read(run.path("steps/closed.parquet"))
    best = polymorphs_of(table)
    listed = best.ids[: means.settings.cifs]
    folder = run.path("cifs")
    for stale in folder.glob("*.cif"):
        stale.unlink()
    names = [f"{rank:03d}-{means.target.formula}-{id_}" for rank, id_ in enumerate(listed, start=1)]
    written, _ = write_cif(best.crystals(listed), folder, names=names)
    files = {i: f"cifs/{path.name}" for i, path in written.items()}
    best = best.with_column("cif_file", {**dict.fromkeys(best.ids), **files}, "string")
    settings = means.settings
    about = energy_metadata(force_field_info(settings.force_field), settings.relaxation)
    counts = step_counts(table)
    proposals = read_json(run.path(f"steps/{PROPOSALS}"))
    closed = read_json(run.path("steps/closed.json"))
    summary = {
        "formula": means.target.formula,
        "proposals": proposals,
        "counts": counts,
        "polymorphs": len(best),
        "hull": means.hull.source,
        "hull_scale": means.hull.scale,
        "closed_hull": closed or None,
        "force_field": about["energies"],
        "judges": list(means.judges),
        "ordered_by": ordered_by(table, means.judges) or settings.force_field,
        "notes": [*means.notes(), *_fallen_away(table, means)],
    }
    told = {"formula": means.target.formula, "proposals": proposals, "counts": counts}
    table.write(run.path("candidates.parquet"), about | told)
    best.write(run.path("polymorphs.parquet"), about | told)
    write_json(run.path("predict.json"), summary)


def _fallen_away(table: CandidateTable, means: Means) -> list[str]:
    """A note where the last judge does not have the last word."""
    if not means.judges or ordered_by(table, means.judges) == means.judges[-1]:
        return []
    return [f"{means.judges[-1]} has no energy of some polymorphs, and no word in the order"]


def step_counts(table: CandidateTable) -> list[dict[str, Any]]:
    """How many candidates of each source came to each step, and what became of them there.

    ``{"step", "candidates", "by_source", "rejected", "failed", "left"}`` for each of :data:`STEPS`; a step's
    ``left`` are the next one's candidates.
    """
    rows = list(zip(*(table.column(c) for c in ("status", "stage", "source")), strict=True))
    found = []
    for step in STEPS:
        own = ("propose", "validity") if step == "propose" else (step,)
        lost = Counter(status for status, stage, _ in rows if status != Status.OK and stage in own)
        found.append(
            {
                "step": step,
                "candidates": len(rows),
                "by_source": dict(sorted(Counter(source for *_, source in rows).items())),
                "rejected": lost[Status.REJECTED],
                "failed": lost[Status.FAILED],
                "left": len(rows) - lost.total(),
            }
        )
        rows = [row for row in rows if row[0] == Status.OK or row[1] not in own]
    return found
