"""Properties of a crystal that its structure decides: density, volume, symmetry, dimensionality."""

from __future__ import annotations

import warnings

import numpy as np

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.chemical_systems import element_fractions
from crysjepa.core.symmetry import symmetry_of
from crysjepa.properties.base import How, Measured, Property, for_each
from crysjepa.properties.elements import masses
from crysjepa.runtime.time_limit import TimeLimitExceeded, time_limit

SYMPREC = 0.1
"""Å, as `evaluate` takes."""
BONDING_LIMIT = 20.0
"""Seconds to find the bonds of a crystal."""
_GRAM = 1.66053906660
"""g/cm³ of a dalton in a cubic Å."""


def density() -> Property:
    """Mass by volume."""

    def measure(table: CandidateTable, how: How) -> Measured:
        crystals = table.crystals(table.ids)
        mass = (element_fractions(crystals) @ masses()) * crystals.num_atoms
        return _of(crystals.ids, _GRAM * mass / crystals.volumes)

    return Property(
        name="density", unit="g/cm³", description="mass by volume", source="structure", measure=measure
    )


def volume_per_atom() -> Property:
    """Volume by atoms."""

    def measure(table: CandidateTable, how: How) -> Measured:
        crystals = table.crystals(table.ids)
        return _of(crystals.ids, crystals.volumes / crystals.num_atoms)

    return Property(
        name="volume_per_atom", unit="Å³", description="volume of the cell by its atoms", source="structure",
        measure=measure,
    )  # fmt: skip


def space_group_number() -> Property:
    """The higher, the more symmetric crystal systems come: cubic ones from 195."""

    def measure(table: CandidateTable, how: How) -> Measured:
        crystals = table.crystals(table.ids)
        return for_each(table, lambda row: symmetry_of(crystals[row], SYMPREC).number)

    return Property(
        name="space_group_number", unit="", description="1 to 230: hexagonal from 168, cubic from 195",
        source=f"moyo, within {SYMPREC} Å", measure=measure,
    )  # fmt: skip


def dimensionality() -> Property:
    """3 for a network, 2 for layers, 1 for chains, 0 for molecules."""

    def measure(table: CandidateTable, how: How) -> Measured:
        from pymatgen.analysis.dimensionality import get_dimensionality_larsen
        from pymatgen.analysis.local_env import CrystalNN

        structures = table.crystals(table.ids).to_structures()
        bonds = CrystalNN(weighted_cn=False, cation_anion=False)

        def value(row: int) -> float | str:
            try:
                with time_limit(BONDING_LIMIT), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of radii that it has no oxidation states for
                    bonded = bonds.get_bonded_structure(structures[row])
                    return float(get_dimensionality_larsen(bonded))
            except TimeLimitExceeded:
                return f"took longer than {BONDING_LIMIT:g} s"

        return for_each(table, value)

    return Property(
        name="dimensionality", unit="",
        description="of its bonded parts: 3 network, 2 layers, 1 chains, 0 molecules",
        source="CrystalNN's bonds, Larsen et al., Phys. Rev. Mater. 3, 034003 (2019), as pymatgen has it",
        measure=measure,
    )  # fmt: skip


def _of(ids: tuple[str, ...], values: np.ndarray) -> Measured:
    return Measured(dict(zip(ids, values.tolist(), strict=True)))
