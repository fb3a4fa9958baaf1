"""How long rankers take, one crystal after another and in batches, beside CHGNet as its own users call it.

Contenders take turns within a round, the order is reversed from one round to the next, and every number is a
median over the rounds, so that a machine that is busy for a while slows all of them alike.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch

from crysjepa.core.crystals import Crystals
from crysjepa.ranking.registry import Ranker
from crysjepa.runtime.files import read_json, write_json
from ranking.data import spread_by_size
from ranking.scoring import Bench, say, timed
from ranking.store import Store

OWN = "chgnet-own"
SLOW = ("chgnet", OWN)
SLOWEST = ("sevennet", "fingerprint")
SCALED_TO = 10_000
BATCH_SIZES = (8, 16, 32, 64)
PAPER_SECONDS = {"fingerprint": 1651.69, "chgnet": 339.49, "jepa-distance": 48.87}
"""Table 2 of the paper: 10,000 crystals one by one on an L40S."""


@dataclass(frozen=True)
class Plan:
    """Crystals that are timed one by one, in batches (of the slow), in both ways of the slowest; rounds."""

    one_by_one: int
    batched: int
    batched_slow: int
    slowest: int
    rounds: int

    def rows_for(self, name: str) -> int:
        """Crystals that a contender gets at once."""
        if name in SLOWEST:
            return self.slowest
        return self.batched_slow if name in SLOW else self.batched

    def singles_for(self, name: str) -> int:
        """Crystals that a contender gets one by one."""
        return self.slowest if name in SLOWEST else self.one_by_one


FULL = Plan(one_by_one=80, batched=1000, batched_slow=80, slowest=16, rounds=5)
QUICK = Plan(one_by_one=10, batched=60, batched_slow=10, slowest=4, rounds=2)


class Contender(Protocol):
    """Something that scores crystals."""

    def prepare(self, crystals: Crystals) -> Any:
        """What it takes crystals as; not timed."""
        ...

    def singly(self, prepared: Any) -> None:
        """Score one after another."""
        ...

    def together(self, prepared: Any) -> None:
        """Score as a user does who has them all."""
        ...


@dataclass(frozen=True)
class Ours:
    """A ranker, from crystals to scores: reading out embeddings or energies, and the hull, are part of it."""

    ranker: Ranker

    def prepare(self, crystals: Crystals) -> tuple[Crystals, list[Crystals]]:
        """The crystals together, and each by itself."""
        return crystals, list(crystals)

    def singly(self, prepared: tuple[Crystals, list[Crystals]]) -> None:
        """One after another."""
        for crystal in prepared[1]:
            self.ranker.score(crystal)

    def together(self, prepared: tuple[Crystals, list[Crystals]]) -> None:
        """All at once."""
        self.ranker.score(prepared[0])


@dataclass(frozen=True)
class OwnChgnet:
    """``CHGNet.predict_structure`` for energies alone, from pymatgen structures; no hull."""

    model: Any
    batch_size: int

    @classmethod
    def load(cls) -> OwnChgnet:
        """The version that the ranker has too."""
        from chgnet.model import CHGNet

        with contextlib.redirect_stdout(io.StringIO()):
            return cls(CHGNet.load(model_name="0.3.0", verbose=False, use_device="cpu"), BATCH_SIZES[0])

    def prepare(self, crystals: Crystals) -> list[Any]:
        """As pymatgen structures."""
        return list(crystals.to_structures())

    def singly(self, prepared: Sequence[Any]) -> None:
        """One after another."""
        for structure in prepared:
            self.model.predict_structure(structure, task="e")

    def together(self, prepared: Sequence[Any]) -> None:
        """In batches."""
        self.model.predict_structure(prepared, task="e", batch_size=self.batch_size)


def measure(benches: Sequence[Bench], crystals: Crystals, plan: Plan, store: Store) -> dict[str, Any]:
    """Seconds of every ranker, and of CHGNet by itself, on some of these (valid) crystals.

    Rounds that were measured before are kept; the summary is :func:`summarise`'s.
    """
    rankers = {name: ranker for bench in benches for name, ranker in bench.rankers.items()}
    rankers.pop("random", None)
    names = [*rankers, OWN]
    keys = tuple(f"{n}:{r.key}" for n, r in rankers.items())
    here = machine()
    parts = (*keys, crystals.content_hash(), str(plan), str(here))
    path = store.path("timing", parts, "json")
    with _quietly():
        own = OwnChgnet.load()
        done = read_json(path) if path.exists() else {"rounds": [], "load": []}
        if "batch_size" not in done:
            done |= _best_batch_size(own, crystals, plan)
        own = OwnChgnet(own.model, done["batch_size"])
        while len(done["rounds"]) < plan.rounds:
            turn = len(done["rounds"])
            say(f"timing: round {turn + 1} of {plan.rounds}")
            done["load"].append(round(os.getloadavg()[0], 2))
            contenders: dict[str, Contender] = {OWN: own}
            for bench in benches:
                contenders |= {name: Ours(r) for name, r in bench.again().items() if name in rankers}
            order = names if turn % 2 == 0 else names[::-1]
            done["rounds"].append(_round({n: contenders[n] for n in order}, crystals, plan))
            write_json(path, done)
    return {
        "machine": here,
        "load_before_each_round": done["load"],
        "chgnet_batch_size": done["batch_size"],
        "chgnet_batch_sizes_tried": done["batch_sizes_tried"],
        "num_one_by_one": {n: min(plan.singles_for(n), len(crystals)) for n in names},
        "num_batched": {n: min(plan.rows_for(n), len(crystals)) for n in names},
        "rounds": done["rounds"],
        "summary": summarise(done["rounds"]),
    }


def _round(contenders: Mapping[str, Contender], crystals: Crystals, plan: Plan) -> dict[str, Any]:
    """Seconds a crystal of each contender, in both ways; a few crystals go first, to warm up."""
    few = crystals[spread_by_size(crystals, 4)]
    seconds: dict[str, Any] = {"one_by_one": {}, "batched": {}}
    for contender in contenders.values():
        warm = contender.prepare(few)
        contender.singly(warm)
        contender.together(warm)
    for name, contender in contenders.items():
        singles = crystals[spread_by_size(crystals, plan.singles_for(name))]
        ready = contender.prepare(singles)
        seconds["one_by_one"][name] = timed(partial(contender.singly, ready)) / len(singles)
    for name, contender in contenders.items():
        some = crystals[spread_by_size(crystals, plan.rows_for(name))]
        ready = contender.prepare(some)
        seconds["batched"][name] = timed(partial(contender.together, ready)) / len(some)
    return seconds


def _best_batch_size(own: OwnChgnet, crystals: Crystals, plan: Plan) -> dict[str, Any]:
    ready = own.prepare(crystals[spread_by_size(crystals, plan.batched_slow)])
    own.together(ready[:4])
    tried = {size: timed(partial(OwnChgnet(own.model, size).together, ready)) for size in BATCH_SIZES}
    best = min(BATCH_SIZES, key=lambda size: tried[size])
    return {"batch_size": best, "batch_sizes_tried": {str(k): round(v, 3) for k, v in tried.items()}}


def summarise(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """Seconds for 10,000 crystals and how many times faster than CHGNet's own call, by name and way.

    Medians over the rounds, the ratio too (of the two times of one round); ``low`` and ``high`` are the
    extremes.
    """
    found: dict[str, dict[str, Any]] = {}
    for way in ("one_by_one", "batched"):
        for name in rounds[0][way]:
            seconds = [SCALED_TO * r[way][name] for r in rounds]
            ratios = [r[way][OWN] / r[way][name] for r in rounds]
            found.setdefault(name, {})[way] = {
                "seconds": median(seconds),
                "low": min(seconds),
                "high": max(seconds),
                "times_faster": median(ratios),
                "times_faster_low": min(ratios),
                "times_faster_high": max(ratios),
            }
    return found


def machine() -> dict[str, Any]:
    """What it was measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "torch_threads": torch.get_num_threads(),
    }


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """CHGNet warns of atoms without neighbours, and of tensors that it makes numbers of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
