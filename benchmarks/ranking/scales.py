"""WBM's formation energies on the hull's scale.

WBM was computed when the Materials Project corrected energies by its first scheme (oxides, sulfides, gases,
+U). MP-20, its hull and CHGNet carry the scheme of 2020, which also corrects Br, I, Se, Te, Sb, Si and others
where they are anions, by up to 0.5 eV per atom of them. The labels as they are therefore call a telluride
unstable that is stable, whatever a ranking does. Both schemes are published and in pymatgen: the difference
between them is added here, from composition and structure alone, without a look at any energy.
"""

from __future__ import annotations

import warnings
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from pymatgen.entries.compatibility import MaterialsProject2020Compatibility, MaterialsProjectCompatibility

from crysjepa.core.chemical_systems import element_fractions
from crysjepa.core.crystals import Crystals
from crysjepa.energy.corrections import correction
from crysjepa.jepa.diagnostics.readouts import ridge

PARTS = 5
GASES = {
    "H": (-3.23974, -3.39272),
    "N": (-7.95247, -8.33650),
    "F": (-1.42055, -1.91148),
    "Cl": (-1.25385, -1.84849),
}
"""eV/atom of the elements that the first scheme corrects instead of their compounds: with it, and by PBE."""


def scheme_shift(crystals: Crystals) -> NDArray[np.float64]:
    """(B,) eV/atom to add to formation energies of the first scheme to have them on that of 2020.

    NaN where pymatgen has no correction (an element without a pseudopotential, say).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of oxidation states that are guessed, and of missing hashes
        first = MaterialsProjectCompatibility(check_potcar_hash=False)
        second = MaterialsProject2020Compatibility(check_potcar=False)
        return np.array([_shift(s, first, second) for s in crystals.to_structures()])


def refitted(
    values: NDArray[np.float64], truth: NDArray[np.float64], crystals: Crystals
) -> NDArray[np.float64]:
    """Energies above the hull (B,) with each element's reference fitted to the labels of other crystals.

    In five parts by chemical system: what a crystal's score becomes depends on the labels of other systems
    alone. The best that could be had from a ranking by choosing its elemental references well.
    """
    fractions = element_fractions(crystals)
    parts = np.array([int(sha256(s.encode()).hexdigest(), 16) % PARTS for s in crystals.chemical_systems()])
    known = np.isfinite(values) & np.isfinite(truth)
    found = values.copy()
    for part in range(PARTS):
        fit, apply = known & (parts != part), known & (parts == part)
        wrong = ridge(fractions[fit], values[fit] - truth[fit], fractions[apply])
        found[apply] -= wrong
    return found


def _shift(
    structure: Structure, first: MaterialsProjectCompatibility, second: MaterialsProject2020Compatibility
) -> float:
    fractions = structure.composition.fractional_composition
    gases = sum(fractions[e] * (corrected - plain) for e, (corrected, plain) in GASES.items())
    return correction(structure, second) - correction(structure, first) + float(gases)
