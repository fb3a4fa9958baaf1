"""A crystal at rest: relaxed tightly by the force field, then made exactly symmetric.

Second derivatives mean something only where the first vanish. A crystal of the short list was relaxed to some
0.05 eV/Å, which is enough for its energy and leaves spurious imaginary modes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from crysjepa.core.crystals import Crystals
from crysjepa.core.symmetry import Cell, symmetry_of
from crysjepa.relaxation.batch_optimizer import relax_together
from crysjepa.relaxation.checks import unfit
from crysjepa.relaxation.force_fields.base import ForceField
from crysjepa.relaxation.settings import RelaxSettings

if TYPE_CHECKING:
    from ase import Atoms

TIGHT = RelaxSettings(optimizer="fire", fmax=0.005, max_steps=1000)
"""eV/Å, for atoms and cell: some 0.02 GPa of a cell of 40 Å³."""
SYMPREC = 0.01
"""Å. What a tight relaxation leaves of noise is smaller; a distortion that is meant is mostly larger."""
MOVED = 0.02
"""Of the volume. A crystal that changes more when it is relaxed tightly had not been relaxed."""


@dataclass(frozen=True)
class AtRest:
    """A crystal in a stationary point of the force field.

    Attributes
    ----------
    primitive, conventional
        Its standardised cells; where no symmetry could be found, both are the cell as relaxed.
    volume_change
        How much the tight relaxation changed the volume, as a fraction.
    """

    primitive: Atoms
    conventional: Atoms
    volume_change: float = 0.0

    @property
    def remark(self) -> str | None:
        """What is to be said where this is no longer the crystal that was given."""
        if abs(self.volume_change) <= MOVED:
            return None
        return f"relaxing it tightly changed the volume by {100 * self.volume_change:+.1f} %"


def at_rest(crystal: Crystals, force_field: ForceField) -> AtRest | str:
    """Relax one crystal to :data:`TIGHT`, and symmetrise it within :data:`SYMPREC`.

    Returns the reason where the force field cannot do it, or the relaxation did not arrive.
    """
    if reason := unfit(crystal, force_field.max_atomic_number):
        return reason
    (done,) = relax_together(crystal, force_field, TIGHT)
    if done.reason is not None or done.crystal is None or done.record is None:
        return done.reason or "it could not be relaxed"
    if not done.record.converged:
        return f"not at rest to {TIGHT.fmax:g} eV/Å after {TIGHT.max_steps} steps"
    return replace(standardised(done.crystal), volume_change=done.record.volume_change)


def standardised(crystal: Crystals, symprec: float = SYMPREC) -> AtRest:
    """The primitive and conventional cells that moyo finds, sites on their symmetry elements."""
    try:
        found = symmetry_of(crystal, symprec)
    except ValueError:  # no group can be settled on
        (atoms,) = crystal.to_atoms()
        return AtRest(atoms, atoms)
    return AtRest(_atoms(found.prim_std_cell), _atoms(found.std_cell))


def _atoms(cell: Cell) -> Atoms:
    from ase import Atoms

    return Atoms(
        numbers=cell.numbers, scaled_positions=np.array(cell.positions), cell=np.array(cell.basis), pbc=True
    )
