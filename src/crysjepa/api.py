"""The verbs of the command line as plain functions: files in, files out.

>>> from crysjepa import api
>>> api.generate(1000, out="new.parquet", seed=1)                                        # doctest: +SKIP
>>> api.screen("new.parquet", reference="flla", by="jepa-distance", out="ranked.parquet")  # doctest: +SKIP
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from crysjepa import datasets
from crysjepa.candidates import CandidateTable, Status, write_parquet
from crysjepa.canonical import canonicalise
from crysjepa.crystals import Crystals
from crysjepa.discover import PRESETS, DiscoverConfig, discover_crystals
from crysjepa.evaluate.protocol import Protocol, Report, evaluate_crystals
from crysjepa.generate import diffusion
from crysjepa.generate.base import load_generator
from crysjepa.jepa import model as jepa_model
from crysjepa.jepa.pretrain import CrysJepa
from crysjepa.nn.checkpoint import read_header
from crysjepa.nn.training import Training, TrainSettings
from crysjepa.relax.force_fields import force_field_status
from crysjepa.relax.relax import RelaxSettings, relax_crystals
from crysjepa.report.page import write_report
from crysjepa.run import versions, write_json
from crysjepa.screen.filters import structure_validity
from crysjepa.screen.rankers import RANKERS, JepaDistance, Random, Ranker, ranks
from crysjepa.screen.reference import ReferenceIndex
from crysjepa.weights import shipped

Source = str | Path
Size = Literal["small", "paper"]

FINETUNING = TrainSettings(steps=200, learning_rate=1e-4, batch_size=64, warmup=10, ema_decay=0.98)
"""Short and gentle: what ``finetune`` does unless told otherwise."""


def pretrain(
    source: Source,
    out: Source,
    *,
    size: Size = "small",
    settings: TrainSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Report | None = None,
) -> Training:
    """Train Crys-JEPA on crystals with ``formation_energy_per_atom`` and write the encoder to ``out``.

    A training that was interrupted goes on from ``OUT.state``; the loss curve is ``OUT.curve.json``.

    Raises
    ------
    ValueError
        If no crystal of ``source`` has a formation energy.
    """
    table = datasets.load(str(source))
    if "formation_energy_per_atom" not in table:
        raise ValueError(f"{source} has no column formation_energy_per_atom, which Crys-JEPA learns from")
    energies = dict(zip(table.ids, table.column("formation_energy_per_atom"), strict=True))
    crystals = _canonical(table, progress).crystals
    known = crystals[[i for i, id_ in enumerate(crystals.ids) if energies[id_] is not None]]
    config = jepa_model.PAPER if size == "paper" else jepa_model.SMALL
    jepa, training = CrysJepa.pretrain(
        known,
        np.array([energies[i] for i in known.ids]),
        config,
        settings or TrainSettings(),
        seed=seed,
        device=resolve_device(device),
        state=_beside(out, ".state"),
        progress=_stage(progress, "pretrain"),
    )
    jepa.save(Path(out))
    _finish_training(training, out)
    return training


def train(
    source: Source,
    out: Source,
    *,
    size: Size = "small",
    settings: TrainSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Report | None = None,
) -> Training:
    """Train the diffusion generator on the crystals of ``source`` and write it to ``out``."""
    crystals = _canonical(datasets.load(str(source)), progress).crystals
    config = diffusion.PAPER if size == "paper" else diffusion.SMALL
    generator, training = diffusion.DiffusionGenerator.train(
        crystals,
        config,
        settings or TrainSettings(),
        seed=seed,
        device=resolve_device(device),
        state=_beside(out, ".state"),
        progress=_stage(progress, "train"),
    )
    generator.save(Path(out))
    _finish_training(training, out)
    return training


def finetune(
    source: Source,
    out: Source,
    *,
    generator: Source | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Report | None = None,
) -> Training:
    """Train a generator (by default the shipped one) on from where it is, on the crystals of ``source``."""
    crystals = _canonical(datasets.load(str(source)), progress).crystals
    tuned, training = load_generator(generator).finetune(
        crystals,
        settings or FINETUNING,
        seed=seed,
        device=resolve_device(device),
        state=_beside(out, ".state"),
        progress=_stage(progress, "finetune"),
    )
    tuned.save(Path(out))
    _finish_training(training, out)
    return training


def generate(
    num: int,
    out: Source,
    *,
    generator: Source | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Report | None = None,
) -> CandidateTable:
    """Draw ``num`` crystals and write them as a candidate table."""
    _check_file(out)
    if num < 1:
        raise ValueError(f"num is {num}: ask for at least one crystal")
    samples = load_generator(generator).sample(
        num, seed=seed, device=resolve_device(device), progress=_stage(progress, "generate")
    )
    order = [f"gen-{i}" for i in range(num)]
    table = CandidateTable.from_crystals(samples.crystals, samples.failures, stage="generate", order=order)
    table.write(out)
    return table


def relax(
    source: Source,
    out: Source,
    *,
    force_field: str = "chgnet",
    settings: RelaxSettings | None = None,
    device: str = "auto",
    progress: Report | None = None,
) -> CandidateTable:
    """Relax crystals with a force field; a run that was interrupted goes on from ``OUT.shards``."""
    _check_file(out)
    table = datasets.load(str(source))
    shards = _beside(out, ".shards")
    done = relax_crystals(
        table.crystals(table.ok_ids),
        force_field=force_field,
        settings=settings,
        device=resolve_device(device),
        shards=shards,
        progress=_stage(progress, "relax"),
    )
    relaxed = done.apply_to(table)
    relaxed.write(out)
    shutil.rmtree(shards, ignore_errors=True)
    return relaxed


def embed(
    source: Source,
    out: Source,
    *,
    jepa: Source | None = None,
    device: str = "auto",
    progress: Report | None = None,
) -> CandidateTable:
    """Embed crystals: ``id``, ``embedding`` (null where there is none), ``status`` and ``reason``."""
    found = _canonical(datasets.load(str(source)), progress)
    model = CrysJepa.load(jepa)
    embeddings = model.embed(
        found.crystals, device=resolve_device(device), progress=_stage(progress, "embed")
    )
    by_id = dict(zip(found.crystals.ids, embeddings, strict=True))
    vectors = pa.array([by_id.get(i) for i in found.table.ids], type=pa.list_(pa.float32(), model.width))
    rows = found.table.to_arrow().select(["id", "status", "reason"]).add_column(1, "embedding", vectors)
    write_parquet(rows, out)
    return found.table


def screen(
    source: Source,
    reference: Source,
    out: Source,
    *,
    by: str = "jepa-distance",
    jepa: Source | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Report | None = None,
) -> pa.Table:
    """Rank crystals, best first: ``id``, ``score`` (lower is better), ``rank``, ``status``, ``reason``.

    A crystal that cannot be scored keeps its row, with the reason. One that has no reference in its
    chemical system is ranked after all that have; one that is not fit to be scored has no rank.
    """
    _check_file(out)
    if by not in RANKERS:
        raise ValueError(f"no ranker {by!r}: choose from {', '.join(RANKERS)}")
    found = _canonical(datasets.load(str(source)), progress)
    ranker: Ranker = Random(seed)
    if by == "jepa-distance":
        known = _canonical(datasets.load(str(reference)), progress).crystals
        model, chosen = CrysJepa.load(jepa), resolve_device(device)
        index = ReferenceIndex.build(
            model, known, device=chosen, progress=_stage(progress, "embed reference")
        )
        ranker = JepaDistance(model, index, chosen, _stage(progress, "embed"))
    scores = ranker.score(found.crystals)
    placed = ranks(scores)
    unscored = {i: s.reason or "no score" for i, s in scores.items() if s.value is None}
    table = found.table.decide("screen", unscored, Status.FAILED)
    nothing = dict.fromkeys(table.ids)  # a column of that name in the input must not show through
    table = table.with_column("score", nothing | {i: s.value for i, s in scores.items()}, "Float64")
    table = table.with_column("rank", nothing | placed, "Int64")
    counts = {i: s.num_references for i, s in scores.items()}
    table = table.with_column("num_references", nothing | counts, "Int64")
    rows = table.to_arrow().select(["id", "score", "rank", "status", "reason", "num_references"])
    rows = rows.sort_by([("rank", "ascending"), ("id", "ascending")])
    write_parquet(rows, out)
    return rows


def evaluate(
    source: Source,
    out: Source,
    *,
    reference: Source = "flla",
    hull: Source | None = None,
    protocol: Protocol | None = None,
    device: str = "auto",
    progress: Report | None = None,
) -> dict[str, Any]:
    """Judge crystals by V, S, U, N, S.U.N. and V.S.U.N.; writes ``metrics.json`` and ``crystals.parquet``.

    See :func:`crysjepa.evaluate.protocol.evaluate_crystals`.
    """
    table = datasets.load(str(source))
    return evaluate_crystals(
        table, reference=reference, hull=hull, out=Path(out), protocol=protocol,
        device=resolve_device(device), progress=progress,
    )  # fmt: skip


def discover(
    out: Source,
    *,
    config: DiscoverConfig | None = None,
    device: str = "auto",
    progress: Report | None = None,
) -> Path:
    """The whole loop, from known crystals to a short list and its page, whose path is returned.

    See :func:`crysjepa.discover.discover_crystals`.
    """
    chosen = config or PRESETS["quick"]
    return discover_crystals(chosen, Path(out), device=resolve_device(device), progress=progress)


def report(run: Source) -> Path:
    """Write ``report.html`` of a finished run anew from its saved results, and return its path."""
    return write_report(run)


def doctor() -> list[tuple[str, bool, str]]:
    """What works here: (name, whether it works, detail) for libraries, devices, weights and force fields."""
    found = [(name, True, version) for name, version in versions().items()]
    for name in ("jepa", "generator"):
        header = read_header(shipped(name))
        found.append((f"weights: {name}", True, f"{header['origin']['steps']} steps"))
    cuda = torch.cuda.is_available()
    detail = (
        torch.cuda.get_device_name() if cuda else f"no CUDA device that torch {torch.__version__} can use"
    )
    found += [("device: cpu", True, f"{torch.get_num_threads()} threads"), ("device: cuda", cuda, detail)]
    return found + [(f"force field: {n}", works, detail) for n, works, detail in force_field_status()]


def resolve_device(device: str) -> str:
    """``auto`` becomes ``cuda`` where there is one, else ``cpu``; ValueError for one that is not here."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda", "mps"):
        raise ValueError(f"no device {device!r}: choose auto, cpu, cuda or mps")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device works here (crysjepa doctor tells more): use --device cpu")
    return device


class _Canonical:
    """A table whose misfits are decided, and the canonical crystals of the others."""

    def __init__(self, table: CandidateTable, crystals: Crystals) -> None:
        self.table, self.crystals = table, crystals


def _canonical(table: CandidateTable, progress: Report | None) -> _Canonical:
    crystals = table.crystals(table.ok_ids)
    invalid = {i: reason for i, reason in structure_validity(crystals).items() if reason is not None}
    table = table.decide("validity", invalid, Status.REJECTED)
    canonical, failures = canonicalise(
        table.crystals(table.ok_ids), progress=_stage(progress, "canonicalise")
    )
    return _Canonical(table.decide("canonicalise", failures, Status.FAILED), canonical)


def _check_file(out: Source) -> None:
    """Before the work rather than after it."""
    if Path(out).is_dir():
        raise ValueError(f"{out} is a folder: name a file to write")


def _beside(out: Source, suffix: str) -> Path:
    return Path(out).with_name(Path(out).name + suffix)


def _finish_training(training: Training, out: Source) -> None:
    write_json(_beside(out, ".curve.json"), {"seconds": training.seconds, "curve": training.curve})
    _beside(out, ".state").unlink(missing_ok=True)


def _stage(progress: Report | None, stage: str) -> Any:
    return None if progress is None else (lambda done, total: progress(stage, done, total))
