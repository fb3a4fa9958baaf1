"""Validity as LeMat-GenBench defines it (arXiv:2512.04562; its repository at 5bab2cd8): charges, distances,
densities and cells.

The charge rule asks for any of five things; the numbers of its stages are those of :func:`charge_reason`.
Their search for oxidation states lists every choice for every site, which takes hours for a formula such as
CuSi64, and divides by zero for some metals. Here the charges that an element can reach are a set (a choice of
at most two neighbouring states for n sites has n + 1 sums), so that time grows as a small power of the number
of sites, whatever the formula; the answers are those that theirs would give if it came to an end.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from functools import cache, lru_cache

import numpy as np

from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import Formula, reduced_formulas
from crysjepa.data.bundle import bundled_file
from crysjepa.runtime.progress import Progress

METALLIC = 0.7
"""A composition whose ``smact.metallicity.metallicity_score`` is above this needs no charges."""
MASS_DENSITY = (0.01, 25.0)
"""g/cm³."""
ATOMIC_DENSITY = (0.00001, 0.5)
"""Sites per Å³."""
LENGTHS = (1.0, 100.0)
"""Å, of the cell's three vectors."""
MIN_VOLUME = 1.0
"""Å³."""
GAP, SHARE = 0.7, 0.5
"""Two sites are too near below ``SHARE`` (``GAP`` + the sum of their atomic radii), Å."""
NO_CHARGES = "no charge-neutral oxidation states (GenBench)"
_PERMUTATIONS = 1000
"""Of pymatgen's bond-valence analysis, which asks for 100,000 by default: a tenth of a second at most."""

States = Mapping[str, tuple[int, ...]]


def genbench_validity(
    crystals: Crystals, *, progress: Progress | None = None
) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Why each structure, and why each crystal's charges are invalid by GenBench's rules, or None; by id.

    A crystal that has two sites on one spot, or no cell, should not come here
    (:func:`~crysjepa.core.validity.structure_validity` finds those).
    """
    structures: dict[str, str | None] = {}
    charges: dict[str, str | None] = {}
    formulas = reduced_formulas(crystals)
    for done, (crystal, formula) in enumerate(zip(crystals, formulas, strict=True), start=1):
        (id_,) = crystal.ids
        structures[id_] = plausibility_reason(crystal) or distance_reason(crystal)
        charges[id_] = charge_reason(crystal, formula)
        if progress:
            progress(done, len(crystals))
    return structures, charges


def plausibility_reason(crystal: Crystals) -> str | None:
    """Why one crystal's density or cell is implausible, or None."""
    lattice, volume = crystal.lattices[0], float(crystal.volumes[0])
    lengths = np.linalg.norm(lattice, axis=1)
    if volume <= MIN_VOLUME:
        return f"cell volume {volume:.3g} Å³ is not above {MIN_VOLUME:g} Å³ (GenBench)"
    if not ((lengths >= LENGTHS[0]) & (lengths <= LENGTHS[1])).all():
        longest = ", ".join(f"{x:.3g}" for x in lengths)
        return f"a cell vector ({longest} Å) is not within {LENGTHS[0]:g} to {LENGTHS[1]:g} Å (GenBench)"
    per_volume = len(crystal.atomic_numbers) / volume
    if not ATOMIC_DENSITY[0] <= per_volume <= ATOMIC_DENSITY[1]:
        return f"{per_volume:.3g} sites per Å³ are implausible (GenBench)"
    density = float(crystal.compositions()[0].weight) * 1.66053906660 / volume
    if not MASS_DENSITY[0] <= density <= MASS_DENSITY[1]:
        return f"a density of {density:.3g} g/cm³ is implausible (GenBench)"
    return None


def distance_reason(crystal: Crystals) -> str | None:
    """Why two different sites of one crystal are too near, or None.

    The limit is half of 0.7 Å and the sum of pymatgen's atomic radii (1 Å where it has none). A site's
    own images are not looked at, so that a single site is never too near.
    """
    if len(crystal.atomic_numbers) < 2:
        return None
    distances = crystal.to_structures()[0].distance_matrix
    radii = np.array([_radius(int(z)) for z in crystal.atomic_numbers])
    short = distances < SHARE * (GAP + radii[:, None] + radii[None, :])
    np.fill_diagonal(short, False)
    if not short.any():
        return None
    nearest = float(distances[short].min())
    return f"two sites are {nearest:.2f} Å apart, below half of {GAP:g} Å and their radii (GenBench)"


def charge_reason(crystal: Crystals, formula: Formula | None = None) -> str | None:
    """Why one crystal cannot be charge-neutral by GenBench's rule, or None. It is, if one of these holds:

    1. smact's metallicity score of its composition is above 0.7;
    2. every site's bond-valence sum is zero: no neighbour is an anion;
    3. pymatgen's bond-valence analysis finds oxidation states;
    4. oxidation states that occur in LeMat-Bulk and the ICSD sum to zero, where an element has one, or two
       that differ by one, and its own charges do not sum to zero;
    5. any known oxidation states do in this way, and fall where the electronegativity rises (a negative
       correlation over the elements).

    The quick ones are asked first; the answer does not depend on the order.
    """
    counts = _by_symbol(reduced_formulas(crystal)[0] if formula is None else formula)
    if _by_composition(tuple(counts.items())):
        return None
    return None if _no_bond_valence(crystal) or _bond_valences(crystal) else NO_CHARGES


@lru_cache(maxsize=100_000)
def _by_composition(counts: tuple[tuple[str, int], ...]) -> bool:
    """Whether 1, 4 or 5 holds."""
    formula = dict(counts)
    if _metallic(formula) or 0 in _reachable(formula, _occurring()):
        return True
    return _falls_with_electronegativity(formula)


def _by_symbol(formula: Formula) -> dict[str, int]:
    from pymatgen.core import Element

    return {Element.from_Z(number).symbol: count for number, count in formula}


def _metallic(formula: Mapping[str, int]) -> bool:
    from pymatgen.core import Composition
    from smact.metallicity import metallicity_score

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of elements that smact does not tabulate
            return float(metallicity_score(Composition(dict(formula)))) > METALLIC
    except (KeyError, NameError, TypeError, ValueError, ZeroDivisionError):
        return False


@cache
def _occurring() -> States:
    """States of LeMat-Bulk and the ICSD; of an element that is not among them pymatgen's, as theirs."""
    from pymatgen.core import Element

    text = bundled_file("genbench_oxidation_states.json").read_text(encoding="utf-8")
    found = {e.symbol: tuple(e.icsd_oxidation_states or e.common_oxidation_states) for e in Element}
    return found | {symbol: tuple(states) for symbol, states in json.loads(text)["states"].items()}


@cache
def _all_states() -> States:
    from pymatgen.core import Element

    return {e.symbol: tuple(e.oxidation_states) for e in Element}


@lru_cache(maxsize=100_000)
def _sums(states: tuple[int, ...], num: int) -> frozenset[int]:
    """What the charges of ``num`` sites of one element can sum to, but for zero."""
    known = set(states)
    found = {num * state for state in known}
    for state in known:
        if state + 1 in known:
            found |= {num * state + above for above in range(1, num)}
    return frozenset(found - {0})


def _reachable(formula: Mapping[str, int], states: States) -> set[int]:
    totals = {0}
    for symbol, num in formula.items():
        sums = _sums(states[symbol], num)
        totals = {total + more for total in totals for more in sums}
    return totals


def _falls_with_electronegativity(formula: Mapping[str, int]) -> bool:
    """Whether charges that sum to zero can correlate negatively with electronegativity.

    The sign of a correlation is that of a sum over the elements, which a table of the least such sum for
    every total charge finds.
    """
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of elements without an electronegativity: NaN
        negativity = {symbol: float(Element(symbol).X) for symbol in formula}
    if any(math.isnan(value) for value in negativity.values()):
        return False
    mean = sum(negativity.values()) / len(negativity)
    least = {0: 0.0}
    for symbol, num in formula.items():
        lever, sums = (negativity[symbol] - mean) / num, _sums(_all_states()[symbol], num)
        further: dict[int, float] = {}
        for total, value in least.items():
            for more in sums:
                there = value + more * lever
                if there < further.get(total + more, math.inf):
                    further[total + more] = there
        least = further
    return least.get(0, 0.0) < -1e-9


def _no_bond_valence(crystal: Crystals) -> bool:
    """Whether no site has a bond-valence sum, by pymatgen's parameters and nearest neighbours."""
    from pymatgen.analysis.bond_valence import calculate_bv_sum
    from pymatgen.analysis.local_env import get_neighbors_of_site_with_index

    structure = crystal.to_structures()[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return not any(
                abs(calculate_bv_sum(site, get_neighbors_of_site_with_index(structure, index))) >= 1e-15
                for index, site in enumerate(structure)
            )
    except (KeyError, ValueError, TypeError, IndexError, ZeroDivisionError):  # no parameters, no neighbours
        return False


def _bond_valences(crystal: Crystals) -> bool:
    from pymatgen.analysis.bond_valence import BVAnalyzer

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            BVAnalyzer(max_permutations=_PERMUTATIONS).get_valences(crystal.to_structures()[0])
    except (KeyError, ValueError, TypeError, IndexError, ZeroDivisionError):
        return False
    return True


@cache
def _radius(number: int) -> float:
    from pymatgen.core import Element

    return float(Element.from_Z(number).atomic_radius or 1.0)
