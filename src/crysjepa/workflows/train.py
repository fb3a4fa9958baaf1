"""The verbs that train: ``pretrain`` (Crys-JEPA), ``train`` and ``finetune`` (the generator)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from torch import nn

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.hull import ASSUMED_SCALE
from crysjepa.evaluation.metrics import scale_of
from crysjepa.generators.base import Generator, load_generator
from crysjepa.generators.diffusion.generator import PAPER, DiffusionGenerator, LatticeNoise
from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.generators.flow.paths import FlowConfig
from crysjepa.generators.registry import generator_names, plug_in_of
from crysjepa.jepa import network as jepa_model
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.nn.sizes import paper_part
from crysjepa.nn.train_settings import Recorded
from crysjepa.nn.training import Training, TrainSettings
from crysjepa.nn.validation import KEY as VALIDATION
from crysjepa.runtime.execution import Execution, RunOptions
from crysjepa.runtime.notes import UsageError
from crysjepa.runtime.progress import Progress
from crysjepa.weights import shipped
from crysjepa.workflows.inputs import Source, beside, canonical, sound
from crysjepa.workflows.output import Output

ENERGY = "formation_energy_per_atom"
RELAXED, SITES = "relaxed_formation_energy_per_atom", "site_energies"


class Told(TypedDict, total=False):
    """What a training calls."""

    progress: Progress
    recorded: Recorded


FINETUNING = TrainSettings(steps=200, learning_rate=1e-4, batch_size=64, warmup=10, ema_decay=0.98)
"""Short and gentle: what ``finetune`` does unless told otherwise."""


def pretrain(
    source: Source | Sequence[Source],
    out: Source,
    *,
    size: str = "small",
    objective: jepa_model.Objective | None = None,
    init: Source | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
    **how: Unpack[RunOptions],
) -> Training:
    """Train Crys-JEPA on crystals with ``formation_energy_per_atom`` and write the model to ``out``.

    ``source`` is one data set or several, such as the paper's ``mptrj`` and ``mp_2022``.
    ``size`` is the network: ``small``, the invariant encoder, or ``paper``, the Transformer of appendix B;
    ``paper/64`` has a 64th of its parameters. ``objective`` is what it minimises (by default energies, and
    Eq. 9 for the paper's). Optional columns: ``relaxed_formation_energy_per_atom`` and ``site_energies``, a
    list for each crystal whose mean is the energy. ``init`` is a model to go on from. A training that was
    interrupted goes on from ``OUT.state``; the loss curve is ``OUT.curve.json``. An ``out`` that is there and
    was made just so is kept, and read; one that was made otherwise is refused unless ``overwrite``.

    Raises
    ------
    ValueError
        If no crystal of ``source`` has a formation energy, if several are on different scales, or if ``init``
        is another network.
    """
    run, sources = Execution(**how), [source] if isinstance(source, str | Path) else list(source)
    place, chosen = Output(out, model=True), settings or TrainSettings()
    recipe = {"size": size, "objective": objective, "seed": seed, "training": chosen.model_dump(mode="json")}
    read = {"input": sources, "init": init}
    if (before := place.found("pretrain", recipe, read, overwrite=run.overwrite)) is not None:
        return _before(CrysJepa.load(out).model, before)
    table, scale = _together(sources)
    part = paper_part(size)
    config = jepa_model.SMALL if part is None else jepa_model.paper_config(part)
    config = replace(config, objective=objective or config.objective)
    crystals = (sound(table) if config.invariant else canonical(table, run)).crystals
    energies = dict(zip(table.ids, table.column(ENERGY), strict=True))
    known = crystals[[i for i, id_ in enumerate(crystals.ids) if energies[id_] is not None]]
    jepa, training = CrysJepa.pretrain(
        known,
        np.array([energies[i] for i in known.ids]),
        config,
        chosen,
        relaxed_energies=_numbers(table, known, RELAXED),
        site_energies=_site_energies(table, known) if config.invariant else None,
        scale=scale,
        init=CrysJepa.load(init) if init is not None else None,
        seed=seed,
        device=run.found_device,
        state=beside(out, ".state"),
        **told(run, "pretrain"),
    )
    return _kept(jepa, training, place)


def _together(sources: Sequence[Source]) -> tuple[CandidateTable, str]:
    """One table of several data sets, and the scale of its formation energies."""
    tables: list[CandidateTable] = []
    scales: dict[str, str] = {}
    for source in sources:
        table = datasets.load(str(source))
        if ENERGY not in table:
            raise ValueError(f"{source} has no column {ENERGY}, which Crys-JEPA learns from")
        # ids are unique within a set only
        ids = table.frame["id"] if len(sources) == 1 else f"{len(tables)}:" + table.frame["id"].astype(str)
        tables.append(CandidateTable(table.frame.assign(id=ids)))
        scales[str(source)] = scale_of(source) or ASSUMED_SCALE
    if len(set(scales.values())) != 1:
        raise ValueError(f"formation energies on one scale are needed, not {scales}")
    return CandidateTable.concatenate(tables), next(iter(scales.values()))


def train(
    source: Source,
    out: Source,
    *,
    size: str = "small",
    init: Source | None = None,
    lattice_noise: LatticeNoise | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
    **how: Unpack[RunOptions],
) -> Training:
    """Train a generator on the crystals of ``source`` and write it to ``out``.

    ``size`` is the kind: ``small``, the flow, or ``paper``, the diffusion model of appendix B; ``paper/64``
    has a 64th of its parameters. The flow starts from what a Crys-JEPA with the invariant encoder has learnt:
    ``init``, by default the shipped one. ``lattice_noise`` of the diffusion model is drawn once a ``crystal``
    (the default) or for each ``site``, see :class:`~crysjepa.generators.diffusion.generator.DiffusionConfig`.

    Raises
    ------
    ValueError
        If the network cannot start from ``init``, or an option is given that its kind does not have.
    """
    part = paper_part(size)
    if part is None and lattice_noise is not None:
        raise UsageError("the flow has no lattice noise of this kind: leave lattice_noise out")
    if part is not None and init is not None:
        raise UsageError("the paper's diffusion model starts from random weights: leave init out")
    run, place, chosen = Execution(**how), Output(out, model=True), settings or TrainSettings()
    recipe = {"size": size, "seed": seed, "training": chosen.model_dump(mode="json")}
    recipe |= {"lattice_noise": lattice_noise} if lattice_noise == "site" else {}
    read = {"input": source, "init": init}
    if (before := place.found("train", recipe, read, overwrite=run.overwrite)) is not None:
        return _before(_network(load_generator(out)), before)
    crystals = canonical(datasets.load(str(source)), run).crystals
    options: dict[str, Any] = {
        "seed": seed,
        "device": run.found_device,
        "state": beside(out, ".state"),
        **told(run, "train"),
    }
    generator: Generator
    if part is not None:
        config = replace(PAPER.divided(part), lattice_noise=lattice_noise or "crystal")
        generator, training = DiffusionGenerator.train(crystals, config, chosen, **options)
    else:
        jepa = CrysJepa.load(init or shipped("jepa"))
        generator, training = FlowGenerator.train(crystals, FlowConfig(), chosen, init=jepa, **options)
    return _kept(generator, training, place)


def finetune(
    source: Source,
    out: Source,
    *,
    generator: Source | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
    **how: Unpack[RunOptions],
) -> Training:
    """Train a generator (by default the shipped one) on from where it is, on the crystals of ``source``.

    Of a plug-in (``NAME``, or ``NAME@FILE`` as it was saved) the :class:`Training` may hold no network.
    """
    run, place, chosen = Execution(**how), Output(out, model=True), settings or FINETUNING
    recipe = {"seed": seed, "training": chosen.model_dump(mode="json")}
    plug_in, saved = plug_in_of(generator)
    by_name = plug_in or (str(generator) if generator and str(generator) in generator_names() else None)
    read = {"input": source, "generator": saved if by_name else generator}
    recipe |= {"generator": by_name} if by_name else {}
    if (before := place.found("finetune", recipe, read, overwrite=run.overwrite)) is not None:
        return _before(nn.Identity() if plug_in else _network(load_generator(out)), before)
    crystals = canonical(datasets.load(str(source)), run).crystals
    tuned, training = load_generator(generator).finetune(
        crystals,
        chosen,
        seed=seed,
        device=run.found_device,
        state=beside(out, ".state"),
        progress=run.stage("finetune"),
    )
    return _kept(tuned, training, place)


def told(run: Execution, name: str) -> Told:
    """Progress of a training, with the last losses beside it."""
    if run.progress is None:
        return {}
    report, last = run.progress, [""]

    def recorded(row: Mapping[str, float]) -> None:
        shown = {"loss": row.get("loss"), "validation": row.get(VALIDATION)}
        last[0] = ", ".join(f"{k} {v:.4g}" for k, v in shown.items() if v is not None)

    def progress(done: int, total: int) -> None:
        report(f"{name} · {last[0]}" if last[0] else name, done, total)

    return {"progress": progress, "recorded": recorded}


def _numbers(table: CandidateTable, crystals: Crystals, column: str) -> NDArray[np.float64] | None:
    """(B,) with NaN where unknown; None without the column."""
    if column not in table:
        return None
    return np.array([np.nan if v is None else v for v in table.column(column, crystals.ids)], dtype=float)


def _site_energies(table: CandidateTable, crystals: Crystals) -> NDArray[np.float64] | None:
    """(N,) with NaN where unknown. Raises ValueError for a list of another length than the crystal's."""
    if SITES not in table:
        return None
    lists = table.column(SITES, crystals.ids)
    parts = [
        np.full(n, np.nan) if values is None else np.asarray(values, dtype=float)
        for n, values in zip(crystals.num_atoms, lists, strict=True)
    ]
    for id_, n, part in zip(crystals.ids, crystals.num_atoms, parts, strict=True):
        if len(part) != n:
            raise ValueError(f"{id_} has {n} sites but {len(part)} {SITES}")
    return np.concatenate(parts) if parts else np.zeros(0)


def _kept(model: CrysJepa | Generator, training: Training, place: Output) -> Training:
    """Write the model and its loss curve; the state to go on from has done its work."""
    model.save(place.path)
    place.keep({"step": training.step, "seconds": training.seconds, "curve": training.curve})
    beside(place.path, ".state").unlink(missing_ok=True)
    return training


def _before(network: nn.Module, metadata: Mapping[str, Any]) -> Training:
    """A training that was finished before, as far as it was kept: the averaged weights are all there are."""
    return Training(network, network, metadata["step"], metadata["curve"], metadata["seconds"])


def _network(generator: Generator) -> nn.Module:
    found = getattr(generator, "flow", None) or getattr(generator, "denoiser", None)
    assert isinstance(found, nn.Module)
    return found
