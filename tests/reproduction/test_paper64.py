"""The page beside the paper says what the kept run has."""

import json
from pathlib import Path

import pytest

from crysjepa.report.reproduction import refinement

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("run", "heading", "seeded"),
    [("paper64.json", "At a 64th", True), ("paper64_ablations.json", "Other k and 𝒩, other losses", False)],
)
def test_the_documented_rates_are_those_of_the_run(run, heading, seeded):
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    found = json.loads((ROOT / "reproduce" / run).read_text(encoding="utf-8"))
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for name, valid, stable, novel, _, vsun, _, ratio, seeds, _ in refinement(found).rows:
        own = " | ".join(
            (valid, stable, novel, vsun, *(() if ratio == "–" else (ratio, seeds) if seeded else (ratio,)))
        )
        assert sum(own in line for line in lines) == 1, name
