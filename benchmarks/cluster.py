"""What work beyond one machine costs: the head of a relaxation with many workers, and a million candidates.

    python benchmarks/cluster.py head --rows 100000 --workers 1000 --seconds 1
    python benchmarks/cluster.py million

``head`` relaxes crystals that are made up, on workers that sleep and hand back what they were sent: all that
is measured is the process that hands the work out. ``million`` measures each step of a search on one core, in
CPU seconds, and multiplies. Both print a line of Markdown for docs/cluster.md.
"""

from __future__ import annotations

import argparse
import heapq
import os
import pickle
import resource
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from crysjepa import api
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.course import Outcome, RelaxRecord
from crysjepa.relaxation.settings import RelaxSettings
from crysjepa.runtime.executors import executing_on

SITES = 10
"""Mean number of sites of a crystal that is made up."""


class Sleepers(Executor):
    """So many workers, each of which sleeps about so long and hands back its crystals as they came."""

    def __init__(self, workers: int, seconds: float) -> None:
        self.free, self.seconds, self.taken = workers, seconds, 0
        self.asleep: list[tuple[float, int, Future[Any], Crystals]] = []
        self.queue: deque[tuple[Future[Any], Crystals]] = deque()
        self.changed, self.ended = threading.Condition(), False
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A chunk of a relaxation: its set-up is not looked at."""
        future: Future[Any] = Future()
        with self.changed:
            self.queue.append((future, pickle.loads(pickle.dumps(args[1]))))  # noqa: S301 - as a wire would
            self.changed.notify()
        return future

    def _run(self) -> None:
        while not self.ended:
            awake = []
            with self.changed:
                now = time.monotonic()
                while self.asleep and self.asleep[0][0] <= now:
                    awake.append(heapq.heappop(self.asleep)[2:])
                    self.free += 1
                while self.free and self.queue:
                    self.free, self.taken = self.free - 1, self.taken + 1
                    until = now + self.seconds * (0.5 + self.taken * 7919 % 1000 / 1000)
                    heapq.heappush(self.asleep, (until, self.taken, *self.queue.popleft()))
                if not awake:
                    self.changed.wait(0.001 if self.asleep else 0.05)
            for future, chunk in awake:
                future.set_result(("done", [_as_it_came(c) for c in chunk]))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No worker wakes any more."""
        self.ended = True


def _as_it_came(crystal: Crystals) -> Outcome:
    record = RelaxRecord(-1.0, -2.0, True, 7, 0.01, 0.1, 0.01, 0.02, 1.0)
    return Outcome(crystal.ids[0], crystal, record)


def made_up(num: int) -> Crystals:
    """Atoms on a coarse grid in cubes of 18 Å³ an atom: fit to be relaxed."""
    rng = np.random.default_rng(0)
    counts = rng.integers(SITES // 2, SITES * 3 // 2 + 1, num)
    grid = np.stack(np.meshgrid(*[np.arange(3) / 3] * 3), axis=-1).reshape(-1, 3)
    coords = np.concatenate([grid[:n] for n in counts.tolist()])
    edges = (SITES * 18.0) ** (1 / 3) * rng.uniform(0.95, 1.05, num)
    lattices = edges[:, None, None] * np.eye(3)
    numbers = rng.integers(1, 80, len(coords))
    return Crystals(numbers, coords, lattices, counts, tuple(f"c-{i}" for i in range(num)))


def head(rows: int, workers: int, seconds: float) -> None:
    """Relax ``rows`` crystals on ``workers`` that sleep."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in.parquet", Path(folder) / "out.parquet"
        if (child := os.fork()) == 0:  # so that making them up is not in the peak
            CandidateTable.from_crystals(made_up(rows)).write(source)
            os._exit(0)
        os.waitpid(child, 0)
        settings = RelaxSettings(max_steps=7)
        before, began, cpu = _peak(), time.monotonic(), time.process_time()
        with executing_on(Sleepers(workers, seconds)):
            api.relax(source, out, force_field="ase.calculators.emt:EMT", settings=settings, device="cpu")
        wall, cpu = time.monotonic() - began, time.process_time() - cpu
    chunks = -(-rows // settings.chunk_size)
    print(
        f"| {rows:,} | {workers:,} | {seconds:g} | {chunks:,} | {wall:.0f} | {1000 * cpu / chunks:.1f} | "
        f"{chunks / wall:.0f} | {before:.2f} | {_peak():.2f} |"
    )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def million(num: int, relaxed: int) -> None:
    """CPU seconds of drawing ``num`` crystals, ranking them, and relaxing ``relaxed`` of the best."""
    import torch

    from crysjepa.relaxation.batch_optimizer import relax_together
    from crysjepa.relaxation.force_fields.registry import get_force_field
    from crysjepa.relaxation.settings import QUICK

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        new, ranked = Path(folder) / "new.parquet", Path(folder) / "ranked.parquet"
        api.generate(
            8, Path(folder) / "first.parquet", seed=9, processes=1, device="cpu"
        )  # what is loaded once
        drawing = _cpu(lambda: api.generate(num, new, seed=1, processes=1, device="cpu")) / num
        api.screen(Path(folder) / "first.parquet", "known", Path(folder) / "one.parquet", device="cpu")
        ranking = _cpu(lambda: api.screen(new, "known", ranked, device="cpu")) / num
        best = pq.read_table(ranked, columns=["id", "rank"]).to_pylist()
        ids = [row["id"] for row in best if row["rank"] is not None][:relaxed]
        crystals = CandidateTable.read(new).crystals(ids)
        field = get_force_field("chgnet", "cpu")
        chunks = [crystals[i : i + QUICK.chunk_size] for i in range(0, len(crystals), QUICK.chunk_size)]
        relax_together(crystals[:1], field, QUICK)
        relaxing = _cpu(lambda: [relax_together(c, field, QUICK) for c in chunks]) / len(crystals)
    hours = [1e6 * s / 3600 for s in (drawing, ranking, relaxing)]
    print(
        f"| {1 / drawing:.1f} | {1 / ranking:.0f} | {1 / relaxing:.2f} | {hours[0]:.0f} | {hours[1]:.1f} | "
        f"{hours[2] / 10:.0f} | {hours[2]:.0f} |"
    )


def _cpu(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("head")
    one.add_argument("--rows", type=int, default=100_000)
    one.add_argument("--workers", type=int, default=1000)
    one.add_argument("--seconds", type=float, default=1.0, help="that a worker sleeps on a chunk, about")
    two = parts.add_parser("million")
    two.add_argument("--num", type=int, default=512, help="crystals that are drawn and ranked")
    two.add_argument("--relaxed", type=int, default=96)
    chosen = parser.parse_args()
    if chosen.part == "head":
        head(chosen.rows, chosen.workers, chosen.seconds)
    else:
        million(chosen.num, chosen.relaxed)


if __name__ == "__main__":
    main()
