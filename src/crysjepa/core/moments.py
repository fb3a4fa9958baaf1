"""Initial magnetic moments: one collinear moment a site in Bohr magnetons, or none at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.runtime.notes import note

if TYPE_CHECKING:
    import pandas as pd
    from ase import Atoms

    from crysjepa.core.crystals import Crystals

COLUMN = "magmoms"
"""Of a candidate table: a list with a moment for each site, in the order of ``atomic_numbers``; or null."""


def checked(values: Any, num_sites: int) -> tuple[float, ...] | None:
    """The moments; None, with a note, where they are not one finite number a site."""
    if values is None:
        return None
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != (num_sites,) or not np.isfinite(array).all():
        note("magnetic moments that are not one finite number a site (non-collinear ones, say) are left out")
        return None
    return tuple(array.tolist())


def of_atoms(atoms: Atoms) -> tuple[float, ...] | None:
    """Of ASE's atoms: what was calculated for them, or else their initial moments."""
    found = None if atoms.calc is None else atoms.calc.results.get("magmoms")
    for name in ("magmoms", "magmom", "initial_magmoms"):
        found = atoms.arrays.get(name) if found is None else found
    return checked(found, len(atoms))


def of_sites(sites: Sequence[Mapping[str, Any]]) -> tuple[float, ...] | None:
    """Of the sites in pymatgen's dictionaries: the property ``magmom``, or the spin of the species.

    A site that states none beside others that do has none: 0.
    """
    found = [_of_site(site) for site in sites]
    if all(value is None for value in found):
        return None
    return checked([0.0 if value is None else value for value in found], len(found))


def of_same_sites(frame: pd.DataFrame, replaced: Mapping[str, Crystals]) -> NDArray[np.object_]:
    """The column of a candidate table whose crystals are replaced by others, by id.

    Moments belong to sites in an order: with another, they are left out, with a note.
    """
    kept = np.empty(len(frame), dtype=object)
    lost = 0
    rows = zip(frame["id"], frame[COLUMN], frame["atomic_numbers"], strict=True)
    for row, (id_, moments, old) in enumerate(rows):
        new = replaced.get(id_)
        moved = moments is not None and new is not None and not np.array_equal(old, new.atomic_numbers)
        kept[row], lost = None if moved else moments, lost + moved
    if lost:
        note(f"magnetic moments of {lost} crystals are left out: their sites are in another order now")
    return kept


def _of_site(site: Mapping[str, Any]) -> Any:
    species = site["species"][0]
    for properties, name in (
        (site.get("properties"), "magmom"), (species, "spin"), (species.get("properties"), "spin"),
    ):  # fmt: skip
        value = properties.get(name) if isinstance(properties, Mapping) else None
        if isinstance(value, Mapping):  # pymatgen's Magmom
            value = value.get("moment")
        if value is not None:
            return value
    return None
