"""Which engine can do what, and what is refused before anything is computed."""

from __future__ import annotations

import importlib.util

import pytest
from pydantic import ValidationError

from crysjepa.relaxation.engines import check_engine, engine_version
from crysjepa.relaxation.relax import PAPER, RelaxSettings, default_workers


def test_the_default_leaves_no_trace_in_what_is_written() -> None:
    assert "engine" not in RelaxSettings().model_dump()
    assert "engine" not in RelaxSettings().model_dump_json()
    chosen = RelaxSettings(engine="torch-sim")
    assert RelaxSettings.model_validate_json(chosen.model_dump_json()) == chosen != RelaxSettings()
    assert engine_version("crysjepa") is None


@pytest.mark.parametrize("settings", [{"optimizer": "bfgs"}, {"cell_filter": "exp"}, PAPER.model_dump()])
def test_torch_sim_has_not_every_optimiser(settings: dict[str, str]) -> None:
    with pytest.raises(
        ValidationError, match="torch-sim has the optimizer fire with the cell_filter frechet"
    ):
        RelaxSettings.model_validate({**settings, "engine": "torch-sim"})


@pytest.mark.parametrize("name", ["chgnet", "ase.calculators.emt:EMT"])
def test_it_says_which_force_fields_torch_sim_has_a_model_of(name: str) -> None:
    check_engine("crysjepa", name)
    with pytest.raises(ValueError, match=r"it has of sevennet, sevennet-l3i5, mattersim, .*orb.*fairchem"):
        check_engine("torch-sim", name)


@pytest.mark.skipif(importlib.util.find_spec("torch_sim") is not None, reason="torch-sim is installed")
def test_without_torch_sim_it_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r'pip install "crysjepa\[torchsim\]"'):
        check_engine("torch-sim", "sevennet")


def test_one_process_fills_a_gpu() -> None:
    assert default_workers("cuda", engine="torch-sim") == 1
    assert default_workers("cpu", engine="torch-sim") == default_workers("cpu")
