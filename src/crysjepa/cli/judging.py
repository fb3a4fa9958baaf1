"""The verbs that judge crystals."""

from __future__ import annotations

from pathlib import Path

from crysjepa.cli import arguments, configuration, console, groups, options, show
from crysjepa.cli import trust as cli_trust
from crysjepa.cli.parts import carry_out
from crysjepa.workflows.output import check_folder


def evaluate(
    source: options.Source,
    out: options.OutOfJudging = None,
    finetuned_on: options.FinetunedOn = None,
    fetch_phases: options.FetchPhases = None,
    relaxed: options.Relaxed = None,
    yardsticks: options.Yardsticks = False,
    *,
    by: groups.Judged,
    looked: cli_trust.LookedInto,
    running: groups.JudgingInParts,
) -> None:
    """Judge anyone's crystals, or a finished run anew: valid, stable, unique, novel, S.U.N. and V.S.U.N.

    Example: crysjepa evaluate samples.pt --out judged; crysjepa evaluate run --hull better.parquet
    """
    if relaxed is False:
        arguments.without_effect("with --no-relax", force_field=by.force_field, **vars(looked))
    arguments.judged_by(by, [source, finetuned_on], running.device)
    if out is not None:
        check_folder(out)
        if not (Path(source) / "metrics.json").is_file():  # a finished run is read by what it wrote
            arguments.apart(source, out)

    import pyarrow.parquet as pq

    from crysjepa import api

    folder = configuration.judging_folder(source, out, by.hull, fetch_phases)
    protocol = configuration.judging_settings(by, relaxed, source)
    protocol = cli_trust.with_trust_asked(protocol, looked)
    origin, anew = api.energies_of(source), relaxed is True
    if origin is not None and origin.fits(protocol) and not anew:
        steps, force = origin.relaxation.max_steps, origin.relaxation.fmax
        console.say(
            f"judged by the energies of {origin.force_field} that are there (to {force} eV/Å, at most "
            f"{steps} steps); nothing is relaxed",
            soft_wrap=True,
        )
    elif by.hull is not None and not protocol.relax:
        console.say("judged by the energies that the crystals come with; nothing is relaxed", soft_wrap=True)
    earlier = len(list(folder.glob("earlier-*")))
    with console.progress(folder) as report:
        metrics = carry_out(
            "evaluate", running, source, folder, reference=by.reference, hull=by.hull, protocol=protocol,
            finetuned_on=finetuned_on, phases=fetch_phases, yardsticks=yardsticks, anew=anew,
            progress=report,
        )  # fmt: skip
    with pq.ParquetFile(folder / "crystals.parquet") as file:
        rows = file.read([c for c in ("status", "converged") if c in file.schema_arrow.names])
    show.show_judged(Path(source).name, metrics)
    if protocol.relaxation.max_steps:  # where no step is taken, nothing could converge
        show.show_unconverged(rows)
    if "trust" in metrics:
        cli_trust.show_closed(folder, metrics)
    if len(list(folder.glob("earlier-*"))) > earlier:
        console.say(f"judged anew; the results that were there are in {folder}/earlier-{earlier + 1}")
    console.say(
        f"wrote {folder}/metrics.json, {folder}/crystals.parquet and {folder}/evaluation.html", soft_wrap=True
    )
    states = rows["status"].value_counts().to_pylist()
    show.fail_without_any({c["values"]: c["counts"] for c in states}, folder / "crystals.parquet")


def compete(
    source: options.Source,
    out: options.Out,
    judges: cli_trust.Judges = None,
    effort: cli_trust.Effort = None,
    *,
    by: groups.Judged,
    running: groups.JudgingInParts,
) -> None:
    """Search for what competes with crystals: energy above the closed hull, several judges, a chance.

    Example: crysjepa compete candidates.cif --out closed
    """
    arguments.judged_by(by, [source], running.device)
    arguments.known_judges(judges)
    check_folder(out)

    from crysjepa.evaluation.protocol import Trust

    protocol = configuration.judging_settings(by, source=source)
    wanted = protocol.trust or Trust()
    everything = {"which": "all", "most": None, "close": wanted.close or Trust().close}
    trust = cli_trust.trust_settings(wanted.model_copy(update=everything), judges, effort)
    with console.progress(out) as report:
        metrics = carry_out(
            "compete", running, source, out, reference=by.reference, hull=by.hull, protocol=protocol,
            trust=trust, progress=report,
        )  # fmt: skip
    cli_trust.show_closed(out, metrics)
    console.say(
        f"wrote {out}/crystals.parquet, {out}/competitors.parquet, {out}/metrics.json and "
        f"{out}/evaluation.html", soft_wrap=True,
    )  # fmt: skip


def check(
    source: options.Source,
    out: options.Out,
    reference: options.Reference = "known",
    force_field: options.ForceField = None,
    *,
    checks: cli_trust.Checks,
    running: groups.InProcesses,
) -> None:
    """Phonons, elastic constants, bonding and orderings of a short list, by a force field.

    Example: crysjepa check run --out checked
    """
    arguments.look_at(tables=[source, reference], force_field=force_field, device=running.device)
    check_folder(out)

    with console.progress(out) as report:
        table = carry_out(
            "check", running, source, out, reference=reference, force_field=force_field or "chgnet",
            **vars(checks), progress=report,
        )  # fmt: skip
    cli_trust.show_checked(table)
    console.say(f"wrote {out}/checked.parquet", soft_wrap=True)


def compare(
    sources: options.Sources,
    out: options.Out,
    relaxed: options.Relaxed = None,
    anyway: options.Anyway = False,
    yardsticks: options.Yardsticks = False,
    *,
    by: groups.Judged,
    running: groups.Comparing,
) -> None:
    """Compare sets of crystals under one protocol: a ranked table with intervals, and figures.

    Example: crysjepa compare judged DiffCSP=eval_gen.pt --hull hull.parquet --out comparison
    """
    paths = [s if Path(s).exists() else s.partition("=")[2] or s for s in sources]
    arguments.judged_by(by, paths, running.device)
    check_folder(out)

    from crysjepa import api
    from crysjepa.runtime.files import read_json

    protocol = configuration.judging_settings(by, relaxed)
    with console.progress(out) as report:
        page = api.compare(
            sources, out, reference=by.reference or "known", hull=by.hull, protocol=protocol, anyway=anyway,
            yardsticks=yardsticks, anew=relaxed is True, **vars(running), progress=report,
        )  # fmt: skip
    result = read_json(out / "comparison.json")
    show.show_metrics(result["rows"])
    show.show_yardsticks(result.get("yardsticks"))
    for line in result["differences"]:
        console.say(f"differs: {line}", soft_wrap=True)
    console.say(f"wrote {page} and the table as .md, .csv and .parquet beside it", soft_wrap=True)


def tradeoff(
    result: options.Result,
    by: options.Along = "fingerprint",
    reference: options.TrainedOn = None,
    processes: options.MatchingProcesses = 1,
) -> None:
    """Show how stability and novelty change with the distance from known crystals, or with any column.

    Example: crysjepa tradeoff judged --by fingerprint --reference mp_20
    """
    arguments.look_at(tables=[reference])

    from crysjepa import api

    with console.progress() as report:
        page = api.tradeoff(result, reference=reference, by=by, processes=processes, progress=report)
    console.say(f"wrote {page}", soft_wrap=True)
