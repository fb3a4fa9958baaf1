"""A pymatgen structure or entry in the form of plain dictionaries (``as_dict``) to arrays and energies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.moments import of_sites
from crysjepa.io.cif.blocks import MAX_SITES, RawCrystal, ReadError, atomic_number, brief
from crysjepa.io.entry import Entry

SAME_PLACE = 0.05
"""Å by which two statements of a site may differ, by rounding."""
_RADIANS = 3.2
"""No crystal has angles as small as this in degrees; none has larger ones in radians."""
WRONG = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""What goes wrong with a dictionary of another form."""


def is_structure(data: Mapping[str, Any]) -> bool:
    """Whether a dictionary has the keys of a structure, of pymatgen or of JARVIS."""
    return ("lattice" in data and "sites" in data) or {"lattice_mat", "coords", "elements"} <= data.keys()


def structure_in(data: Any) -> Mapping[str, Any] | None:
    """The structure that a dictionary is, or, for an entry of pymatgen, has under ``structure``."""
    if not isinstance(data, Mapping):
        return None
    inner = data.get("structure")
    return (
        data if is_structure(data) else inner if isinstance(inner, Mapping) and is_structure(inner) else None
    )


def read_structure(data: Mapping[str, Any]) -> RawCrystal:
    """The crystal in ``Structure.as_dict()``: ``lattice.matrix`` (3, 3) in Å, and sites with ``abc``.

    Sites with ``xyz`` (Å) alone and lattices of lengths and angles alone are read too, and so are JARVIS's
    atoms: ``lattice_mat``, ``elements``, ``coords`` and ``cartesian``. Keys are looked up; no class that the
    dictionary names is imported.

    Raises
    ------
    ReadError
        For a site that is no single element, a lattice that is not periodic in three directions, or a
        dictionary of another form.
    """
    try:
        if "lattice_mat" in data:
            return _jarvis(data)
        sites = data["sites"]
        if len(sites) > MAX_SITES:
            raise ReadError(f"{len(sites)} sites (limit {MAX_SITES})")
        lattice = _lattice(data["lattice"])
        if not sites:
            raise ReadError("no atom sites")
        numbers = np.array([_element(site["species"]) for site in sites], dtype=np.int64)
        moments = of_sites(sites)
        if all("abc" in site for site in sites):
            coords = _floats([site["abc"] for site in sites])
            if all(site.get("xyz") is not None for site in sites):
                _check_places(coords, _floats([site["xyz"] for site in sites]), lattice)
        else:
            coords = _fractional(_floats([site["xyz"] for site in sites]), lattice)
    except WRONG as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError(f"not a structure of pymatgen ({type(error).__name__}: {brief(error)})") from error
    return _raw(numbers, coords, lattice)._replace(magmoms=moments)


def cell_of(lengths: Any, angles: Any) -> NDArray[np.float64]:
    """(3, 3) lattice of three lengths in Å and three angles in degrees, in pymatgen's orientation.

    Raises
    ------
    ReadError
        If a length is not positive, or an angle not between 0 and 180, or all angles are in radians.
    """
    from pymatgen.core import Lattice

    lengths, angles = _floats(lengths), _floats(angles)
    for i in range(3):
        if np.isfinite(lengths[i]) and lengths[i] <= 0:
            raise ReadError(f"the cell's length {'abc'[i]} is {lengths[i]:g}")
        if np.isfinite(angles[i]) and not 0 < angles[i] < 180:
            raise ReadError(f"the cell's angle {('alpha', 'beta', 'gamma')[i]} is {angles[i]:g}")
    if not (np.isfinite(lengths).all() and np.isfinite(angles).all()):
        raise ReadError("the lattice has a number that is not finite")
    check_degrees(angles)
    return np.array(Lattice.from_parameters(*lengths, *angles).matrix)


def check_degrees(angles: NDArray[np.float64]) -> None:
    """Raise where no angle, of one lattice or many, is as large as degrees are."""
    if angles.size and np.nanmax(angles, initial=0.0) < _RADIANS:
        raise ReadError("all angles are below 3.2: they are in radians, and are to be in degrees")


def _lattice(data: Mapping[str, Any]) -> NDArray[np.float64]:
    if not all(data.get("pbc") or (True,)):
        raise ReadError("not periodic in all three directions")
    lengths, angles = ([data.get(k) for k in keys] for keys in (("a", "b", "c"), ("alpha", "beta", "gamma")))
    if "matrix" not in data:
        return cell_of(lengths, angles)
    matrix = _floats(data["matrix"])
    _check_parameters(matrix, lengths, angles)
    return matrix


def _check_parameters(matrix: NDArray[np.float64], lengths: Any, angles: Any) -> None:
    """Raise where lengths and angles, if they are there, are those of another lattice."""
    try:
        stated = _floats([*lengths, *angles])
    except WRONG:
        return  # a matrix alone says enough
    if stated.shape != (6,) or matrix.shape != (3, 3) or not (np.isfinite(matrix).all() and stated.all()):
        return
    if not same_shape(matrix, cell_of(stated[:3], stated[3:])):
        raise ReadError("the lattice's matrix contradicts its lengths and angles: which one holds?")


def same_shape(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two lattices (3, 3) have the same lengths and angles, to the precision of float32 and more."""
    metric = other @ other.T
    return bool(np.abs(one @ one.T - metric).max() <= 0.01 * metric.max())


def _check_places(
    coords: NDArray[np.float64], places: NDArray[np.float64], lattice: NDArray[np.float64]
) -> None:
    """Raise where fractional coordinates and places in Å are not of the same sites, up to the lattice."""
    if coords.shape != places.shape or lattice.shape != (3, 3) or not np.isfinite(coords).all():
        return
    gaps = _fractional(places, lattice) - coords
    if (np.linalg.norm((gaps - np.round(gaps)) @ lattice, axis=1) > SAME_PLACE).any():
        raise ReadError("the sites' abc contradict their xyz: which ones hold?")


def _jarvis(data: Mapping[str, Any]) -> RawCrystal:
    if len(data["elements"]) > MAX_SITES:
        raise ReadError(f"{len(data['elements'])} sites (limit {MAX_SITES})")
    numbers = np.array([atomic_number(str(e)) for e in data["elements"]], dtype=np.int64)
    lattice, coords = _floats(data["lattice_mat"]), _floats(data["coords"])
    _check_parameters(lattice, data.get("abc") or (), data.get("angles") or ())
    cartesian = data.get("cartesian")
    if isinstance(cartesian, str):
        if cartesian.lower() not in ("true", "false"):
            raise ReadError(f"cartesian is {cartesian[:40]!r}, neither true nor false")
        cartesian = cartesian.lower() == "true"
    return _raw(numbers, _fractional(coords, lattice) if cartesian else coords, lattice)


def _floats(values: Any) -> NDArray[np.float64]:
    """Numbers, and nothing that numpy takes for numbers: no text, no truth."""
    if isinstance(values, list) and any(isinstance(v, bool) for v in np.asarray(values, dtype=object).flat):
        raise ReadError(f"{str(values)[:40]!r} in place of numbers")
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise ReadError(f"{str(values)[:40]!r} in place of numbers")
    return array.astype(np.float64)


def _fractional(coords: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    if lattice.shape != (3, 3) or coords.ndim != 2 or coords.shape[1] != 3:
        raise ReadError(f"coordinates of shape {coords.shape}, a lattice of shape {lattice.shape}")
    try:
        return np.asarray(np.linalg.solve(lattice.T, coords.T).T)
    except np.linalg.LinAlgError:
        raise ReadError("singular cell (volume 0)") from None


def _raw(numbers: NDArray[np.int64], coords: NDArray[np.float64], lattice: NDArray[np.float64]) -> RawCrystal:
    if coords.shape != (len(numbers), 3) or lattice.shape != (3, 3):
        raise ReadError(f"coordinates of shape {coords.shape}, a lattice of shape {lattice.shape}")
    return RawCrystal(numbers, coords, lattice)


def _element(species: Any) -> int:
    if not isinstance(species, list) or not all(isinstance(one, Mapping) for one in species):
        wanted = '[{"element": "Na", "occu": 1}]'
        raise ReadError(f"the species of a site are {str(species)[:40]!r}, not of the form {wanted}")
    if any("occu" not in one for one in species):
        raise ReadError('a species of a site has no "occu": 1 where it is fully occupied')
    if len(species) != 1 or not abs(float(species[0]["occu"]) - 1) <= 1e-3:
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
