"""What the generators' benchmark measures of the flow, on a tiny one."""

import pytest
from generation.speed import STEPS, draw_steps, measure_speed, share, speed_page

from crysjepa.generators.flow.generator import FlowGenerator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def speed(tiny):
    said = []
    known = str(tiny.reference)
    generator = FlowGenerator.load(tiny.generator)
    found = measure_speed(generator, 4, reference=known, hull=known, seed=1, say=said.append)
    assert len(said) == len(STEPS) + 1
    assert generator.steps == found["shipped_steps"], "measuring leaves the generator as it was"
    return found


def test_every_number_of_steps_is_measured(speed):
    assert [r["steps"] for r in speed["sampling"]] == list(STEPS)
    for row in speed["sampling"]:
        assert row["seconds"] > 0 and 0 <= row["expected_stable"] <= row["valid"] <= 1
    assert speed["plain_seconds"] > 0 and all(v > 0 for v in speed["training"].values())


def test_page_and_figure(speed):
    page = speed_page(speed)
    assert all(f"| {steps} |" in page for steps in STEPS if steps != speed["shipped_steps"])
    assert f"| {speed['shipped_steps']} (shipped) |" in page
    (panel,) = draw_steps(speed).axes
    assert panel.get_xlabel() == "steps of sampling" and len(panel.containers) == 2


def test_a_share_has_its_interval():
    assert share(0.5, 100) == "50.0 % (40–60)"
