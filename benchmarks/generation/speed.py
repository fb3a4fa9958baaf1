"""What the flow's shortcuts are worth: steps of sampling against quality, crystals a second in training."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import composition_validity, invalid_structures
from crysjepa.energy.limits import within
from crysjepa.evaluation.rates import wilson_interval
from crysjepa.generators.flow.generator import FlowGenerator, settle_all
from crysjepa.generators.flow.orbit_batches import PackedOrbits
from crysjepa.generators.flow.paths import Flow, FlowLoss, arrange, compose, draw_noise
from crysjepa.nn.batches import epoch_batches
from crysjepa.report.style import ROUND_COLOURS, ROUND_MARKERS, in_house_style
from crysjepa.workflows.screen import screen

PLAIN_STEPS = 256
STEPS = (8, 16, 32, 64, 96, PLAIN_STEPS)
BATCH = 64
PLAIN_TRAINING = "sites, in batches as they come"


def steps_against_quality(
    generator: FlowGenerator, num: int, *, reference: str, hull: str, seed: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """For each number of steps: CPU seconds for ``num`` crystals, V, and the stability Crys-JEPA expects."""
    found = []
    shipped_steps = generator.steps
    for steps in STEPS:
        say(f"sampling with {steps} steps")
        generator.steps = steps
        start = time.process_time()
        crystals = generator.sample(num, seed=seed).crystals
        seconds = time.process_time() - start
        found.append(
            {"steps": steps, "seconds": seconds, "num": num, **expected(crystals, num, reference, hull)}
        )
    generator.steps = shipped_steps
    return found


def expected(crystals: Crystals, num: int, reference: str, hull: str) -> dict[str, float]:
    """Shares of ``num``: valid; and valid with at most 0.1 eV/atom above the hull, as Crys-JEPA expects of
    them once they are relaxed.
    """
    compositions, structures = composition_validity(crystals), invalid_structures(crystals)
    valid = {i for i in crystals.ids if compositions[i] is None and i not in structures}
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "drawn.parquet", Path(folder) / "ranked.parquet"
        CandidateTable.from_crystals(crystals).write(path)
        screen(path, reference, out, by="jepa-relaxed", hull=hull, device="cpu")
        rows = pq.read_table(out, columns=["id", "score"]).to_pylist()
    low = {r["id"] for r in rows if r["score"] is not None and within(r["score"], 0.1)}
    return {"valid": len(valid) / num, "expected_stable": len(valid & low) / num}


@torch.inference_mode()
def plain_sampling(generator: FlowGenerator, num: int, *, seed: int) -> float:
    """CPU seconds for the plain loop: 256 steps, padded batches in the order in which crystals were drawn."""
    start = time.process_time()
    rng, templates = np.random.default_rng(seed), generator.templates
    noise = torch.Generator().manual_seed(seed)
    rows = rng.choice(len(templates), size=num, p=templates.weights)
    data = PackedOrbits([templates.settled(int(row)) for row in rows])
    times = torch.linspace(1.0, 0.0, PLAIN_STEPS + 1)
    allowed = torch.ones(100, dtype=torch.bool)
    for first in range(0, num, BATCH):
        batch = data.batch(np.arange(first, min(first + BATCH, num)))
        begin = draw_noise(batch, noise)
        numbers = compose(generator.flow, batch, begin, allowed, generator.temperature, noise)
        arrange(generator.flow, batch, numbers, begin, times, noise)
    return time.process_time() - start


def training_speed(flow: Flow, crystals: Crystals, *, batch_size: int = 128) -> dict[str, float]:
    """Crystals a CPU second in training, side by side: of orbits, of sites, of sites in batches as they come.

    Each way trains the same weights on every crystal once, a batch of each in turn, after a first batch that
    does not count.
    """
    orbits, sites = (PackedOrbits(settle_all(crystals, symmetric=s)) for s in (True, False))
    order = np.random.default_rng(0).permutation(len(sites))
    ways = {
        "orbits": (orbits, list(epoch_batches(orbits.num_atoms, batch_size, (0,)))),
        "sites": (sites, list(epoch_batches(sites.num_atoms, batch_size, (0,)))),
        PLAIN_TRAINING: (sites, np.array_split(order, max(1, len(order) // batch_size))),
    }
    steps = {name: _Step(flow, data) for name, (data, _) in ways.items()}
    for name, (_, batches) in ways.items():
        steps[name](batches[0])
    seconds, counts = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0)
    for k in range(max(len(batches) for _, batches in ways.values())):
        for name, (_, batches) in ways.items():
            if k < len(batches):
                seconds[name] += steps[name](batches[k])
                counts[name] += len(batches[k])
    return {name: counts[name] / seconds[name] for name in ways}


class _Step:
    """A step of training of a copy of the flow; calling it returns the CPU seconds that it took."""

    def __init__(self, flow: Flow, data: PackedOrbits) -> None:
        self.flow, self.data = _copy(flow), data
        self.loss, self.noise = FlowLoss(flow.config), torch.Generator().manual_seed(0)
        self.optimizer = torch.optim.AdamW(self.flow.parameters(), lr=1e-5)

    def __call__(self, rows: NDArray[np.int64]) -> float:
        start = time.process_time()
        self.loss(self.flow, self.data.batch(rows), self.noise)["loss"].backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.process_time() - start


def _copy(flow: Flow) -> Flow:
    made = Flow(flow.config, flow.sizes)
    made.load_state_dict(flow.state_dict())
    return made.train()


def measure_speed(
    generator: FlowGenerator, num: int, *, reference: str, hull: str, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """All of it, on one core."""
    known, shipped_steps = datasets.load(reference).crystals()[:1500], generator.steps
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        training = training_speed(generator.flow, known)
        sampling = steps_against_quality(generator, num, reference=reference, hull=hull, seed=seed, say=say)
        say("the plain loop")
        plain = plain_sampling(generator, num, seed=seed)
    finally:
        torch.set_num_threads(threads)
    return {
        "training": training,
        "sampling": sampling,
        "plain_seconds": plain,
        "shipped_steps": shipped_steps,
    }


def speed_page(speed: Mapping[str, Any]) -> str:
    """A figure and two tables."""
    plain, own = speed["plain_seconds"], speed["shipped_steps"]
    lines = [
        "![What the flow draws, against the number of steps](generators.svg)",
        "",
        "| steps | crystals a CPU second | times the plain loop | V | valid and expected stable |",
        "|---" * 5 + "|",
    ]
    for r in speed["sampling"]:
        lines.append(
            f"| {r['steps']}{' (shipped)' if r['steps'] == own else ''} | {r['num'] / r['seconds']:.3g} | "
            f"{plain / r['seconds']:.1f} | {share(r['valid'], r['num'])} | "
            f"{share(r['expected_stable'], r['num'])} |"
        )
    slowest = speed["training"][PLAIN_TRAINING]
    lines += [
        "",
        f"One core, CPU seconds; {speed['sampling'][0]['num']} crystals each, the same seed. The plain loop "
        f"is {PLAIN_STEPS} steps over padded batches in the order of drawing, elements chosen once. Stable: "
        "at most 0.1 eV/atom above the hull, as Crys-JEPA expects of the relaxed crystal.",
        "",
        "| training of | crystals a CPU second | times the plain way |",
        "|---|---|---|",
        *(f"| {k} | {v:.0f} | {v / slowest:.1f} |" for k, v in speed["training"].items()),
    ]
    return "\n".join(lines) + "\n"


def share(value: float, num: int) -> str:
    """In percent, with its Wilson interval."""
    low, high = wilson_interval(round(value * num), num)
    return f"{100 * value:.1f} % ({100 * low:.0f}–{100 * high:.0f})"


@in_house_style
def draw_steps(speed: Mapping[str, Any]) -> Figure:
    """Quality against the number of steps."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    panel = figure.subplots()
    steps = [r["steps"] for r in speed["sampling"]]
    for k, (name, label) in enumerate((("valid", "valid"), ("expected_stable", "valid and expected stable"))):
        shares = [100 * r[name] for r in speed["sampling"]]
        bounds = [wilson_interval(round(r[name] * r["num"]), r["num"]) for r in speed["sampling"]]
        errors = [
            [y - 100 * low for y, (low, _) in zip(shares, bounds, strict=True)],
            [100 * high - y for y, (_, high) in zip(shares, bounds, strict=True)],
        ]
        panel.errorbar(
            steps, shares, yerr=errors, label=label, color=ROUND_COLOURS[k], marker=ROUND_MARKERS[k],
            capsize=3,
        )  # fmt: skip
    panel.set_xscale("log", base=2)
    panel.set_xticks(steps, [str(s) for s in steps])
    panel.set_ylim(0, 105)
    panel.set_xlabel("steps of sampling")
    panel.set_ylabel("% of crystals")
    panel.legend()
    return figure
