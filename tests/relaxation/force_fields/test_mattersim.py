"""MatterSim through its own small random model."""

import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from force_field_checks import check_force_field, check_nasty_corpus, check_torch_sim_model

from crysjepa.relaxation.force_fields.registry import force_field_info, get_force_field

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("mattersim") is None, reason="needs MatterSim: pip install mattersim"
    ),
    # the tests import MatterSim themselves, where the adapter does not keep it away
    pytest.mark.filterwarnings(r"ignore:.*torch\.jit\.:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, saved as MatterSim's training saves one."""
    import torch
    from mattersim.forcefield import Potential
    from mattersim.forcefield.m3gnet.m3gnet import M3Gnet
    from mattersim.forcefield.m3gnet.scaling import AtomScaling

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("mattersim") / "small [random].pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = M3Gnet(num_blocks=2, units=16, max_l=3, max_n=3, device="cpu")
        # eV, so that random forces are those of a crystal
        network.set_normalizer(AtomScaling(init_scale=100.0, init_shift=-3.0, max_z=94, device="cpu"))
        Potential(network, device="cpu").save(str(path))
    return path


def test_holds_what_every_force_field_must_hold(checkpoint: Path) -> None:
    check_force_field(get_force_field(f"mattersim@{checkpoint}"))


@pytest.mark.skipif(importlib.util.find_spec("torch_sim") is None, reason="torch-sim is not installed")
def test_its_model_for_torch_sim_says_the_same(checkpoint: Path) -> None:
    check_torch_sim_model(f"mattersim@{checkpoint}")


def test_a_nasty_corpus(checkpoint: Path) -> None:
    check_nasty_corpus(f"mattersim@{checkpoint}")


def test_says_what_the_library_says(checkpoint: Path) -> None:
    from mattersim.forcefield import MatterSimCalculator

    atoms = bulk("MgO", "rocksalt", a=4.3)
    atoms.rattle(0.05, seed=1)
    (found,) = get_force_field(f"mattersim@{checkpoint}").evaluate([atoms])
    atoms.calc = MatterSimCalculator(load_path=str(checkpoint), device="cpu")
    assert np.abs(found.forces).max() > 0.01  # the comparison says something
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-5)
    np.testing.assert_allclose(found.stress, atoms.get_stress(), atol=1e-6)


def test_an_unknown_element_leaves_no_trace(checkpoint: Path) -> None:
    bad, good = Atoms("Md", cell=[3] * 3, pbc=True), bulk("Cu", "fcc", a=3.6)
    reason, found = get_force_field(f"mattersim@{checkpoint}").evaluate([bad, good])
    assert isinstance(reason, str)
    assert not isinstance(found, str)


def test_a_file_here_is_not_taken_for_published_weights(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_weights(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    shutil.copy(checkpoint, "mattersim-v1.0.0-1M.pth")
    field, own = (
        get_force_field("mattersim@mattersim-v1.0.0-1M.pth"),
        get_force_field(f"mattersim@{checkpoint}"),
    )
    atoms = bulk("Cu", "fcc", a=3.6)
    assert field.evaluate([atoms])[0].energy == own.evaluate([atoms])[0].energy


def test_loads_quietly(checkpoint: Path) -> None:
    from loguru import logger

    said: list[str] = []
    sink = logger.add(said.append)
    get_force_field(f"mattersim@{checkpoint}")
    logger.remove(sink)
    assert not said


def test_nobody_knows_the_scale_of_somebodys_own_model(checkpoint: Path) -> None:
    info = force_field_info(f"mattersim@{checkpoint}")
    assert (info.scale, info.functional) == ("unknown", "unknown")
    assert "mattersim" in info.version


def test_without_a_network_it_says_how_to_bring_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_weights(tmp_path, monkeypatch)
    with pytest.raises(RuntimeError, match="mattersim@/path/to/"):
        get_force_field("mattersim")


def _no_weights(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of earlier downloads, and no network, wherever this runs."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    for name in [name for name in os.environ if name.lower() == "no_proxy"]:
        monkeypatch.delenv(name)
