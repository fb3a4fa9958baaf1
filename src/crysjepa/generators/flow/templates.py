"""Which orbits crystals have, and how often: what a new crystal is built on before it has elements."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crysjepa.generators.flow.orbit_batches import OrbitBatch, PackedOrbits
from crysjepa.generators.flow.orbits import NoOrbits, Orbits, Settled, orbits_of
from crysjepa.nn.batches import even_batches

_AWAY = ((0.1317, 0.2749, 0.4183), (0.3571, 0.1093, 0.2239), (0.0871, 0.3333, 0.1911))
"""Free coordinates at which a site is on no symmetry element but its own; the first that does is taken."""

_PASS, _GPU_PASS = 25, 20_000
"""What each pass of the network costs beside its orbits, in orbits: so much padding is worth a pass less."""
_BATCH, _GPU_BATCH = 256, 1024


@dataclass(frozen=True, eq=False)
class Templates:
    """T kinds of crystals that differ in more than elements, free coordinates and strain.

    Attributes
    ----------
    space_groups, weights, num_orbits, num_sites
        (T,) each; weights are positive and add up to 1.
    sites
        (Σ num_orbits, 3) a representative site of each orbit, off all symmetry elements but its own.
    """

    space_groups: NDArray[np.int64]
    weights: NDArray[np.float64]
    num_orbits: NDArray[np.int64]
    num_sites: NDArray[np.int64]
    sites: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.space_groups)

    @classmethod
    def of(cls, crystals: Sequence[Orbits]) -> Templates:
        """The different ones among the orbits of crystals, weighed by how often they occur.

        One whose sites cannot be moved off other symmetry elements is left out.
        """
        counts = Counter(orbits.key() for orbits in crystals)
        first = {orbits.key(): orbits for orbits in reversed(crystals)}
        sites = []
        for key in counts:
            try:
                sites.append(_generic(first[key]))
            except NoOrbits:
                del first[key]
        chosen = [first[key] for key in counts if key in first]
        weights = np.array([counts[key] for key in counts if key in first], dtype=float)
        return cls(
            np.array([o.space_group for o in chosen], dtype=np.int64),
            weights / max(weights.sum(), 1.0),
            np.array([len(o) for o in chosen], dtype=np.int64),
            np.array([len(o.owner) for o in chosen], dtype=np.int64),
            np.concatenate(sites) if sites else np.zeros((0, 3)),
        )

    def orbits(self, row: int) -> Orbits:
        """The orbits of template ``row``."""
        stop = int(self.num_orbits[: row + 1].sum())
        sites = self.sites[stop - int(self.num_orbits[row]) : stop]
        return _orbits(int(self.space_groups[row]), sites.tobytes())

    def settled(self, row: int, elements: Sequence[int] | None = None) -> Settled:
        """Template ``row`` as a crystal of these ``elements``, or of none, at rest where its orbits begin."""
        orbits = self.orbits(row)
        numbers = np.zeros(len(orbits), dtype=np.int64) if elements is None else np.array(elements)
        return Settled(orbits, numbers, np.zeros((len(orbits), 3)), np.zeros(6))

    def batches(
        self,
        rows: NDArray[np.int64] | Sequence[int],
        elements: Sequence[Sequence[int]] | None = None,
        device: str = "cpu",
    ) -> Iterator[tuple[NDArray[np.int64], OrbitBatch]]:
        """Templates ``rows``, with elements or without, in batches of little padding.

        Of each batch, which of them it holds, and their orbits, on the device.
        """
        if not len(rows):
            return
        fillings = elements or itertools.repeat(None)
        data = PackedOrbits([self.settled(int(row), own) for row, own in zip(rows, fillings, strict=False)])
        pass_, most = (_PASS, _BATCH) if device == "cpu" else (_GPU_PASS, _GPU_BATCH)
        for chosen in even_batches(data.num_atoms.numpy(), pass_, most):
            yield chosen, data.batch(chosen).to(device)

    def merged(self, other: Templates, share: float) -> Templates:
        """Both, those of ``other`` drawn with probability ``share``."""
        return Templates(
            np.concatenate([self.space_groups, other.space_groups]),
            np.concatenate([(1 - share) * self.weights, share * other.weights]),
            np.concatenate([self.num_orbits, other.num_orbits]),
            np.concatenate([self.num_sites, other.num_sites]),
            np.concatenate([self.sites, other.sites]),
        )

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {f"templates.{k}": torch.from_numpy(np.ascontiguousarray(v)) for k, v in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Templates:
        """Inverse of :meth:`tensors`. Raises KeyError where one is missing."""
        names = cls.__dataclass_fields__
        return cls(**{k: tensors[f"templates.{k}"].numpy() for k in names})


def _generic(orbits: Orbits) -> NDArray[np.float64]:
    """(R, 3) representative sites. Raises NoOrbits if each try is on another symmetry element."""
    for u in _AWAY:
        sites = orbits.positions + np.einsum("rij,j->ri", orbits.free, np.array(u))
        try:
            again = orbits_of(orbits.space_group, sites)
        except NoOrbits:
            continue
        if (again.multiplicities == orbits.multiplicities).all():
            return sites
    raise NoOrbits(f"no site of space group {orbits.space_group} is off its other symmetry elements")


@lru_cache(maxsize=8192)
def _orbits(space_group: int, sites: bytes) -> Orbits:
    return orbits_of(space_group, np.frombuffer(sites).reshape(-1, 3))
