"""Names of columns that hold what depends on a hull."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ABOVE_HULL = ("e_above_hull", "energy_above_hull", "e_hull", "ehull")
"""Names that energies above the hull (eV/atom) go by, in any case."""
OF_ONE_STRUCTURE = ("formation_energy_per_atom", "formation_energy", *ABOVE_HULL)
"""Energies that hold for the structure they came with, and for no other."""


_SAME_HEIGHT = 1e-3
"""eV/atom by which two columns of the same heights may differ, by rounding."""
_UNITS = ("unit", "units", "energy_unit", "energy_units")
_PER_ATOM = re.compile(r"ev\s*(/|per|\*?\s*\(?)\s*at(om)?s?\.?(\s*\*?\*?\^?\s*-?\s*1)?\)?", re.IGNORECASE)


_FUNCTIONALS = ("thermo_type", "run_type", "functional", "xc", "xc_functional")
"""GGA and GGA+U go together by the corrections of the Materials Project; r2SCAN does not go with them."""


class UnclearColumns(ValueError):
    """Columns of a hull that contradict one another, or say that its energies are something else."""


def above_hull_columns(names: Iterable[str]) -> list[str]:
    """The columns of energies above the hull among ``names``, the one to take first."""
    found = {name.lower(): name for name in reversed(list(names))}
    return [found[name] for name in ABOVE_HULL if name in found]


def telling_columns(names: Iterable[str]) -> list[str]:
    """The columns that say what a hull's energies are: their units, their scale, and their functional."""
    return [name for name in names if name.lower() in (*_UNITS, "scale", *_FUNCTIONALS)]


def check_heights(columns: Mapping[str, Sequence[float | None]]) -> None:
    """Raise UnclearColumns where two columns of energies above the hull have other values in a row."""
    (first, heights), *others = columns.items()
    for name, values in others:
        for one, other in zip(heights, values, strict=True):
            if one is not None and other is not None and abs(one - other) > _SAME_HEIGHT:
                raise UnclearColumns(
                    f"{first} and {name} differ ({one:g} and {other:g} eV/atom in one row): "
                    "which one holds? Remove the other"
                )


def stated_in(columns: Mapping[str, Sequence[Any]], source: str, scale: str | None) -> str | None:
    """The scale that columns of :func:`telling_columns` state, or ``scale``, which they must not contradict.

    Raises UnclearColumns for another scale, several, or another unit than eV/atom.
    """
    for name, values in columns.items():
        said = sorted({v.strip() for v in values if isinstance(v, str) and v.strip()})
        if name.lower() in _FUNCTIONALS:
            meta = [text for text in said if "SCAN" in text.upper()]
            if meta and len(meta) < len(said):
                raise UnclearColumns(
                    f"the column {name} of {source} has {', '.join(said)[:60]}: energies of two functionals "
                    "make no hull. Keep the rows of one"
                )
        elif name.lower() != "scale":
            if other := [unit for unit in said if not _PER_ATOM.fullmatch(unit)]:
                raise UnclearColumns(
                    f"the column {name} of {source} says {other[0][:40]!r}: a hull's energies are in eV/atom"
                )
        elif len(said) > 1 or (said and scale is not None and said != [scale]):
            raise UnclearColumns(
                f"the entries of {source} are on several scales ({', '.join(said)[:80]}"
                f"{f'; stated is {scale}' if len(said) == 1 else ''}): a hull has one. Keep the rows of one"
            )
        elif said:
            scale = said[0]
    return scale


def near_formation_energy(names: Iterable[str]) -> str:
    """Which columns may hold formation energies under another name, for an error's end; else nothing."""
    totals = ("energy_per_atom", "energy_per_atom_initial")
    others = [n for n in names if n.lower() not in (*ABOVE_HULL, *totals) and n != OF_ONE_STRUCTURE[0]]
    near = [n for n in others if re.search("form(?!ula)", n.lower())]
    near = near or [n for n in others if re.search("energ|enthalp|^e_|_e$|hform|delta_?[eh]", n.lower())]
    return (
        f"; is it {' or '.join(near[:3])}? Rename it, if it is a formation energy in eV/atom" if near else ""
    )
