"""Draw from any generator, within constraints: what does not obey is drawn again, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch

from crysjepa.core.crystals import Crystals
from crysjepa.generators.base import ConstrainedSampler, Draws, NarrowedSampler, Sampler, Samples
from crysjepa.generators.constraints import ConstraintError, Constraints, element_shares, symbols
from crysjepa.runtime.executors import device_for, on_executor, open_pool
from crysjepa.runtime.progress import Progress
from crysjepa.runtime.threads import ONE_THREAD

BLOCK, GPU_BLOCK = 128, 2048
"""Crystals drawn with one seed: the unit of work of a process. A GPU is only busy with many."""
MAX_ROUNDS = 30
"""How often what did not obey is drawn again before it is given up."""
_HOPELESS = 1000
"""Draws of which not one obeyed, after which no more are made."""

Task = tuple[int, int, str]
"""How many, with which seed, under which prefix."""


def draw(
    generator: Sampler,
    num: int,
    constraints: Constraints | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    prefix: str = "gen",
    processes: int = 1,
    progress: Progress | None = None,
) -> Samples:
    """``num`` crystals that obey, from any generator; the same for the same seed, on any number of processes.

    A generator that can draw within constraints does so, as far as it can. One without ``sample_within``
    draws blocks of 128, each with a seed made of ``seed`` and the block's number (on a CPU each on one
    thread: on more, sums come out otherwise). What does not obey is drawn again, up to 30 times. A crystal
    that the generator failed to make is not: it keeps its place, and its reason.

    Raises
    ------
    ConstraintError
        If none of a thousand draws obeys.
    """
    constraints, device = constraints or Constraints(), device_for("generate", device)
    if hasattr(generator, "within"):
        generator = cast(NarrowedSampler, generator).within(constraints)
    if hasattr(generator, "sample_within"):
        samples = cast(ConstrainedSampler, generator).sample_within(
            num, constraints, seed=seed, device=device, prefix=prefix, processes=processes, progress=progress
        )
    else:
        samples = _draw_blocks(generator, num, constraints, seed, device, prefix, processes, progress)
    # trust nobody's generator: nothing leaks
    broken = constraints.broken(samples.crystals) | constraints.repeated(samples.crystals, set())
    if not broken:
        return samples
    kept = [i for i in samples.crystals.ids if i not in broken]
    failures = samples.failures | {i: f"the generator broke a constraint: {r}" for i, r in broken.items()}
    return Samples(samples.crystals.select(kept), failures, samples.draws, samples.columns)


def _draw_blocks(
    generator: Sampler,
    num: int,
    constraints: Constraints,
    seed: int,
    device: str,
    prefix: str,
    processes: int,
    progress: Progress | None,
) -> Samples:
    missing = list(range(num))
    found: dict[str, Crystals] = {}
    failures: dict[str, str] = {}
    columns: dict[str, dict[str, str]] = {}
    rejected: Counter[str] = Counter()
    drawn, reasons, taken = 0, dict[int, str](), set[str]()
    for round_ in range(MAX_ROUNDS + 1):
        if not missing or (drawn >= _HOPELESS and drawn == sum(rejected.values())):
            break
        places, missing = missing, []
        spans = _spans(places, device)
        tasks = _tasks(spans, seed, round_)
        for k, samples in run_blocks(generator, tasks, device, processes, progress if round_ == 0 else None):
            broken = constraints.broken(samples.crystals)
            broken |= constraints.repeated(samples.crystals, taken, besides=broken)
            new = {f"draw-{round_}-{k}-{j}": f"{prefix}-{place}" for j, place in enumerate(spans[k])}
            drawn += samples.counts.drawn
            rejected.update(samples.counts.rejected)
            rejected.update(broken.values())
            for crystal in samples.crystals:
                if (id_ := crystal.ids[0]) not in broken:
                    found[new[id_]] = crystal.with_ids([new[id_]])
            failures |= {new[id_]: reason for id_, reason in samples.failures.items()}
            for name, values in samples.columns.items():
                kept = {new[i]: v for i, v in values.items() if i not in broken}
                columns.setdefault(name, {}).update(kept)
            for j, place in enumerate(spans[k]):
                if (id_ := f"draw-{round_}-{k}-{j}") in broken:
                    missing.append(place)
                    reasons[place] = broken[id_]
        missing.sort()
    if missing and not found:
        most = ", ".join(f"{n} × {reason}" for reason, n in rejected.most_common())
        raise ConstraintError(
            f"none of {drawn} crystals drawn obeys ({'; '.join(constraints.describe())}): {most}"
        )
    for place in missing:
        failures[f"{prefix}-{place}"] = f"nothing that obeys was drawn: {reasons[place]}"
    ids = [f"{prefix}-{k}" for k in range(num)]
    crystals = Crystals.concatenate([found[i] for i in ids if i in found])
    return Samples(crystals, failures, Draws(num, drawn, dict(rejected)), columns)


def check_some(samples: Samples, constraints: Constraints) -> None:
    """Raises ConstraintError, with the most frequent reasons, where not one crystal was drawn."""
    if len(samples.crystals):
        return
    rejected = samples.counts.rejected
    why = Counter(rejected) if sum(rejected.values()) else Counter(samples.failures.values())
    most = ", ".join(f"{n} × {reason}" for reason, n in why.most_common(3))
    raise ConstraintError(f"not one crystal was drawn ({'; '.join(constraints.describe())}): {most}")


def first_blocks(num: int, seed: int, device: str) -> list[Task]:
    """What :func:`draw` begins with, before anything is drawn again."""
    return _tasks(_spans(list(range(num)), device), seed, 0)


def _spans(places: list[int], device: str) -> list[list[int]]:
    block = BLOCK if device == "cpu" else GPU_BLOCK
    return [places[start : start + block] for start in range(0, len(places), block)]


def _tasks(spans: Sequence[Sequence[int]], seed: int, round_: int) -> list[Task]:
    return [(len(s), _seed(seed, round_, k), f"draw-{round_}-{k}") for k, s in enumerate(spans)]


def _seed(seed: int, round_: int, block: int) -> int:
    """31 bits, so that anyone's generator takes it."""
    state = np.random.SeedSequence(seed, spawn_key=(round_, block)).generate_state(1)
    return int(state[0]) & 0x7FFFFFFF


def run_blocks(
    generator: Sampler, tasks: Sequence[Task], device: str, processes: int, progress: Progress | None
) -> Iterator[tuple[int, Samples]]:
    """The samples of each task, in the order of the tasks."""
    total = sum(num for num, _, _ in tasks)
    if not on_executor("generate") and (len(tasks) == 1 or processes <= 1):
        before = 0
        for k, task in enumerate(tasks):

            def report(done: int, _: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, total)

            yield k, _draw_task(generator, task, device, report)
            before += task[0]
        return
    finished: dict[int, Samples] = {}
    with open_pool("generate", _set_up, (generator, device), min(processes, len(tasks)), ONE_THREAD) as pool:
        for k, task in enumerate(tasks):
            pool.submit(k, task, tries=2)
        for k, done in pool.results():
            if done.kind != "done":
                raise RuntimeError(f"a worker process that draws crystals failed: {done.trouble}")
            finished[k] = done.value
            if progress is not None:
                progress(sum(tasks[j][0] for j in finished), total)
    yield from sorted(finished.items())


def _draw_task(generator: Sampler, task: Task, device: str, progress: Progress | None) -> Samples:
    num, seed, prefix = task
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else threads)
    try:
        return generator.sample(num, seed=seed, device=device, prefix=prefix, progress=progress)
    finally:
        torch.set_num_threads(threads)


def _set_up(generator: Sampler, device: str) -> Any:
    return lambda task: _draw_task(generator, task, device, None)


# -- drift ---------------------------------------------------------------------------------------


def drift(samples: Samples, generator: Sampler, constraints: Constraints) -> list[str]:
    """Warnings, a sentence each, of elements that are far more or less frequent than where they come from.

    For a generator that knows its ``element_shares``, (119,) shares of the crystals it learnt from or starts
    from. An element is named if its share changed by at least a third and 3 % of the crystals, and by more
    than four standard errors. Elements that the constraints speak of are not judged.
    """
    shares = getattr(generator, "element_shares", None)
    num = len(samples.crystals)
    told = constraints.named or constraints.all_of or constraints.any_of is not None
    if shares is None or num < 30 or told:
        return []
    before, now = np.asarray(shares), element_shares(samples.crystals)
    error = np.sqrt(np.maximum(before * (1 - before), 1e-4) / num)
    far = np.abs(now - before)
    named = (far > 4 * error) & (far >= 0.03) & (far >= before / 3)
    named[list(constraints.excluded)] = False
    return [
        f"{symbols([z])[0]} is in {100 * now[z]:.1f} % of the crystals, "
        f"but in {100 * before[z]:.1f} % of those that the generator starts from"
        for z in np.flatnonzero(named).tolist()
    ]
