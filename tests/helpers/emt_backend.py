"""A backend that costs nothing: ASE's effective medium theory, in workers as GPAW is."""

import os

from ase import Atoms
from ase.calculators.emt import EMT
from ase.optimize import BFGS

KILLS = 79
"""Gold, where the environment says so."""


def versions():
    return {"emt": "1"}


def setup(settings):
    return lambda task: calculate(task, settings)


def calculate(task, settings):
    if os.environ.get("EMT_KILLS") and KILLS in task["numbers"]:
        os.kill(os.getpid(), 9)
    atoms = Atoms(numbers=task["numbers"], cell=task["cell"], scaled_positions=task["frac_coords"], pbc=True)
    atoms.calc = EMT()
    optimizer = BFGS(atoms, logfile=None)
    converged = bool(optimizer.run(fmax=settings.fmax, steps=settings.max_steps))
    return {
        "energy_per_atom": atoms.get_potential_energy() / len(atoms),
        "cell": atoms.cell.array.tolist(),
        "frac_coords": atoms.get_scaled_positions().tolist(),
        "converged": converged,
        "steps": optimizer.nsteps,
        "seconds": 0.0,
        "magnetic_moment": 0.0,
        "k_points": 1,
    }
