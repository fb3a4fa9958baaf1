import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crysjepa.nn.batches import PackedCrystals, bounded_batches, epoch_batches, even_batches, sorted_batches


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
    batch = PackedCrystals(salts).batch(np.array([0, 6]))
    for unknown in (batch.energies, batch.relaxed_energies, batch.site_energies):
        assert torch.isnan(unknown).all()
    assert batch.site_energies.shape == (2, 5)


def test_relaxed_and_site_energies_go_with_their_crystals(salts):
    sites = np.arange(17.0)
    sites[12] = np.nan
    packed = PackedCrystals(salts, np.zeros(7), relaxed_energies=-np.arange(7.0), site_energies=sites)
    batch = packed.batch(np.array([6, 1]))
    assert batch.relaxed_energies.tolist() == [-6.0, -1.0]
    np.testing.assert_array_equal(batch.site_energies[0], [np.nan, 13, 14, 15, 16])
    np.testing.assert_array_equal(batch.site_energies[1], [2, 3, np.nan, np.nan, np.nan])


def test_some_rows_of_a_batch(salts):
    packed = PackedCrystals(salts, np.arange(7.0), relaxed_energies=-np.arange(7.0))
    some = packed.batch(np.arange(7)).rows(torch.tensor([6, 2]))
    assert len(some) == 2
    for name, value in vars(packed.batch(np.array([6, 2]))).items():
        torch.testing.assert_close(getattr(some, name), value, equal_nan=True, rtol=0, atol=0)
    assert len(some.rows(torch.zeros(0, dtype=torch.int64))) == 0


def test_every_energy_is_part_of_the_hash(salts):
    known = {"energies": np.arange(7.0), "relaxed_energies": np.ones(7), "site_energies": np.ones(17)}
    hashes = {PackedCrystals(salts, **known).energies_hash}
    for name, values in known.items():
        hashes.add(PackedCrystals(salts, **known | {name: None}).energies_hash)
        hashes.add(PackedCrystals(salts, **known | {name: values + 0.5}).energies_hash)
    assert len(hashes) == 7
    swapped = known | {"energies": known["relaxed_energies"], "relaxed_energies": known["energies"]}
    assert PackedCrystals(salts, **swapped).energies_hash not in hashes
    assert len({PackedCrystals(salts, **k).content_hash for k in (known, swapped)}) == 1


@pytest.mark.parametrize("name", ["energies", "relaxed_energies", "site_energies"])
def test_energies_of_other_crystals_are_refused(salts, name):
    for count in (6, 8, 16, 18):
        with pytest.raises(ValueError, match="energies for"):
            PackedCrystals(salts, **{name: np.zeros(count)})


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


@given(sizes=st.lists(st.integers(1, 6), max_size=12), overhead=st.integers(0, 20), most=st.integers(1, 12))
def test_even_batches_cost_least(sizes, overhead, most):
    """Against every way to cut the sorted sizes where they change."""
    sizes = np.array(sizes, dtype=np.int64)
    batches = even_batches(sizes, overhead, most)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(sizes)))
    assert all(len(b) <= most for b in batches)

    def cost(parts):
        return sum(overhead + len(p) * int(max(p)) for p in parts)

    kinds = [[k] * int((sizes == k).sum()) for k in np.unique(sizes)]
    ways = [[]] if not kinds else []
    for cuts in itertools.product([False, True], repeat=max(len(kinds) - 1, 0)) if kinds else []:
        parts = [list(kinds[0])]
        for cut, kind in zip(cuts, kinds[1:], strict=True):
            parts = [*parts, list(kind)] if cut else [*parts[:-1], parts[-1] + kind]
        ways.append(parts)
    whole = even_batches(sizes, overhead, len(sizes) + 1)
    assert cost([sizes[b].tolist() for b in whole]) == min(cost(parts) for parts in ways)


@given(
    sizes=st.lists(st.integers(1, 40), max_size=60),
    max_pairs=st.one_of(st.integers(1, 1000), st.just(8192)),
)
def test_bounded_batches_visit_each_exactly_once(sizes, max_pairs):
    sizes = np.array(sizes, dtype=np.int64)
    batches = bounded_batches(sizes, max_pairs)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(sizes)))
    pairs = [len(b) * int(sizes[b].max()) ** 2 for b in batches]
    assert all(p <= max_pairs or len(b) == 1 for p, b in zip(pairs, batches, strict=True))
    # as few as they can be without parting with the order: the next one never had room
    for batch, after in itertools.pairwise(batches):
        assert (len(batch) + 1) * int(sizes[after].min()) ** 2 > max_pairs


def test_a_crystal_beyond_the_bound_is_a_batch_of_its_own():
    assert [b.tolist() for b in bounded_batches(np.array([100, 2, 2, 90]), 100)] == [[1, 2], [3], [0]]
