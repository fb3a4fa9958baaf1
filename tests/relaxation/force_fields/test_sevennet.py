"""SevenNet through its published models, which come with it, and its own small random model."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from force_field_checks import check_force_field, check_nasty_corpus

from crysjepa.relaxation.force_fields.registry import ForceField, force_field_info, get_force_field

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("sevenn") is None, reason="needs SevenNet: pip install sevenn"
    ),
    # the tests use SevenNet themselves, where the adapter does not keep these away
    pytest.mark.filterwarnings(r"ignore:.*torch\.jit\.:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:No tensor product accelerator:UserWarning"),
]

PUBLISHED = {"sevennet": "7net-0", "sevennet-l3i5": "7net-l3i5"}


@pytest.fixture(scope="module", params=PUBLISHED)
def published(request: pytest.FixtureRequest) -> ForceField:
    import torch

    torch.set_num_threads(1)
    return get_force_field(request.param)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of 94 elements, saved as SevenNet's training saves one."""
    import sevenn
    import torch
    from ase.data import chemical_symbols
    from sevenn import _const
    from sevenn.model_build import build_E3_equivariant_model
    from sevenn.train.trainer import Trainer
    from sevenn.util import chemical_species_preprocess

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("sevennet") / "small [random].pth"
    config = {
        **_const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG,
        **_const.DEFAULT_DATA_CONFIG,
        **_const.DEFAULT_TRAINING_CONFIG,
        **chemical_species_preprocess(chemical_symbols[1:95]),
        "channel": 8,
        "num_convolution_layer": 2,
        "conv_denominator": 5.0,
        "shift": -3.0,
        "scale": 1e3,  # eV, so that random forces are those of a crystal
        "version": sevenn.__version__,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_E3_equivariant_model(config)
    trainer = Trainer(network, loss_functions=[], optimizer_cls=torch.optim.Adam, device="cpu")
    trainer.write_checkpoint(str(path), config=config, epoch=0)
    return path


def _check_against_the_library(field: ForceField, model: str) -> None:
    from sevenn.calculator import SevenNetCalculator

    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.rattle(0.05, seed=1)
    (found,) = field.evaluate([atoms])
    atoms.calc = SevenNetCalculator(model, device="cpu")
    assert not isinstance(found, str)
    assert np.abs(found.forces).max() > 0.01  # the comparison says something
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-5)
    np.testing.assert_allclose(found.stress, atoms.get_stress(), atol=1e-6)


def test_holds_what_every_force_field_must_hold(published: ForceField) -> None:
    check_force_field(published)


def test_says_what_the_library_says(published: ForceField) -> None:
    _check_against_the_library(published, PUBLISHED[published.name])


def test_energies_are_on_the_uncorrected_scale(published: ForceField) -> None:
    (found,) = published.evaluate([bulk("NaCl", "rocksalt", a=5.69)])
    assert not isinstance(found, str)
    # PBE; with the Materials Project's correction of chlorides it would be 0.31 eV/atom less
    assert found.energy / 2 == pytest.approx(-3.38, abs=0.1)
    assert published.scale == "materials_project_uncorrected"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_nasty_corpus(name: str) -> None:
    check_nasty_corpus(name)


def test_a_model_of_ones_own_holds_it_too(checkpoint: Path) -> None:
    check_force_field(get_force_field(f"sevennet@{checkpoint}"))


def test_a_nasty_corpus_through_a_model_of_ones_own(checkpoint: Path) -> None:
    check_nasty_corpus(f"sevennet@{checkpoint}")


def test_a_model_of_ones_own_says_what_the_library_says(checkpoint: Path) -> None:
    _check_against_the_library(get_force_field(f"sevennet@{checkpoint}"), str(checkpoint))


def test_an_unknown_element_leaves_no_trace(checkpoint: Path) -> None:
    bad, good = Atoms("Md", cell=[3] * 3, pbc=True), bulk("Cu", "fcc", a=3.6)
    reason, found = get_force_field(f"sevennet@{checkpoint}").evaluate([bad, good])
    assert isinstance(reason, str)
    assert not isinstance(found, str)


def test_nobody_knows_the_scale_of_somebodys_own_model(checkpoint: Path) -> None:
    info = force_field_info(f"sevennet@{checkpoint}")
    assert (info.scale, info.functional) == ("unknown", "unknown")
    assert "sevenn" in info.version
