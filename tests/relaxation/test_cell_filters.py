"""The cell filters against ASE's own."""

import warnings

import numpy as np
import pytest
from ase.build import bulk
from ase.filters import ExpCellFilter, FrechetCellFilter
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crysjepa.relaxation.batch_optimizer import Mailbox
from crysjepa.relaxation.cell_filters import make_cell_filter
from crysjepa.relaxation.force_fields.base import Prediction


@pytest.mark.parametrize(
    ("name", "strain"), [("frechet", 0.05), ("frechet", 0.3), ("exp", 0.05), ("exp", 0.5)]
)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_cell_filters_are_ases(name: str, strain: float, seed: int) -> None:
    """Positions and forces, also far from where a cell began, where ASE's two rules for ``exp`` differ."""
    rng = np.random.default_rng(seed)
    atoms = bulk("NaCl", "rocksalt", a=5.4)
    atoms.rattle(0.1, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        plain = {"frechet": FrechetCellFilter, "exp": ExpCellFilter}[name](atoms.copy())
    ours = make_cell_filter(atoms, name)
    for _ in range(2):
        moves = rng.normal(size=(5, 3))
        moves[2:] *= strain * (len(atoms) if name == "frechet" else 1)
        there = ours.get_positions() + moves
        ours.set_positions(there)
        plain.set_positions(there)
        np.testing.assert_allclose(plain.atoms.positions, atoms.positions, atol=1e-12)
        assume(0.2 < atoms.cell.volume / 39.366 < 5)  # elsewhere a relaxation ends
        assume((np.linalg.eigvals(ours.deform_grad()).real > 0.05).all())  # else it has no real logarithm
        found = Prediction(-1.0, rng.normal(size=(2, 3)), rng.normal(size=6))
        for at in (plain.atoms, atoms):
            at.calc = Mailbox()
            at.calc.deliver(at, found)
        expected = plain.get_forces()
        np.testing.assert_allclose(ours.get_positions(), plain.get_positions(), atol=1e-9)
        np.testing.assert_allclose(ours.get_forces(), expected, atol=1e-9 * np.abs(expected).max())
