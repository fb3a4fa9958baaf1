"""The expansion that runs on a GPU against that in machine code: on the CPU, and on CUDA if there is one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crysjepa.generators.flow.orbit_batches import PackedOrbits, exponential
from crysjepa.generators.flow.orbits import settle
from crysjepa.nn import torch_geometry
from crysjepa.nn.batches import PackedCrystals
from crysjepa.nn.geometry import orbit_features, pair_features
from crysjepa.nn.torch_geometry import expand_orbits

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture
def batch(salts):
    packed = PackedOrbits([settle(s) for s in salts] + [settle(s, plain=True) for s in salts[:2]])
    return packed.batch(np.arange(len(packed)))


def expanded(batch, coords, lattices, device="cpu"):
    most = batch.mask.shape[1]
    moved = [v.to(device) for v in (coords, lattices, batch.owner, batch.num_sites)]
    return [g.cpu() for g in expand_orbits(*moved, most)]


def agree(found, wanted):
    for f, w in zip(found, wanted, strict=True):
        assert f.shape == w.shape
        torch.testing.assert_close(f, w, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("many", [50, torch_geometry.CANDIDATES])
def test_orbits(batch, device, many, monkeypatch):
    monkeypatch.setattr(torch_geometry, "CANDIDATES", many)  # in many small parts, or in one
    coords, lattices = batch.sites(batch.free_coords), batch.lattices(batch.strain)
    wanted = orbit_features(coords, lattices, batch.owner, batch.num_sites, batch.mask.shape[1])
    agree(expanded(batch, coords, lattices, device), wanted)


@given(seed=st.integers(0, 2**31), sites=st.integers(1, 6), skew=st.floats(0, 1), size=st.floats(2.0, 9.0))
@settings(max_examples=30, deadline=None)
def test_sites_of_any_cell(seed, sites, skew, size):
    rng = np.random.default_rng(seed)
    cell = torch.tensor(size * (np.eye(3) + skew * rng.uniform(-0.5, 0.5, (3, 3))))[None]
    if abs(float(torch.linalg.det(cell))) < 1:
        return
    coords = torch.tensor(rng.uniform(-2, 2, (1, sites, 3)))
    wanted = pair_features(coords, cell, torch.ones(1, sites, dtype=torch.bool))
    count = torch.tensor([sites])
    agree(expand_orbits(coords, cell, torch.arange(sites)[None], count, sites), wanted)


def test_a_crystal_that_is_none_has_zeros_and_leaves_the_others_alone(batch):
    coords, lattices = batch.sites(batch.free_coords), batch.lattices(batch.strain).clone()
    before = expanded(batch, coords, lattices)
    lattices[0], lattices[1], coords[2, 0, 0] = torch.nan, lattices[1] * 1e-3, torch.inf
    wanted = orbit_features(coords, lattices, batch.owner, batch.num_sites, batch.mask.shape[1])
    found = expanded(batch, coords, lattices)
    agree(found, wanted)
    for now, then in zip(found, before, strict=True):
        assert not now[:3].any() and torch.equal(now[3:], then[3:])


def test_the_same_batch_gives_the_same_bits(batch):
    coords, lattices = batch.sites(batch.free_coords), batch.lattices(batch.strain)
    first, again = expanded(batch, coords, lattices), expanded(batch, coords, lattices)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@given(st.lists(st.floats(-1.5, 1.5), min_size=6, max_size=6))
def test_the_exponential_of_a_strain(coefficients):
    a, b, c, d, e, f = coefficients
    strain = torch.tensor([[a, b, c], [b, d, e], [c, e, f]], dtype=torch.float64)
    torch.testing.assert_close(exponential(strain), torch.linalg.matrix_exp(strain), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("device", [*DEVICES, "meta"])
def test_batches_are_where_the_data_are(salts, device):
    rows = np.array([3, 0, 5])
    for data in (PackedOrbits([settle(s) for s in salts]), PackedCrystals(salts)):
        here, there = data.batch(rows), data.to(device).batch(rows)
        for name, value in vars(here).items():
            moved = getattr(there, name)
            assert moved.device.type == device and moved.shape == value.shape, name
            if device != "meta":
                assert torch.equal(moved.cpu().nan_to_num(), value.nan_to_num()), name
        assert data.to("cpu").content_hash == data.content_hash
