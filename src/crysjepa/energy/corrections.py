"""The Materials Project's corrections, for energies that carry none.

The scheme of 2020 [Wang et al., Sci. Rep. 11, 15496 (2021)] adds a fixed energy for each anion of a kind
(oxide, peroxide, sulfide, …) and for each transition metal that DFT treats with +U. It looks at composition
and structure alone: what a force field predicts that was trained on plain DFT energies can have it too.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from pymatgen.entries.compatibility import Compatibility, MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.vasp.sets import MPRelaxSet

from crysjepa.crystals import Crystals


def mp2020_corrections(crystals: Crystals) -> NDArray[np.float64]:
    """(B,) eV/atom that the scheme of 2020 adds to energies computed with the Materials Project's settings.

    As pymatgen's MaterialsProject2020Compatibility has it; NaN where it gives none, or fails.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of oxidation states that are guessed, and of missing hashes
        scheme = MaterialsProject2020Compatibility(check_potcar=False)
        return np.array([_correction_if_any(c, scheme) for c in crystals])


def _correction_if_any(crystal: Crystals, scheme: Compatibility) -> float:
    try:
        return correction(crystal.to_structures()[0], scheme)
    except Exception:  # noqa: BLE001 - it looks for peroxides and the like, and fails in many ways; NaN says so
        return np.nan


def corrections_by(name: str | None, crystals: Crystals) -> NDArray[np.float64]:
    """(B,) eV/atom that go with :attr:`ElementalReferences.corrections`; zeros for None."""
    return np.zeros(len(crystals)) if name is None else mp2020_corrections(crystals)


def correction(structure: Structure, scheme: Compatibility) -> float:
    """eV/atom that one of pymatgen's schemes adds; NaN where it has no correction."""
    elements = {str(e) for e in structure.composition}
    hubbards = MPRelaxSet.CONFIG["INCAR"]["LDAUU"]["O"] if elements & {"O", "F"} else {}
    chosen = {e: float(hubbards.get(e, 0)) for e in elements}
    with_u = any(chosen.values())
    parameters = {
        "hubbards": chosen if with_u else {},
        "is_hubbard": with_u,
        "run_type": "GGA+U" if with_u else "GGA",
        "potcar_symbols": [f"PBE {MPRelaxSet.CONFIG['POTCAR'].get(e, e)}" for e in sorted(elements)],
    }
    entry = ComputedStructureEntry(structure, 0.0, parameters=parameters)
    done = scheme.process_entry(entry, clean=True)
    return np.nan if done is None else float(done.correction) / len(structure)
