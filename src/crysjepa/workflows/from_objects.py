"""Structures of pymatgen and ASE as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.core.moments import of_atoms, of_sites
from crysjepa.io.assemble import assemble
from crysjepa.io.cif.blocks import RawCrystal
from crysjepa.io.entry import ID_COLUMNS, Entry, Quoted, id_text, own_name
from crysjepa.io.extxyz import left_out, scalars

if TYPE_CHECKING:
    from pymatgen.core import Structure


def from_objects(source: Any) -> CandidateTable:
    """A row for each structure, also for what is none, with the reason.

    Raises
    ------
    TypeError
        For what holds no structures one after the other: a dictionary, a data frame, bytes.
    """
    return assemble([_entry(f"crystal-{i}", item) for i, item in enumerate(_listed(source))])


def _listed(source: Any) -> list[Any]:
    """One structure alone is a list of one: both kinds yield their sites."""
    from ase import Atoms
    from pymatgen.core import IStructure

    if isinstance(source, IStructure | Atoms):
        return [source]
    if isinstance(source, Mapping | bytes | pd.DataFrame) or not isinstance(source, Iterable):
        raise TypeError(
            f"crystals from a {type(source).__name__}: give a path, a list of pymatgen Structures and ASE "
            "Atoms, or a column of them"
        )
    return list(source)


def _entry(name: str, item: Any) -> Entry:
    """A structure, its moments and its single values, as the readers of files have them."""
    from ase import Atoms
    from pymatgen.core import IStructure

    if not isinstance(item, IStructure | Atoms):
        of = f"a {type(item).__name__} is neither a Structure of pymatgen nor Atoms of ASE"
        return Entry(name, None, f"no crystal: {of}")
    values: dict[str, Any] = {}
    lost: tuple[str, ...] = ()
    try:
        if isinstance(item, Atoms):
            if item.calc is not None and item.calc.check_state(item):
                item = item.copy()  # what was calculated is of other positions
            values = scalars(item)
            crystal = Crystals.from_atoms([item])
            moments, lost = of_atoms(item), left_out(item)
        else:
            values = {k: v for k, v in item.properties.items() if isinstance(v, str | bool | int | float)}
            crystal = Crystals.from_structures([cast("Structure", item)])
            lost = tuple(k for k, v in item.properties.items() if k not in values and v)
            moments = of_sites(item.as_dict()["sites"])
            lost += (*(["charge"] if item.charge else ()),
                     *(f"{k} of the sites" for k in item.site_properties if k != "magmom"))  # fmt: skip
    except (ValueError, TypeError, AttributeError) as error:
        return Entry(own_name(values) or name, None, f"no crystal: {error}", values)
    name = own_name(values) or name
    extra = {
        k: Quoted(v) if isinstance(v, str) else v
        for k, v in values.items()
        if k not in ID_COLUMNS or (v != "" and id_text(v) != name)
    }
    raw = RawCrystal(crystal.atomic_numbers, crystal.frac_coords, crystal.lattices[0], moments)
    return Entry(name, raw, extra=extra, lost=lost)
