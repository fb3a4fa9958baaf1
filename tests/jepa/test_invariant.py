"""An embedding depends on no choice of site order, origin, orientation, handedness, cell or supercell."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from conftest import TINY_INVARIANT
from crysjepa.core.crystals import Crystals
from crysjepa.core.lattice import polar_decompose
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.invariant import InvariantConfig
from crysjepa.jepa.network import Jepa, JepaConfig
from crysjepa.nn.batches import PackedCrystals
from crysjepa.nn.training import TrainSettings

TOLERANCE = 1e-4
"""Of the distance between crystals that have the same atoms in another arrangement."""
SHORTEST = 0.8


def closest(coords, cell):
    """The shortest distance between two sites or a site and its image, Å (cells are not very skewed)."""
    box = np.arange(-2, 3)
    images = np.stack(np.meshgrid(box, box, box, indexing="ij"), axis=-1).reshape(-1, 3)
    r = np.linalg.norm((coords[:, None, None] - coords[None, :, None] + images) @ cell, axis=-1)
    r[np.arange(len(coords)), np.arange(len(coords)), len(images) // 2] = np.inf
    return r.min()


def random_crystal(rng, numbers=None):
    """One crystal of 1 to 6 sites and some 8 to 20 Å³ for each, no two nearer than SHORTEST."""
    numbers = rng.integers(1, 101, rng.integers(1, 7)) if numbers is None else np.asarray(numbers)
    while True:
        cell = np.eye(3) + rng.uniform(-0.4, 0.4, size=(3, 3))
        cell *= np.cbrt(len(numbers) * rng.uniform(8, 20) / abs(np.linalg.det(cell)))
        coords = rng.random((len(numbers), 3))
        if closest(coords, cell) > SHORTEST:
            return Crystals(numbers, coords, cell, np.array([len(numbers)]), ("x",))


def altered(crystal, *, numbers=None, coords=None, cell=None):
    coords = crystal.frac_coords if coords is None else coords
    numbers = crystal.atomic_numbers if numbers is None else numbers
    cell = crystal.lattices[0] if cell is None else cell
    return Crystals(numbers, coords, cell, np.array([len(coords)]), ("y",))


def reordered(crystal, rng):
    order = rng.permutation(len(crystal.atomic_numbers))
    return altered(crystal, numbers=crystal.atomic_numbers[order], coords=crystal.frac_coords[order])


def shifted(crystal, rng):
    """Another origin, and each site in another cell."""
    sites = len(crystal.atomic_numbers)
    return altered(
        crystal, coords=crystal.frac_coords + rng.uniform(-1, 1, 3) + rng.integers(-2000, 2000, (sites, 3))
    )


def turned(crystal, rng):
    return altered(crystal, cell=crystal.lattices[0] @ Rotation.random(rng=rng).as_matrix())


def mirrored(crystal, rng):
    return altered(crystal, cell=-crystal.lattices[0] @ Rotation.random(rng=rng).as_matrix())


def inverted(crystal, rng):
    """The mirror image by its coordinates: the cell stays as it is."""
    return altered(crystal, coords=-crystal.frac_coords)


def in_another_cell(crystal, rng):
    """Unimodular: sums of lattice vectors in any order and sign, so left-handed cells too."""
    change = np.eye(3, dtype=int)[rng.permutation(3)] * rng.choice([-1, 1], size=(3, 1))
    for _ in range(2):
        a, b = rng.choice(3, size=2, replace=False)
        change[a] += rng.choice([-1, 1]) * change[b]
    cell = change @ crystal.lattices[0]
    return altered(crystal, cell=cell, coords=crystal.frac_coords @ np.linalg.inv(change))


def supercell(*times):
    def build(crystal, rng):
        cells = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), axis=-1).reshape(-1, 3)
        coords = (crystal.frac_coords[:, None] + cells) / times
        return altered(
            crystal,
            numbers=np.repeat(crystal.atomic_numbers, len(cells)),
            coords=coords.reshape(-1, 3),
            cell=np.diag(times) @ crystal.lattices[0],
        )

    return build


def everything(crystal, rng):
    for change in (supercell(2, 1, 1), in_another_cell, mirrored, shifted, reordered):
        crystal = change(crystal, rng)
    return crystal


CHANGES = {
    "site order": reordered,
    "origin": shifted,
    "rotation": turned,
    "improper rotation": mirrored,
    "inversion": inverted,
    "cell": in_another_cell,
    "supercell 2x1x1": supercell(2, 1, 1),
    "supercell 2x2x1": supercell(2, 2, 1),
    "all of them": everything,
}


def sample(count, seed):
    rng = np.random.default_rng(seed)
    return Crystals.concatenate([random_crystal(rng) for _ in range(count)]).with_ids(
        [f"x{i}" for i in range(count)]
    )


@cache
def model(kind):
    """As initialised (small and as shipped), with strong messages, and after some training."""
    torch.manual_seed(0)
    if kind == "as it ships":
        return CrysJepa(Jepa(JepaConfig(InvariantConfig(), "energy")))
    jepa = Jepa(JepaConfig(TINY_INVARIANT, "energy"))
    if kind == "strong":
        for layer in jepa.encoder.layers:
            torch.nn.init.normal_(layer.second.weight, std=0.3)
    if kind == "trained":
        known = TrainSettings(
            steps=30, batch_size=16, warmup=2, learning_rate=5e-3, checkpoint_every=30, record_every=30
        )
        crystals = sample(16, seed=5)
        energies = np.random.default_rng(0).normal(size=16)
        return CrysJepa.pretrain(crystals, energies, jepa.config, known, relaxed_energies=energies)[0]
    return CrysJepa(jepa)


MODELS = ("fresh", "strong", "trained")


def spread(jepa, numbers):
    """Median distance between the embeddings of crystals with these atoms, differently arranged."""
    rng = np.random.default_rng(11)
    h = jepa.embed(Crystals.concatenate([random_crystal(rng, numbers) for _ in range(6)]))
    rows, columns = np.triu_indices(6, 1)
    return float(np.median(np.linalg.norm(h[rows] - h[columns], axis=1)))


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("kind", MODELS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_the_description_does_not_matter(kind, name, seed):
    rng = np.random.default_rng(seed)
    crystal = random_crystal(rng)
    jepa = model(kind)
    other = CHANGES[name](crystal, rng)
    moved = np.linalg.norm(jepa.embed(other)[0] - jepa.embed(crystal)[0])
    assert moved < TOLERANCE * spread(jepa, crystal.atomic_numbers)


@pytest.mark.parametrize("name", CHANGES)
def test_neither_for_the_encoder_that_ships(name):
    jepa, rng = model("as it ships"), np.random.default_rng(3)
    for crystal in sample(3, seed=8):
        moved = np.linalg.norm(jepa.embed(CHANGES[name](crystal, rng))[0] - jepa.embed(crystal)[0])
        assert moved < TOLERANCE * spread(jepa, crystal.atomic_numbers)


@pytest.mark.parametrize("kind", MODELS)
def test_what_matters_is_seen(kind):
    """One site moved by 0.1 Å, one atom exchanged, a cell of another volume."""
    jepa, rng = model(kind), np.random.default_rng(2)
    for _ in range(10):
        crystal = random_crystal(rng, rng.integers(1, 101, rng.integers(2, 7)))
        scale = spread(jepa, crystal.atomic_numbers)
        coords = crystal.frac_coords.copy()
        coords[0] += np.array([0.1, 0, 0]) @ np.linalg.inv(crystal.lattices[0])
        numbers = crystal.atomic_numbers.copy()
        numbers[0] = numbers[0] % 100 + 1
        others = [
            altered(crystal, coords=coords),
            altered(crystal, numbers=numbers),
            altered(crystal, cell=1.02 * crystal.lattices[0]),
        ]
        for other in others:
            assert np.linalg.norm(jepa.embed(other)[0] - jepa.embed(crystal)[0]) > 100 * TOLERANCE * scale


def test_the_symmetric_lattice_is_the_same_crystal_turned():
    """Batches hold L̃ for L: a rotation (for a left-handed cell, an improper one) that changes no distance."""
    rng = np.random.default_rng(4)
    for crystal in sample(5, seed=1):
        for cell in (crystal.lattices[0], -crystal.lattices[0] @ Rotation.random(rng=rng).as_matrix()):
            symmetric, turn = polar_decompose(cell[None])
            np.testing.assert_allclose(symmetric @ turn, cell[None], atol=1e-9)
            np.testing.assert_allclose(turn[0] @ turn[0].T, np.eye(3), atol=1e-9)
            given_so = model("strong").embed(altered(crystal, cell=cell))
            np.testing.assert_allclose(
                model("strong").embed(altered(crystal, cell=symmetric[0])), given_so, atol=1e-5
            )


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_the_encoder_itself_sees_no_orientation(seed):
    """Without the polar decomposition, which takes every orientation to the same one."""
    rng = np.random.default_rng(seed)
    crystal, jepa = random_crystal(rng), model("strong")
    batch = PackedCrystals(crystal).batch(np.array([0]))
    turn = rng.choice([-1, 1]) * Rotation.random(rng=rng).as_matrix()
    turned = batch.lattices @ torch.as_tensor(turn, dtype=torch.float32)
    with torch.inference_mode():
        plain, other = (
            jepa.model.encoder(batch.atomic_numbers, batch.frac_coords, cell, batch.mask)[0]
            for cell in (batch.lattices, turned)
        )
    assert (plain - other).norm() < TOLERANCE * spread(jepa, crystal.atomic_numbers)


def test_atoms_follow_the_order_of_sites():
    jepa, rng = model("strong"), np.random.default_rng(6)
    crystal = random_crystal(rng, [8, 8, 22, 38, 57])
    order = rng.permutation(5)
    other = altered(
        crystal, numbers=crystal.atomic_numbers[order], coords=crystal.frac_coords[order] + [0.3, 0.1, 0.7]
    )
    np.testing.assert_allclose(jepa.embed_atoms(other), jepa.embed_atoms(crystal)[order], atol=1e-4)


def test_a_crystal_with_two_sites_on_one_spot_has_an_embedding():
    """Nobody wants it, but it must not spoil its batch, and no description of it is special."""
    rng = np.random.default_rng(7)
    crystal = random_crystal(rng, [8, 22, 38])
    coords = crystal.frac_coords.copy()
    coords[1] = coords[0]
    double = altered(crystal, coords=coords)
    jepa = model("strong")
    embedded = jepa.embed(double)
    assert np.isfinite(embedded).all()
    for _ in range(5):
        moved = np.linalg.norm(jepa.embed(everything(double, rng)) - embedded)
        assert moved < 10 * TOLERANCE * spread(jepa, crystal.atomic_numbers)
