"""The command line: thin verbs over :mod:`crysjepa.api`."""

from __future__ import annotations

import os

# Linear algebra on 3 × 3 matrices gains nothing from threads, and loses much where cores are shared.
# Numpy reads this when it is imported, so it comes before all else.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dataclasses import asdict
from pathlib import Path

import typer

from crysjepa import __version__
from crysjepa.cli import arguments, console, convert
from crysjepa.cli import trust as cli_trust
from crysjepa.cli.dft import dft_app
from crysjepa.runtime.notes import UsageError
from crysjepa.workflows.output import Output, check_folder

app = console.Verbs(
    name="crysjepa",
    help="Find new inorganic crystals that are stable and novel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
data_app = console.Verbs(
    help="Named data sets: list them, fetch them, tell about them.", no_args_is_help=True
)
app.add_typer(data_app, name="data")
app.add_typer(dft_app, name="dft")


# -- data ------------------------------------------------------------------------------------


@data_app.command("list")
def data_list() -> None:
    """List the data sets that crysjepa knows.

    Example: crysjepa data list
    """
    from crysjepa import datasets

    console.show_datasets(datasets.available())


@data_app.command("info")
def data_info(name: console.DataSet) -> None:
    """Tell where a data set comes from, its licence and its hash.

    Example: crysjepa data info known
    """
    arguments.choice("data set", name, arguments.REGISTRY)

    from crysjepa import datasets

    for key, value in asdict(datasets.info(name)).items():
        console.say(f"{key:>12}  {value}", soft_wrap=True)
    for line in datasets.contents(name):
        console.say(f"{'holds':>12}  {line}", soft_wrap=True)


@data_app.command("fetch")
def data_fetch(name: console.DataSet, folder: console.Cache = None) -> None:
    """Download a data set, check it, convert it to Parquet, and print where that is.

    An interrupted download goes on. After the conversion the download is no longer needed.

    Example: crysjepa data fetch mp_20
    """
    arguments.choice("data set", name, arguments.REGISTRY)

    from crysjepa import datasets

    with console.progress() as report:
        path = datasets.fetch(name, folder=folder, report=report)
    console.show_fetched(path, datasets.told_by(path))


app.command()(convert.convert)


# -- models ----------------------------------------------------------------------------------


@app.command()
def pretrain(
    source: console.DataSets,
    out: console.Out,
    size: console.Size = "small",
    objective: console.Objective = None,
    init: console.Init = None,
    steps: console.Steps = None,
    seed: console.Seed = 0,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
    config: console.Config = None,
) -> None:
    """Train Crys-JEPA on crystals with formation energies.

    Example: crysjepa pretrain flla --out jepa.safetensors --steps 2000
    """
    known, minimised = console.known_size(size), console.known_objective(objective)
    arguments.look_at(sources=source, checkpoints=[init], device=device, config=config)
    Output(out, model=True)

    from crysjepa import api

    settings = console.train_settings(config, steps)
    with console.progress() as report:
        done = api.pretrain(
            source, out, size=known, objective=minimised, init=init, settings=settings, seed=seed,
            overwrite=overwrite, device=device, progress=report,
        )  # fmt: skip
    console.show_training(done, out)


@app.command()
def train(
    source: console.Source,
    out: console.Out,
    size: console.Size = "small",
    init: console.Init = None,
    steps: console.Steps = None,
    seed: console.Seed = 0,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
    config: console.Config = None,
) -> None:
    """Train a generator on known crystals: the flow, or (--size paper) the paper's diffusion model.

    Example: crysjepa train flla --out generator.safetensors --steps 5000
    """
    known = console.known_size(size)
    if known == "paper":
        arguments.without_effect("with --size paper, which starts from random weights", init=init)
    arguments.look_at(sources=[source], checkpoints=[init], device=device, config=config)
    Output(out, model=True)

    from crysjepa import api

    settings = console.train_settings(config, steps)
    with console.progress() as report:
        done = api.train(
            source, out, size=known, init=init, settings=settings, seed=seed, overwrite=overwrite,
            device=device, progress=report,
        )  # fmt: skip
    console.show_training(done, out)


@app.command()
def finetune(
    source: console.Source,
    out: console.Out,
    generator: console.Generator = None,
    steps: console.Steps = None,
    seed: console.Seed = 0,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
    config: console.Config = None,
) -> None:
    """Train a generator on from where it is, on crystals worth imitating.

    Example: crysjepa finetune best.parquet --out refined.safetensors --steps 200
    """
    arguments.look_at(sources=[source], device=device, config=config)
    arguments.known_generator(generator)
    Output(out, model=True)

    from crysjepa import api

    settings = console.train_settings(config, steps, api.FINETUNING)
    with console.progress() as report:
        done = api.finetune(
            source,
            out,
            generator=generator,
            settings=settings,
            seed=seed,
            overwrite=overwrite,
            device=device,
            progress=report,
        )
    console.show_training(done, out)


# -- stages ----------------------------------------------------------------------------------


@app.command()
def generate(
    num: console.Num,
    out: console.OutTable,
    generator: console.AnyGenerator = None,
    elements: console.Elements = None,
    exclude_elements: console.ExcludeElements = None,
    chemical_system: console.ChemicalSystem = None,
    max_sites: console.MaxSites = None,
    distinct: console.Distinct = False,
    parents: console.Parents = None,
    temperature: console.Temperature = None,
    pick: console.Pick = None,
    seed: console.Seed = 0,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
    processes: console.Processes = None,
) -> None:
    """Draw new crystals from a generator; constraints hold for every one of them.

    Example: crysjepa generate --generator substitution --elements Li,Mg,O,P,S --num 1000 --out new.parquet
    """
    if num < 1 or (processes is not None and processes < 1):
        raise UsageError("--num and --processes: at least one is needed")
    arguments.wanted_elements(elements, exclude_elements, chemical_system, max_sites)
    arguments.choice("way to pick", pick, ("first", "random"))
    kind = arguments.known_generator(generator)
    if kind != "substitution" and kind in (*arguments.GENERATORS, "checkpoint"):
        arguments.without_effect(f"with the generator {kind}", temperature=temperature, parents=parents)
    if kind != "file" and kind in (*arguments.GENERATORS, "checkpoint"):
        arguments.without_effect(f"with the generator {kind}", pick=pick)
    if temperature is not None and not temperature > 0:
        raise UsageError(f"--temperature {temperature}: a temperature is above 0")
    arguments.look_at(sources=[parents], device=device)
    if Output(out).kind == "poscar" and num != 1:
        raise UsageError(f"a POSCAR holds one crystal, not {num}: write .extxyz, .cif or a folder")

    from crysjepa import api
    from crysjepa.generators.constraints import Constraints

    constraints = Constraints.parse(elements, exclude_elements, chemical_system, max_sites, distinct)
    options = console.generator_options(parents, temperature, pick)
    with console.progress() as report:
        done = api.generate(
            num, out, generator=generator, options=options, constraints=constraints, seed=seed,
            overwrite=overwrite, device=device, processes=processes, progress=report,
        )  # fmt: skip
    console.show_generated(done, out)


@app.command()
def relax(
    source: console.Source,
    out: console.OutTable,
    force_field: console.ForceField = None,
    fmax: console.Fmax = None,
    max_steps: console.MaxSteps = None,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
    config: console.Config = None,
) -> None:
    """Relax crystals with a force field; an interrupted run goes on.

    Example: crysjepa relax new.parquet --out relaxed.parquet --force-field chgnet
    """
    arguments.look_at(sources=[source], force_field=force_field, device=device, config=config)
    Output(out)

    from crysjepa import api
    from crysjepa.relaxation.relax import RelaxSettings

    force_field = force_field or "chgnet"
    settings = console.read_settings(RelaxSettings, config, fmax=fmax, max_steps=max_steps)
    with console.progress() as report:
        table = api.relax(
            source,
            out,
            force_field=force_field,
            settings=settings,
            overwrite=overwrite,
            device=device,
            progress=report,
        )
    console.show_relaxed(table, out, settings.max_steps)


@app.command()
def hull(
    source: console.Source,
    out: console.Out,
    force_field: console.ForceField = None,
    static: console.Static = False,
    fmax: console.Fmax = None,
    max_steps: console.MaxSteps = None,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
    config: console.Config = None,
) -> None:
    """Make a hull of a force field's own energies from known crystals; an interrupted run goes on.

    Example: crysjepa hull known.parquet --out hull.parquet --force-field chgnet
    """
    arguments.look_at(sources=[source], force_field=force_field, device=device, config=config)
    if static:
        arguments.without_effect("with --static, which relaxes nothing", fmax=fmax, max_steps=max_steps)
    Output(out, only="a hull is no table of structures")

    from crysjepa import api
    from crysjepa.evaluation.force_field_hull import AS_THEY_ARE
    from crysjepa.relaxation.relax import QUICK, RelaxSettings

    base = AS_THEY_ARE if static else QUICK
    settings = console.read_settings(RelaxSettings, config, base, fmax=fmax, max_steps=max_steps)
    with console.progress() as report:
        rows = api.hull(
            source, out, force_field=force_field or "chgnet", settings=settings, overwrite=overwrite,
            device=device, progress=report,
        )  # fmt: skip
    console.show_hull(rows, out)


@app.command()
def embed(
    source: console.Source,
    out: console.Out,
    jepa: console.Jepa = None,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
) -> None:
    """Embed crystals with Crys-JEPA.

    Example: crysjepa embed new.parquet --out embeddings.parquet
    """
    arguments.look_at(sources=[source], checkpoints=[jepa], device=device)
    Output(out, only="embeddings are no structures")

    from crysjepa import api

    with console.progress() as report:
        table = api.embed(source, out, jepa=jepa, overwrite=overwrite, device=device, progress=report)
    console.show_counts(table, out)


@app.command()
def screen(
    source: console.Source,
    out: console.OutTable,
    reference: console.ReferenceIfAny = None,
    by: console.By = "jepa-hull",
    hull: console.HullSource = None,
    jepa: console.Jepa = None,
    index: console.Index = None,
    min_hull_entries: console.MinHullEntries = 1,
    seed: console.Seed = 0,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
) -> None:
    """Rank crystals, the most promising first; an interrupted run goes on.

    Example: crysjepa screen new.parquet --by jepa-hull --out ranked.parquet
    """
    ranks = f"with --by {by}"
    if ":" not in by:
        arguments.choice("ranker", by, (*arguments.RANKERS, *arguments.FORCE_FIELDS))
    if by == "random":
        arguments.without_effect(ranks, reference=reference)
    if by in ("random", "jepa-distance", "fingerprint"):
        arguments.without_effect(ranks, hull=hull)
    if not by.startswith("jepa"):
        arguments.without_effect(ranks, jepa=jepa)
    arguments.look_at(sources=[source, reference], tables=[hull], checkpoints=[jepa], device=device)
    Output(out)

    from crysjepa import api

    with console.progress() as report:
        done = api.screen(
            source, reference or "known", out, by=by, hull=hull, jepa=jepa, index=index,
            min_hull_entries=min_hull_entries, seed=seed, overwrite=overwrite, device=device, progress=report,
        )  # fmt: skip
    console.show_ranking(done, by)


@app.command()
def diagnose(
    model: console.Model = None,
    data: console.Data = "known",
    out: console.OutIfAny = None,
    max_crystals: console.MaxCrystals = 5000,
    seed: console.Seed = 0,
    device: console.Device = "auto",
) -> None:
    """Tell whether a Crys-JEPA model's embedding is collapsed, and what it is worth.

    Example: crysjepa diagnose jepa.safetensors --data known --out diagnosis
    """
    arguments.look_at(sources=[data], checkpoints=[model], device=device)
    if out is not None:
        check_folder(out)

    from crysjepa import api

    with console.progress(out) as report:
        result = api.diagnose(
            model, data, out, max_crystals=max_crystals, seed=seed, device=device, progress=report
        )
    console.show_diagnosis(result, out)


@app.command()
def evaluate(
    source: console.Source,
    out: console.OutOfJudging = None,
    reference: console.ReferenceIfAny = None,
    hull: console.HullSource = None,
    preset: console.JudgingIfAny = None,
    finetuned_on: console.FinetunedOn = None,
    fetch_phases: console.FetchPhases = None,
    force_field: console.ForceField = None,
    close: cli_trust.Close = None,
    judges: cli_trust.Judges = None,
    relaxed: console.Relaxed = None,
    processes: console.MatchingProcesses = 1,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
    config: console.Config = None,
) -> None:
    """Judge anyone's crystals, or a finished run anew: valid, stable, unique, novel, S.U.N. and V.S.U.N.

    Example: crysjepa evaluate samples.pt --out judged; crysjepa evaluate run --hull better.parquet
    """
    arguments.choice("preset", preset, arguments.JUDGINGS)
    if relaxed is False:
        arguments.without_effect("with --no-relax", force_field=force_field, close=close, judges=judges)
    arguments.look_at(
        tables=[source, reference, hull, finetuned_on], force_field=force_field, device=device, config=config
    )
    if out is not None:
        check_folder(out)

    from crysjepa import api

    folder = console.judging_folder(source, out, hull, fetch_phases)
    protocol = console.judging_settings(preset, config, force_field, relaxed, source)
    protocol = cli_trust.with_trust_asked(protocol, close, judges)
    origin, anew = api.energies_of(source), relaxed is True
    if origin is not None and origin.fits(protocol) and not anew:
        steps, force = origin.relaxation.max_steps, origin.relaxation.fmax
        console.say(
            f"judged by the energies of {origin.force_field} that are there (to {force} eV/Å, at most "
            f"{steps} steps); nothing is relaxed",
            soft_wrap=True,
        )
    elif hull is not None and not protocol.relax:
        console.say("judged by the energies that the crystals come with; nothing is relaxed", soft_wrap=True)
    earlier = len(list(folder.glob("earlier-*")))
    with console.progress(folder) as report:
        metrics = api.evaluate(
            source, folder, reference=reference, hull=hull, protocol=protocol, finetuned_on=finetuned_on,
            phases=fetch_phases, anew=anew, device=device, processes=processes, overwrite=overwrite,
            progress=report,
        )  # fmt: skip
    console.show_judged(Path(source).name, metrics)
    if "trust" in metrics:
        cli_trust.show_closed(folder, metrics)
    if len(list(folder.glob("earlier-*"))) > earlier:
        console.say(f"judged anew; the results that were there are in {folder}/earlier-{earlier + 1}")
    console.say(
        f"wrote {folder}/metrics.json, {folder}/crystals.parquet and {folder}/evaluation.html", soft_wrap=True
    )


@app.command()
def compete(
    source: console.Source,
    out: console.Out,
    reference: console.ReferenceIfAny = None,
    hull: console.HullSource = None,
    preset: console.JudgingIfAny = None,
    force_field: console.ForceField = None,
    judges: cli_trust.Judges = None,
    effort: cli_trust.Effort = None,
    processes: console.MatchingProcesses = 1,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
    config: console.Config = None,
) -> None:
    """Search for what competes with crystals: energy above the closed hull, several judges, a chance.

    Example: crysjepa compete candidates.cif --out closed
    """
    arguments.choice("preset", preset, arguments.JUDGINGS)
    arguments.look_at(tables=[source, reference, hull], force_field=force_field, device=device, config=config)
    arguments.known_judges(judges)
    check_folder(out)

    from crysjepa import api
    from crysjepa.evaluation.protocol import Trust

    protocol = console.judging_settings(preset, config, force_field, None, source)
    wanted = protocol.trust or Trust()
    everything = {"which": "all", "most": None, "close": wanted.close or Trust().close}
    trust = cli_trust.trust_settings(wanted.model_copy(update=everything), judges, effort)
    with console.progress(out) as report:
        metrics = api.compete(
            source, out, reference=reference, hull=hull, protocol=protocol, trust=trust,
            device=device, processes=processes, overwrite=overwrite, progress=report,
        )  # fmt: skip
    cli_trust.show_closed(out, metrics)
    console.say(
        f"wrote {out}/crystals.parquet, {out}/competitors.parquet, {out}/metrics.json and "
        f"{out}/evaluation.html", soft_wrap=True,
    )  # fmt: skip


@app.command()
def check(
    source: console.Source,
    out: console.Out,
    reference: console.Reference = "known",
    force_field: console.ForceField = None,
    phonons: cli_trust.Phonons = True,
    elastic: cli_trust.Elastic = True,
    seconds: cli_trust.Seconds = 1800.0,
    processes: console.Processes = None,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
) -> None:
    """Phonons, elastic constants, bonding and orderings of a short list, by a force field.

    Example: crysjepa check run --out checked
    """
    arguments.look_at(tables=[source, reference], force_field=force_field, device=device)
    check_folder(out)

    from crysjepa import api

    with console.progress(out) as report:
        table = api.check(
            source, out, reference=reference, force_field=force_field or "chgnet", phonons=phonons,
            elastic=elastic, seconds=seconds, device=device, processes=processes,
            overwrite=overwrite, progress=report,
        )  # fmt: skip
    cli_trust.show_checked(table)
    console.say(f"wrote {out}/checked.parquet", soft_wrap=True)


@app.command()
def compare(
    sources: console.Sources,
    out: console.Out,
    reference: console.Reference = "known",
    hull: console.HullSource = None,
    preset: console.Judging = "default",
    force_field: console.ForceField = None,
    relaxed: console.Relaxed = None,
    anyway: console.Anyway = False,
    processes: console.MatchingProcesses = 1,
    device: console.Device = "auto",
    config: console.Config = None,
) -> None:
    """Compare sets of crystals under one protocol: a ranked table with intervals, and figures.

    Example: crysjepa compare judged DiffCSP=eval_gen.pt --hull hull.parquet --out comparison
    """
    arguments.choice("preset", preset, arguments.JUDGINGS)
    paths = [s if Path(s).exists() else s.partition("=")[2] or s for s in sources]
    arguments.look_at(tables=[*paths, reference, hull], force_field=force_field, device=device, config=config)
    check_folder(out)

    from crysjepa import api
    from crysjepa.runtime.files import read_json

    protocol = console.judging_settings(preset, config, force_field, relaxed)
    with console.progress(out) as report:
        page = api.compare(
            sources, out, reference=reference, hull=hull, protocol=protocol, anyway=anyway,
            anew=relaxed is True, device=device, processes=processes, progress=report,
        )  # fmt: skip
    result = read_json(out / "comparison.json")
    console.show_metrics(result["rows"])
    for line in result["differences"]:
        console.say(f"differs: {line}", soft_wrap=True)
    console.say(f"wrote {page} and the table as .md, .csv and .parquet beside it", soft_wrap=True)


@app.command()
def tradeoff(
    result: console.Result,
    by: console.Along = "fingerprint",
    reference: console.TrainedOn = None,
    processes: console.MatchingProcesses = 1,
) -> None:
    """Show how stability and novelty change with the distance from known crystals, or with any column.

    Example: crysjepa tradeoff judged --by fingerprint --reference mp_20
    """
    arguments.look_at(tables=[reference])

    from crysjepa import api

    with console.progress() as report:
        page = api.tradeoff(result, reference=reference, by=by, processes=processes, progress=report)
    console.say(f"wrote {page}", soft_wrap=True)


@app.command()
def discover(
    out: console.Out,
    preset: console.Preset = "quick",
    reference: console.ReferenceIfAny = None,
    hull: console.HullSource = None,
    generator: console.Generator = None,
    jepa: console.Jepa = None,
    num: console.NumBase = None,
    force_field: console.ForceField = None,
    seed: console.SeedIfAny = None,
    overwrite: console.Overwrite = False,
    device: console.Device = "auto",
    config: console.Config = None,
) -> None:
    """The whole loop: generate, relax, screen, refine, generate again, evaluate, report.

    Example: crysjepa discover --out run
    """
    arguments.choice("preset", preset, arguments.RUNS)
    arguments.look_at(
        tables=[reference, hull], checkpoints=[generator, jepa], force_field=force_field, device=device,
        config=config,
    )  # fmt: skip
    check_folder(out)

    from crysjepa import api
    from crysjepa.discovery.config import PRESETS, DiscoverConfig
    from crysjepa.runtime.files import read_json

    chosen = console.read_settings(
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
    with console.progress(out) as report:
        page = api.discover(out, config=chosen, device=device, overwrite=overwrite, progress=report)
    metrics = read_json(out / "metrics.json")
    console.show_metrics(console.with_controls(metrics["rounds"]))
    console.say(f"{metrics['shortlist']} crystals on the short list; read {page}")


@app.command()
def report(run: console.RunFolder) -> None:
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

    console.show_checks(api.doctor())


@app.callback(invoke_without_command=True)
def _main(version: console.Version = False) -> None:
    if version:
        console.output.print(__version__)
        raise typer.Exit
