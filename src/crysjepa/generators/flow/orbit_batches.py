"""Settled crystals as padded tensors, and from free coordinates and strains back to sites and lattices."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crysjepa.generators.flow.orbits import STRAINS, Orbits, Settled, equivalents, symmetry


@dataclass(frozen=True)
class OrbitBatch:
    """B crystals of at most R orbits and N sites (:class:`crysjepa.generators.flow.orbits.Orbits`).

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
        return self.reference.to(strain.dtype) @ exponential(matrices)

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


def exponential(matrices: Tensor) -> Tensor:
    """exp of (…, 3, 3) strains, by twelve terms of the series at an eighth of it, squared three times.

    ``torch.linalg.matrix_exp`` chooses the number of terms by the largest, and a GPU waits while it does.
    """
    eighth = matrices / 8
    one = torch.eye(3, dtype=matrices.dtype, device=matrices.device)
    total = one.expand_as(matrices)
    for n in range(12, 0, -1):
        total = one + eighth @ total / n
    for _ in range(3):
        total = total @ total
    return total


class PackedOrbits:
    """Settled crystals held flat, from which batches are cut; ``num_atoms`` (B,) counts orbits."""

    energies_hash = ""

    def __init__(self, crystals: Sequence[Settled]) -> None:
        orbits = [c.orbits for c in crystals]
        self.num_atoms = torch.tensor([len(o) for o in orbits], dtype=torch.int64)
        self._num_sites = torch.tensor([len(o.owner) for o in orbits], dtype=torch.int64)

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
        self._by_site = {
            "owner": joined([o.owner for o in orbits], ()).long(),
            "rotations": joined([o.rotations.astype(np.float32) for o in orbits], (3, 3)),
            "translations": joined([o.translations for o in orbits], (3,)),
        }
        groups = torch.tensor([o.space_group for o in orbits], dtype=torch.int64)
        known, which = torch.unique(groups, return_inverse=True)
        found = [symmetry(int(n)) for n in known]
        self._by_crystal = {
            "strain": joined([c.strain[None] for c in crystals], (6,)),
            "space_group": groups,
            "reference": joined([s.reference[None] for s in found], (3, 3))[which],
            "projector": joined([s.projector[None] for s in found], (6, 6))[which],
            "num_orbits": self.num_atoms,
            "num_sites": self._num_sites,
            "_orbits": torch.cumsum(self.num_atoms, 0) - self.num_atoms,
            "_sites": torch.cumsum(self._num_sites, 0) - self._num_sites,
        }
        numbers: dict[frozenset[int], int] = {}
        elements = [frozenset(c.atomic_numbers.tolist()) for c in crystals]
        self.systems = np.array([numbers.setdefault(e, len(numbers)) for e in elements], dtype=np.int64)
        self._equivalents = _EquivalentSites(orbits)
        self._most_choices = self._equivalents.most(self.num_atoms)

    def to(self, device: torch.device | str) -> PackedOrbits:
        """The same on another device, where its batches will be."""
        moved = copy.copy(self)
        moved._by_orbit, moved._by_site, moved._by_crystal = (
            {k: v.to(device) for k, v in parts.items()}
            for parts in (self._by_orbit, self._by_site, self._by_crystal)
        )
        moved._equivalents = self._equivalents.to(device)
        return moved

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of everything."""
        digest = hashlib.sha256()
        own = [self._by_crystal[k] for k in ("strain", "space_group")]
        for part in (*self._by_orbit.values(), *self._by_site.values(), *own):
            digest.update(part.cpu().numpy().tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.num_atoms)

    def batch(self, rows: NDArray[np.int64] | Tensor) -> OrbitBatch:
        """The crystals at ``rows``, padded to the largest among them."""
        rows = torch.as_tensor(rows).cpu()
        # How large it will be is known on the CPU, so that no GPU has to be waited for.
        orbits, sites, choices = (
            int(v[rows].max()) for v in (self.num_atoms, self._num_sites, self._most_choices)
        )
        rows = rows.to(self._by_crystal["strain"].device, non_blocking=True)
        own = {k: v[rows] for k, v in self._by_crystal.items()}
        first_orbit, first_site = own.pop("_orbits"), own.pop("_sites")
        turns, shifts = self._equivalents.padded(first_orbit, own["num_orbits"], orbits, choices)
        return OrbitBatch(
            **_padded(self._by_orbit, first_orbit, own["num_orbits"], orbits),
            **_padded(self._by_site, first_site, own["num_sites"], sites),
            turns=turns,
            shifts=shifts,
            **own,
        )


class _EquivalentSites:
    """What :func:`crysjepa.generators.flow.orbits.equivalents` says of many orbits, each kind held once."""

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

    def to(self, device: torch.device | str) -> _EquivalentSites:
        moved = copy.copy(self)
        vars(moved).update({k: v.to(device) for k, v in vars(self).items()})
        return moved

    def most(self, num_orbits: Tensor) -> Tensor:
        """(B,) the most choices that an orbit of each crystal has."""
        crystal = torch.repeat_interleave(torch.arange(len(num_orbits)), num_orbits)
        return torch.zeros_like(num_orbits).scatter_reduce(0, crystal, self._counts, "amax")

    def padded(self, starts: Tensor, counts: Tensor, orbits: int, choices: int) -> tuple[Tensor, Tensor]:
        """(B, R, K, 3, 3) and (B, R, K, 3); the last choice stands for those that an orbit lacks."""
        slots = torch.arange(orbits, device=starts.device)
        orbit = torch.where(slots[None] < counts[:, None], starts[:, None] + slots[None], starts[:, None])
        many = self._counts[orbit]
        choice = torch.minimum(torch.arange(choices, device=starts.device), many[..., None] - 1)
        index = self._starts[orbit][..., None] + choice
        return self._turns[index], self._shifts[index]


def _padded(parts: dict[str, Tensor], starts: Tensor, counts: Tensor, most: int) -> dict[str, Tensor]:
    slots = torch.arange(most, device=starts.device)
    real = slots[None] < counts[:, None]
    index = torch.where(real, starts[:, None] + slots[None], 0)
    return {
        name: part[index] * real.view(*real.shape, *[1] * (part.ndim - 1)).to(part.dtype)
        for name, part in parts.items()
    }
