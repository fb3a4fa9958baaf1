"""Runs a verb, killed with all of its processes at one of its calls of ``progress``, and again to its end.

``python kills.py VERB WORLD KILLS SEED FOLDER``: WORLD is JSON with the paths of a tiny world. What each run
leaves is compared, byte by byte, with what one leaves that was not killed. Prints a line for each kill.
"""

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from crysjepa import api
from crysjepa.discovery.config import DiscoverConfig
from crysjepa.evaluation.protocol import Protocol
from crysjepa.nn.training import TrainSettings

VERBS = {
    "discover": (
        "candidates.parquet",
        "metrics.json",
        "reference_map.parquet",
        "round-1/generator.safetensors",
    ),
    "evaluate": ("crystals.parquet", "metrics.json", "evaluation.html"),
    "train": ("model.safetensors",),
    "pretrain": ("model.safetensors",),
}
FEW = {"steps": 12, "batch_size": 7, "warmup": 2, "record_every": 1, "checkpoint_every": 1}


def do(verb, world, out, progress):
    """The verb, on tiny data."""
    known, options = world["reference"], {"device": "cpu", "progress": progress}
    settings = TrainSettings(**FEW)
    if verb == "train":
        api.train(known, out / "model.safetensors", settings=settings, **options)
    elif verb == "pretrain":
        api.pretrain(known, out / "model.safetensors", settings=settings, **options)
    elif verb == "evaluate":
        protocol = Protocol.model_validate(world["protocol"])
        api.evaluate(known, out, reference=known, protocol=protocol, **options)
    else:
        config = DiscoverConfig(
            reference=known, generator=world["generator"], jepa=world["jepa"], num=6, num_refined=4,
            oversample=2, control=2, keep=1.0, drift=None, finetune=FEW | {"steps": 4},
            protocol={**world["protocol"], "e_above_hull_max": 50.0},
        )  # fmt: skip
        api.discover(out, config=config, **options)


def in_a_child(verb, world, out, kill_at=None):
    """How the child ended (a signal, or an exit status), and how often it called ``progress``."""
    counter = out.parent / "calls.txt"
    counter.write_text("0")
    if (child := os.fork()) == 0:
        os.setsid()
        calls = 0

        def progress(*_):
            nonlocal calls
            calls += 1
            counter.write_text(str(calls))
            if calls == kill_at:  # now, or in the middle of what comes next
                delay = random.Random(kill_at).choice([0.0, 0.003, 0.03, 0.3])
                threading.Timer(delay, os.killpg, (os.getpgrp(), signal.SIGKILL)).start()

        code = 1
        try:
            do(verb, world, out, progress)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int(counter.read_text() or 0)


def left(verb, out):
    """What counts of a run."""
    return {name: (out / name).read_bytes() for name in VERBS[verb]}


def main(verb, world, kills, seed, folder):
    """Raises AssertionError where a run does not end as it should."""
    world, folder = json.loads(world), Path(folder)
    whole = folder / "whole"
    whole.mkdir(parents=True)
    code, calls = in_a_child(verb, world, whole)
    assert code == 0 and calls > 1, (code, calls)
    expected = left(verb, whole)
    for kill_at in random.Random(int(seed)).sample(range(1, calls + 1), min(int(kills), calls)):
        out = folder / "killed"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        started = time.monotonic()
        ended, _ = in_a_child(verb, world, out, kill_at)
        again, _ = in_a_child(verb, world, out)
        assert again == 0, f"{verb} killed at call {kill_at} of {calls}: the next run ends with {again}"
        differ = [name for name, content in left(verb, out).items() if content != expected[name]]
        assert not differ, f"{verb} killed at call {kill_at} of {calls}: {differ} differ"
        seconds = time.monotonic() - started
        print(
            f"{verb}: call {kill_at} of {calls}, ended with {ended}: the same again, {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
