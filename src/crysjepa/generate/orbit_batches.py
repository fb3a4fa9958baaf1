"""Settled crystals as padded tensors, and from free coordinates and strains back to sites and lattices."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crysjepa.generate.orbits import STRAINS, Orbits, Settled, equivalents, symmetry


@dataclass(frozen=True)
class OrbitBatch:
    """B crystals of at most R orbits and N sites (:class:`crysjepa.generate.orbits.Orbits`).

    By orbit: ``atomic_numbers`` (B, R), 0 in padding; ``free_coords`` (B, R, 3) u; ``positions`` (B, R, 3)
    x₀; ``free`` (B, R, 3, 3) B and ``inverse`` its pseudo-inverse; ``turns`` (B, R, K, 3, 3) and ``shifts``
    (B, R, K, 3), the equivalent choices of a representative, repeated up to the largest number of them;
    ``num_free`` and ``multiplicity`` (B, R). By site: ``owner`` (B, N), ``rotations`` (B, N, 3, 3),
    ``translations`` (B, N, 3). By crystal: ``strain`` (B, 6) c, ``reference`` (B, 3, 3) L_ref, ``projector``
    (B, 6, 6), ``space_group``, ``num_orbits`` and ``num_sites`` (B,).
    """

    atomic_numbers: Tensor
    free_coords: Tensor
    positions: Tensor
    free: Tensor
    inverse: Tensor
    turns: Tensor
    shifts: Tensor
    num_free: Tensor
    multiplicity: Tensor
    owner: Tensor
    rotations: Tensor
    translations: Tensor
    strain: Tensor
    reference: Tensor
    projector: Tensor
    space_group: Tensor
    num_orbits: Tensor
    num_sites: Tensor

    def __len__(self) -> int:
        return len(self.strain)

    @property
    def mask(self) -> Tensor:
        """(B, R) True for real orbits."""
        return self.multiplicity > 0

    def rows(self, index: Tensor) -> OrbitBatch:
        """Some of its crystals."""
        return replace(self, **{k: v[index] for k, v in vars(self).items()})

    def to(self, device: torch.device | str) -> OrbitBatch:
        """The same batch on another device."""
        return replace(self, **{k: v.to(device) for k, v in vars(self).items()})

    def lattices(self, strain: Tensor) -> Tensor:
        """L_ref exp(E) (B, 3, 3) in Å for coefficients (B, 6)."""
        basis = torch.as_tensor(STRAINS, dtype=strain.dtype, device=strain.device)
        matrices = torch.einsum("bs,sij->bij", strain, basis)
        return self.reference.to(strain.dtype) @ torch.linalg.matrix_exp(matrices)

    def sites(self, free_coords: Tensor) -> Tensor:
        """Fractional coordinates (B, N, 3) of all sites for free coordinates (B, R, 3)."""
        moved = torch.einsum("brij,brj->bri", self.free.to(free_coords.dtype), free_coords)
        representatives = self.positions.to(free_coords.dtype) + moved
        return self.spread(representatives) + self.translations.to(free_coords.dtype)

    def spread(self, vectors: Tensor) -> Tensor:
        """Vectors (B, R, 3) at the representatives, in fractions of the cell, at every site: (B, N, 3)."""
        own = torch.gather(vectors, 1, self.owner[..., None].expand(-1, -1, 3))
        return torch.einsum("bnij,bnj->bni", self.rotations.to(vectors.dtype), own)

    def mean_over_sites(self, vectors: Tensor) -> Tensor:
        """(B, 3) the mean over sites of vectors that are (B, R, 3) at the representatives."""
        slots = torch.arange(self.owner.shape[1], device=self.owner.device)
        real = (slots[None] < self.num_sites[:, None])[..., None]
        return (self.spread(vectors) * real).sum(dim=1) / self.num_sites[:, None]


class PackedOrbits:
    """Settled crystals held flat, from which batches are cut; ``num_atoms`` (B,) counts orbits."""

    def __init__(self, crystals: Sequence[Settled]) -> None:
        orbits = [c.orbits for c in crystals]
        self.num_atoms = torch.tensor([len(o) for o in orbits], dtype=torch.int64)
        self._num_sites = torch.tensor([len(o.owner) for o in orbits], dtype=torch.int64)
        self._starts = torch.cumsum(self.num_atoms, 0) - self.num_atoms
        self._site_starts = torch.cumsum(self._num_sites, 0) - self._num_sites
        self.space_groups = torch.tensor([o.space_group for o in orbits], dtype=torch.int64)

        def joined(arrays: Sequence[NDArray[np.generic]], shape: tuple[int, ...]) -> Tensor:
            flat = np.concatenate(arrays) if arrays else np.zeros((0, *shape))
            return torch.from_numpy(flat if flat.dtype.kind == "i" else flat.astype(np.float32))

        free = np.concatenate([o.free for o in orbits]) if orbits else np.zeros((0, 3, 3))
        self._by_orbit = {
            "atomic_numbers": joined([c.atomic_numbers for c in crystals], ()).long(),
            "free_coords": joined([c.free_coords for c in crystals], (3,)),
            "positions": joined([o.positions for o in orbits], (3,)),
            "free": torch.from_numpy(free.astype(np.float32)),
            "inverse": torch.from_numpy(np.linalg.pinv(free).astype(np.float32)),
            "num_free": joined([o.num_free for o in orbits], ()),
            "multiplicity": joined([o.multiplicities for o in orbits], ()),
        }
        self._equivalents = _EquivalentSites(orbits)
        self._by_site = {
            "owner": joined([o.owner for o in orbits], ()).long(),
            "rotations": joined([o.rotations.astype(np.float32) for o in orbits], (3, 3)),
            "translations": joined([o.translations for o in orbits], (3,)),
        }
        self._strain = torch.tensor(
            np.array([c.strain for c in crystals]).reshape(-1, 6), dtype=torch.float32
        )

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of everything."""
        digest = hashlib.sha256()
        for part in (*self._by_orbit.values(), *self._by_site.values(), self._strain, self.space_groups):
            digest.update(part.numpy().tobytes())
        return digest.hexdigest()

    energies_hash = ""

    def __len__(self) -> int:
        return len(self.num_atoms)

    def batch(self, rows: NDArray[np.int64] | Tensor) -> OrbitBatch:
        """The crystals at ``rows``, padded to the largest among them."""
        rows = torch.as_tensor(rows)
        orbits = _padded(self._by_orbit, self._starts[rows], self.num_atoms[rows])
        sites = _padded(self._by_site, self._site_starts[rows], self._num_sites[rows])
        turns, shifts = self._equivalents.padded(self._starts[rows], self.num_atoms[rows])
        groups = self.space_groups[rows]
        known, which = torch.unique(groups, return_inverse=True)
        found = [symmetry(int(n)) for n in known]
        return OrbitBatch(
            **orbits,
            **sites,
            turns=turns,
            shifts=shifts,
            strain=self._strain[rows],
            reference=torch.from_numpy(np.array([s.reference for s in found], dtype=np.float32))[which],
            projector=torch.from_numpy(np.array([s.projector for s in found], dtype=np.float32))[which],
            space_group=groups,
            num_orbits=self.num_atoms[rows],
            num_sites=self._num_sites[rows],
        )


class _EquivalentSites:
    """What :func:`crysjepa.generate.orbits.equivalents` says of many orbits, each kind held once."""

    def __init__(self, orbits: Sequence[Orbits]) -> None:
        kinds: dict[int, int] = {}  # equal kinds are the same object: they come out of a cache
        found: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        kind: list[int] = []
        for choices in (c for o in orbits for c in equivalents(o)):
            if id(choices) not in kinds:
                kinds[id(choices)] = len(found)
                found.append(choices)
            kind.append(kinds[id(choices)])
        counts = torch.tensor([len(turns) for turns, _ in found], dtype=torch.int64)
        nothing = np.zeros((0, 3, 3)), np.zeros((0, 3))
        turns, shifts = (np.concatenate(v) for v in zip(*(found or [nothing]), strict=True))
        self._turns, self._shifts = torch.from_numpy(turns).float(), torch.from_numpy(shifts).float()
        kind_of = torch.tensor(kind, dtype=torch.int64)
        self._starts, self._counts = (torch.cumsum(counts, 0) - counts)[kind_of], counts[kind_of]

    def padded(self, starts: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """(B, R, K, 3, 3) and (B, R, K, 3); the last choice stands for those that an orbit lacks."""
        slots = torch.arange(int(counts.max()))
        orbit = torch.where(slots[None] < counts[:, None], starts[:, None] + slots[None], starts[:, None])
        many = self._counts[orbit]
        choice = torch.minimum(torch.arange(int(many.max())), many[..., None] - 1)
        index = self._starts[orbit][..., None] + choice
        return self._turns[index], self._shifts[index]


def _padded(parts: dict[str, Tensor], starts: Tensor, counts: Tensor) -> dict[str, Tensor]:
    slots = torch.arange(int(counts.max()))
    real = slots[None] < counts[:, None]
    index = torch.where(real, starts[:, None] + slots[None], 0)
    return {
        name: part[index] * real.view(*real.shape, *[1] * (part.ndim - 1)).to(part.dtype)
        for name, part in parts.items()
    }
