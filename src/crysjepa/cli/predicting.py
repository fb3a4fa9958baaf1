"""The verb that predicts structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from crysjepa.cli import arguments, configuration, console, groups, options, show
from crysjepa.cli.parts import carry_out
from crysjepa.cli.trust import Effort
from crysjepa.workflows.output import check_folder

Formula = Annotated[str, typer.Argument(help="such as LiMnPO4 or 'Ca3(PO4)2'")]
Num = Annotated[int | None, typer.Option("--num", "-n", help="candidates that are proposed")]
Static = Annotated[int | None, typer.Option("--static", help="of these, evaluated as they are")]
Relaxed = Annotated[int | None, typer.Option("--relaxed", help="of these, relaxed")]
Known = Annotated[
    bool | None,
    typer.Option("--known/--no-known", help="known crystals of the formula are candidates, and parents"),
]
Close = Annotated[
    bool, typer.Option("--close", help="search for what competes with the formula: the closed hull")
]
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How far prediction looks."""

    num: Num = None
    static: Static = None
    relaxed: Relaxed = None
    max_sites: options.MaxSites = None
    known: Known = None
    parents: options.Parents = None
    seed: options.SeedIfAny = None


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What polymorphs are compared by."""

    hull: options.HullSource = None
    force_field: options.ForceField = None


@dataclass(frozen=True, kw_only=True)
class Closing:
    """Whether the hull is closed, and how far competitors are looked for."""

    close: Close = False
    effort: Effort = None


def predict(
    formula: Formula,
    out: options.Out,
    config: options.Config = None,
    *,
    amounts: Amounts,
    judge: Judge,
    closing: Closing,
    models: groups.Models,
    running: groups.InProcesses,
) -> None:
    """Predict the structures of a formula: polymorphs, the lowest in energy first.

    Example: crysjepa predict LiMnPO4 --num 200 --out LiMnPO4
    """
    arguments.look_at(
        sources=[amounts.parents], tables=[judge.hull], checkpoints=[models.generator, models.jepa],
        force_field=judge.force_field, device=running.device, config=config,
    )  # fmt: skip
    if not closing.close:
        arguments.without_effect("without --close", effort=closing.effort)
    check_folder(out)

    from crysjepa.closed_hull.settings import EFFORTS
    from crysjepa.prediction.settings import PredictSettings

    arguments.choice("effort", closing.effort, EFFORTS)
    close = EFFORTS[closing.effort or "quick"].model_dump() if closing.close else None
    settings = configuration.read_settings(
        PredictSettings, config, close=close, **vars(judge), **vars(amounts), **vars(models),
    )  # fmt: skip
    with console.progress(out) as report:
        found = carry_out("predict", running, formula, out, settings=settings, progress=report)
    show_predicted(found, out)


def show_predicted(found: Mapping[str, Any], out: Path) -> None:
    """How many candidates each step had, the lowest polymorphs, and where everything is."""
    from crysjepa.core.candidates import CandidateTable

    for row in found["proposals"]:
        console.say(f"{row['number']:>8,}  {row['what']}")
    steps = show.columns("step", "candidates", "of which", "rejected", "failed", "left", pad_edge=False)
    for row in found["counts"]:
        sources = ", ".join(f"{n} {source}" for source, n in row["by_source"].items())
        cells = (row["step"], row["candidates"], sources, row["rejected"], row["failed"], row["left"])
        steps.add_row(*(console.text(c) for c in cells))
    console.output.print(steps)
    table = CandidateTable.read(out / "polymorphs.parquet")
    names = ["rank", "likely_rank", "id", "space_group", "e_above_lowest", "e_above_hull"]
    names += [c for c in ("e_above_closed_hull", "found", "matches") if c in table]
    shown = show.columns(*names, pad_edge=False)
    for id_ in table.ids[:SHOWN]:
        values = (table.column(c, [id_])[0] for c in names)
        shown.add_row(*(console.text(f"{v:.3f}" if isinstance(v, float) else v) for v in values))
    console.output.print(shown)
    if len(table) > SHOWN:
        console.say(f"and {len(table) - SHOWN} more in polymorphs.parquet")
    if found["ordered_by"] != found["force_field"].get("name"):
        console.say(f"ordered by {found['ordered_by']}", soft_wrap=True)
    for note in found["notes"]:
        console.say(f"note: {note}", soft_wrap=True)
    console.say(
        f"wrote {out}/polymorphs.parquet, {out}/cifs, {out}/predict.json and {out}/candidates.parquet, which "
        "has every candidate, with the step that it ended at and why",
        soft_wrap=True,
    )
    if not len(table):
        raise RuntimeError(f"no structure of {found['formula']} was found: the column reason of "
                           f"{out}/candidates.parquet says why")  # fmt: skip
