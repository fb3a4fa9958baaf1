"""Crystals to CIFs, and the names of their files and data blocks."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crysjepa.core.crystals import Crystals
from crysjepa.io.assemble import problems_of
from crysjepa.runtime.files import replacing

if TYPE_CHECKING:
    from pymatgen.core import Structure

_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\.|$)", re.IGNORECASE)
"""Names that Windows keeps for itself, whatever stands behind their first dot."""


def write_cif(
    crystals: Crystals,
    folder: str | Path,
    names: Sequence[str] | None = None,
    *,
    symmetric: bool = True,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Write a CIF for each crystal, named by its id (or ``names``) with unsafe characters replaced.

    Where symmetry is found within 0.01 Å the file has the conventional cell and its space group, else P1;
    without ``symmetric`` it is always the cell as it is, in P1.

    Returns
    -------
    The path of each crystal's file by id, and the reason for each id that could not be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = file_names(list(names) if names is not None else list(crystals.ids))
    written, failures = {}, {}
    for crystal, file in zip(crystals, files, strict=True):
        (id_,) = crystal.ids
        if problem := problems_of(crystal).get(0):
            failures[id_] = problem
            continue
        written[id_] = folder / f"{file}.cif"
        with replacing(written[id_]) as partial:
            partial.write_bytes(cif_text(crystal.to_structures()[0], symmetric=symmetric).encode())
    return written, failures


def cif_text(structure: Structure, *, symmetric: bool) -> str:
    """One data block; see :func:`write_cif` for ``symmetric``."""
    from pymatgen.io.cif import CifWriter

    structure = right_handed(structure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if symmetric:
                return str(CifWriter(structure, symprec=0.01))
        except Exception:  # noqa: BLE001 - spglib and pymatgen give up in many ways; the file is then in P1
            pass
        return str(CifWriter(structure, significant_figures=10))


def right_handed(structure: Structure) -> Structure:
    """The same positions in a right-handed cell: a CIF has but lengths and angles, VASP wants it so.

    With lattice vectors and coordinates negated, each atom stays where it is.
    """
    from pymatgen.core import Lattice, Structure

    if np.linalg.det(structure.lattice.matrix) > 0:
        return structure
    return Structure(Lattice(-structure.lattice.matrix), structure.species, -structure.frac_coords)


def file_names(names: Sequence[str]) -> list[str]:
    """Names without suffix that are safe in any file system, and distinct even where case does not count.

    Letters, digits and ``._+-`` are kept, anything else becomes ``_``; none begins with a dot or is a device
    of Windows, and none has more than 120 characters and a number.
    """
    safe = [
        re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip(".")[:120].rstrip(".") or "crystal" for name in names
    ]
    safe = [f"_{name}" if _DEVICE.match(name) else name for name in safe]
    taken, counts = set[str](), dict[str, int]()
    for i, name in enumerate(safe):
        count = counts.get(name.lower(), 0) + 1
        while (safe[i] if count == 1 else f"{name}-{count}").lower() in taken:
            count += 1
        counts[name.lower()] = count
        safe[i] = name if count == 1 else f"{name}-{count}"
        taken.add(safe[i].lower())
    return safe
