import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import space_groups


def one(numbers, coords, cell, id_="x"):
    return Crystals(
        np.asarray(numbers), np.asarray(coords), np.asarray(cell)[None], np.array([len(numbers)]), (id_,)
    )


def distances(crystal):
    """Sorted distances between sites and their images within ±2 cells: what no re-description may change."""
    shifts = np.array(np.meshgrid(*[range(-2, 3)] * 3)).reshape(3, -1).T
    gaps = crystal.frac_coords[:, None, None] - crystal.frac_coords[None, :, None] + shifts
    return np.sort(np.linalg.norm(gaps @ crystal.lattices[0], axis=-1).ravel())[
        : 6 * len(crystal.atomic_numbers)
    ]


def test_a_conventional_cell_becomes_primitive(salts):
    cell = 5.64 * np.eye(3)
    cation = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    coords = np.array(cation + [[(x + 0.5) % 1, y, z] for x, y, z in cation])
    canonical, failures = canonicalise(one([11] * 4 + [17] * 4, coords, cell))
    primitive, _ = canonicalise(salts.select(["NaCl"]))
    assert failures == {}
    assert canonical.num_atoms.tolist() == [2]
    np.testing.assert_allclose(distances(canonical), distances(primitive), atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_other_descriptions_of_a_crystal_come_out_the_same(seed):
    """Site order, origin, rotation, cell choice and supercell: same lattice metric, sites and distances."""
    rng = np.random.default_rng(seed)
    sites = int(rng.integers(1, 6))
    numbers = rng.integers(1, 90, sites)
    coords = rng.random((sites, 3))
    cell = np.eye(3) * rng.uniform(4, 8, 3) + rng.uniform(-1, 1, (3, 3))
    shear = np.array([[1, int(rng.integers(-1, 2)), 0], [0, 1, int(rng.integers(-1, 2))], [0, 0, 1]])
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    order = rng.permutation(sites)
    moved = (coords + rng.random(3))[order] @ np.linalg.inv(shear)
    other = one(numbers[order], moved, shear @ cell @ turn)
    doubled = one(
        np.concatenate([numbers, numbers]),
        np.concatenate([coords * [0.5, 1, 1], coords * [0.5, 1, 1] + [0.5, 0, 0]]),
        cell * np.array([[2], [1], [1]]),
    )
    first, failures = canonicalise(one(numbers, coords, cell))
    assert failures == {}
    for twin in (other, doubled):
        second, failures = canonicalise(twin)
        assert failures == {}
        np.testing.assert_array_equal(first.atomic_numbers, second.atomic_numbers)
        metric = [c.lattices[0] @ c.lattices[0].T for c in (first, second)]
        np.testing.assert_allclose(metric[0], metric[1], atol=1e-4)
        np.testing.assert_allclose(distances(first), distances(second), atol=1e-4)


def test_coordinates_are_wrapped_and_right_handed(salts):
    canonical, _ = canonicalise(salts)
    assert canonical.frac_coords.min() >= 0 and canonical.frac_coords.max() < 1
    assert np.linalg.det(canonical.lattices).min() > 0


@pytest.mark.parametrize(
    "numbers, coords, cell, reason",
    [
        ([1], [[np.nan, 0, 0]], np.eye(3) * 4, "finite"),
        ([1], [[0, 0, 0]], np.full((3, 3), np.inf), "finite"),
        ([118], [[0, 0, 0]], np.eye(3) * 4, "118"),
        ([1], [[0, 0, 0]], np.zeros((3, 3)), "volume"),
    ],
)
def test_misfits_get_a_reason_and_others_go_on(salts, numbers, coords, cell, reason):
    batch = Crystals.concatenate([salts[:2], one(numbers, coords, cell, "bad"), salts[2:]])
    canonical, failures = canonicalise(batch)
    assert canonical.ids == salts.ids
    assert list(failures) == ["bad"] and reason in failures["bad"]


def test_atoms_on_one_spot_still_have_a_cell():
    canonical, failures = canonicalise(one([3, 3], [[0, 0, 0], [0, 0, 0]], np.eye(3) * 4))
    assert failures == {} and canonical.num_atoms.tolist() == [2]


@pytest.mark.parametrize(
    "numbers, coords, cell",
    [
        ([75] * 4, [[0, 0, 0], [0.25, 0, 0], [0.5, 0, 0], [0.75, 0, 0]],
         [[1.999, -0.0022, -0.001], [0.0006, 100.0, 0.001], [0.0015, 0.0016, 2.9994]]),
        ([20] * 5, [[0.25, 0.25, 0.75], [0, 0.25, 0.25], [0.75, 0, 0.25], [0.5, 0, 0.25], [0.25, 0.75, 0.5]],
         [[0.7405, 0, 0], [-0.20765, 4.2591, 0], [-0.07496, 0.0323, 57.17086]]),
        ([99, 99, 99], [[0.338, 0.556, 0.067], [0.068, 0.255, 0.441], [0.527, 0.304, 0.029]],
         [[100.0, 0, 0], [0, 1.0, 0], [0, 0, 10.0]]),
    ],
)  # fmt: skip
def test_needles_that_moyo_would_search_forever(numbers, coords, cell):
    """Each hung at 0.1 Å with the tolerance at 0.9 of where it must: the tests' time limit would tell."""
    crystal = one(numbers, coords, np.array(cell))
    assert space_groups(crystal, 0.1).get("x", 1) in range(1, 231)


def test_ordinary_crystals_keep_the_tolerance_asked_for(salts):
    """A rock salt with a site 0.03 Å off: cubic within 0.1 Å, not so within 0.01 Å."""
    cell = 5.64 * np.eye(3)
    cation = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    coords = np.array(cation + [[(x + 0.5) % 1, y, z] for x, y, z in cation])
    coords[0, 0] += 0.03 / 5.64
    crystal = one([11] * 4 + [17] * 4, coords, cell)
    assert space_groups(crystal, 0.1) == {"x": 225} and space_groups(crystal, 0.01)["x"] < 225
