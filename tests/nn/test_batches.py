import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from crysjepa.nn.batches import PackedCrystals, epoch_batches, sorted_batches


def test_a_batch_holds_its_crystals(salts):
    packed = PackedCrystals(salts, np.arange(7.0))
    batch = packed.batch(np.array([6, 2]))
    assert batch.mask.sum(dim=1).tolist() == [5, 2]
    assert batch.atomic_numbers[0].tolist() == [38, 22, 8, 8, 8]
    assert batch.atomic_numbers[1].tolist() == [3, 9, 0, 0, 0]
    assert batch.energies.tolist() == [6.0, 2.0]
    np.testing.assert_allclose(batch.frac_coords[1, :2], salts[2].frac_coords)
    assert torch.equal(batch.frac_coords[1, 2:], torch.zeros(3, 3))
    np.testing.assert_allclose(batch.lattices, np.swapaxes(batch.lattices.numpy(), 1, 2), atol=1e-6)


def test_unknown_energies_are_nan(salts):
    assert torch.isnan(PackedCrystals(salts).batch(np.array([0])).energies).all()


@given(count=st.integers(1, 300), size=st.integers(1, 40), seed=st.integers(0, 1000))
def test_an_epoch_visits_each_crystal_at_most_once(count, size, seed):
    sizes = torch.from_numpy(np.random.default_rng(seed).integers(1, 21, count))
    batches = list(epoch_batches(sizes, size, (seed, 0)))
    rows = np.concatenate(batches)
    assert len(set(rows.tolist())) == len(rows)
    assert len(rows) >= count - size / 2 or len(batches) == 1
    assert [b.tolist() for b in epoch_batches(sizes, size, (seed, 0))] == [b.tolist() for b in batches]


@given(count=st.integers(0, 100), size=st.integers(1, 40))
def test_inference_batches_visit_each_exactly_once(count, size):
    sizes = np.random.default_rng(count).integers(1, 21, count)
    batches = sorted_batches(sizes, size)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(count))
