"""The command line: thin verbs over :mod:`crysjepa.api`."""

from __future__ import annotations

import gc
import os

# Linear algebra on 3 × 3 matrices gains nothing from threads, and loses much where cores are shared.
# Numpy reads this when it is imported, so it comes before all else.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import typer

from crysjepa import __version__
from crysjepa.cli import (
    arguments,
    configuration,
    console,
    convert,
    crystals,
    export,
    groups,
    judging,
    options,
    parts,
    predicting,
    reproducing,
    show,
    training,
)
from crysjepa.cli.data import data_app
from crysjepa.cli.dft import dft_app
from crysjepa.runtime.notes import UsageError
from crysjepa.workflows.output import check_folder

# Imports and tables make hundreds of thousands of objects, nearly all of which stay: Python looks for cycles
# among them every 700 by default, which is a twelfth of what a short verb takes.
gc.set_threshold(50_000)

app = console.Verbs(
    name="crysjepa",
    help="Find new inorganic crystals that are stable and novel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
for verb in (
    training.pretrain, training.train, training.finetune, crystals.generate, predicting.predict,
    crystals.relax, crystals.hull, crystals.embed, crystals.screen, training.diagnose, judging.evaluate,
    judging.compete, judging.check, judging.compare, judging.tradeoff, reproducing.reproduce, convert.convert,
    export.export, parts.merge,
):  # fmt: skip
    app.command()(verb)
app.add_typer(data_app, name="data")
app.add_typer(dft_app, name="dft")


@app.command()
def discover(
    out: options.Out,
    preset: options.Preset = "quick",
    num: options.NumBase = None,
    seed: options.SeedIfAny = None,
    *,
    order: groups.Order,
    by: groups.JudgedBy,
    models: groups.Models,
    running: groups.Anywhere,
) -> None:
    """The whole loop: generate, relax, screen, refine, generate again, evaluate, report.

    Example: crysjepa discover --chemical-system Li-Na-O --out run
    """
    arguments.choice("preset", preset, arguments.RUNS)
    arguments.constraints_of(order)
    objectives = arguments.objectives_of(order)
    arguments.refined_generator(models.generator)
    arguments.look_at(
        tables=[by.reference, by.hull], checkpoints=[models.jepa],
        force_field=by.force_field, device=running.device, config=by.config,
    )  # fmt: skip
    check_folder(out)

    from crysjepa.discovery.config import PRESETS, DiscoverConfig
    from crysjepa.runtime.files import read_json

    chosen = configuration.read_settings(
        DiscoverConfig, by.config, PRESETS[preset], reference=by.reference, hull=by.hull, **vars(models),
        num=num, seed=seed, objectives=objectives or None, combine=order.combine,
        constraints={k: v for k, v in arguments.told(order).items() if v} or None,
        protocol={"force_field": by.force_field} if by.force_field else None,
    )  # fmt: skip
    with console.progress(out) as report:
        page = parts.carry_out("discover", running, out, config=chosen, progress=report)
    metrics = read_json(out / "metrics.json")
    show.show_metrics(show.with_controls(metrics["rounds"]))
    number = metrics["shortlist"]
    console.say(f"{number} crystal{'' if number == 1 else 's'} on the short list; read {page}")
    if number:
        console.say(f"phonons and elastic constants of these: crysjepa check {out} --out checked")


@app.command()
def report(run: options.RunFolder) -> None:
    """Write report.html of a finished run anew.

    Example: crysjepa report run
    """
    if not run.is_dir():
        raise UsageError(f"no such folder: {run}")

    from crysjepa import api

    console.say(f"wrote {api.report(run)}")


@app.command()
def doctor() -> None:
    """Tell what is installed, and which devices and force fields work here.

    Example: crysjepa doctor
    """
    from crysjepa import api

    show.show_checks(api.doctor())


@app.callback(invoke_without_command=True)
def _main(version: options.Version = False) -> None:
    if version:
        console.output.print(__version__)
        raise typer.Exit
