"""Phonons by finite displacements, with phonopy (the extra ``phonons``): is any mode imaginary?

phonopy [Togo, Chaput, Tadano and Tanaka, J. Phys. Condens. Matter 35, 353001 (2023)] chooses the
displacements that symmetry leaves, and makes force constants and frequencies. Forces are a force field's, all
displaced supercells in one call. matcalc's PhononCalc does the same with one ASE calculator, one supercell
after the other, and 2 × 2 × 2 cells whatever their size.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.properties.rest import AtRest
from crysjepa.relaxation.checks import spacings
from crysjepa.relaxation.force_fields.base import ForceField

if TYPE_CHECKING:
    from ase import Atoms

MIN_SPACING = 8.0
"""Å between opposite faces of the supercell: an atom's image is at least so far away."""
MAX_ATOMS = 200
"""In a supercell. One that would need more is made smaller, and the reason says so."""
DISPLACEMENT = 0.03
"""Å; three times phonopy's default. CHGNet blunts angles near 180°: from less than 0.02 Å, force constants in
rocksalt come out wrong, and even negative."""
TOLERANCE = 0.1
"""THz. A mode counts as imaginary below minus this, which is the noise of soft modes of heavy atoms."""
_SYMPREC = 1e-4
_CORNERS = np.array(list(product((0.0, 0.5), repeat=3)))
"""Wave vectors (8, 3) that are their own negative: Γ and where most lattices go soft, if they do."""


class PhonopyMissing(ImportError):
    """phonopy is not installed."""


@dataclass(frozen=True)
class Phonons:
    """Frequencies in THz; an imaginary one is negative.

    Attributes
    ----------
    min_frequency_gamma
        The lowest of the optical modes at Γ; None for one site a primitive cell, which has none.
    min_frequency
        The lowest at any of the wave vectors, the three translations at Γ left out; None where that leaves
        nothing (one site in a supercell of one cell).
    spacing
        Å between the supercell's nearest opposite faces.
    num_atoms
        In the supercell.
    """

    min_frequency_gamma: float | None
    min_frequency: float | None
    spacing: float
    num_atoms: int

    @property
    def stable(self) -> bool | None:
        """No mode is imaginary by more than :data:`TOLERANCE`."""
        return None if self.min_frequency is None else self.min_frequency > -TOLERANCE

    @property
    def remark(self) -> str | None:
        """What is to be said of a supercell that is smaller than wanted."""
        if self.spacing >= MIN_SPACING:
            return None
        wide = f"{MIN_SPACING:g} Å would take over {MAX_ATOMS} atoms"
        return f"the supercell is {self.spacing:.1f} Å across; {wide}"


def check_phonopy() -> Any:
    """The module ``phonopy``. Raises PhonopyMissing, naming the extra, where it is not installed."""
    try:
        return importlib.import_module("phonopy")
    except ImportError as error:
        raise PhonopyMissing(f'phonons need phonopy: pip install "crysjepa[phonons]" ({error})') from error


def phonons(crystal: AtRest, force_field: ForceField) -> Phonons | str:
    """Frequencies of a crystal at rest, or the reason why there are none.

    The supercell is of the primitive or the conventional cell, whichever needs fewer atoms
    (:func:`supercell`). Force constants are symmetrised, and obey the acoustic sum rule. Frequencies are
    taken at the wave vectors that fit into the supercell, where nothing is interpolated, and at the corners
    of the reciprocal cell. The splitting of longitudinal and transverse modes is left out: it raises some.

    Raises
    ------
    PhonopyMissing
        Without phonopy.
    """
    check_phonopy()
    chosen = supercell(crystal)
    if chosen is None:
        return f"the cell has over {MAX_ATOMS} atoms"
    unit, multiples = chosen
    phonon = _phonopy(unit, multiples, crystal.primitive)
    phonon.generate_displacements(distance=DISPLACEMENT)
    displaced = phonon.supercells_with_displacements
    found = force_field.evaluate([_to_atoms(cell) for cell in displaced])
    forces = []
    for prediction in found:
        if isinstance(prediction, str):
            return prediction
        forces.append(prediction.forces)
    phonon.forces = np.array(forces)
    phonon.produce_force_constants(show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)
    at_gamma, elsewhere = _frequencies(phonon)
    optical = np.delete(at_gamma, np.argsort(np.abs(at_gamma), kind="stable")[:3])
    rest = np.concatenate([optical, elsewhere.ravel()])
    return Phonons(
        float(optical.min()) if len(optical) else None,
        float(rest.min()) if len(rest) else None,
        float(spacings(phonon.supercell.cell).min()),
        len(phonon.supercell),
    )


def supercell(crystal: AtRest) -> tuple[Atoms, tuple[int, ...]] | None:
    """A cell, and how often to repeat it along a, b and c.

    The fewest atoms with faces :data:`MIN_SPACING` apart; if that takes more than :data:`MAX_ATOMS`, the
    widest with at most so many; None if one cell has more.
    """
    best: tuple[tuple[float, int], Atoms, tuple[int, ...]] | None = None
    for unit in (crystal.primitive, crystal.conventional):
        apart = spacings(unit.cell.array)
        most = np.ceil(MIN_SPACING / apart - 1e-9).astype(int)
        for n in product(*(range(1, m + 1) for m in most.tolist())):
            atoms = len(unit) * n[0] * n[1] * n[2]
            rank = -min(float((apart * n).min()), MIN_SPACING), atoms
            if atoms <= MAX_ATOMS and (best is None or rank < best[0]):
                best = rank, unit, n
    return None if best is None else (best[1], best[2])


def _phonopy(unit: Atoms, multiples: Sequence[int], primitive: Atoms) -> Any:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=unit.get_chemical_symbols(),
        cell=unit.cell.array,
        scaled_positions=unit.get_scaled_positions(),
        masses=unit.get_masses(),
    )
    inside = (
        primitive.cell.array @ np.linalg.inv(unit.cell.array)
    ).T  # its columns, in vectors of the unit cell
    with warnings.catch_warnings():  # a supercell may have fewer symmetries, and costs more displacements
        warnings.filterwarnings("ignore", message="Warning: Point group symmetries", category=UserWarning)
        return Phonopy(cell, np.diag(multiples), primitive_matrix=inside, symprec=_SYMPREC, log_level=0)


def _to_atoms(cell: Any) -> Atoms:
    from ase import Atoms

    return Atoms(
        numbers=cell.numbers, scaled_positions=cell.scaled_positions, cell=np.array(cell.cell), pbc=True
    )


def _frequencies(phonon: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3n,) at Γ and (q, 3n) at the other wave vectors, in THz."""
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

    repeated = np.rint(np.linalg.inv(phonon.primitive.primitive_matrix)).astype(int)
    points = np.concatenate([get_commensurate_points(repeated), _CORNERS])
    points = np.unique(np.round(points, 9) % 1, axis=0)
    phonon.run_qpoints(points)
    found = np.array(phonon.qpoints.frequencies)
    gamma = (np.abs(points) < 1e-8).all(axis=1)
    return found[gamma][0], found[~gamma]
