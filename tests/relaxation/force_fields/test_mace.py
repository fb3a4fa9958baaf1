"""MACE through its own small random model."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from force_field_checks import check_force_field, check_nasty_corpus, check_torch_sim_model

from crysjepa.relaxation.force_fields.registry import force_field_info, get_force_field

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mace") is None, reason="needs MACE: pip install mace-torch"),
    # of e3nn; the first where the tests use MACE themselves, as the adapter keeps it away
    pytest.mark.filterwarnings("ignore:.*TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD:UserWarning"),
    pytest.mark.filterwarnings(r"ignore:.*torch\.jit\.:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of 98 elements, saved as MACE's training saves one."""
    import mace.modules as modules  # before e3nn, which cannot read its own constants without it
    import torch
    from e3nn import o3

    path = tmp_path_factory.mktemp("mace") / "small [random].model"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = modules.ScaleShiftMACE(
            r_max=4.5,
            num_bessel=6,
            num_polynomial_cutoff=5,
            max_ell=2,
            interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
            interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
            num_interactions=2,
            num_elements=98,
            hidden_irreps=o3.Irreps("8x0e + 8x1o"),
            MLP_irreps=o3.Irreps("8x0e"),
            gate=torch.nn.functional.silu,
            atomic_energies=-np.linspace(1, 9, 98),
            avg_num_neighbors=12.0,
            atomic_numbers=list(range(1, 99)),
            correlation=2,
            radial_type="bessel",
            atomic_inter_scale=100.0,  # eV, so that random forces are those of a crystal
            atomic_inter_shift=-0.5,
        )
    torch.save(network, path)
    return path


def test_holds_what_every_force_field_must_hold(checkpoint: Path) -> None:
    check_force_field(get_force_field(f"mace@{checkpoint}"), tolerance=1e-3)


@pytest.mark.skipif(importlib.util.find_spec("torch_sim") is None, reason="torch-sim is not installed")
def test_its_model_for_torch_sim_says_the_same(checkpoint: Path) -> None:
    check_torch_sim_model(f"mace@{checkpoint}")


def test_a_nasty_corpus(checkpoint: Path) -> None:
    check_nasty_corpus(f"mace@{checkpoint}")


def test_says_what_the_library_says(checkpoint: Path) -> None:
    from mace.calculators import MACECalculator

    atoms = bulk("MgO", "rocksalt", a=4.3)
    atoms.rattle(0.05, seed=1)
    (found,) = get_force_field(f"mace@{checkpoint}").evaluate([atoms])
    atoms.calc = MACECalculator(model_paths=[checkpoint], device="cpu", default_dtype="float64")
    assert np.abs(found.forces).max() > 0.01  # the comparison says something
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-9)
    np.testing.assert_allclose(found.stress, atoms.get_stress(), atol=1e-9)


def test_an_unknown_element_leaves_no_trace(checkpoint: Path) -> None:
    import torch

    field = get_force_field(f"mace@{checkpoint}")
    bad, good = Atoms("Md", cell=[3] * 3, pbc=True), bulk("Cu", "fcc", a=3.6)
    reason, found = field.evaluate([bad, good])
    assert isinstance(reason, str)
    assert not isinstance(found, str)
    assert torch.get_default_dtype() == torch.float32


def test_nobody_knows_the_scale_of_somebodys_own_model(checkpoint: Path) -> None:
    info = force_field_info(f"mace@{checkpoint}")
    assert (info.scale, info.functional) == ("unknown", "unknown")
    assert "mace-torch" in info.version


def test_a_training_checkpoint_is_no_model(tmp_path: Path) -> None:
    import torch

    torch.save({"model": {}}, tmp_path / "epoch-1.pt")
    with pytest.raises(ValueError, match="no MACE model"):
        get_force_field(f"mace@{tmp_path / 'epoch-1.pt'}")


def test_without_a_network_it_says_how_to_bring_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where MACE keeps what it has downloaded
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no network, wherever this runs
    with pytest.raises(RuntimeError, match="mace@/path/to/"):
        get_force_field("mace")
