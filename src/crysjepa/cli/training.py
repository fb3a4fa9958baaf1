"""The verbs that train, and that look at a model."""

from __future__ import annotations

from crysjepa.cli import arguments, configuration, console, groups, options, show
from crysjepa.nn.sizes import paper_part
from crysjepa.workflows.output import Output, check_folder


def pretrain(
    source: options.DataSets,
    out: options.Out,
    size: options.Size = "small",
    objective: options.Objective = None,
    init: options.Init = None,
    *,
    training: groups.Training,
    running: groups.Running,
) -> None:
    """Train Crys-JEPA on crystals with formation energies.

    Example: crysjepa pretrain flla --out jepa.safetensors --steps 2000
    """
    paper_part(size)
    minimised = configuration.known_objective(objective)
    arguments.look_at(sources=source, checkpoints=[init], device=running.device, config=training.config)
    Output(out, model=True)

    from crysjepa import api

    settings = configuration.train_settings(training.config, training.steps)
    with console.progress() as report:
        done = api.pretrain(
            source, out, size=size, objective=minimised, init=init, settings=settings, seed=training.seed,
            **vars(running), progress=report,
        )  # fmt: skip
    show.show_training(done, out)


def train(
    source: options.Source,
    out: options.Out,
    size: options.Size = "small",
    init: options.Init = None,
    lattice_noise: options.LatticeNoise = None,
    *,
    training: groups.Training,
    running: groups.Running,
) -> None:
    """Train a generator on known crystals: the flow, or (--size paper) the paper's diffusion model.

    Example: crysjepa train flla --out generator.safetensors --steps 5000
    """
    if paper_part(size) is not None:
        arguments.without_effect(f"with --size {size}, which starts from random weights", init=init)
    noise = configuration.known_noise(lattice_noise)
    arguments.look_at(sources=[source], checkpoints=[init], device=running.device, config=training.config)
    Output(out, model=True)

    from crysjepa import api

    settings = configuration.train_settings(training.config, training.steps)
    with console.progress() as report:
        done = api.train(
            source, out, size=size, init=init, lattice_noise=noise, settings=settings, seed=training.seed,
            **vars(running), progress=report,
        )  # fmt: skip
    show.show_training(done, out)


def finetune(
    source: options.Source,
    out: options.Out,
    generator: options.Generator = None,
    *,
    training: groups.Training,
    running: groups.Running,
) -> None:
    """Train a generator on from where it is, on crystals worth imitating.

    Example: crysjepa finetune best.parquet --out refined.safetensors --steps 200
    """
    arguments.look_at(sources=[source], device=running.device, config=training.config)
    arguments.known_generator(generator)
    Output(out, model=True)

    from crysjepa import api

    settings = configuration.train_settings(training.config, training.steps, api.FINETUNING)
    with console.progress() as report:
        done = api.finetune(
            source, out, generator=generator, settings=settings, seed=training.seed,
            **vars(running), progress=report,
        )  # fmt: skip
    show.show_training(done, out)


def diagnose(
    model: options.Model = None,
    data: options.Data = "known",
    out: options.OutIfAny = None,
    max_crystals: options.MaxCrystals = 5000,
    seed: options.Seed = 0,
    device: options.Device = "auto",
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
    show.show_diagnosis(result, out)
