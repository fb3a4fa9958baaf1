"""One crystal by DFT without VASP: PBE in plane waves with GPAW, in a process of its own.

GPAW (Mortensen et al., J. Chem. Phys. 160, 092503 (2024)) and its PAW data sets are the extra ``gpaw``. It is
imported by what runs in the workers alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat

if TYPE_CHECKING:
    from ase import Atoms

MAGNETIC = frozenset(
    ("V", "Cr", "Mn", "Fe", "Co", "Ni", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er",
     "Tm", "Yb")
)  # fmt: skip
"""Elements whose crystals are calculated with spin, from 5 μB an atom, parallel."""
CALCULATION = "1"
"""Counts changes of this file that change an energy."""
OXYGEN_MOMENT = 1.0
"""μB an atom of pure oxygen, whose molecules have two unpaired electrons."""


class GpawMissing(ImportError):
    """GPAW is not installed; the message says how to."""


class GpawSettings(BaseModel):
    """How a crystal is relaxed and calculated. Two energies compare only with the same settings.

    Parameters
    ----------
    ecut
        Kinetic energy of the plane waves at most, in eV.
    kdensity
        k-points per Å⁻¹ along each reciprocal lattice vector (with its 2π), at least; Γ is one of them.
    eigenstates, density
        When the electrons are converged: GPAW's own measures, eV² and electrons for each valence electron.
    smearing
        Width of the Fermi-Dirac distribution in eV; energies are extrapolated to zero.
    fmax
        The relaxation ends when no force (eV/Å), nor the stress times the volume of an atom (eV), is greater.
    max_steps
        Steps of the relaxation; a crystal that needs more has failed. 0: calculated as it is.
    symprec
        Tolerance in Å of the space group in which a crystal is relaxed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ecut: PositiveFloat = 400.0
    kdensity: PositiveFloat = 3.0
    eigenstates: PositiveFloat = 1e-6
    density: PositiveFloat = 1e-3
    smearing: PositiveFloat = 0.1
    fmax: PositiveFloat = 0.1
    max_steps: NonNegativeInt = 30
    symprec: PositiveFloat = 0.01


PRESETS: dict[str, GpawSettings] = {
    "quick": GpawSettings(),
    "standard": GpawSettings(
        ecut=600.0, kdensity=5.0, eigenstates=4e-8, density=1e-4, smearing=0.05, fmax=0.02, max_steps=100
    ),
}
"""``quick`` for a first answer on two cores, ``standard`` for one to keep."""


def versions() -> dict[str, str]:
    """Of all that decides an energy. Raises GpawMissing where GPAW or its PAW data sets are not installed."""
    try:
        found = {name: version(name) for name in ("gpaw", "gpaw-data", "ase", "spglib")}
    except PackageNotFoundError as error:
        found = {}
        missing = str(error)
    if not found or find_spec("gpaw") is None:
        raise GpawMissing(
            f"GPAW is not installed ({missing if not found else 'gpaw'}): apt install libxc-dev "
            'libopenblas-dev gcc, then pip install "crysjepa[gpaw]"'
        )
    return {**found, "calculation": CALCULATION}


def setup(settings: GpawSettings) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """For a worker: the function that calculates one crystal.

    Its argument has ``numbers``, ``cell`` (Å, rows), ``frac_coords`` and ``log``, how the files begin
    in which GPAW says what it does. It returns ``energy_per_atom`` (eV, PBE, without corrections), the
    relaxed ``cell`` and ``frac_coords``, ``converged``, ``steps``, ``seconds``, ``magnetic_moment`` (μB a
    cell) and ``k_points`` (of the last calculation).
    """
    import gpaw  # noqa: F401 - fail here, where the pool says that no worker can be set up

    return lambda task: _calculate(task, settings)


def _calculate(task: Mapping[str, Any], settings: GpawSettings) -> dict[str, Any]:
    from ase import Atoms
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS
    from ase.spacegroup.symmetrize import refine_symmetry

    began = time.perf_counter()
    atoms = Atoms(numbers=task["numbers"], cell=task["cell"], scaled_positions=task["frac_coords"], pbc=True)
    refine_symmetry(atoms, symprec=settings.symprec)
    atoms.set_initial_magnetic_moments(_moments(atoms))
    atoms.calc = _calculator(atoms, settings, f"{task['log']}-relax.txt")
    atoms.set_constraint(FixSymmetry(atoms, symprec=settings.symprec))
    filtered: Any = FrechetCellFilter(atoms)  # which BFGS takes, whatever its annotations say
    optimizer = BFGS(filtered, logfile=None, maxstep=0.1)
    converged = bool(optimizer.run(fmax=settings.fmax, steps=settings.max_steps))
    atoms.set_constraint()
    if optimizer.nsteps:
        # plane waves and k-points of the first cell describe the last one less well
        atoms.calc = _calculator(atoms, settings, f"{task['log']}-static.txt")
    energy = float(atoms.get_potential_energy())
    return {
        "seconds": time.perf_counter() - began,
        "energy_per_atom": energy / len(atoms),
        "cell": atoms.cell.array.tolist(),
        "frac_coords": atoms.get_scaled_positions().tolist(),
        "converged": converged,
        "steps": int(optimizer.nsteps),
        "magnetic_moment": float(atoms.calc.get_magnetic_moment()),
        "k_points": len(atoms.calc.get_bz_k_points()),
    }


def _calculator(atoms: Atoms, settings: GpawSettings, log: str) -> Any:
    from ase.calculators.calculator import kpts2sizeandoffsets
    from gpaw import GPAW, PW

    # the mesh of the first cell is kept while it is relaxed: another would be a jump in the energy
    size, _ = kpts2sizeandoffsets(density=settings.kdensity, gamma=True, atoms=atoms)
    return GPAW(
        mode=PW(settings.ecut, dedecut="estimate"),
        xc="PBE",
        kpts={"size": [int(n) for n in size], "gamma": True},
        occupations={"name": "fermi-dirac", "width": settings.smearing},
        convergence={"eigenstates": settings.eigenstates, "density": settings.density},
        symmetry={"symmorphic": False},
        txt=log,
    )


def _moments(atoms: Atoms) -> list[float]:
    symbols = atoms.get_chemical_symbols()
    if set(symbols) == {"O"}:
        return [OXYGEN_MOMENT] * len(symbols)
    return [5.0 if s in MAGNETIC else 0.0 for s in symbols]
