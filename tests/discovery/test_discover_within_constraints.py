"""The loop within constraints: every round draws what was asked for, and the run says so."""

import json

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from crysjepa.cli.main import app
from crysjepa.core.candidates import CandidateTable
from crysjepa.discovery.config import DiscoverConfig
from crysjepa.discovery.loop import discover_crystals
from crysjepa.generators.constraint_text import ANIONS
from crysjepa.generators.constraints import ConstraintError
from crysjepa.runtime.errors import RunError


@pytest.fixture(scope="module")
def settings(tiny):
    return {
        "reference": str(tiny.reference),
        "generator": str(tiny.generator),
        "jepa": str(tiny.jepa),
        "num": 8,
        "num_refined": 4,
        "oversample": 2,
        "control": 2,
        "finetune": {"steps": 3, "batch_size": 4, "warmup": 1, "record_every": 1, "checkpoint_every": 1},
        "protocol": {**tiny.protocol, "e_above_hull_max": 50.0},
    }


def drawn(out, round_):
    table = CandidateTable.read(out / f"round-{round_}" / "generated.parquet")
    return table.crystals(table.ok_ids)


@pytest.fixture(scope="module")
def chemistry(settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("chemistry") / "run"
    constraints = {"elements": "Li,Na,K,Rb,O,F,Cl,Br", "formula": "AX", "space_group": "cubic"}
    discover_crystals(DiscoverConfig(**settings, constraints=constraints), out)
    return out


def test_every_round_draws_what_was_asked_for(chemistry):
    for number, num in ((0, 16), (1, 8)):
        crystals = drawn(chemistry, number)
        assert 0 < len(crystals) <= num
        for crystal in crystals:
            assert set(crystal.atomic_numbers.tolist()) <= {3, 11, 19, 37, 8, 9, 17, 35}
            assert len(set(crystal.atomic_numbers.tolist())) == 2 == crystal.num_atoms[0]


def test_the_run_and_its_page_say_what_was_asked_for_and_what_was_drawn_again(chemistry):
    metrics = json.loads((chemistry / "metrics.json").read_text())
    assert metrics["asked"][0] == "only the elements Li, O, F, Na, Cl, K, Br, Rb"
    for entry, num in zip(metrics["rounds"], (16, 8), strict=True):
        assert entry["draws"] >= num and entry["draws"] - num == sum(entry["thrown_away"].values())
    page = (chemistry / "report.html").read_text()
    assert "Asked for: only the elements Li, O, F, Na, Cl, K, Br, Rb; the formula AX" in page
    assert "the space group cubic" in page
    config = json.loads((chemistry / "config.json").read_text())
    assert config["constraints"]["formula"] == "AX"


def test_other_constraints_are_another_run(settings, chemistry):
    with pytest.raises(RunError, match=r"other settings \(constraints\)"):
        discover_crystals(DiscoverConfig(**settings, constraints={"formula": "AX"}), chemistry)


@pytest.mark.slow
def test_a_chemistry_of_one_compound_ends_with_notes_and_no_error(settings, tmp_path):
    """There is nothing new to find in Na-Cl, and little to learn from."""
    few = {**settings, "num": 4, "num_refined": 2, "oversample": 1}
    config = DiscoverConfig(**few, constraints={"chemical_system": "Na-Cl"})
    discover_crystals(config, tmp_path / "run")
    assert {"Cl-Na"} == set(drawn(tmp_path / "run", 1).chemical_systems())
    notes = " ".join(json.loads((tmp_path / "run" / "metrics.json").read_text())["notes"])
    assert "fit to fine-tune on" in notes or "could be learnt from" in notes


@pytest.mark.slow
def test_the_first_round_by_substitution_obeys_too(settings, tmp_path):
    wanted = {"elements": "Na,K,Rb,Cl,Br,I", "max_elements": 2}
    discover_crystals(DiscoverConfig(**settings, source="substitution", constraints=wanted), tmp_path / "run")
    for number in (0, 1):
        for crystal in drawn(tmp_path / "run", number):
            assert set(crystal.atomic_numbers.tolist()) <= {11, 19, 37, 17, 35, 53}


def test_what_cannot_be_drawn_is_said_before_any_work(settings, tmp_path):
    config = DiscoverConfig(**settings, constraints={"formula": "Li3PO4"})
    with pytest.raises(ConstraintError, match="no template of 2 has the formula Li3PO4"):
        discover_crystals(config, tmp_path / "run")
    assert not (tmp_path / "run" / "round-0").exists()
    with pytest.raises(ValidationError, match="more than --max-elements 2"):
        DiscoverConfig(constraints={"formula": "LiMnPO4", "max_elements": 2})
    with pytest.raises(ValidationError, match="Extra inputs"):
        DiscoverConfig(constraints={"element": "Li"})


def test_the_command_line_adds_to_the_settings_file(tmp_path):
    """Both hold, and where they contradict one another it is said before any work."""
    (tmp_path / "s.toml").write_text('[constraints]\nchemical_system = "Li-S"\nformula_units = 2\n')
    command = ["discover", "--config", tmp_path / "s.toml", "--out", tmp_path / "run", "--formula", "Li2O"]
    result = CliRunner().invoke(app, [str(c) for c in command])
    assert result.exit_code == 2 and "--chemical-system needs S" in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()


def test_anions_are_a_constraint_in_a_file():
    wanted = DiscoverConfig(constraints={"contains_any": "anions,H"}).wanted
    assert wanted.any_of == ANIONS | {1}
    assert DiscoverConfig(constraints={"contains": "Li,S"}).wanted.all_of == {3, 16}
