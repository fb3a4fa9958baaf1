"""Small real crystals for every test."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crysjepa.crystals import Crystals


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def rock_salt(cation: int, anion: int, a: float) -> tuple[list[int], list[list[float]], np.ndarray]:
    """Primitive cell of a rock salt with cubic lattice constant a (Å)."""
    cell = a / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return [cation, anion], [[0.0, 0, 0], [0.5, 0.5, 0.5]], cell


@pytest.fixture
def salts() -> Crystals:
    """Six rock salts of two sites and one perovskite of five: NaCl, KCl, LiF, MgO, CaO, KBr, SrTiO3."""
    cells = [
        rock_salt(11, 17, 5.64),
        rock_salt(19, 17, 6.29),
        rock_salt(3, 9, 4.03),
        rock_salt(12, 8, 4.21),
        rock_salt(20, 8, 4.81),
        rock_salt(19, 35, 6.60),
    ]
    perovskite = (
        [38, 22, 8, 8, 8],
        [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]],
        3.905 * np.eye(3),
    )
    cells.append(perovskite)
    return Crystals(
        np.concatenate([z for z, _, _ in cells]),
        np.concatenate([x for _, x, _ in cells]),
        np.stack([c for _, _, c in cells]),
        np.array([len(z) for z, _, _ in cells]),
        ("NaCl", "KCl", "LiF", "MgO", "CaO", "KBr", "SrTiO3"),
    )
