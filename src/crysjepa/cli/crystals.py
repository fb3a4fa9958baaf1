"""The verbs that make crystals, relax them and rank them."""

from __future__ import annotations

from crysjepa.cli import arguments, configuration, console, groups, options, show
from crysjepa.cli.parts import carry_out
from crysjepa.runtime.notes import UsageError
from crysjepa.workflows.output import Output


def generate(
    num: options.Num,
    out: options.OutTable,
    generator: options.AnyGenerator = None,
    seed: options.Seed = 0,
    *,
    wanted: groups.Wanted,
    own: groups.ForGenerator,
    running: groups.InProcessesAndParts,
) -> None:
    """Draw new crystals from a generator; constraints hold for every one of them.

    Example: crysjepa generate --generator substitution --elements Li,Mg,O,P,S --num 1000 --out new.parquet
    """
    if num < 1 or (running.processes is not None and running.processes < 1):
        raise UsageError("--num and --processes: at least one is needed")
    constraints = arguments.constraints_of(wanted)
    arguments.choice("way to pick", own.pick, ("first", "random"))
    kind = arguments.known_generator(generator)
    if kind != "substitution" and kind in (*arguments.GENERATORS, "checkpoint"):
        arguments.without_effect(
            f"with the generator {kind}", temperature=own.temperature, parents=own.parents
        )
    if kind != "file" and kind in (*arguments.GENERATORS, "checkpoint"):
        arguments.without_effect(f"with the generator {kind}", pick=own.pick)
    if own.temperature is not None and not own.temperature > 0:
        raise UsageError(f"--temperature {own.temperature}: a temperature is above 0")
    arguments.look_at(sources=[own.parents], device=running.device)
    Output(out).check_holds(num)

    options = configuration.generator_options(own)
    with console.progress() as report:
        done = carry_out(
            "generate", running, num, out, generator=generator, options=options, constraints=constraints,
            seed=seed, progress=report,
        )  # fmt: skip
    show.show_generated(done, out)


def relax(
    source: options.Source,
    out: options.OutTable,
    force_field: options.ForceField = None,
    engine: options.Engine = None,
    *,
    relaxing: groups.Relaxing,
    running: groups.InProcessesAndParts,
) -> None:
    """Relax crystals with a force field; an interrupted run goes on.

    Example: crysjepa relax new.parquet --out relaxed.parquet --force-field chgnet
    """
    arguments.look_at(
        sources=[source], force_field=force_field, device=running.device, config=relaxing.config
    )
    arguments.choice("engine", engine, arguments.ENGINES)
    Output(out)

    from crysjepa.relaxation.relax import RelaxSettings

    settings = configuration.read_settings(RelaxSettings, engine=engine, **vars(relaxing))
    with console.progress() as report:
        table = carry_out(
            "relax", running, source, out, force_field=force_field or "chgnet", settings=settings,
            progress=report,
        )  # fmt: skip
    show.show_relaxed(table, out, settings.max_steps)


def hull(
    source: options.Source,
    out: options.Out,
    force_field: options.ForceField = None,
    static: options.Static = False,
    *,
    relaxing: groups.Relaxing,
    running: groups.InProcessesAndParts,
) -> None:
    """Make a hull of a force field's own energies from known crystals; an interrupted run goes on.

    Example: crysjepa hull known.parquet --out hull.parquet --force-field chgnet
    """
    arguments.look_at(
        sources=[source], force_field=force_field, device=running.device, config=relaxing.config
    )
    if static:
        arguments.without_effect(
            "with --static, which relaxes nothing", fmax=relaxing.fmax, max_steps=relaxing.max_steps
        )
    Output(out, only="a hull is no table of structures")

    from crysjepa.evaluation.force_field_hull import AS_THEY_ARE
    from crysjepa.relaxation.relax import QUICK, RelaxSettings

    base = AS_THEY_ARE if static else QUICK
    settings = configuration.read_settings(RelaxSettings, base=base, **vars(relaxing))
    with console.progress() as report:
        rows = carry_out(
            "hull",
            running,
            source,
            out,
            force_field=force_field or "chgnet",
            settings=settings,
            progress=report,
        )
    show.show_hull(rows, out)


def embed(
    source: options.Source,
    out: options.Out,
    jepa: options.Jepa = None,
    *,
    running: groups.InParts,
) -> None:
    """Embed crystals with Crys-JEPA.

    Example: crysjepa embed new.parquet --out embeddings.parquet
    """
    arguments.look_at(sources=[source], checkpoints=[jepa], device=running.device)
    Output(out, only="embeddings are no structures")

    with console.progress() as report:
        table = carry_out("embed", running, source, out, jepa=jepa, progress=report)
    show.show_counts(table, out)


def screen(
    source: options.Source,
    out: options.OutTable,
    reference: options.ReferenceIfAny = None,
    by: options.By = "jepa-hull",
    hull: options.HullSource = None,
    *,
    aimed: groups.AimedBy,
    ranking: groups.Ranking,
    running: groups.InParts,
) -> None:
    """Rank crystals, the most promising first, by stability and what else is wanted; an interrupted run goes
    on.

    Example: crysjepa screen new.parquet --objective 'bulk_modulus>=200' --out ranked.parquet
    """
    ranks = f"with --by {by}"
    if ":" not in by:
        arguments.choice("ranker", by, (*arguments.RANKERS, *arguments.FORCE_FIELDS))
    if by == "random":
        arguments.without_effect(ranks, reference=reference)
    if by in ("random", "jepa-distance", "fingerprint"):
        arguments.without_effect(ranks, hull=hull)
    if not by.startswith("jepa"):
        arguments.without_effect(ranks, jepa=ranking.jepa)
    if not aimed.objective:
        arguments.without_effect("without --objective", force_field=aimed.force_field, combine=aimed.combine)
    arguments.look_at(
        sources=[source, reference], tables=[hull], checkpoints=[ranking.jepa], device=running.device,
        force_field=aimed.force_field,
    )  # fmt: skip
    objectives = arguments.objectives_of(aimed)
    Output(out)

    with console.progress() as report:
        done = carry_out(
            "screen", running, source, reference or "known", out, by=by, hull=hull, objectives=objectives,
            combine=aimed.combine or "product", force_field=aimed.force_field or "chgnet", **vars(ranking),
            progress=report,
        )  # fmt: skip
    show.show_ranking(done, by)
