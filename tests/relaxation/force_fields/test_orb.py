"""Orb with random weights."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from force_field_checks import check_force_field, check_nasty_corpus, check_torch_sim_model

from crysjepa.relaxation.force_fields.registry import force_field_info, get_force_field

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("orb_models") is None, reason="needs Orb: pip install orb-models"
    ),
    pytest.mark.filterwarnings(r"ignore:.*torch\.jit\.:DeprecationWarning"),
    # where the tests use Orb themselves; the adapter keeps these away
    pytest.mark.filterwarnings("ignore:Setting global torch default dtype:UserWarning"),
    pytest.mark.filterwarnings("ignore:Consider passing 'precision=:UserWarning"),
    # of ASE's cells under numpy 2, which Orb converts
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the default architecture, which comes in no smaller size: 25 million, 100 MB."""
    import torch
    from orb_models.forcefield.pretrained import orb_v3_conservative_architecture

    path = tmp_path_factory.mktemp("orb") / "random [0].ckpt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(orb_v3_conservative_architecture(device="cpu").state_dict(), path)
    return path


def test_holds_what_every_force_field_must_hold(checkpoint: Path) -> None:
    check_force_field(get_force_field(f"orb@{checkpoint}"), tolerance=3e-3)


@pytest.mark.skipif(importlib.util.find_spec("torch_sim") is None, reason="torch-sim is not installed")
def test_its_model_for_torch_sim_says_the_same(checkpoint: Path) -> None:
    check_torch_sim_model(f"orb@{checkpoint}")


def test_a_nasty_corpus(checkpoint: Path) -> None:
    check_nasty_corpus(f"orb@{checkpoint}")


def test_says_what_the_library_says(checkpoint: Path) -> None:
    from orb_models.forcefield.pretrained import orb_v3_conservative_inf_mpa

    try:
        from orb_models.forcefield.inference.calculator import ORBCalculator
    except ModuleNotFoundError:  # of orb-models 0.5
        from orb_models.forcefield.calculator import ORBCalculator
    atoms = bulk("MgO", "rocksalt", a=4.3)
    atoms.rattle(0.05, seed=1)
    (found,) = get_force_field(f"orb@{checkpoint}").evaluate([atoms])
    loaded = orb_v3_conservative_inf_mpa(
        str(checkpoint), device="cpu", precision="float32-highest", compile=False
    )
    atoms.calc = ORBCalculator(*(loaded if isinstance(loaded, tuple) else (loaded,)), device="cpu")
    assert np.abs(found.forces).max() > 0.01  # the comparison says something
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-5)
    np.testing.assert_allclose(found.stress, atoms.get_stress(), atol=1e-6)


def test_leaves_the_process_as_it_was(checkpoint: Path) -> None:
    import torch

    torch.set_float32_matmul_precision("high")
    try:
        get_force_field(f"orb@{checkpoint}")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.get_default_dtype() == torch.float32


def test_a_published_file_says_its_architecture() -> None:
    from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

    from crysjepa.relaxation.force_fields.adapters.orb import architecture_of

    known = list(ORB_PRETRAINED_MODELS)
    assert architecture_of("orb-v3-direct-20-omat-20250404.ckpt", known) == "orb-v3-direct-20-omat"
    assert architecture_of("orb-v2-20241011.ckpt", known) == "orb-v2"
    assert architecture_of("mine.ckpt", known) == "orb-v3-conservative-inf-mpa"


def test_nobody_knows_the_scale_of_somebodys_own_weights(checkpoint: Path) -> None:
    info = force_field_info(f"orb@{checkpoint}")
    assert (info.scale, info.functional) == ("unknown", "unknown")
    assert "orb-models" in info.version


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(RuntimeError, match="state_dict"):
        get_force_field(f"orb@{tmp_path / 'other.ckpt'}")


def test_without_a_network_it_says_how_to_bring_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cached_path.common.CACHE_DIRECTORY", tmp_path)  # where Orb's downloads are kept
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no network, wherever this runs
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)  # half a minute between tries
    with pytest.raises(RuntimeError, match="orb@/path/to/"):
        get_force_field("orb")
