"""A pymatgen structure or entry in the form of plain dictionaries (``as_dict``) to arrays and energies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa._cif import MAX_SITES, RawCrystal, ReadError, atomic_number, brief
from crysjepa._readers import Entry

WRONG = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""What goes wrong with a dictionary of another form."""


def read_structure(data: Mapping[str, Any]) -> RawCrystal:
    """The crystal in ``Structure.as_dict()``: ``lattice.matrix`` (3, 3) in Å, and sites with ``abc``.

    Raises
    ------
    ReadError
        For a site that is no single element, or a dictionary of another form.
    """
    try:
        sites = data["sites"]
        if len(sites) > MAX_SITES:
            raise ReadError(f"{len(sites)} sites (limit {MAX_SITES})")
        numbers = np.array([_element(site["species"]) for site in sites], dtype=np.int64)
        coords = np.array([site["abc"] for site in sites], dtype=np.float64)
        lattice = np.array(data["lattice"]["matrix"], dtype=np.float64)
    except ReadError:
        raise
    except WRONG as error:
        raise ReadError(f"not a structure of pymatgen ({type(error).__name__}: {brief(error)})") from error
    if coords.shape != (len(numbers), 3) or lattice.shape != (3, 3):
        raise ReadError(f"coordinates of shape {coords.shape}, a lattice of shape {lattice.shape}")
    return RawCrystal(numbers, coords, lattice)


def _element(species: list[Mapping[str, Any]]) -> int:
    if len(species) != 1 or abs(float(species[0]["occu"]) - 1) > 1e-3:
        raise ReadError("a site is partially occupied")
    return atomic_number(str(species[0]["element"]))


def read_entry(name: str, data: Mapping[str, Any]) -> Entry:
    """A ``ComputedStructureEntry.as_dict()``: crystal, ``composition`` and ``energy_per_atom`` (eV/atom).

    The energy is the corrected one: pymatgen writes ``energy`` without and ``correction`` as the sum of all
    adjustments. Its name is ``entry_id``, or ``material_id`` among its data, or else ``name``. Never raises
    for a bad entry.
    """
    try:
        crystal = read_structure(data["structure"])
        energy = (float(data["energy"]) + float(data.get("correction") or 0.0)) / len(crystal.atomic_numbers)
        name = _id_of(data) or name
    except ReadError as error:
        return Entry(_id_of(data) or name, None, str(error))
    except (*WRONG, ZeroDivisionError) as error:
        return Entry(name, None, f"not an entry of pymatgen ({type(error).__name__}: {brief(error)})")
    extra = {"composition": formula_of(crystal.atomic_numbers), "energy_per_atom": finite(energy)}
    return Entry(name, crystal, extra=extra)


def _id_of(data: Mapping[str, Any]) -> str:
    own = data.get("data")
    found = data.get("entry_id") or (own.get("material_id") if isinstance(own, Mapping) else None)
    return str(found or "")


def formula_of(atomic_numbers: NDArray[np.int64]) -> str:
    """The formula of the cell, such as ``"Fe4O6"``."""
    from ase.data import chemical_symbols

    numbers, counts = np.unique(atomic_numbers, return_counts=True)
    return "".join(f"{chemical_symbols[z]}{n}" for z, n in zip(numbers, counts, strict=True))


def finite(value: Any) -> float | None:
    """A number, or None for null, text, NaN and infinities."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
