"""FAIR chemistry's eSEN, small and random."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from force_field_checks import check_force_field, check_nasty_corpus, check_torch_sim_model

from crysjepa.relaxation.force_fields.registry import Prediction, force_field_info, get_force_field

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("fairchem") is None, reason="needs FAIR chemistry: pip install fairchem-core"
    ),
    pytest.mark.filterwarnings(r"ignore:.*torch\.jit\.:DeprecationWarning"),  # of e3nn
]


def write_checkpoint(path: Path, datasets: list[str]) -> None:
    """A random conservative eSEN as fairchem's training writes its ``inference_ckpt.pt``."""
    import hydra
    import torch
    from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint

    config: dict[str, Any] = {
        "_target_": "fairchem.core.models.base.HydraModel",
        "backbone": {
            "model": "fairchem.core.models.uma.escn_md.eSCNMDBackbone",
            "max_num_elements": 99,
            "sphere_channels": 16,
            "hidden_channels": 16,
            "edge_channels": 16,
            "num_distance_basis": 16,
            "lmax": 2,
            "mmax": 2,
            "num_layers": 1,
            "cutoff": 5.0,
            "otf_graph": True,
            "direct_forces": False,
            "regress_stress": True,
            "use_dataset_embedding": False,
        },
        "heads": {"efs": {"module": "fairchem.core.models.uma.escn_md.MLP_EFS_Head"}},
        "pass_through_head_outputs": True,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = hydra.utils.instantiate(config)
    averaged = torch.optim.swa_utils.AveragedModel(network)
    tasks = [_task(name, datasets) for name in ("energy", "forces", "stress")]
    torch.save(MLIPInferenceCheckpoint(config, network.state_dict(), averaged.state_dict(), tasks), path)


def _task(name: str, datasets: list[str]) -> dict[str, Any]:
    return {
        "_target_": "fairchem.core.units.mlip_unit.mlip_unit.Task",
        "name": name,
        "property": name,
        "level": "atom" if name == "forces" else "system",
        "out_spec": {"dim": {"energy": [1], "forces": [3], "stress": [1, 9]}[name], "dtype": "float32"},
        "normalizer": {
            "_target_": "fairchem.core.modules.normalization.normalizer.Normalizer",
            "mean": 0.0,
            "rmsd": 20.0,  # eV, so that random forces are those of a crystal
        },
        "datasets": datasets,
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fairchem") / "esen [random].pt"
    write_checkpoint(path, ["omat"])
    return path


def test_holds_what_every_force_field_must_hold(checkpoint: Path) -> None:
    check_force_field(get_force_field(f"fairchem@{checkpoint}"))


@pytest.mark.skipif(importlib.util.find_spec("torch_sim") is None, reason="torch-sim is not installed")
def test_its_model_for_torch_sim_says_the_same(checkpoint: Path) -> None:
    check_torch_sim_model(f"fairchem@{checkpoint}")


def test_a_nasty_corpus(checkpoint: Path) -> None:
    check_nasty_corpus(f"fairchem@{checkpoint}")


def test_says_what_the_library_says(checkpoint: Path) -> None:
    from fairchem.core import FAIRChemCalculator

    atoms = bulk("MgO", "rocksalt", a=4.3)
    atoms.rattle(0.05, seed=1)
    (found,) = get_force_field(f"fairchem@{checkpoint}").evaluate([atoms])
    atoms.calc = FAIRChemCalculator.from_model_checkpoint(
        str(checkpoint), inference_settings="batch", device="cpu"
    )
    assert np.abs(found.forces).max() > 0.01  # the comparison says something
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-5)
    np.testing.assert_allclose(found.stress, atoms.get_stress(), atol=1e-6)


def test_of_several_tasks_it_takes_the_one_for_crystals(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "several.pt", ["omol", "omat"])
    assert get_force_field(f"fairchem@{tmp_path / 'several.pt'}").calculator.task_name == "omat"
    write_checkpoint(tmp_path / "molecules.pt", ["omol", "omc"])
    with pytest.raises(RuntimeError, match="omol"):
        get_force_field(f"fairchem@{tmp_path / 'molecules.pt'}")


def test_random_numbers_go_neither_in_nor_out(checkpoint: Path) -> None:
    import torch

    atoms, before = bulk("MgO", "rocksalt", a=4.3), torch.get_rng_state()
    field = get_force_field(f"fairchem@{checkpoint}")
    first = field.evaluate([atoms])[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    again = field.evaluate([bulk("Cu", "fcc", a=3.6), atoms])[1]
    assert isinstance(first, Prediction)
    assert isinstance(again, Prediction)
    assert first.energy == again.energy
    np.testing.assert_array_equal(first.forces, again.forces)


def test_nobody_knows_the_scale_of_somebodys_own_model(checkpoint: Path) -> None:
    info = force_field_info(f"fairchem@{checkpoint}")
    assert (info.scale, info.functional) == ("unknown", "unknown")
    assert "fairchem-core" in info.version


def test_a_checkpoint_of_version_1_is_refused(tmp_path: Path) -> None:
    import torch

    torch.save({"config": {"model": {}}, "state_dict": {}}, tmp_path / "esen_30m_mptrj.pt")
    with pytest.raises(ValueError, match="fairchem-core 2"):
        get_force_field(f"fairchem@{tmp_path / 'esen_30m_mptrj.pt'}")


def test_without_a_network_it_says_how_to_bring_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairchem.core.calculate.pretrained_mlip.CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no network, wherever this runs
    with pytest.raises(RuntimeError, match="fairchem@/path/to/"):
        get_force_field("fairchem")


def test_published_weights_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    from crysjepa.relaxation.force_fields.adapters.fairchem import calculator

    monkeypatch.setattr("fairchem.core.calculate.pretrained_mlip.CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LocalEntryNotFoundError):
        calculator("uma-s-1p2p1", "cpu")
    with pytest.raises(ValueError, match="not found"):
        calculator("esen-30m-mp", "cpu")
