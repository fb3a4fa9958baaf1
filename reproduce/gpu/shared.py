"""What the stages share: words on the console, numbers in files, and a clock for steps."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from crysjepa.generators.flow.generator import FlowGenerator
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.nn.training import Training


def say(line: str) -> None:
    """One line of progress, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def keep(path: Path, found: dict[str, Any]) -> None:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")


def keep_time(what: Path, num: int, seconds: float, processes: int, device: str) -> None:
    """How long it took to draw or relax so many crystals, beside the file or folder with them."""
    found = {"num": num, "seconds": seconds, "processes": processes, "device": name_of(device)}
    keep(what.with_name(f"{what.name}.time.json"), found)


def keep_model(
    model: FlowGenerator | CrysJepa, training: Training, out: Path, num: int, data: list[str], device: str
) -> None:
    """The weights, with a card of what they were trained on, and the curve beside them; a generator's are
    bfloat16.
    """
    seconds = round(training.seconds)
    card = {
        "num_crystals": num,
        "data": data,
        "seconds": seconds,
        "device": name_of(device),
        "last": training.curve[-1],
    }
    if isinstance(model, CrysJepa):
        model.save(out, card=card)
    else:
        model.save(out, dtype=torch.bfloat16, card=card)
    keep(out.with_suffix(".curve.json"), {"seconds": seconds, "curve": training.curve})


def name_of(device: str) -> str:
    """What a result says it ran on."""
    return torch.cuda.get_device_name() if device != "cpu" else "cpu"


def wait(path: Path | None) -> None:
    """Until the file is there."""
    while path is not None and not path.exists():
        time.sleep(0.5)


class Clock:
    """A progress callback that times steps from the ``skip``-th on."""

    def __init__(self, skip: int) -> None:
        self.skip, self.seconds, self.steps = skip, 0.0, 0
        self._started = 0.0

    def __call__(self, done: int, total: int) -> None:
        if done not in (self.skip, total):
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if done == self.skip:
            self._started = time.perf_counter()
        else:
            self.seconds, self.steps = time.perf_counter() - self._started, total - self.skip
