"""Killed at any point, a verb goes on and ends in the same bytes: ``CRYSJEPA_KILLS=50`` before a release.

Minutes, so by default nothing is killed here; ``tests/discovery`` kills a run once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("CRYSJEPA_KILLS", "0"))
DRIVER = Path(__file__).parents[1] / "helpers" / "kills.py"


@pytest.mark.skipif(not KILLS, reason="CRYSJEPA_KILLS says how often")
@pytest.mark.timeout(60 + 120 * KILLS)
@pytest.mark.parametrize("verb", ["discover", "evaluate", "train", "pretrain"])
def test_a_verb_that_is_killed_goes_on_to_the_same_bytes(verb, tiny, tmp_path):
    world = {
        "reference": str(tiny.reference), "generator": str(tiny.generator), "jepa": str(tiny.jepa),
        "protocol": tiny.protocol,
    }  # fmt: skip
    seed = os.environ.get("CRYSJEPA_KILLS_SEED", "0")
    command = [sys.executable, str(DRIVER), verb, json.dumps(world), str(KILLS), seed, str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("the same again") >= 1
