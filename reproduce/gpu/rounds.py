"""Refinement on a GPU: the rounds of ``crysjepa discover``, where nothing is relaxed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from shared import say

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_formulas
from crysjepa.datasets.training_tables import generator_crystals
from crysjepa.discovery.config import DiscoverConfig
from crysjepa.discovery.loop import prepare
from crysjepa.discovery.means import Means
from crysjepa.energy.support import HullSupport
from crysjepa.evaluation.protocol import preset
from crysjepa.generators.base import Generator, load_generator
from crysjepa.nn.training import TrainSettings
from crysjepa.ranking.registry import ranker_info
from crysjepa.runtime.files import file_hash
from crysjepa.runtime.run_directory import Run
from crysjepa.stages.choosing import within_drift
from crysjepa.stages.finetune import Finetune
from crysjepa.stages.generate import Generate
from crysjepa.stages.keep import Keep
from crysjepa.stages.round import Round, one_round
from crysjepa.stages.score import Score
from crysjepa.stages.stage import Runner

REFINING = TrainSettings(batch_size=2048, learning_rate=1e-3, warmup=100, ema_decay=0.998, record_every=50)
TOO_GOOD, GOOD = -0.3, 0.05
"""eV/atom above the hull: what is expected lower is likely an error, and what is higher teaches little."""


@dataclass(frozen=True)
class Plan:
    """How many are drawn in each round, ``keep`` of them by the ranker ``by``, and what is learnt beside."""

    num: Sequence[int]
    keep: int
    by: str
    drift: float
    replay: int
    steps: int


def rounds(
    plan: Plan, model: Path, data: Path, known: Sequence[Path], also: Sequence[Path], out: Path, device: str,
    processes: int | None,
) -> None:  # fmt: skip
    """One round for each of ``plan.num``; a run that was stopped goes on where it stood.

    Each round's model learns from the crystals of ``also``, from all that was chosen so far, and from some of
    ``known``. Ranking is on the CPU: beside what else runs on a GPU it is no slower there.
    """
    reference, hull = data / "mp20_bt.parquet", data / "mp20_hull.parquet"
    config = DiscoverConfig(
        reference=str(reference), hull=str(hull), generator=str(model), protocol=preset("strict")
    )
    means, last = Means.of(config, out, "cpu", _tell), len(plan.num)
    learnt = [_named(f"beside-{n}", datasets.load(str(path))) for n, path in enumerate(also)]
    files = {"model": model, "jepa": means.jepa_path} | {p.name: p for p in (reference, hull, *known)}
    files |= {f"beside {n}": path for n, path in enumerate(also)}
    run = Run(out, asdict(plan), {name: file_hash(path) for name, path in files.items()})
    run.stage("prepare", ["references.json"], partial(prepare, means))

    @cache
    def replayed() -> Crystals:
        crystals = generator_crystals(list(known))
        some = crystals[np.sort(np.random.default_rng(0).permutation(len(crystals))[: plan.replay])]
        return some.with_ids([f"known-{id_}" for id_ in some.ids])

    def at(number: int) -> Runner:
        return Runner(run, f"round-{number}", _tell, f"round {number}")

    def finetune(number: int) -> Finetune:
        return Finetune(
            generator=generator(number - 1), select=lambda table: table.ok_ids, device=device,
            settings=REFINING.model_copy(update={"steps": plan.steps}),
            beside=lambda chosen: Crystals.concatenate([replayed(), chosen]),
        )  # fmt: skip

    def generator(number: int) -> Callable[[], Generator]:
        return partial(load_generator, at(number).path("generator.safetensors") if number else model)

    by_hull = ranker_info(plan.by).needs_hull
    score = Score(
        ranker=partial(means.ranker_by, plan.by), support=HullSupport(means.hull) if by_hull else None
    )
    keep = Keep(output="chosen.parquet", pick=partial(likely, plan=plan, known=means.known.crystals()))
    for number, num in enumerate(plan.num):
        generate = Generate(
            source=generator(number), num=num, seed=number + 1, device=device, processes=processes
        )
        tuned = finetune(number) if number else None
        round_ = Round(finetune=tuned, generate=generate, choose=(score, keep))
        chosen = one_round(at(number), round_, CandidateTable.concatenate(learnt))
        say(f"kept {len(chosen)} of {num}")
        learnt.append(_named(f"round-{number}", chosen))
    at(last)(finetune(last), CandidateTable.concatenate(learnt))
    say(f"{at(last).path('generator.safetensors')} is refined")


def likely(table: CandidateTable, plan: Plan, known: Crystals) -> CandidateTable:
    """The best by rank, each formula once, from :data:`TOO_GOOD` to :data:`GOOD`.

    Their elements keep to :func:`crysjepa.stages.choosing.within_drift`.
    """
    rows = zip(table.column("screen_rank"), table.ids, table.column("screen_score"), strict=True)
    fit = sorted((rank, i) for rank, i, score in rows if score is not None and TOO_GOOD < score < GOOD)
    crystals = table.crystals([i for _, i in fit])
    first: dict[object, str] = {}
    for id_, formula in zip(crystals.ids, reduced_formulas(crystals), strict=True):
        first.setdefault(formula, id_)
    best = crystals.select(list(first.values()))
    return CandidateTable.from_crystals(best.select(within_drift(best, plan.keep, known, plan.drift)))


def _named(where: str, table: CandidateTable) -> CandidateTable:
    """The crystals that are ``ok``, where they came from in their ids."""
    crystals = table.crystals(table.ok_ids)
    return CandidateTable.from_crystals(crystals.with_ids([f"{where}-{id_}" for id_ in crystals.ids]))


def _tell(stage: str, done: int, total: int) -> None:
    if done == total:
        say(f"{stage}: {total}")
