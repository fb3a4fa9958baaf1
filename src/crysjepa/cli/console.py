"""What the verbs of the command line share: their options, their settings, and how they print."""

from __future__ import annotations

import functools
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

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
from rich.text import Text

from crysjepa.runtime.notes import ReadNote

if TYPE_CHECKING:
    import pyarrow as pa

    from crysjepa.core.candidates import CandidateTable
    from crysjepa.datasets import Dataset
    from crysjepa.evaluation.protocol import Protocol
    from crysjepa.generators.registry import GeneratorOptions
    from crysjepa.jepa.network import Objective as ObjectiveName
    from crysjepa.nn.training import Training, TrainSettings
    from crysjepa.workflows.generate import Generated
    from crysjepa.workflows.screen import Screened

Settings = TypeVar("Settings", bound=BaseModel)
Source_ = TypeVar("Source_", str, Path, str | None, Path | None)
Command = TypeVar("Command", bound=Callable[..., Any])

output = Console()
"""Results: standard output."""
errors = Console(stderr=True)
"""Progress and errors: standard error, so that results can be piped."""


# -- what is not there is found out before any work (exit status 2) ---------------------------


def crystals_there(value: str | None) -> str | None:
    """The path or data set's name, if there is such a one; raises BadParameter otherwise."""
    if value is None or value == "known" or Path(value).exists():
        return value
    from crysjepa import datasets

    try:
        datasets.info(value)
    except datasets.DatasetError as error:
        raise typer.BadParameter(str(error)) from None
    return value


def path_there(value: Source_) -> Source_:
    """The path, if it exists; raises BadParameter otherwise."""
    if value is not None and not Path(value).exists():
        raise typer.BadParameter(f"there is no {value}")
    return value


def generator_there(value: str | None) -> str | None:
    """The name of a generator or a path, if there is such a one; raises BadParameter otherwise."""
    if value is None or Path(value).exists():
        return value
    from crysjepa.generators.registry import generator_names

    if value not in generator_names():
        names = ", ".join(generator_names())
        raise typer.BadParameter(f"no generator and no file {value!r}: the generators are {names}")
    return value


def checkpoints_there(value: str | None) -> str | None:
    """Names of force fields, parted by commas, if the checkpoints after an @ are there; else BadParameter."""
    for name in (value or "").split(","):
        _, at, path = name.strip().partition("@")
        if at and ":" not in name.partition("@")[0] and not Path(path).is_file():
            raise typer.BadParameter(f"there is no checkpoint {path!r} for {name.strip()!r}")
    return value


_THERE: dict[str, Callable[[Any], Any]] = {
    "hull": crystals_there, "reference": crystals_there, "generator": path_there, "jepa": path_there,
    "elemental_references": path_there, "force_field": checkpoints_there,
}  # fmt: skip
"""How settings of a TOML file are looked for, by name."""


# -- options ---------------------------------------------------------------------------------

Source = Annotated[
    str,
    typer.Argument(
        help="CIF, extxyz, POSCAR, CSV, JSON, Parquet, .pt, .traj, .db, a folder or zip of such, or a data "
        "set's name"
    ),
]
DataSet = Annotated[str, typer.Argument(help="a data set's name")]
RunFolder = Annotated[Path, typer.Argument(help="a finished run's folder")]
Out = Annotated[Path, typer.Option("--out", "-o", help="where to write")]
Cache = Annotated[Path | None, typer.Option("--out", "-o", help="folder; by default the cache")]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", callback=path_there, help="TOML file with settings of this verb"),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="same seed, same result")]
SeedIfAny = Annotated[int | None, typer.Option("--seed", min=0, help="same seed, same result")]
Size = Annotated[str, typer.Option("--size", help="small (a laptop's) or paper")]
Objective = Annotated[
    str | None, typer.Option("--objective", help="energy, info-nce, info-nce-unweighted or sigreg")
]
Init = Annotated[
    str | None, typer.Option("--init", callback=path_there, help="checkpoint of Crys-JEPA to go on from")
]
Steps = Annotated[int | None, typer.Option("--steps", help="training steps")]
Jepa = Annotated[
    str | None,
    typer.Option("--jepa", callback=path_there, help="Crys-JEPA checkpoint; by default the shipped one"),
]
Model = Annotated[
    str | None, typer.Argument(callback=path_there, help="Crys-JEPA checkpoint; by default the shipped one")
]
Data = Annotated[
    str,
    typer.Option(
        "--data", callback=crystals_there, help="crystals to look at: a file, folder or data set's name"
    ),
]
OutIfAny = Annotated[
    Path | None, typer.Option("--out", "-o", help="folder for figures, page and numbers; without, none")
]
MaxCrystals = Annotated[
    int, typer.Option("--max-crystals", min=2, help="at most so many, drawn at random by the seed")
]
Generator = Annotated[
    str | None,
    typer.Option("--generator", callback=path_there, help="generator checkpoint; by default the shipped one"),
]
AnyGenerator = Annotated[
    str | None,
    typer.Option(
        "--generator",
        callback=generator_there,
        help="flow (default), diffusion, substitution, a plug-in, a checkpoint, or any file of crystals",
    ),
]
Elements = Annotated[str | None, typer.Option("--elements", help="only these, such as Li,Mg,O")]
ExcludeElements = Annotated[
    str | None,
    typer.Option(
        "--exclude-elements",
        help="none of these, beside radioactive elements and noble gases; 'none' allows even those",
    ),
]
ChemicalSystem = Annotated[
    str | None, typer.Option("--chemical-system", help="exactly these elements, such as Li-Mg-O")
]
MaxSites = Annotated[int | None, typer.Option("--max-sites", help="most sites in the cell")]
Distinct = Annotated[bool, typer.Option("--distinct", help="no formula twice: it is drawn again")]
Parents = Annotated[
    str,
    typer.Option(
        "--parents",
        callback=crystals_there,
        help="known crystals for substitution: a file or a data set's name",
    ),
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="of substitution: near 0, only the likest elements")
]
Pick = Annotated[str, typer.Option("--pick", help="from a file: the first crystals, or random ones")]
Processes = Annotated[
    int | None, typer.Option("--processes", help="by default one for each core; they change no crystal")
]
Num = Annotated[int, typer.Option("--num", "-n", help="how many crystals")]
NumBase = Annotated[int | None, typer.Option("--num", "-n", help="crystals generated by the base model")]
Reference = Annotated[
    str,
    typer.Option(
        "--reference", callback=crystals_there, help="known crystals: a file, folder or data set's name"
    ),
]
ReferenceIfAny = Annotated[
    str | None, typer.Option("--reference", callback=crystals_there, help="known crystals")
]
By = Annotated[
    str,
    typer.Option(
        "--by",
        callback=checkpoints_there,
        help="jepa-distance, jepa-hull, jepa-relaxed, fingerprint, composition, random, or a force field",
    ),
]
Index = Annotated[
    str | None,
    typer.Option("--index", help="file that keeps the embedded reference; by default in the cache"),
]
MinHullEntries = Annotated[
    int,
    typer.Option(
        min=0,
        help="rankers by energy: compounds that the hull must know in a chemical system to judge one there",
    ),
]
ForceField = Annotated[
    str | None,
    typer.Option(
        "--force-field",
        callback=checkpoints_there,
        help="chgnet (default), sevennet, …, NAME@CHECKPOINT, or module:Calculator",
    ),
]
Fmax = Annotated[float | None, typer.Option("--fmax", help="eV/Å; largest force at the end")]
MaxSteps = Annotated[int | None, typer.Option("--max-steps", help="most optimiser steps")]
Static = Annotated[bool, typer.Option("--static", help="energies of the structures as they stand")]
Relaxed = Annotated[
    bool | None,
    typer.Option(
        "--relax/--no-relax",
        help="relax anew, or judge without energies; by default, crystals that come with our energies are "
        "judged by these, and others are relaxed",
    ),
]
OutOfJudging = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="folder to write to; for a finished run, by default one inside it"),
]
HullSource = Annotated[
    str | None,
    typer.Option(
        "--hull",
        callback=crystals_there,
        help="compositions with formation energies, or a data set with energies; by default known, and the "
        "reference's own energies",
    ),
]
FetchPhases = Annotated[
    str | None,
    typer.Option(
        "--fetch-phases",
        help="known phases over the network join the hull: mp, mp-api (with a key), alexandria, oqmd; mp=URL "
        "for another address",
    ),
]
Preset = Annotated[str, typer.Option("--preset", help="quick, paper-mp20 or paper-alex-mp20")]
Judging = Annotated[str, typer.Option("--preset", help="default, paper or strict")]
JudgingIfAny = Annotated[
    str | None,
    typer.Option("--preset", help="default, paper or strict; of a finished run, by default its own rules"),
]
FinetunedOn = Annotated[
    str | None,
    typer.Option(
        "--finetuned-on",
        callback=crystals_there,
        help="what the generator was fine-tuned on: a match is not novel",
    ),
]
MatchingProcesses = Annotated[int, typer.Option("--processes", min=1, help="processes that compare crystals")]
DataSets = Annotated[list[str], typer.Argument(help="data sets' names, or crystals in any format")]
Sources = Annotated[
    list[str],
    typer.Argument(help="folders of crysjepa evaluate, and samples in any format; NAME=PATH gives a name"),
]
Anyway = Annotated[bool, typer.Option("--anyway", help="compare results of different protocols all the same")]
Result = Annotated[Path, typer.Argument(help="a folder that crysjepa evaluate wrote")]
Along = Annotated[
    str, typer.Option("--by", help="fingerprint, or a column of crystals.parquet with a number a crystal")
]
TrainedOn = Annotated[
    str | None,
    typer.Option(
        "--reference", callback=crystals_there, help="what the generator was trained on, for fingerprints"
    ),
]
Version = Annotated[bool, typer.Option("--version", help="print the version and leave")]


# -- running ---------------------------------------------------------------------------------


def friendly(command: Command) -> Command:
    """Turn the errors that a user can mend into one line and exit status 1 (130 when interrupted)."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with notes_shown():
                return command(*args, **kwargs)
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            errors.print("[bold red]error:[/] ", end="")
            errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            errors.print("stopped; the same command goes on from here")
            raise typer.Exit(130) from None

    return wrapped  # type: ignore[return-value]


@contextmanager
def notes_shown() -> Iterator[None]:
    """Each :class:`ReadNote` is a line ``note: ...`` on standard error, rather than a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", ReadNote)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, ReadNote):
                errors.print(f"note: {message}", markup=False, highlight=False, soft_wrap=True)
            else:
                usual(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


class Verbs(typer.Typer):
    """A Typer whose commands are all :func:`friendly`."""

    def command(self, *args: Any, **kwargs: Any) -> Callable[[Command], Command]:
        """As Typer's."""
        register = super().command(*args, **kwargs)
        return lambda command: register(friendly(command))


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage, with an estimate of what is left; yields ``report(stage, done, total)``."""
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


def read_settings(
    kind: type[Settings], config: Path | None, base: Settings | None = None, **changes: Any
) -> Settings:
    """Defaults, then the TOML file, then what was said on the command line (None: nothing was said).

    Raises ValueError, naming each setting, where the file is not TOML or a value is not allowed, and
    BadParameter where a setting names a path that does not exist.
    """
    values = base.model_dump() if base is not None else {}
    if config is not None:
        try:
            values = merged(values, tomllib.loads(config.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{config} is not valid TOML: {error}") from error
    values = merged(values, {k: v for k, v in changes.items() if v is not None})
    try:
        found = kind.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ValueError(f"settings: {'; '.join(lines)}") from error
    for part in (found, getattr(found, "protocol", None)):
        for name, there in _THERE.items():
            there(getattr(part, name, None))
    return found


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """``old`` with the values of ``new`` in their places, tables within tables too."""
    both = {
        k: merged(old[k], v) if isinstance(v, dict) and isinstance(old.get(k), dict) else v
        for k, v in new.items()
    }
    return {**old, **both}


def train_settings(
    config: Path | None, steps: int | None, base: TrainSettings | None = None
) -> TrainSettings:
    """Settings of a training: ``base`` (or the defaults), then the TOML file, then ``steps``."""
    from crysjepa.nn.training import TrainSettings

    return read_settings(TrainSettings, config, base, steps=steps)


def judging_settings(
    preset: str | None,
    config: Path | None,
    force_field: str | None,
    relaxed: bool | None,
    source: str | None = None,
) -> Protocol:
    """The preset of that name, changed by the TOML file and by what was said on the command line.

    Without a preset, ``source``, if it is a finished run, is judged as it was, and energies that come with it
    are taken for what they are.
    """
    from crysjepa.evaluation.given import energies_of, protocol_of
    from crysjepa.evaluation.protocol import Protocol
    from crysjepa.evaluation.protocol import preset as preset_of

    base = preset_of(preset or "default")
    if preset is None and source is not None:
        base = protocol_of(source) or base
        origin = energies_of(source)
        if origin is not None and relaxed is None:
            base = base.model_copy(update={"force_field": origin.force_field})
    return read_settings(Protocol, config, base, force_field=force_field, relax=relaxed)


def judging_folder(source: str, out: Path | None, hull: str | None, phases: str | None = None) -> Path:
    """Where to write a judgement: ``out``, or a folder inside the finished run that is judged anew.

    Raises ValueError where there is neither.
    """
    from crysjepa.evaluation.given import is_run

    if out is not None:
        return out
    if not is_run(source):
        raise ValueError("name a folder to write to: --out FOLDER")
    names = [Path(hull or "known").stem, *([phases.partition("=")[0]] if phases else [])]
    return Path(source) / f"judged-by-{'-'.join(names)}"


def known_size(size: str) -> Literal["small", "paper"]:
    """``size``, where there is such a size; raises ValueError otherwise."""
    if size == "small":
        return "small"
    if size == "paper":
        return "paper"
    raise ValueError(f"no size {size!r}: choose small or paper")


def generator_options(parents: str, temperature: float | None, pick: str) -> GeneratorOptions:
    """What a generator is told. Raises ValueError for a value that is not allowed."""
    from crysjepa.generators.registry import GeneratorOptions
    from crysjepa.generators.substitution.proposals import SubstitutionConfig

    if pick not in ("first", "random"):
        raise ValueError(f"no way {pick!r} to pick crystals: choose first or random")
    bold = SubstitutionConfig() if temperature is None else SubstitutionConfig(temperature=temperature)
    chosen: Literal["first", "random"] = "first" if pick == "first" else "random"
    return GeneratorOptions(parents=parents, pick=chosen, substitution=bold)


def known_objective(name: str | None) -> ObjectiveName | None:
    """``name``, where there is such an objective; raises ValueError otherwise."""
    for known in ("energy", "info-nce", "info-nce-unweighted", "sigreg"):
        if name == known:
            return known
    if name is None:
        return None
    raise ValueError(f"no objective {name!r}: choose energy, info-nce, info-nce-unweighted or sigreg")


# -- printing --------------------------------------------------------------------------------


def text(value: Any) -> Text:
    """A cell that rich prints as it stands: ids and formulas are no markup."""
    return Text("" if value is None else str(value))


def say(line: str, *, soft_wrap: bool = False) -> None:
    """Print a line of results as it stands; with ``soft_wrap`` it is not broken at the window's edge."""
    output.print(line, markup=False, highlight=False, soft_wrap=soft_wrap)


def show_datasets(known: Iterable[Dataset]) -> None:
    """A line for each data set."""
    table = Table("name", "rows", "download", "licence", "checked by", "from", "what", box=None)
    for dataset in known:
        rows = f"{dataset.num_rows:,}" if dataset.num_rows else ""
        site = dataset.url.split("/")[2] if dataset.url else "bundled"
        table.add_row(
            dataset.name, rows, dataset.size, dataset.licence, dataset.checked, site, dataset.description
        )
    output.print(table)


def show_fetched(path: Path, told: Mapping[str, Any]) -> None:
    """Where a data set is, how many rows it has, and what became of those that are not crystals."""
    if "rows" in told:
        expected = told.get("expected_rows")
        differs = f" ({expected:,} expected)" if expected not in (None, told["rows"]) else ""
        say(f"{told['rows']:,} rows{differs}, {told['num_failed']:,} of them failed")
        for reason, number in [*told["left_out"].items(), *list(told["failed"].items())[:5]]:
            say(f"{number:>8,}  {reason}", soft_wrap=True)
        for element, number in told.get("no_elemental_entry", {}).items():
            say(f"{number:>8,}  no formation energy: no entry of {element} by itself", soft_wrap=True)
    say(str(path), soft_wrap=True)


def show_checks(checks: Iterable[tuple[str, bool, str]]) -> None:
    """A line for each check: what it is, whether it works, and what there is to say about it."""
    table = Table("", "what", "state", box=None)
    for name, works, detail in checks:
        table.add_row("[green]ok[/]" if works else "[yellow]--[/]", text(name), text(detail))
    output.print(table)


def show_hull(rows: pa.Table, out: Path) -> None:
    """How many competing phases a hull has, why others have no energy, and how to use it."""
    reasons = Counter(r for r in rows["reason"].to_pylist() if r is not None)
    loose = rows["converged"].to_pylist().count(False)
    say(
        f"{rows.num_rows - reasons.total()} of {rows.num_rows} crystals have an energy"
        + (f"; {loose} did not converge, and stand a little too high" if loose else "")
    )
    for reason, number in reasons.most_common(5):
        say(f"{number:>8}  {reason}", soft_wrap=True)
    say(f"wrote {out}: give it to crysjepa evaluate --hull, with the same force field")


def show_counts(table: CandidateTable | Screened | Generated, out: Path) -> None:
    """How many crystals came to each state, and where they were written."""
    for state, number in sorted(table.counts().items()):
        say(f"{number:>8}  {state}")
    say(f"wrote {out}")


def show_generated(done: Generated, out: Path) -> None:
    """What was asked for, how often was drawn and why again, what to beware of, and where it all is."""
    say(f"asked for: {done.draws.asked} crystals, {'; '.join(done.asked)}", soft_wrap=True)
    again = ", ".join(f"{n} × {reason}" for reason, n in sorted(done.draws.rejected.items()))
    say(f"drawn: {done.draws.drawn}" + (f", thrown away: {again}" if again else ""), soft_wrap=True)
    for note in done.draws.notes:
        say(f"note: {note}", soft_wrap=True)
    for warning in done.warnings:
        say(f"warning: {warning}", soft_wrap=True)
    show_counts(done, out)


def show_training(training: Training, out: Path) -> None:
    """Steps, seconds and last losses of a training, and where the model was written."""
    last = {k: round(v, 4) for k, v in training.curve[-1].items()} if training.curve else {}
    say(f"{training.step} steps in {training.seconds:.0f} s, {last}\nwrote {out}")


def show_ranking(done: Screened, *, most: int = 20) -> None:
    """The first ``most`` rows of a ranking, what it is relative to, and where all of it was written."""
    rows = done.head(most)
    shown = Table("rank", "id", "score", "hull", "references", "status", "reason", box=None)
    for row in rows:
        score = "" if row["score"] is None else f"{row['score']:.4f}"
        hull = row["hull_support"] or ""
        told = (row["reason"], row["hull_warning"])
        cells = (row["rank"], row["id"], score, hull, row["num_references"], row["status"])
        shown.add_row(*(text(cell) for cell in (*cells, "; ".join(t for t in told if t))))
    output.print(shown)
    doubtful = sum(row["hull_support"] == "blind" or row["hull_warning"] is not None for row in rows)
    if doubtful:
        say(
            f"note: of these {len(rows)}, {doubtful} are where the hull is blind or lie too far below it: a "
            "score there says what the hull lacks rather than what the crystal is worth",
            soft_wrap=True,
        )
    for note in done.notes:
        say(f"note: {note}", soft_wrap=True)
    states = ", ".join(f"{number} {state}" for state, number in sorted(done.counts().items()))
    say(f"wrote {done.num_rows} rows to {done.out} ({states})", soft_wrap=True)


def show_metrics(rows: Sequence[Mapping[str, Any]]) -> None:
    """A line for each of the evaluated sets: its rates in percent, a dash where a rate is unknown."""
    from crysjepa.report.wording import RATE_LETTERS

    table = Table("% of all", box=None, pad_edge=False, collapse_padding=True)
    for name in ("n", *RATE_LETTERS.values()):  # words are not broken, however narrow the window
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    for row in rows:
        cells = ["–" if row.get(n) is None else f"{100 * row[n]:.1f}" for n in RATE_LETTERS]
        table.add_row(text(row["name"]), str(row["num_crystals"]), *cells)
    output.print(table)


def with_controls(rounds: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rounds of a run, each control below the round that it belongs to."""
    rows: list[Mapping[str, Any]] = []
    for entry in rounds:
        rows.append(entry)
        if control := entry.get("control"):
            rows.append({**control, "name": f"{entry['name']}, at random"})
    return rows


def show_judged(name: str, metrics: Mapping[str, Any]) -> None:
    """Rates of one set of crystals and of its rounds, how its short list held up, relative to what."""
    rounds = metrics.get("by_round") or []
    show_metrics([{"name": name, **metrics}, *({"name": f"round {r['round']}", **r} for r in rounds)])
    if listed := metrics.get("shortlist"):
        order = "–" if listed["spearman"] is None else f"{listed['spearman']:.2f}"
        say(
            f"of the short list of {listed['num']}: {100 * listed['stable']:.0f} % stable, "
            f"{100 * listed['vsun_new_formula']:.0f} % V.S.U.N. with a new formula (of all: "
            f"{100 * listed['control']['vsun_new_formula']:.0f} %); Spearman between its energies above hull "
            f"before and now: {order}",
            soft_wrap=True,
        )
    say(metrics["citation"], soft_wrap=True)


def show_diagnosis(result: Mapping[str, Any], out: Path | None) -> None:
    """Tables of a diagnosis, what must not be overlooked, and where all of it was written."""
    from crysjepa.report.embedding import headline, tables

    for part in tables(result):
        say(f"\n{part.title}")
        if part.note:
            errors.print(part.note, markup=False, highlight=False, style="dim")
        words = part.columns[-1] in ("why", "reason")
        shown = Table(box=None, pad_edge=False)
        for k, name in enumerate(part.columns):
            last = words and k == len(part.columns) - 1
            shown.add_column(name, justify="left" if k == 0 or last else "right", overflow="fold")
        for row in part.rows:
            shown.add_row(*(text(cell) for cell in row))
        output.print(shown)
    say(f"\n{headline(result)}", soft_wrap=True)
    for finding in result["findings"]:
        say(f"  - {finding['text']}", soft_wrap=True)
    if out is None:
        say("nothing was written: --out FOLDER gives the page, the figures and every number")
        return
    for name, reason in sorted(result["maps"].items()):
        if reason is not None:
            say(f"no map of the {name}: {reason}", soft_wrap=True)
    say(f"wrote {out / 'diagnosis.html'} and {out / 'diagnosis.json'}", soft_wrap=True)
