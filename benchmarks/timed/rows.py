"""What is timed, and beside what."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
from generation.speed import plain_sampling
from judging.prints import compare_fingerprints
from ranking.data import split_valid
from ranking.timing import Ours, OwnChgnet, spread_by_size

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.energy.known_hull import NAME, known_hull
from crysjepa.evaluation.reference import Known
from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.generators.registry import make_generator
from crysjepa.ranking.registry import RankerContext, make_ranker
from crysjepa.runtime.files import read_json

HERE = Path(__file__).parents[1]
GENERATED = Path("peers") / "diffcsp_mp20_first2000.parquet"


@dataclass(frozen=True)
class Plan:
    """Where the data are, where files go, and whether a tenth will do."""

    data: Path
    out: Path
    quick: bool

    def number(self, full: int) -> int:
        """``full``, or a tenth of it."""
        return max(4, full // 10) if self.quick else full

    def generated(self, count: int) -> Crystals:
        """The first of DiffCSP's crystals."""
        return datasets.load(str(self.data / GENERATED)).crystals()[:count]


def row(what: str, unit: str, peer: str, ours: float, theirs: float | None, **more: Any) -> dict[str, Any]:
    """Ours and the peer's, as a rate in ``unit``."""
    return {"what": what, "unit": unit, "peer": peer, "ours": ours, "theirs": theirs, **more}


def in_turns(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 3
) -> tuple[float, float]:
    """Median seconds of each; who goes first changes from round to round."""
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            seconds[side].append(_seconds((ours, theirs)[side]))
    return median(seconds[0]), median(seconds[1])


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def command(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Python with these words; what it printed is kept."""
    line = [sys.executable, *map(str, words)]
    return subprocess.run(line, check=check, capture_output=True, text=True)


def ranking(plan: Plan) -> dict[str, Any]:
    """``jepa-hull`` in batches, from crystals to heights above the hull; CHGNet's own call, energies."""
    return _ranked(plan, "ranking in batches", plan.number(1000), plan.number(80), together=True)


def ranking_singly(plan: Plan) -> dict[str, Any]:
    """The same, one crystal after another."""
    count = plan.number(80)
    return _ranked(plan, "ranking one by one", count, count, together=False)


def _ranked(plan: Plan, what: str, ours: int, theirs: int, *, together: bool) -> dict[str, Any]:
    crystals, _ = split_valid(plan.generated(1000))
    context = RankerContext(Known.load(NAME).crystals(), hull=known_hull())
    ranker, own = Ours(make_ranker("jepa-hull", context)), OwnChgnet.load()
    for contender in (ranker, own):
        ready: Any = contender.prepare(crystals[:8])
        contender.singly(ready)
        contender.together(ready)
    many = ranker.prepare(crystals[spread_by_size(crystals, ours)])
    few = own.prepare(crystals[spread_by_size(crystals, theirs)])
    if together:
        seconds = in_turns(lambda: ranker.together(many), lambda: own.together(few))
    else:
        seconds = in_turns(lambda: ranker.singly(many), lambda: own.singly(few))
    return row(what, "crystals/s", "CHGNet's own call", ours / seconds[0], theirs / seconds[1], num=ours)


def million(plan: Plan) -> dict[str, Any]:
    """``crysjepa screen`` from Parquet to Parquet, start included; there is no peer."""
    count = plan.number(1_000_000)
    told = command(HERE / "screen_million.py", "--num", str(count), "--folder", plan.out / "million").stdout
    seconds, memory = re.findall(r"rows in ([\d.]+) s: \d+ rows/s, (\d+) MB", told)[0]
    shutil.rmtree(plan.out / "million")
    return row(
        "a million candidates from Parquet to Parquet",
        "rows/s",
        "none",
        count / float(seconds),
        None,
        num=count,
        note=f"{memory} MB at most",
    )


def start(plan: Plan) -> dict[str, Any]:
    """A verb that ends at once: an error for a path that is not there."""

    def mistyped() -> None:
        told = command("-m", "crysjepa", "evaluate", plan.out / "no-such-file.cif", check=False)
        assert told.returncode != 0 and "no-such-file" in told.stderr

    ours, theirs = in_turns(mistyped, lambda: command("-c", "import pymatgen.core"), rounds=5)
    return row("error for a mistyped path", "a second", "`import pymatgen.core`", 1 / ours, 1 / theirs, num=5)


def evaluation(plan: Plan) -> dict[str, Any]:
    """``crysjepa evaluate --no-relax`` with its page; a script that finds duplicates and known crystals."""
    count = plan.number(1000)
    source, out = plan.out / "evaluated.parquet", plan.out / "evaluated"
    pq.write_table(pq.read_table(plan.data / GENERATED).slice(0, count), source)

    def ours() -> None:
        shutil.rmtree(out, ignore_errors=True)
        command("-m", "crysjepa", "evaluate", source, "--no-relax", "--out", out)

    seconds = in_turns(ours, lambda: command(HERE / "timed" / "plain_evaluation.py", source), rounds=3)
    return row(
        "`evaluate --no-relax`, the whole command",
        "crystals/s",
        "a plain script of StructureMatcher",
        count / seconds[0],
        count / seconds[1],
        num=count,
    )


def relaxation(plan: Plan) -> dict[str, Any]:
    """By ``relaxation.py``, in as many processes as cores on both sides."""
    return _relaxed(plan, "fire", "relaxation, ASE's FIRE")


def relaxation_quasi_newton(plan: Plan) -> dict[str, Any]:
    """The same run's other optimiser."""
    return _relaxed(plan, "quasi-newton", "relaxation, `quasi-newton`")


def _relaxed(plan: Plan, optimizer: str, what: str) -> dict[str, Any]:
    count, out = plan.number(72), plan.out / "relaxation"
    numbers = ("--num", str(count), "--plain", str(count))
    command(HERE / "relaxation.py", "--data", plan.data, "--out", out, *numbers)
    found = read_json(out / "relaxation.json")
    way, plain = found["ways"][optimizer], found["plain"]
    ends = f"{way['close']} of {way['both_converged']} end within 2 meV/atom, {way['lower']} lower"
    rates = count / way["seconds"], count / plain["seconds"]
    return row(
        what, "crystals/s", f"ASE in {found['cores']} processes", *rates, num=count,
        note=f"{ends}, {way['higher']} higher",
    )  # fmt: skip


def flow(plan: Plan) -> dict[str, Any]:
    """Sampling by the flow as it ships; the plain loop takes 256 steps on padded batches as they come."""
    generator = make_generator("flow")
    assert isinstance(generator, FlowGenerator)
    generator.sample(8, seed=1)
    ours, theirs = plan.number(400), plan.number(40)
    seconds = in_turns(
        lambda: generator.sample(ours, seed=2), lambda: plain_sampling(generator, theirs, seed=2), rounds=3
    )
    rates = ours / seconds[0], theirs / seconds[1]
    return row("flow sampling", "crystals/s", "plain loop of 256 steps", *rates, num=ours)


def fingerprints(plan: Plan) -> dict[str, Any]:
    """CrystalNN and Magpie; matminer's own on one core."""
    found = compare_fingerprints(plan.generated(plan.number(400)))
    if "not_measured" in found:
        return {"what": "fingerprints", "missing": found["not_measured"]}
    count, cores = found["num_crystals"], found["processes"]
    rates = count / found["seconds"] / cores, count / found["plain_seconds"]
    return row("fingerprints, a core", "crystals/s", "matminer, one by one", *rates, num=count)


ROWS: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "ranking": ranking,
    "ranking-singly": ranking_singly,
    "million": million,
    "start": start,
    "evaluation": evaluation,
    "relaxation": relaxation,
    "relaxation-quasi-newton": relaxation_quasi_newton,
    "flow": flow,
    "fingerprints": fingerprints,
}
