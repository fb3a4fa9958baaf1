"""The loop with objectives: it measures, learns and lists what was asked for, and compares with chance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from crysjepa.cli.main import app
from crysjepa.core.candidates import CandidateTable
from crysjepa.discovery.aimed import aimed_rates
from crysjepa.discovery.config import DiscoverConfig
from crysjepa.discovery.controls import OTHER, at_random_vun
from crysjepa.discovery.loop import discover_crystals
from crysjepa.properties.objective import Objective
from crysjepa.ranking.selection import ranked_vun
from crysjepa.runtime.errors import RunError

if TYPE_CHECKING:
    from conftest import TinyWorld

DENSITY, PRICE = "density<=6", "element_price<=300"


@pytest.fixture(scope="module")
def settings(tiny: TinyWorld) -> dict[str, Any]:
    return {
        "reference": str(tiny.reference),
        "generator": str(tiny.generator),
        "jepa": str(tiny.jepa),
        "num": 8,
        "num_refined": 4,
        "oversample": 2,
        "control": 3,
        "learning_control": True,
        "finetune": {"steps": 3, "batch_size": 4, "warmup": 1, "record_every": 1, "checkpoint_every": 1},
        "protocol": {**tiny.protocol, "e_above_hull_max": 50.0},
        "objectives": (DENSITY, PRICE),
    }


@pytest.fixture(scope="module")
def run(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("aimed") / "run"
    discover_crystals(DiscoverConfig(**settings), out)
    return out


def metrics(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return found


def test_both_controls_are_there_and_measured(run: Path) -> None:
    first, second = (run / f"round-{r}" for r in (0, 1))
    files = [first / "control.parquet", second / "control.parquet", second / OTHER / "control.parquet"]
    for path in files:
        table = CandidateTable.read(path)
        assert 0 < len(table) <= 3
        assert {"density", "element_price", "merit", "meets_targets"} <= set(table.frame.columns)
        assert b"crysjepa" in pq.read_schema(path).metadata, "it says whose its energies are"
    assert (second / OTHER / "generator.safetensors").exists() and not (first / OTHER).exists()
    own, other = (p.read_bytes() for p in second.rglob("generator.safetensors"))
    assert own != other


def test_every_crystal_has_values_and_the_short_list_meets_the_targets(run: Path) -> None:
    table = CandidateTable.read(run / "candidates.parquet")
    columns = ("shortlist_rank", "density", "element_price", "meets_targets", "merit")
    rows = list(zip(*(table.column(c) for c in columns), strict=True))
    for rank, density, price, meets, merit in rows:
        if meets is not None:
            assert meets == (density <= 6 and price <= 300) and merit is not None
        assert rank is None or meets
    ok = set(table.ok_ids)
    listed = {i for i, (rank, *_) in zip(table.ids, rows, strict=True) if rank is not None}
    hits = {i for i, (*_, meets, _) in zip(table.ids, rows, strict=True) if meets and i in ok}
    assert listed == hits and sum(rank is not None for rank, *_ in rows) == metrics(run)["shortlist"]


def test_metrics_say_how_often_it_was_met(run: Path) -> None:
    found = metrics(run)
    assert [o["objective"] for o in found["objectives"]] == [DENSITY, PRICE]
    assert found["combine"] == "product"
    first, second = found["rounds"]
    for entry, num in ((first, 8), (second, 4)):
        assert entry["aimed"]["num"] == num and 0 < entry["control"]["aimed"]["num"] <= 3
        for rates in (entry["aimed"], entry["control"]["aimed"]):
            assert 0 <= rates["vsun_and_meets"] <= rates["meets_targets"] <= 1
            assert rates["stable_and_meets"] <= rates["meets_targets"]
            assert set(rates["intervals"]) == set(rates) - {"num", "intervals"}
    assert second["learnt_at_random"]["aimed"]["num"] == 3 and "learnt_at_random" not in first


def test_elements_beyond_a_target_are_drawn_by_nobody(run: Path) -> None:
    beyond = Objective.parse(PRICE).elements_beyond()
    assert {9, 19} <= beyond, "fluorine and potassium, which are among the known crystals"
    tables = [*run.rglob("generated.parquet")]
    assert len(tables) == 3, "of two rounds and of a control"
    for path in tables:
        table = CandidateTable.read(path)
        crystals = table.crystals(table.ok_ids)
        assert len(crystals) and not beyond & set(crystals.atomic_numbers.tolist())
    assert any("F" in line and "K" in line for line in metrics(run)["asked"])


def test_the_page_tells_of_it(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert 'id="objectives"' in page and "density&lt;=6" in page
    assert "refined, by a generator that learnt at random" in page


def test_rates_are_counted_from_the_table(run: Path) -> None:
    table = CandidateTable.read(run / "round-0" / "control-evaluated.parquet")
    assert aimed_rates(table) is None, "before anything was measured"
    table = CandidateTable.read(run / "round-0" / "measured.parquet")
    found = aimed_rates(table)
    assert found is not None
    meets, stable = table.column("meets_targets"), table.column("stable")
    assert found["meets_targets"] * len(table) == pytest.approx(meets.count(True))
    both = sum(bool(m and s) for m, s in zip(meets, stable, strict=True))
    assert found["stable_and_meets"] * len(table) == pytest.approx(both)
    chosen = at_random_vun(table, 2, (0, 1))
    assert set(chosen) <= set(ranked_vun(table)) and chosen == at_random_vun(table, 2, (0, 1))


def test_other_objectives_are_another_run(settings: dict[str, Any], run: Path) -> None:
    with pytest.raises(RunError, match=r"other settings \(objectives\)"):
        discover_crystals(DiscoverConfig(**{**settings, "objectives": (DENSITY,)}), run)


@pytest.mark.slow
def test_what_is_best_without_a_target(settings: dict[str, Any], tmp_path: Path) -> None:
    few = {**settings, "num": 4, "num_refined": 2, "objectives": ("max:density",), "combine": "pareto"}
    discover_crystals(DiscoverConfig(**few), tmp_path / "run")
    found = metrics(tmp_path / "run")
    assert found["rounds"][0]["aimed"] is None and found["combine"] == "pareto"
    table = CandidateTable.read(tmp_path / "run" / "candidates.parquet")
    merits = table.column("merit", table.ok_ids)
    listed = [r for r in table.column("shortlist_rank", table.ok_ids) if r is not None]
    assert len(listed) == sum(m is not None for m in merits)


@pytest.mark.parametrize(
    ("objectives", "word"),
    [
        (("beauty>=5",), "no property 'beauty'"),
        (("density>=5", "density<=4"), "no density is at least 5"),
        (("element_price<=0.001",), "element"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(objectives: tuple[str, ...], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        DiscoverConfig(objectives=objectives)


def test_a_target_may_forbid_what_a_constraint_names() -> None:
    with pytest.raises(ValidationError):
        DiscoverConfig(objectives=(PRICE,), constraints={"chemical_system": "K-Cl"})
    assert 19 in DiscoverConfig(objectives=(PRICE,)).wanted.excluded
    assert DiscoverConfig(objectives=("density<=6",)).wanted == DiscoverConfig().wanted


@pytest.mark.parametrize("more", [["--objective", "density>5"], ["--combine", "pareto"]])
def test_on_the_command_line(tmp_path: Path, more: list[str]) -> None:
    result = CliRunner().invoke(app, ["discover", "--out", str(tmp_path / "run"), *more])
    assert result.exit_code == 2 and not (tmp_path / "run").exists()
    assert len(result.output.strip().splitlines()) == 1
