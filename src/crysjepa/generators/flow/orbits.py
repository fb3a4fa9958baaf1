"""Crystals by what symmetry leaves free: orbits of equivalent sites, where one of each is, and a strain.

A crystal of space group G is a few representative sites, each of which G copies all over the cell, and a
lattice of the shape that G allows. A site on a symmetry element may move along it only. What may change
is therefore, for each orbit, u in [0, 1)^k with k ≤ 3,

    x = x₀ + B u,        sites of the orbit: W_g x + w_g,

where the integer columns of B span the lattice vectors that the site's stabiliser leaves as they are, and
for the lattice the coefficients c (6,) of a symmetric strain E,

    L = L_ref exp(E),        E = Σ c_i S_i,        E = Rᵀ E R for all R in the point group.

Most known crystals have few orbits (four, where the cell has nine sites), and most of those cannot move.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.canonical import unfit
from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import symmetry_of
from crysjepa.generators.flow.space_groups import STRAINS, Floats, Symmetry, symmetry

TOLERANCE = 1e-3
"""In fractions of the cell; how far a site may be from where symmetry wants it."""


class NoOrbits(ValueError):
    """Raised for a crystal whose sites do not fall into orbits of its space group."""


@dataclass(frozen=True)
class Orbits:
    """One crystal's R orbits and N sites, without its elements and its free coordinates.

    Attributes
    ----------
    space_group
        Its number.
    positions
        (R, 3) x₀ of the representative sites, with u = 0.
    free
        (R, 3, 3) B; beyond ``num_free`` (R,) its columns are 0.
    owner
        (N,) the orbit of each site; those of one orbit stand together, the representative first.
    rotations, translations
        (N, 3, 3) and (N, 3): how each site is made from its representative.
    """

    space_group: int
    positions: Floats
    free: Floats
    num_free: NDArray[np.int64]
    owner: NDArray[np.int64]
    rotations: NDArray[np.int64]
    translations: Floats

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def multiplicities(self) -> NDArray[np.int64]:
        """(R,) sites of each orbit."""
        return np.bincount(self.owner, minlength=len(self))

    def key(self) -> tuple[int, tuple[tuple[float, ...], ...]]:
        """The same for crystals that differ only in their elements, free coordinates and strain.

        Crystals that also differ in their origin, or in the choice of a representative, may have other keys.
        """
        rounded = np.round(self.positions % 1.0, 4) % 1.0
        sites = [(*p, *b.ravel()) for p, b in zip(rounded.tolist(), self.free, strict=True)]
        return self.space_group, tuple(sorted(tuple(float(v) for v in site) for site in sites))


def orbits_of(space_group: int, sites: Floats) -> Orbits:
    """The orbits of representative sites (R, 3) under a space group; they are taken to be inequivalent.

    A site within :data:`TOLERANCE` of a symmetry element is put on it.

    Raises
    ------
    NoOrbits
        If a site is near a symmetry element, but not near enough to be on it.
    """
    group = symmetry(space_group)
    made = [_orbit(group, site) for site in np.asarray(sites, dtype=float)]
    owner = np.repeat(np.arange(len(made)), [len(m[2]) for m in made])
    return Orbits(
        space_group,
        np.array([m[0] for m in made]),
        np.array([_padded(m[1]) for m in made]),
        np.array([m[1].shape[1] for m in made], dtype=np.int64),
        owner,
        group.rotations[np.concatenate([m[2] for m in made])],
        group.translations[np.concatenate([m[2] for m in made])],
    )


def _orbit(group: Symmetry, site: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """x₀, B (3, k) and the operations (M,) that make each site of the orbit, the identity's first."""
    images = site @ group.rotations.transpose(0, 2, 1) + group.translations
    gaps = images[:, None] - images[None]
    same = np.asarray((np.abs(gaps - np.round(gaps)) < TOLERANCE).all(axis=-1))
    first = same.argmax(axis=1)  # the earliest operation that leads to the same site
    makers = np.flatnonzero(first == np.arange(len(first)))
    if len(makers) * int(same[0].sum()) != len(images):
        raise NoOrbits(f"a site is near a symmetry element of space group {group.number}, but not on it")
    fixing = np.flatnonzero(same[0])
    # Onto the symmetry element: the mean over the stabiliser, each image brought next to the site.
    at = (images[fixing] - np.round(images[fixing] - site)).mean(axis=0)
    basis = _fixed_vectors(group.rotations[fixing].tobytes())
    if basis.shape[1]:
        inverse = np.linalg.pinv(basis)
        at = at - basis @ (inverse @ at)
    return at, basis, makers


@lru_cache(maxsize=4096)
def _fixed_vectors(rotations: bytes) -> NDArray[np.int64]:
    """(3, k) an integer basis of the lattice vectors that all of these rotations leave as they are."""
    turns = np.frombuffer(rotations, dtype=np.int64).reshape(-1, 3, 3)
    everywhere = np.array(list(itertools.product(range(-3, 4), repeat=3)))
    kept = (np.einsum("gij,vj->gvi", turns, everywhere) == everywhere).all(axis=(0, 2))
    vectors = everywhere[kept & everywhere.any(axis=1)]
    vectors = vectors[np.lexsort((*vectors.T[::-1], (vectors**2).sum(axis=1)))]
    rank = int(np.linalg.matrix_rank(turns.mean(axis=0), tol=1e-6))
    if rank in (0, 3):
        return np.eye(3, dtype=np.int64)[:, :rank]
    for chosen in itertools.combinations(vectors, rank):
        basis = np.array(chosen, dtype=np.int64)
        # A basis spans no more than it must: its k × k minors have no common divisor.
        minors = [
            round(float(np.linalg.det(basis[:, list(columns)])))
            for columns in itertools.combinations(range(3), rank)
        ]
        if math.gcd(*minors) == 1:
            return basis.T
    raise NoOrbits("a site is near several symmetry elements, but on none of them")


def equivalents(orbits: Orbits) -> list[tuple[Floats, Floats]]:
    """For each orbit, other choices of its representative: u' = A u + c, as (K, 3, 3) and (K, 3).

    These are the operations that map a site's symmetry element onto itself or onto a lattice translate; the
    first is the identity. u' is the same site of the crystal as some other site of the orbit of u.
    """
    return [
        _equivalents(orbits.space_group, position.tobytes(), free.tobytes())
        for position, free in zip(orbits.positions, orbits.free, strict=True)
    ]


@lru_cache(maxsize=65536)
def _equivalents(space_group: int, position: bytes, free: bytes) -> tuple[Floats, Floats]:
    group, at, basis = symmetry(space_group), np.frombuffer(position), np.frombuffer(free).reshape(3, 3)
    inverse = np.linalg.pinv(basis)
    across = np.eye(3) - basis @ inverse
    turns = inverse @ group.rotations @ basis
    moved = group.rotations @ at + group.translations - at
    # A lattice vector that brings the image back to the element, if there is one.
    lattice = np.array(list(itertools.product(range(-2, 3), repeat=3)))
    off = (np.floor(moved + 0.5)[:, None] + lattice) - moved[:, None]
    residue = np.abs(off @ across.T).max(axis=-1)
    best = residue.argmin(axis=1)
    rows = np.arange(len(moved))
    kept = (residue[rows, best] < TOLERANCE) & np.isclose(basis @ turns, group.rotations @ basis).all(
        axis=(1, 2)
    )
    shifts = -off[rows, best] @ inverse.T
    whole = np.round(np.concatenate([turns.reshape(-1, 9), (shifts - np.floor(shifts + 1e-6))], axis=1), 6)
    _, first = np.unique(whole[kept], axis=0, return_index=True)
    chosen = np.flatnonzero(kept)[np.sort(first)]
    return turns[chosen], shifts[chosen]


def _padded(basis: NDArray[np.int64]) -> Floats:
    return np.hstack([basis, np.zeros((3, 3 - basis.shape[1]))])


@dataclass(frozen=True)
class Settled:
    """A crystal in the standard setting of its space group.

    ``atomic_numbers`` (R,), ``free_coords`` (R, 3) u, 0 beyond ``num_free``, and ``strain`` (6,) c.
    """

    orbits: Orbits
    atomic_numbers: NDArray[np.int64]
    free_coords: Floats
    strain: Floats


def settle(crystal: Crystals, *, symprec: float = 0.01, plain: bool = False) -> Settled:
    """The crystal's orbits, its free coordinates and its strain.

    Parameters
    ----------
    symprec
        Å; how far sites may be from where their symmetry wants them.
    plain
        Take no symmetry: space group 1, where every site is an orbit of its own.

    Raises
    ------
    NoOrbits
        If no symmetry can be settled on, or the sites do not fall into its orbits; and for what the models
        cannot take (:func:`crysjepa.core.canonical.unfit`).
    """
    if (reason := unfit(crystal)) is not None:
        raise NoOrbits(reason)
    if plain:
        return _settled(1, crystal.lattices[0], crystal.frac_coords, crystal.atomic_numbers)
    try:
        found = symmetry_of(crystal, symprec)
    except ValueError as error:
        raise NoOrbits(f"no symmetry can be settled on: {error}") from error
    cell = found.prim_std_cell
    numbers = np.asarray(cell.numbers, dtype=np.int64)
    return _settled(int(found.number), np.asarray(cell.basis), np.asarray(cell.positions), numbers)


def _settled(number: int, lattice: Floats, sites: Floats, numbers: NDArray[np.int64]) -> Settled:
    group = symmetry(number)
    if number == 1:
        owner = np.arange(len(sites))
    else:
        images = np.einsum("gij,nj->ngi", group.rotations, sites) + group.translations
        gaps = images[:, :, None] - sites[None, None]
        owner = (np.abs(gaps - np.round(gaps)) < 20 * TOLERANCE).all(axis=-1).any(axis=1).argmax(axis=1)
    if (owner[owner] != owner).any():
        raise NoOrbits("sites are too near one another to tell which are equivalent")
    chosen = np.flatnonzero(owner == np.arange(len(sites)))
    orbits = orbits_of(number, sites[chosen])
    counts = np.bincount(np.searchsorted(chosen, owner), minlength=len(chosen))
    if (orbits.multiplicities != counts).any() or (numbers[owner] != numbers).any():
        raise NoOrbits(f"the sites do not fall into orbits of space group {number}")
    inverse = np.linalg.pinv(orbits.free)
    moved = np.einsum("rij,rj->ri", inverse, sites[chosen] - orbits.positions)
    stretch = np.linalg.inv(group.reference) @ lattice
    values, vectors = np.linalg.eigh(stretch @ stretch.T)
    strain = (vectors * (0.5 * np.log(values))) @ vectors.T
    coefficients = group.projector @ np.einsum("sij,ij->s", STRAINS, strain)
    return Settled(orbits, numbers[chosen], moved - np.floor(moved), coefficients)


def settle_all(crystals: Crystals, *, symmetric: bool = True) -> list[Settled]:
    """Each crystal in the standard setting of its space group, or, where that fails, without symmetry.

    Raises ValueError, with the id, for what :func:`crysjepa.core.canonical.canonicalise` would have refused.
    """
    found = []
    for crystal in crystals:
        try:
            settled = settle(crystal, plain=not symmetric)
        except NoOrbits:
            try:
                settled = settle(crystal, plain=True)
            except NoOrbits as error:
                raise ValueError(f"{crystal.ids[0]} cannot be learnt from: {error}") from error
        found.append(settled)
    return found
