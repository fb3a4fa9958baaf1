"""The command line: thin verbs over :mod:`crysjepa.api`."""

from __future__ import annotations

import functools
import os
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from crysjepa import __version__

# Linear algebra on 3 × 3 matrices gains nothing from threads, and loses much where cores are shared.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

app = typer.Typer(
    name="crysjepa",
    help="Find new inorganic crystals that are stable and novel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
data_app = typer.Typer(help="Named data sets: list them, fetch them, tell about them.", no_args_is_help=True)
app.add_typer(data_app, name="data")

console = Console()
errors = Console(stderr=True)

Settings = TypeVar("Settings", bound=BaseModel)
Command = TypeVar("Command", bound=Callable[..., Any])

Source = Annotated[
    str,
    typer.Argument(
        help="CIF, folder or zip of CIFs, extxyz, POSCAR, CSV, .pt, Parquet, or a data set's name"
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="where to write")]
Seed = Annotated[int, typer.Option("--seed", help="same seed, same result")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda")]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file with settings of this verb")]
ForceField = Annotated[
    str | None, typer.Option("--force-field", help="chgnet (default), sevennet, …, or module:Calculator")
]
Size = Annotated[str, typer.Option("--size", help="small (a laptop's) or paper")]
Steps = Annotated[int | None, typer.Option("--steps", help="training steps")]
Jepa = Annotated[str | None, typer.Option("--jepa", help="Crys-JEPA checkpoint; by default the shipped one")]
Model = Annotated[
    str | None, typer.Option("--generator", help="generator checkpoint; by default the shipped one")
]
Reference = Annotated[
    str, typer.Option("--reference", help="known crystals: a file, folder or data set's name")
]
HullOption = Annotated[
    str | None,
    typer.Option("--hull", help="compositions with formation energies, or a data set with energies"),
]


def _friendly(command: Command) -> Command:
    """Turn the errors that a user can mend into one line and exit status 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ValueError, OSError, ImportError) as error:
            errors.print("[bold red]error:[/] ", end="")
            errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            errors.print("stopped; the same command goes on from here")
            raise typer.Exit(130) from None

    return wrapped  # type: ignore[return-value]


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage, with an estimate of what is left."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=False) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def _settings(
    kind: type[Settings], config: Path | None, base: Settings | None = None, **changes: Any
) -> Settings:
    """Defaults, then the TOML file, then what was said on the command line."""
    values = base.model_dump() if base is not None else {}
    if config is not None:
        try:
            values = _merged(values, tomllib.loads(config.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{config} is not valid TOML: {error}") from error
    values = _merged(values, {k: v for k, v in changes.items() if v is not None})
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ValueError(f"settings: {'; '.join(lines)}") from error


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    both = {
        k: _merged(old[k], v) if isinstance(v, dict) and isinstance(old.get(k), dict) else v
        for k, v in new.items()
    }
    return {**old, **both}


def _counts(table: Any, out: Path) -> None:
    for state, number in sorted(table.counts().items()):
        console.print(f"{number:>8}  {state}", markup=False, highlight=False)
    console.print(f"wrote {out}", markup=False, highlight=False)


# -- data ------------------------------------------------------------------------------------


@data_app.command("list")
@_friendly
def data_list() -> None:
    """List the data sets that crysjepa knows.

    Example: crysjepa data list
    """
    from crysjepa import datasets

    table = Table("name", "rows", "licence", "what", box=None)
    for dataset in datasets.available():
        table.add_row(dataset.name, str(dataset.num_rows or ""), dataset.licence, dataset.description)
    console.print(table)


@data_app.command("info")
@_friendly
def data_info(name: Annotated[str, typer.Argument(help="a data set's name")]) -> None:
    """Tell where a data set comes from, its licence and its hash.

    Example: crysjepa data info flla
    """
    from dataclasses import asdict

    from crysjepa import datasets

    for key, value in asdict(datasets.info(name)).items():
        console.print(f"{key:>12}  {value}", markup=False, highlight=False, soft_wrap=True)


@data_app.command("fetch")
@_friendly
def data_fetch(
    name: Annotated[str, typer.Argument(help="a data set's name")],
    folder: Annotated[Path | None, typer.Option("--out", "-o", help="folder; by default the cache")] = None,
) -> None:
    """Download a data set, check it, and print where it is; an interrupted download goes on.

    Example: crysjepa data fetch mp_20
    """
    from crysjepa import datasets

    with _progress() as report:
        path = datasets.fetch(
            name, folder=folder, progress=lambda n, total: report(f"fetch {name}", n, total)
        )
    console.print(str(path), markup=False, highlight=False)


# -- models ----------------------------------------------------------------------------------


def _train_settings(config: Path | None, steps: int | None, base: Any = None) -> Any:
    from crysjepa.nn.training import TrainSettings

    return _settings(TrainSettings, config, base, steps=steps)


def _trained(training: Any, out: Path) -> None:
    last = {k: round(v, 4) for k, v in training.curve[-1].items()} if training.curve else {}
    console.print(
        f"{training.step} steps in {training.seconds:.0f} s, {last}\nwrote {out}",
        markup=False,
        highlight=False,
    )


@app.command()
@_friendly
def pretrain(
    source: Source,
    out: Out,
    size: Size = "small",
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    config: Config = None,
) -> None:
    """Train Crys-JEPA on crystals with formation energies.

    Example: crysjepa pretrain flla --out jepa.safetensors --steps 2000
    """
    from crysjepa import api

    settings = _train_settings(config, steps)
    with _progress() as report:
        done = api.pretrain(
            source, out, size=_size(size), settings=settings, seed=seed, device=device, progress=report
        )
    _trained(done, out)


@app.command()
@_friendly
def train(
    source: Source,
    out: Out,
    size: Size = "small",
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    config: Config = None,
) -> None:
    """Train the diffusion generator on known crystals.

    Example: crysjepa train flla --out generator.safetensors --steps 5000
    """
    from crysjepa import api

    settings = _train_settings(config, steps)
    with _progress() as report:
        done = api.train(
            source, out, size=_size(size), settings=settings, seed=seed, device=device, progress=report
        )
    _trained(done, out)


@app.command()
@_friendly
def finetune(
    source: Source,
    out: Out,
    generator: Model = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    config: Config = None,
) -> None:
    """Train a generator on from where it is, on crystals worth imitating.

    Example: crysjepa finetune best.parquet --out refined.safetensors --steps 200
    """
    from crysjepa import api

    settings = _train_settings(config, steps, api.FINETUNING)
    with _progress() as report:
        done = api.finetune(
            source, out, generator=generator, settings=settings, seed=seed, device=device, progress=report
        )
    _trained(done, out)


def _size(size: str) -> Any:
    if size not in ("small", "paper"):
        raise ValueError(f"no size {size!r}: choose small or paper")
    return size


# -- stages ----------------------------------------------------------------------------------


@app.command()
@_friendly
def generate(
    num: Annotated[int, typer.Option("--num", "-n", help="how many crystals")],
    out: Out,
    generator: Model = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Draw new crystals from the generator.

    Example: crysjepa generate --num 1000 --out new.parquet --seed 1
    """
    from crysjepa import api

    with _progress() as report:
        table = api.generate(num, out, generator=generator, seed=seed, device=device, progress=report)
    _counts(table, out)


@app.command()
@_friendly
def relax(
    source: Source,
    out: Out,
    force_field: ForceField = None,
    fmax: Annotated[float | None, typer.Option("--fmax", help="eV/Å; largest force at the end")] = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", help="most optimiser steps")] = None,
    device: Device = "auto",
    config: Config = None,
) -> None:
    """Relax crystals with a force field; an interrupted run goes on.

    Example: crysjepa relax new.parquet --out relaxed.parquet --force-field chgnet
    """
    from crysjepa import api
    from crysjepa.relax.relax import RelaxSettings

    settings = _settings(RelaxSettings, config, fmax=fmax, max_steps=max_steps)
    with _progress() as report:
        table = api.relax(
            source,
            out,
            force_field=force_field or "chgnet",
            settings=settings,
            device=device,
            progress=report,
        )
    _counts(table, out)


@app.command()
@_friendly
def embed(source: Source, out: Out, jepa: Jepa = None, device: Device = "auto") -> None:
    """Embed crystals with Crys-JEPA.

    Example: crysjepa embed new.parquet --out embeddings.parquet
    """
    from crysjepa import api

    with _progress() as report:
        table = api.embed(source, out, jepa=jepa, device=device, progress=report)
    _counts(table, out)


@app.command()
@_friendly
def screen(
    source: Source,
    out: Out,
    reference: Reference = "flla",
    by: Annotated[str, typer.Option("--by", help="jepa-distance or random")] = "jepa-distance",
    jepa: Jepa = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Rank crystals, the most promising first.

    Example: crysjepa screen new.parquet --reference flla --by jepa-distance --out ranked.parquet
    """
    from crysjepa import api

    with _progress() as report:
        rows = api.screen(
            source, reference, out, by=by, jepa=jepa, seed=seed, device=device, progress=report
        ).to_pylist()
    shown = Table("rank", "id", "score", "status", "reason", box=None)
    for row in rows[:20]:
        score = "" if row["score"] is None else f"{row['score']:.4f}"
        shown.add_row(*(_text(v) for v in (row["rank"], row["id"], score, row["status"], row["reason"])))
    console.print(shown)
    console.print(f"wrote {len(rows)} rows to {out}", markup=False, highlight=False)


@app.command()
@_friendly
def evaluate(
    source: Source,
    out: Out,
    reference: Reference = "flla",
    hull: HullOption = None,
    force_field: ForceField = None,
    relaxed: Annotated[
        bool, typer.Option("--relax/--no-relax", help="relax first, or judge as they are")
    ] = True,
    device: Device = "auto",
    config: Config = None,
) -> None:
    """Judge anyone's crystals: valid, stable, unique, novel, S.U.N. and V.S.U.N.

    Example: crysjepa evaluate samples.pt --reference mp20.csv --hull hull.parquet --out judged
    """
    from crysjepa import api
    from crysjepa.evaluate.protocol import Protocol

    protocol = _settings(Protocol, config, force_field=force_field, relax=False if not relaxed else None)
    with _progress() as report:
        metrics = api.evaluate(
            source, out, reference=reference, hull=hull, protocol=protocol, device=device, progress=report
        )
    _show_metrics([{"name": Path(source).name, **metrics}])
    console.print(f"wrote {out}/metrics.json and {out}/crystals.parquet", markup=False, highlight=False)


@app.command()
@_friendly
def discover(
    out: Out,
    preset: Annotated[str, typer.Option("--preset", help="quick, paper-mp20 or paper-alex-mp20")] = "quick",
    reference: Annotated[str | None, typer.Option("--reference", help="known crystals")] = None,
    hull: HullOption = None,
    generator: Model = None,
    jepa: Jepa = None,
    num: Annotated[
        int | None, typer.Option("--num", "-n", help="crystals generated by the base model")
    ] = None,
    force_field: ForceField = None,
    seed: Annotated[int | None, typer.Option("--seed", help="same seed, same result")] = None,
    device: Device = "auto",
    config: Config = None,
) -> None:
    """The whole loop: generate, relax, screen, refine, generate again, evaluate, report.

    Example: crysjepa discover --out run
    """
    from crysjepa import api
    from crysjepa.discover import PRESETS, DiscoverConfig
    from crysjepa.run import read_json

    if preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}: choose from {', '.join(PRESETS)}")
    chosen = _settings(
        DiscoverConfig,
        config,
        PRESETS[preset],
        reference=reference,
        hull=hull,
        generator=generator,
        jepa=jepa,
        num=num,
        seed=seed,
        protocol={"force_field": force_field} if force_field else None,
    )
    with _progress() as report:
        page = api.discover(out, config=chosen, device=device, progress=report)
    metrics = read_json(out / "metrics.json")
    _show_metrics(metrics["rounds"])
    console.print(
        f"{metrics['shortlist']} crystals on the short list; read {page}", markup=False, highlight=False
    )


@app.command()
@_friendly
def report(run: Annotated[Path, typer.Argument(help="a finished run's folder")]) -> None:
    """Write report.html of a finished run anew.

    Example: crysjepa report run
    """
    from crysjepa import api

    console.print(f"wrote {api.report(run)}", markup=False, highlight=False)


@app.command()
@_friendly
def doctor() -> None:
    """Tell what is installed, and which devices and force fields work here.

    Example: crysjepa doctor
    """
    from crysjepa import api

    table = Table("", "what", "state", box=None)
    for name, works, detail in api.doctor():
        table.add_row("[green]ok[/]" if works else "[yellow]--[/]", _text(name), _text(detail))
    console.print(table)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="print the version and leave")] = False,
) -> None:
    if version:
        console.print(__version__)
        raise typer.Exit


def _show_metrics(rows: list[dict[str, Any]]) -> None:
    names = {"valid": "V", "stable": "S", "unique": "U", "novel": "N", "sun": "S.U.N.", "vsun": "V.S.U.N."}
    table = Table("", "crystals", *names.values(), box=None)
    for row in rows:
        cells = ["–" if row[n] is None else f"{100 * row[n]:.1f} %" for n in names]
        table.add_row(_text(row["name"]), str(row["num_crystals"]), *cells)
    console.print(table)


def _text(value: Any) -> Any:
    """A cell that rich prints as it stands: ids and formulas are no markup."""
    from rich.text import Text

    return Text("" if value is None else str(value))
