"""The verbs that make crystals, relax them and rank them."""

from __future__ import annotations

from crysjepa.cli import arguments, configuration, console, options, show
from crysjepa.runtime.notes import UsageError
from crysjepa.workflows.output import Output


def generate(
    num: options.Num,
    out: options.OutTable,
    generator: options.AnyGenerator = None,
    elements: options.Elements = None,
    exclude_elements: options.ExcludeElements = None,
    chemical_system: options.ChemicalSystem = None,
    max_sites: options.MaxSites = None,
    distinct: options.Distinct = False,
    parents: options.Parents = None,
    temperature: options.Temperature = None,
    pick: options.Pick = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    processes: options.Processes = None,
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
    Output(out).check_holds(num)

    from crysjepa import api
    from crysjepa.generators.constraints import Constraints

    constraints = Constraints.parse(elements, exclude_elements, chemical_system, max_sites, distinct)
    options = configuration.generator_options(parents, temperature, pick)
    with console.progress() as report:
        done = api.generate(
            num, out, generator=generator, options=options, constraints=constraints, seed=seed,
            overwrite=overwrite, device=device, processes=processes, progress=report,
        )  # fmt: skip
    show.show_generated(done, out)


def relax(
    source: options.Source,
    out: options.OutTable,
    force_field: options.ForceField = None,
    fmax: options.Fmax = None,
    max_steps: options.MaxSteps = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    config: options.Config = None,
) -> None:
    """Relax crystals with a force field; an interrupted run goes on.

    Example: crysjepa relax new.parquet --out relaxed.parquet --force-field chgnet
    """
    arguments.look_at(sources=[source], force_field=force_field, device=device, config=config)
    Output(out)

    from crysjepa import api
    from crysjepa.relaxation.relax import RelaxSettings

    force_field = force_field or "chgnet"
    settings = configuration.read_settings(RelaxSettings, config, fmax=fmax, max_steps=max_steps)
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
    show.show_relaxed(table, out, settings.max_steps)


def hull(
    source: options.Source,
    out: options.Out,
    force_field: options.ForceField = None,
    static: options.Static = False,
    fmax: options.Fmax = None,
    max_steps: options.MaxSteps = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    config: options.Config = None,
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
    settings = configuration.read_settings(RelaxSettings, config, base, fmax=fmax, max_steps=max_steps)
    with console.progress() as report:
        rows = api.hull(
            source, out, force_field=force_field or "chgnet", settings=settings, overwrite=overwrite,
            device=device, progress=report,
        )  # fmt: skip
    show.show_hull(rows, out)


def embed(
    source: options.Source,
    out: options.Out,
    jepa: options.Jepa = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
) -> None:
    """Embed crystals with Crys-JEPA.

    Example: crysjepa embed new.parquet --out embeddings.parquet
    """
    arguments.look_at(sources=[source], checkpoints=[jepa], device=device)
    Output(out, only="embeddings are no structures")

    from crysjepa import api

    with console.progress() as report:
        table = api.embed(source, out, jepa=jepa, overwrite=overwrite, device=device, progress=report)
    show.show_counts(table, out)


def screen(
    source: options.Source,
    out: options.OutTable,
    reference: options.ReferenceIfAny = None,
    by: options.By = "jepa-hull",
    hull: options.HullSource = None,
    jepa: options.Jepa = None,
    index: options.Index = None,
    min_hull_entries: options.MinHullEntries = 1,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
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
    show.show_ranking(done, by)
