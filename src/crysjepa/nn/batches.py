"""Crystals as padded tensors, and batches of similar length (so that padding is rare)."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crysjepa.core.chemical_systems import element_fractions, system_keys
from crysjepa.core.crystals import Crystals
from crysjepa.core.lattice import polar_decompose


@dataclass(frozen=True)
class Batch:
    """B crystals padded to M sites.

    ``atomic_numbers`` (B, M) with 0 for padding; ``frac_coords`` (B, M, 3); ``lattices`` (B, 3, 3), the
    symmetric L̃ of Eq. 1 in Å; ``mask`` (B, M) True for real sites. In eV/atom, NaN where unknown:
    ``energies`` (B,), the formation energy as the crystal stands; ``relaxed_energies`` (B,), that of what it
    relaxes to; ``site_energies`` (B, M), each site's share (their mean is the energy).
    """

    atomic_numbers: Tensor
    frac_coords: Tensor
    lattices: Tensor
    mask: Tensor
    energies: Tensor
    relaxed_energies: Tensor
    site_energies: Tensor

    def __len__(self) -> int:
        return len(self.lattices)

    def rows(self, index: Tensor) -> Batch:
        """Some of its crystals."""
        return replace(self, **{k: v[index] for k, v in vars(self).items()})

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(self, **{k: v.to(device) for k, v in vars(self).items()})


class PackedCrystals:
    """Crystals held as flat tensors, from which batches are cut without Python loops.

    Energies are those of :class:`Batch`, ``site_energies`` flat (N,). Lattices are in the symmetric
    orientation of Eq. 1, or, where not ``symmetric``, as they come.
    """

    def __init__(
        self,
        crystals: Crystals,
        energies: NDArray[np.floating] | None = None,
        *,
        relaxed_energies: NDArray[np.floating] | None = None,
        site_energies: NDArray[np.floating] | None = None,
        symmetric: bool = True,
    ) -> None:
        self._crystals = crystals
        self.num_atoms = torch.from_numpy(crystals.num_atoms)
        self._offsets = torch.from_numpy(crystals.offsets[:-1])
        self._numbers = torch.from_numpy(crystals.atomic_numbers)
        # wrapped: single precision is for what is within the cell
        within = crystals.frac_coords - np.floor(crystals.frac_coords)
        self._coords = torch.from_numpy(within.astype(np.float32))
        turned = polar_decompose(crystals.lattices)[0] if symmetric and len(crystals) else crystals.lattices
        self._lattices = torch.from_numpy(turned.astype(np.float32))
        self._energies = _known(energies, len(crystals))
        self._relaxed = _known(relaxed_energies, len(crystals))
        self._by_site = _known(site_energies, len(crystals.atomic_numbers))

    def to(self, device: torch.device | str) -> PackedCrystals:
        """The same on another device, where its batches will be; ``num_atoms`` stays on the CPU."""
        moved = copy.copy(self)
        own = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor) and k != "num_atoms"}
        vars(moved).update(own)
        return moved

    @cached_property
    def systems(self) -> NDArray[np.int64]:
        """(B,) a number for the chemical system of each."""
        keys = system_keys(element_fractions(self._crystals))
        return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the crystals alone."""
        return self._crystals.content_hash()

    @cached_property
    def energies_hash(self) -> str:
        """SHA-256 of all their energies."""
        digest = hashlib.sha256()
        for known in (self._energies, self._relaxed, self._by_site):
            digest.update(known.cpu().numpy().tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.num_atoms)

    def batch(self, rows: NDArray[np.int64] | Tensor) -> Batch:
        """The crystals at ``rows``, padded to the largest among them."""
        rows = torch.as_tensor(rows).cpu()
        counts, device = self.num_atoms[rows], self._coords.device
        slots = torch.arange(int(counts.max()), device=device)
        rows, counts = rows.to(device, non_blocking=True), counts.to(device, non_blocking=True)
        mask = slots[None, :] < counts[:, None]
        sites = torch.where(mask, self._offsets[rows][:, None] + slots[None, :], 0)
        return Batch(
            torch.where(mask, self._numbers[sites], 0),
            self._coords[sites] * mask[..., None],
            self._lattices[rows],
            mask,
            self._energies[rows],
            self._relaxed[rows],
            torch.where(mask, self._by_site[sites], torch.nan),
        )


def _known(energies: NDArray[np.floating] | None, count: int) -> Tensor:
    """As float32; NaN has many bit patterns, all of which say "unknown": one of them is kept."""
    known = np.full(count, np.nan) if energies is None else np.asarray(energies, dtype=float)
    if known.shape != (count,):
        raise ValueError(f"{known.shape} energies for {count} crystals or sites")
    return torch.from_numpy(np.where(np.isnan(known), np.nan, known).astype(np.float32))


def epoch_batches(
    num_atoms: Tensor, batch_size: int, seed: tuple[int, ...], *, pool: int = 32
) -> Iterator[NDArray[np.int64]]:
    """Rows of each batch of one epoch: shuffled, yet of similar length within a batch.

    Rows are shuffled, cut into pools of ``pool`` batches, sorted by length inside a pool, cut into
    batches, and the batches shuffled. The order depends on ``seed`` alone. A last batch of fewer than
    half the rows is left out (contrastive losses need company), unless it is the only one.
    """
    rng = np.random.default_rng(seed)
    sizes = num_atoms.numpy()
    rows = rng.permutation(len(sizes))
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(rows), pool * batch_size):
        part = rows[start : start + pool * batch_size]
        part = part[np.argsort(sizes[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    batches = [b for b in batches if 2 * len(b) > batch_size] or batches
    for i in rng.permutation(len(batches)):
        yield batches[i]


def sorted_batches(num_atoms: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Every row exactly once, in batches of similar length: for inference."""
    order = np.argsort(num_atoms, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def even_batches(sizes: NDArray[np.int64], overhead: float, most: int) -> list[NDArray[np.int64]]:
    """Every row exactly once, in batches of similar size that cost least together: for inference.

    A batch costs ``overhead`` and its rows times the largest size, in the unit of ``sizes``. Rows of one size
    stay together, but for batches of more than ``most`` rows, which are cut.
    """
    order = np.argsort(sizes, kind="stable")
    kinds, counts = np.unique(sizes, return_counts=True)
    ends = [0, *np.cumsum(counts).tolist()]
    least, first = [0.0], [0]  # of the rows of the first k sizes; where their last batch begins
    for k, size in enumerate(kinds.tolist(), start=1):
        costs = [least[j] + overhead + (ends[k] - ends[j]) * size for j in range(k)]
        first.append(int(np.argmin(costs)))
        least.append(min(costs))
    bounds, k = [len(kinds)], len(kinds)
    while k:
        k = first[k]
        bounds.append(k)
    spans = itertools.pairwise(ends[k] for k in reversed(bounds))
    return [order[i : min(i + most, stop)] for start, stop in spans for i in range(start, stop, most)]


def bounded_batches(num_atoms: NDArray[np.int64], max_pairs: int) -> list[NDArray[np.int64]]:
    """Every row exactly once, in batches of similar length of at most ``max_pairs`` padded pairs of sites.

    A crystal that has more by itself is a batch of its own.
    """
    order = np.argsort(num_atoms, kind="stable")
    sizes = num_atoms[order]
    batches, start = [], 0
    for stop in range(1, len(order) + 1):
        # sorted: the next one would be the largest of its batch
        if stop == len(order) or (stop + 1 - start) * int(sizes[stop]) ** 2 > max_pairs:
            batches.append(order[start:stop])
            start = stop
    return batches
