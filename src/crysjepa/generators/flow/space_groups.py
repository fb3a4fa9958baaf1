"""Space groups in the basis of their standard primitive cells, and the strains that each allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.symmetry import operations, symbol

Floats = NDArray[np.float64]

_HEXAGONAL = np.array([[1.0, 0.0, 0.0], [-0.5, math.sqrt(0.75), 0.0], [0.0, 0.0, 1.0]])


def _symmetric_basis() -> Floats:
    """(6, 3, 3) orthonormal symmetric matrices; the first is I/√3, so the others have no trace."""
    off = [np.zeros((3, 3)) for _ in range(3)]
    for m, (i, j) in zip(off, ((0, 1), (1, 2), (0, 2)), strict=True):
        m[i, j] = m[j, i] = math.sqrt(0.5)
    return np.stack(
        [
            np.eye(3) / math.sqrt(3),
            *off,
            np.diag([-1, -1, 2]) / math.sqrt(6),
            np.diag([1, -1, 0]) / math.sqrt(2),
        ]
    )


STRAINS = _symmetric_basis()
"""S_i: what the six coefficients of a strain belong to."""


@dataclass(frozen=True)
class Symmetry:
    """A space group in the basis of its standard primitive cell.

    Attributes
    ----------
    number
        In the International Tables, 1 to 230.
    rotations, translations
        (G, 3, 3) and (G, 3): sites x go to W x + w.
    reference
        (3, 3) L_ref, rows a, b, c: a lattice of the right shape, about 1 Å long.
    projector
        (6, 6): the part of a strain's coefficients that the point group allows.
    """

    number: int
    rotations: NDArray[np.int64]
    translations: Floats
    reference: Floats
    projector: Floats


@lru_cache(maxsize=256)
def symmetry(number: int) -> Symmetry:
    """The space group of that number. Raises ValueError for what is no number of one."""
    if not 1 <= number <= 230:
        raise ValueError(f"{number} is no space group: they are 1 to 230")
    group = operations(number)
    rotations = np.asarray(group.rotations, dtype=np.int64)
    reference = _centring(number) @ (_HEXAGONAL if 143 <= number <= 194 else np.eye(3))
    turns = np.linalg.inv(reference) @ rotations.transpose(0, 2, 1) @ reference
    moved = np.einsum("gji,sjk,gkl->gsil", turns, STRAINS, turns)
    projector = np.einsum("gsil,til->st", moved, STRAINS) / len(turns)
    return Symmetry(number, rotations, np.asarray(group.translations, dtype=float), reference, projector)


def _centring(number: int) -> Floats:
    """(3, 3) rows: the standard primitive vectors in terms of the conventional ones."""
    letter, half = symbol(number)[0], 0.5
    return {
        "P": np.eye(3),
        "A": np.array([[1, 0, 0], [0, half, half], [0, -half, half]]),
        "C": np.array([[half, -half, 0], [half, half, 0], [0, 0, 1]]),
        "I": half * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
        "F": half * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),
        "R": np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
    }[letter]
