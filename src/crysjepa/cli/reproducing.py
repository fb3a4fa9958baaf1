"""The verb that repeats the paper's experiments."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from crysjepa.cli import arguments, configuration, console, groups, options
from crysjepa.cli.parts import carry_out
from crysjepa.runtime.notes import UsageError
from crysjepa.workflows.output import check_folder

if TYPE_CHECKING:
    from crysjepa.reproduction.plan import Preset

Headline = Annotated[str, typer.Argument(metavar="PRESET", help="paper-mp20 or paper-alex-mp20")]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="folder of the data sets; what is missing is downloaded into it")
]
Scale = Annotated[
    str, typer.Option("--scale", help="1, or a part such as 1/64: of parameters, crystals and steps together")
]
BaseModel = Annotated[
    str | None, typer.Option("--generator", help="checkpoint of the base model; by default it is trained")
]
Embedding = Annotated[
    str | None, typer.Option("--jepa", help="checkpoint of Crys-JEPA; by default it is trained")
]
Ablations = Annotated[
    bool | None, typer.Option("--ablations/--no-ablations", help="other k and 𝒩, other losses (appendix C)")
]


@dataclass(frozen=True, kw_only=True)
class Means:
    """What the experiment is done with."""

    data: DataFolder = None
    force_field: options.ForceField = None
    generator: BaseModel = None
    jepa: Embedding = None


def reproduce(
    preset: Headline,
    out: options.Out,
    scale: Scale = "1",
    ablations: Ablations = None,
    config: options.Config = None,
    *,
    means: Means,
    running: groups.InProcesses,
) -> None:
    """The paper's experiment from one end to the other: train, draw, relax, choose, refine, judge.

    Example: crysjepa reproduce paper-mp20 --data data --out reproduction --scale 1/64 --force-field chgnet
    """
    arguments.choice("preset", preset, arguments.PAPERS)
    share = read_scale(scale)
    arguments.look_at(
        checkpoints=[means.generator, means.jepa], force_field=means.force_field, device=running.device
    )
    if config is not None:
        arguments.settings_in(config)  # what it names may lie in the folder of the data
    check_folder(out)

    from crysjepa.reproduction.plan import Plan, plan_for

    plan = configuration.read_settings(
        Plan, config, plan_for(cast("Preset", preset), share), force_field=means.force_field,
        generator=means.generator, jepa=means.jepa, ablations=ablations,
    )  # fmt: skip
    if (plan.preset, plan.scale) != (preset, share):
        raise UsageError(f"preset and scale are said on the command line, not in {config}")
    with console.progress(out) as report:
        page = carry_out("reproduce", running, plan, out, data=means.data, progress=report)
    console.say(f"read {page}; the same as text is in {page.with_suffix('.md').name}")


def read_scale(text: str) -> float:
    """``1/64`` or ``0.5`` as a number. Raises UsageError for what is not above 0 and at most 1."""
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--scale {text}: give 1, or a part such as 1/64") from None
    if not 0 < share <= 1:
        raise UsageError(f"--scale {text}: above 0 and at most 1")
    return float(share)
