"""Names of columns that hold what depends on a hull."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ABOVE_HULL = ("e_above_hull", "energy_above_hull", "e_hull", "ehull")
"""Names that energies above the hull (eV/atom) go by, in any case."""
OF_ONE_STRUCTURE = (
    "formation_energy_per_atom", "formation_energy", "formation_energy_peratom", "e_form", *ABOVE_HULL,
    "energy", "free_energy", "total_energy", "corrected_energy", "corrected_energy_per_atom",
    "uncorrected_energy", "uncorrected_energy_per_atom", "corrected_total_energy", "uncorrected_total_energy",
)  # fmt: skip
"""Energies that hold for the structure they came with, and for no other."""


_SAME_HEIGHT = 1e-3
"""eV/atom by which two columns of the same heights may differ, by rounding."""
_UNITS = ("unit", "units", "energy_unit", "energy_units")
_PER_ATOM = re.compile(r"ev\s*(/|per|\*?\s*\(?)\s*at(om)?s?\.?(\s*\*?\*?\^?\s*-?\s*1)?\)?", re.IGNORECASE)


_FUNCTIONALS = (
    "thermo_type", "run_type", "functional", "xc", "xc_functional", "dft_functional", "func",
)  # fmt: skip
_PBE = re.compile(r"pbe|gga|perdew.*burke|^pe$")
_NOT_PBE = re.compile(
    r"scan|sol|hse|pbe0|b3lyp|hybrid|vdw|opt(b|pbe)|\bd[234]\b|lda\b|pw91|am05|tpss|mbj|meta|mgga|rpbe|revpbe|\bhf\b"
)


_OF_PBE = "materials_project"
"""What the names of the scales begin with that are those of PBE."""


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

    Energies of another functional than PBE, such as r2SCAN's, are on a scale of that name unless the scale is
    stated. Raises UnclearColumns for another scale, several, several functionals, or another unit than
    eV/atom.
    """
    texts = {
        name: sorted({v.strip() for v in values if isinstance(v, str) and v.strip()})
        for name, values in columns.items()
    }
    for name, said in texts.items():
        if name.lower() in _UNITS:
            if other := [unit for unit in said if not _PER_ATOM.fullmatch(unit)]:
                raise UnclearColumns(
                    f"the column {name} of {source} says {other[0][:40]!r}: formation energies are read in "
                    "eV/atom"
                )
        elif name.lower() == "scale":
            if len(said) > 1 or (said and scale is not None and said != [scale]):
                raise UnclearColumns(
                    f"the entries of {source} are on several scales ({', '.join(said)[:80]}"
                    f"{f'; stated is {scale}' if len(said) == 1 else ''}): a hull has one. Keep the rows of "
                    "one"
                )
            scale = said[0] if said else scale
    for name, said in texts.items():
        if name.lower() in _FUNCTIONALS:
            scale = _of_functional(name, said, source, scale)
    return scale


def _of_functional(name: str, said: Sequence[str], source: str, scale: str | None) -> str | None:
    """The scale, once a column says these functionals; see :func:`stated_in`."""
    kinds = sorted({kind for text in said if (kind := _functional(text))})
    if len(kinds) > 1:
        raise UnclearColumns(
            f"the column {name} of {source} has {', '.join(said)[:60]}: energies of two functionals "
            "make no hull. Keep the rows of one"
        )
    if not kinds or kinds == ["pbe"]:
        return scale
    if scale is not None and scale.startswith(_OF_PBE):
        raise UnclearColumns(
            f"the column {name} of {source} says {said[0][:40]}, and the scale {scale} is one of PBE: which "
            "one holds?"
        )
    return scale or kinds[0]


def _functional(text: str) -> str:
    """The functional that a text names: ``pbe`` with or without U, another's name, or nothing."""
    plain = re.sub(r"[\s-]", "", text.lower())
    if _NOT_PBE.search(text.lower()) or _NOT_PBE.search(plain):
        return plain
    return "pbe" if _PBE.search(plain) else ""


def near_formation_energy(names: Iterable[str]) -> str:
    """Which columns may hold formation energies under another name, for an error's end; else nothing."""
    totals = ("energy_per_atom", "energy_per_atom_initial")
    others = [n for n in names if n.lower() not in (*ABOVE_HULL, *totals) and n != OF_ONE_STRUCTURE[0]]
    near = [n for n in others if re.search("form(?!ula)", n.lower())]
    near = near or [n for n in others if re.search("energ|enthalp|^e_|_e$|hform|delta_?[eh]", n.lower())]
    return (
        f"; is it {' or '.join(near[:3])}? Rename it, if it is a formation energy in eV/atom" if near else ""
    )
