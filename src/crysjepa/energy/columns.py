"""Names of columns that hold what depends on a hull."""

from __future__ import annotations

from collections.abc import Iterable

ABOVE_HULL = ("e_above_hull", "energy_above_hull", "e_hull", "ehull")
"""Names that energies above the hull (eV/atom) go by, in any case."""
OF_ONE_STRUCTURE = ("formation_energy_per_atom", "formation_energy", *ABOVE_HULL)
"""Energies that hold for the structure they came with, and for no other."""


def above_hull_column(names: Iterable[str]) -> str | None:
    """The column of energies above the hull among ``names``; None where there is none."""
    found = {name.lower(): name for name in reversed(list(names))}
    return next((found[name] for name in ABOVE_HULL if name in found), None)


def near_formation_energy(names: Iterable[str]) -> str:
    """Which columns may hold formation energies under another name, for an error's end; else nothing."""
    near = [n for n in names if "form" in n.lower() and "formula" not in n.lower()]
    return f"; is it {' or '.join(near[:3])}? Rename it, if it is in eV/atom" if near else ""
