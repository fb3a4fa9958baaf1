"""Refinement on a GPU: draw, keep the best by Crys-JEPA, learn from them, and that again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from shared import keep_generator, keep_time, say, wait
from train_default_weights import generator_crystals

from crysjepa import api, datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import reduced_formulas
from crysjepa.generators.constraints import Constraints
from crysjepa.generators.flow.generator import FlowGenerator, settle_all
from crysjepa.generators.flow.orbits import Settled
from crysjepa.generators.registry import load_checkpoint
from crysjepa.nn.training import TrainSettings
from crysjepa.runtime.threads import default_processes
from crysjepa.stages.choosing import within_drift

REFINING = TrainSettings(batch_size=2048, learning_rate=1e-3, warmup=100, ema_decay=0.998, record_every=50)
TOO_GOOD, GOOD = -0.3, 0.05
"""eV/atom above the hull: what is expected lower is more likely an error, what is higher is no lesson."""


def sample(
    model: Path, num: int, out: Path, device: str, seed: int, processes: int | None, distinct: bool = False
) -> None:
    """Crystals as Parquet."""
    started, processes = time.perf_counter(), processes or default_processes(device)
    done = api.generate(
        num, out, generator=model, seed=seed, device=device, processes=processes,
        constraints=Constraints(distinct=distinct),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    keep_time(out, num, seconds, processes, device)
    say(f"{num} drawn in {seconds:.0f} s: {done.counts()}")


def screen(source: Path, data: Path, out: Path, num: int, by: str, drift: float) -> None:
    """The best by a ranker, each formula once, from :data:`TOO_GOOD` to :data:`GOOD`.

    Their elements keep to :func:`crysjepa.stages.choosing.within_drift`. Ranking is on the CPU: beside
    what else runs on a GPU it is no slower there.
    """
    ranked = out.with_name(f"{out.stem}-ranked.parquet")
    reference, hull = data / "mp20_bt.parquet", data / "mp20_hull.parquet"
    api.screen(source, reference, ranked, by=by, hull=hull, device="cpu")
    table = datasets.load(str(source))
    rows = pq.read_table(ranked, columns=["id", "score", "rank"]).to_pylist()
    fit = (r for r in rows if r["score"] is not None and TOO_GOOD < r["score"] < GOOD)
    likely = sorted((r["rank"], r["id"]) for r in fit)
    crystals = table.crystals([id_ for _, id_ in likely])
    first: dict[object, str] = {}
    for id_, formula in zip(crystals.ids, reduced_formulas(crystals), strict=True):
        first.setdefault(formula, id_)
    known = datasets.load(str(reference))
    best = crystals.select(list(first.values()))
    kept = within_drift(best, num, known.crystals(known.ok_ids), drift)
    CandidateTable.from_crystals(best.select(kept)).write(out)
    say(f"kept {len(kept)} of {len(table.ids)}")


class Lessons:
    """Crystals to learn from, on their orbits, where they came from in their ids."""

    def __init__(self, symmetric: bool) -> None:
        self.symmetric = symmetric
        self.parts: list[Crystals] = []
        self.settled: list[Settled] = []
        self.names: list[str] = []

    def add(self, path: Path) -> None:
        """Those of a table of candidates that are ``ok``."""
        table = datasets.load(str(path))
        self._take(canonicalise(table.crystals(table.ok_ids))[0], path.name)

    def replay(self, paths: Sequence[Path], num: int) -> None:
        """Of what generators learn first ``num``, if there are so many, chosen at random."""
        crystals = generator_crystals(list(paths))
        some = np.sort(np.random.default_rng(0).permutation(len(crystals))[:num])
        self._take(crystals[some], ", ".join(p.name for p in paths))

    def _take(self, crystals: Crystals, name: str) -> None:
        self.parts.append(crystals.with_ids([f"{len(self.parts)}-{id_}" for id_ in crystals.ids]))
        self.settled += settle_all(crystals, symmetric=self.symmetric)
        self.names.append(name)
        say(f"{len(crystals)} of {name}")


def refine(model: Path, lessons: Lessons, out: Path, device: str, steps: int) -> None:
    """The model, trained on with these crystals."""
    crystals = Crystals.concatenate(lessons.parts)
    settings = REFINING.model_copy(update={"steps": steps})
    tuned, training = _flow(model).finetune(crystals, settings, settled=lessons.settled, device=device)
    keep_generator(tuned, training, out, len(crystals), lessons.names, device)
    say(f"refined in {training.seconds:.0f} s: {training.curve[-1]}")


def rounds(
    model: Path, data: Path, replay: Sequence[Path], lessons: Sequence[Path], out: Path, device: str,
    nums: Sequence[int], num_kept: int, num_replayed: int, steps: int, by: str, processes: int | None,
    drift: float, after: Path | None,
) -> None:  # fmt: skip
    """One round for each of ``nums``, the crystals drawn in it; files that are there are not made again.

    Each round's model learns from ``lessons``, from all that was kept so far, and from some of ``replay``.
    """
    learnt = Lessons(_flow(model).flow.config.symmetric)
    learnt.replay(replay, num_replayed)
    for path in lessons:
        learnt.add(path)
    wait(after)
    for number, num in enumerate(nums, start=1):
        drawn, chosen = out / f"drawn-{number}.parquet", out / f"chosen-{number}.parquet"
        refined = out / f"round-{number}.safetensors"
        if not drawn.exists():
            sample(model, num, drawn, device, number, processes)
        if not chosen.exists():
            screen(drawn, data, chosen, num_kept, by, drift)
        learnt.add(chosen)
        if not refined.exists():
            refine(model, learnt, refined, device, steps)
        model = refined
    everything = Crystals.concatenate(learnt.parts[1:])
    CandidateTable.from_crystals(everything).write(out / "lessons.parquet")


def _flow(path: Path) -> FlowGenerator:
    found = load_checkpoint(path)
    assert isinstance(found, FlowGenerator)
    return found
