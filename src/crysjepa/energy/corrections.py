"""The Materials Project's corrections, for energies that carry none.

The scheme of 2020 [Wang et al., Sci. Rep. 11, 15496 (2021)] adds a fixed energy for each anion of a kind
(oxide, peroxide, sulfide, …) and for each transition metal that DFT treats with +U. It looks at composition
and structure alone: what a force field predicts that was trained on plain DFT energies can have it too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition, Species, Structure

from crysjepa.core.crystals import Crystals

if TYPE_CHECKING:
    from pymatgen.entries.compatibility import Compatibility

GUESSED_BY_PYMATGEN = 20
"""Atoms in a formula unit for which the scheme guesses oxidation states; of more, it has none."""
MAX_FORMULA = 1000
"""Atoms in a formula unit: for more there is no correction. That many take less than 0.1 s."""


def mp2020_corrections(crystals: Crystals) -> NDArray[np.float64]:
    """(B,) eV/atom that the scheme of 2020 adds to energies computed with the Materials Project's settings.

    As pymatgen's MaterialsProject2020Compatibility has it; NaN where it gives none, or fails.
    """
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility  # takes two seconds

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
    from pymatgen.entries.computed_entries import ComputedStructureEntry
    from pymatgen.io.vasp.sets import MPRelaxSet

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
    formula = entry.composition.reduced_composition
    if formula.num_atoms > GUESSED_BY_PYMATGEN:  # without them, only the most electronegative anion counts
        if formula.num_atoms > MAX_FORMULA:
            return np.nan
        entry.data["oxidation_states"] = oxidation_states(formula)
    done = scheme.process_entry(entry, clean=True)
    return np.nan if done is None else float(done.correction) / len(structure)


def oxidation_states(formula: Composition) -> dict[str, float]:
    """The most probable mean oxidation state of each element that balances a formula; empty when none does.

    What :meth:`pymatgen.core.Composition.oxi_state_guesses` has first. That looks at every combination, of
    which a formula of many atoms has millions; here the best of every charge is kept, atom by atom.
    """
    if len(formula) == 1:
        return {formula.elements[0].symbol: 0.0}
    probable = _probabilities()
    options = [e.icsd_oxidation_states or e.common_oxidation_states for e in formula.elements]
    reach = [int(n) * max(map(abs, o), default=0) for n, o in zip(formula.values(), options, strict=True)]
    zero = sum(reach)  # where charge 0 is in arrays over the charge
    none = np.full(2 * zero + 1, -np.inf)
    none[zero] = 0.0
    scores, of_elements = [none], []
    for element, amount, states in zip(formula.elements, formula.values(), options, strict=True):
        atom = {q: probable.get(Species(element.symbol, q), 0) for q in states}
        own = none
        for _ in range(int(amount)):
            own = _added(own, atom)
        of_elements.append({int(i) - zero: float(own[i]) for i in np.flatnonzero(np.isfinite(own))})
        scores.append(_added(scores[-1], of_elements[-1]))
    if not np.isfinite(scores[-1][zero]):
        return {}
    found, charge = {}, 0
    for before, one, element in zip(scores[-2::-1], of_elements[::-1], formula.elements[::-1], strict=True):
        part = max(
            one, key=lambda q: before[zero + charge - q] + one[q] if abs(charge - q) <= zero else -np.inf
        )
        found[element.symbol], charge = part / formula[element], charge - part
    return found


def _added(scores: NDArray[np.float64], options: Mapping[int, float]) -> NDArray[np.float64]:
    """The best score of each charge, from those before and one of the options {charge: score}."""
    best = np.full_like(scores, -np.inf)
    for charge, score in options.items():
        to = best[max(charge, 0) : len(best) + min(charge, 0)]
        np.maximum(to, scores[max(-charge, 0) : len(best) - max(charge, 0)] + score, out=to)
    return best


@cache
def _probabilities() -> Mapping[Species, float]:
    """How often each species occurs in the ICSD: what pymatgen's guesses are ranked by."""
    Composition("NaCl").oxi_state_guesses()  # which loads them
    return Composition.oxi_prob or {}
