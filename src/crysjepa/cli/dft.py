"""The verbs of ``crysjepa dft``: candidates out to DFT, and back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crysjepa.cli import arguments, configuration, console, groups, options, show
from crysjepa.workflows.output import check_folder

if TYPE_CHECKING:
    from crysjepa.dft.vasp.export import Exported
    from crysjepa.dft.verdicts import Collected

dft_app = console.Verbs(help="Density functional theory: export candidates, collect what came of them.",
                        no_args_is_help=True)  # fmt: skip

Shortlist = Annotated[
    str | None,
    typer.Argument(help="crystals in any format, or a run for its short list; none with --failed-of"),
]
To = Annotated[Path, typer.Option("--to", help="a new folder to write to")]
As = Annotated[
    str,
    typer.Option("--as", help="flows (atomate2, for jobflow-remote), folders (submitted by hand) or both"),
]
EveryRow = Annotated[
    bool, typer.Option("--all", help="every row with a structure, also what was rejected or had failed")
]
PreRelax = Annotated[
    str | None,
    typer.Option("--pre-relax", help="relax with this force field first: any that crysjepa relax knows"),
]
FailedOf = Annotated[
    Path | None,
    typer.Option("--failed-of", help="a collected folder: export what failed there, pre-relaxed"),
]
Unfinished = Annotated[
    bool, typer.Option("--unfinished", help="with --failed-of: also what was not started or not finished")
]
Competitors = Annotated[
    bool,
    typer.Option("--competitors", help="of a run: also what its closed hull says they compete with"),
]
Structures = Annotated[
    str | None, typer.Option("--structures", help="for --competitors: structures that are lacking, ID.cif")
]
Folders = Annotated[list[Path], typer.Argument(help="folder of crysjepa dft export, then retries of it")]
OutIfElsewhere = Annotated[
    Path | None, typer.Option("--out", "-o", help="where to write; by default collected in the first folder")
]
ElementEnergies = Annotated[
    Path | None,
    typer.Option(
        "--elements", help="JSON of DFT energies, {symbol: eV/atom}, that go before the shipped ones"
    ),
]
Mixed = Annotated[
    bool, typer.Option("--allow-mixed-scales", help="a hull of another correction scheme all the same")
]

Calculated = Annotated[str, typer.Argument(help="crystals in any format, or a run for its short list")]
Backend = Annotated[str, typer.Option("--backend", help="gpaw (PBE in plane waves, the extra gpaw)")]
Convergence = Annotated[str, typer.Option("--preset", help="quick or standard")]
Within = Annotated[
    float, typer.Option("--within", min=0.0, help="eV/atom above the reference's hull, of what competes")
]
CompetingToo = Annotated[
    str | None,
    typer.Option("--competing", help="more crystals that compete, such as competitors.parquet of compete"),
]
MaxSites = Annotated[int, typer.Option("--max-sites", min=1, help="larger cells are not calculated")]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", help="where calculations are kept; by default with the data sets, for all runs"),
]
AtATime = Annotated[int, typer.Option("--processes", min=1, help="crystals at a time, each on one thread")]
TimeLimit = Annotated[float | None, typer.Option("--time-limit", min=1.0, help="seconds for one crystal")]


@dataclass(frozen=True, kw_only=True)
class Retries:
    """What failed, exported again."""

    failed_of: FailedOf = None
    unfinished: Unfinished = False


@dataclass(frozen=True, kw_only=True)
class Against:
    """What energies by DFT are compared with."""

    hull: options.HullSource = None
    reference: options.Reference = "known"
    elements: ElementEnergies = None


@dataclass(frozen=True, kw_only=True)
class Competing:
    """What competes with the candidates, and is calculated too."""

    reference: options.Reference = "known"
    within: Within = 0.05
    competing: CompetingToo = None
    max_sites: MaxSites = 20


@dataclass(frozen=True, kw_only=True)
class Calculating:
    """How calculations run."""

    cache: Cache = None
    processes: AtATime = 1
    time_limit: TimeLimit = None


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows are exported."""

    every_row: EveryRow = False
    competitors: Competitors = False
    structures: Structures = None


@dft_app.command("export")
def dft_export(
    to: To,
    source: Shortlist = None,
    write: As = "both",
    pre_relax: PreRelax = None,
    device: options.Device = "auto",
    *,
    rows: Rows,
    retries: Retries,
    relaxing: groups.Relaxing,
) -> None:
    """Write inputs of GGA and GGA+U calculations with the Materials Project's settings.

    Example: crysjepa dft export run --to dft
    """
    arguments.choice("form", write, ("flows", "folders", "both"))
    arguments.look_at(
        sources=[source, rows.structures], tables=[retries.failed_of], force_field=pre_relax, device=device,
        config=relaxing.config,
    )  # fmt: skip
    if not rows.competitors:
        arguments.without_effect("without --competitors", structures=rows.structures)
    if pre_relax is None and retries.failed_of is None:
        arguments.without_effect("without --pre-relax", fmax=relaxing.fmax, max_steps=relaxing.max_steps)
    if retries.failed_of is None:
        arguments.without_effect("without --failed-of", unfinished=retries.unfinished)
    check_folder(to)

    from crysjepa import api
    from crysjepa.relaxation.relax import RelaxSettings

    settings = configuration.read_settings(RelaxSettings, **vars(relaxing))
    with console.progress(to) as report:
        done = api.dft_export(
            source, to, write=write, **vars(rows), pre_relax=pre_relax, settings=settings,
            **vars(retries), device=device, progress=report,
        )  # fmt: skip
    _show_exported(done, to, write)


@dft_app.command("collect")
def dft_collect(
    folders: Folders,
    out: OutIfElsewhere = None,
    preset: options.Judging = "default",
    allow_mixed_scales: Mixed = False,
    processes: options.MatchingProcesses = 1,
    config: options.Config = None,
    *,
    against: Against,
) -> None:
    """Read finished calculations: energy above hull, S.U.N. and V.S.U.N. by DFT, and what failed, and why.

    Example: crysjepa dft collect dft --hull hull.parquet --reference mp_20
    """
    arguments.look_at(tables=[against.hull, against.reference], checkpoints=[against.elements], config=config)

    from crysjepa import api
    from crysjepa.evaluation.protocol import Protocol
    from crysjepa.evaluation.protocol import preset as preset_of

    protocol = configuration.read_settings(
        Protocol, config, preset_of(preset), allow_mixed_scales=allow_mixed_scales or None
    )
    with console.progress() as report:
        done = api.dft_collect(
            folders, out, **vars(against), protocol=protocol, processes=processes, progress=report
        )  # fmt: skip
    _show_collected(done)


@dft_app.command("run")
def dft_run(
    source: Calculated,
    out: options.Out,
    backend: Backend = "gpaw",
    preset: Convergence = "quick",
    config: options.Config = None,
    *,
    rivals: Competing,
    calculating: Calculating,
) -> None:
    """Calculate a few small crystals on this machine, and what competes with them: no VASP is needed.

    Example: crysjepa dft run run --out dft --processes 2
    """
    arguments.choice("preset", preset, ("quick", "standard"))
    arguments.look_at(sources=[source, rivals.reference, rivals.competing], config=config)
    check_folder(out)

    from crysjepa import api
    from crysjepa.dft.gpaw.backend import PRESETS, GpawSettings

    with console.progress(out) as report:
        done = api.dft_run(
            source, out, backend=backend,
            settings=configuration.read_settings(GpawSettings, config, PRESETS[preset]),
            **vars(rivals), **vars(calculating), progress=report,
        )  # fmt: skip
    _show_competing(done)
    _show_collected(done)


def _show_competing(done: Collected) -> None:
    shown = show.columns("competing", "eV/atom of formation", "above the hull")
    for row in done.metrics["competing"]:
        energies = (f"{row[c]:.3f}" for c in ("formation_energy_per_atom", "e_above_hull"))
        shown.add_row(console.text(row["formula"]), *energies)
    console.output.print(shown)


def _show_exported(done: Exported, to: Path, write: str) -> None:
    for note in done.notes:
        console.say(f"note: {note}", soft_wrap=True)
    _show_reasons(Counter(
        reason
        for stage, reason in zip(done.table.column("stage"), done.table.column("reason"), strict=True)
        if stage in ("export", "pre-relax")
    ))  # fmt: skip
    console.say(f"exported {done.num_exported} of {len(done.table)} crystals to {to}", soft_wrap=True)
    if write != "flows":
        console.say(f"by hand: pmg potcar --recursive {to}/inputs, then see {to}/run_vasp.sh", soft_wrap=True)
    if write != "folders":
        console.say(f"jobflow-remote: submit each of {to}/flows/*.json (docs/dft.md)", soft_wrap=True)
    hull = "--hull FILE for another hull than the bundled one"
    console.say(f"afterwards: crysjepa dft collect {to} ({hull}, docs/dft.md#back)", soft_wrap=True)


def _show_collected(done: Collected) -> None:
    metrics = done.metrics
    for note in metrics["notes"]:
        console.say(f"note: {note}", soft_wrap=True)
    table, shown = done.table, show.columns("id", "formula", "eV/atom above hull", "status", "reason")
    formulas = dict(zip(table.crystals().ids, table.crystals().reduced_formulas(), strict=True))
    above = "dft_e_above_hull"
    best = table.frame.sort_values(above, kind="stable") if above in table else table.frame
    names = [c for c in (above, "status", "reason", "dft_state") if c in table]
    for id_ in list(best["id"])[:20]:
        row = {c: table.column(c, [id_])[0] for c in names}
        height = "" if row.get(above) is None else f"{row[above]:.3f}"
        waits = row["dft_state"] in ("not started", "unfinished")  # which is no failure yet
        told = (row["dft_state"], None) if waits else (row["status"], row["reason"])
        cells = (id_, formulas.get(id_), height, *told)
        shown.add_row(*(console.text(cell) for cell in cells))
    console.output.print(shown)
    if len(table) > 20:
        console.say(f"and {len(table) - 20} more in the table")
    _show_reasons(Counter(metrics["states"]))
    waiting, ended = metrics["num_waiting"], metrics["num_ended"]
    if not ended:
        console.say(
            f"no calculation has ended yet ({waiting} wait), so there are no rates by DFT", soft_wrap=True
        )
    elif waiting:
        console.say(
            f"calculations that ended: {ended}; that wait: {waiting}, which count against the rates by DFT",
            soft_wrap=True,
        )
    show.show_metrics([{"name": "DFT", **metrics["dft"]},
                          {"name": "force field", **metrics["force_field"]}])  # fmt: skip
    for symbol, number in sorted(metrics.get("missing_elemental_references", {}).items()):
        console.say(f"no energy of {symbol} by DFT, which {number} crystals need: --elements", soft_wrap=True)
    if metrics["hull"] is None:
        console.say("no hull was given, so stability was not judged: --hull", soft_wrap=True)
    console.say(f"wrote {done.out}/candidates.parquet and {done.out}/metrics.json", soft_wrap=True)


def _show_reasons(counts: Counter[str]) -> None:
    for reason, number in counts.most_common():
        console.say(f"{number:>8}  {reason}", soft_wrap=True)
