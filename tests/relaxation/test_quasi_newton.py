"""The quasi-Newton optimiser of atoms and cell."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from hypothesis import given, settings
from hypothesis import strategies as st

from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.batch_optimizer import relax_together
from crysjepa.relaxation.force_fields.registry import AseForceField
from crysjepa.relaxation.quasi_newton import MAX_STEP, MAX_STRAIN, QuasiNewton
from crysjepa.relaxation.settings import RelaxSettings


def distorted(seed: int, repeat: int = 2) -> Atoms:
    """An ordered alloy of copper and gold, strained and rattled."""
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True) * (1, 1, repeat)
    atoms.numbers[::4] = 79
    random = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell @ (np.eye(3) + random.normal(0, 0.03, (3, 3))), scale_atoms=True)
    atoms.rattle(0.05, seed=seed)
    return atoms


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cell_filter", ["frechet", "exp"])
def test_it_ends_where_ases_bfgs_ends_in_fewer_steps(seed: int, cell_filter: str) -> None:
    atoms = distorted(seed)
    chosen = RelaxSettings(optimizer="quasi-newton", cell_filter=cell_filter, fmax=0.005, max_steps=200)
    (outcome,) = relax_together(Crystals.from_atoms([atoms]), AseForceField(EMT(), name="test"), chosen)
    atoms.calc = EMT()
    plain = BFGS(FrechetCellFilter(atoms), logfile=None)
    assert plain.run(fmax=0.005, steps=200)
    assert outcome.record is not None and outcome.record.converged
    assert outcome.record.energy_per_atom == pytest.approx(
        atoms.get_potential_energy() / len(atoms), abs=2e-4
    )
    assert outcome.record.steps < plain.nsteps


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_no_step_is_too_long(seed: int) -> None:
    atoms = distorted(seed, repeat=1)
    atoms.rattle(0.3, seed=seed)
    atoms.calc = EMT()
    target = FrechetCellFilter(atoms)
    optimizer = QuasiNewton(target)
    for _ in range(5):
        before = target.get_positions()
        optimizer.step()
        moved = np.linalg.norm(target.get_positions() - before, axis=1)
        assert moved[:-3].max() <= MAX_STEP * (1 + 1e-9)
        assert moved[-3:].max() <= MAX_STRAIN * len(atoms) * (1 + 1e-9)
