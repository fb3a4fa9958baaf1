"""Validity of structures and of compositions (paper, appendix D.2).

Every function takes :class:`~crysjepa.core.crystals.Crystals` and answers by id; none raises for a bad
crystal, and no answer depends on the order of the rows.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.core.min_distance import surely_valid
from crysjepa.runtime.progress import Progress

Formula = tuple[tuple[int, int], ...]
"""A reduced formula as sorted (atomic number, count) pairs, counts without a common divisor."""


def structure_validity(
    crystals: Crystals,
    *,
    min_distance: float = 0.5,
    min_volume: float = 0.1,
    progress: Progress | None = None,
) -> dict[str, str | None]:
    """Why each structure is invalid, or None: cell volume > 0.1 Å³ and every distance > 0.5 Å.

    Distances are periodic and include those of a site to its own images, so that a cell with a
    vanishing lattice vector is invalid too. Memory is linear in the number of sites.
    """
    reasons: dict[str, str | None] = {}
    sure = surely_valid(crystals, min_distance, min_volume)
    for done, id_ in enumerate(crystals.ids, start=1):
        row = done - 1
        reasons[id_] = None if sure[row] else structure_reason(crystals[row], min_distance, min_volume)
        if progress:
            progress(done, len(crystals))
    return reasons


def invalid_structures(crystals: Crystals) -> dict[str, str]:
    """Those that :func:`structure_validity` finds invalid, and why."""
    return {i: reason for i, reason in structure_validity(crystals).items() if reason is not None}


def structure_reason(crystal: Crystals, min_distance: float, min_volume: float) -> str | None:
    if not np.isfinite(crystal.lattices).all():
        return "the lattice is not finite"
    if not np.isfinite(crystal.frac_coords).all():
        return "a coordinate is not finite"
    with np.errstate(over="ignore", invalid="ignore"):
        volume = float(crystal.volumes[0])
    if not math.isfinite(volume):
        return "the cell volume is not finite"
    if volume <= min_volume:
        return f"cell volume {volume:.3g} Å³ is not above {min_volume:g} Å³"
    try:
        cell, frac_coords = reduced_cell(crystal)
    except (RuntimeError, ValueError, OverflowError) as error:
        return f"the lattice cannot be reduced ({error})"
    # The first vector of a Minkowski-reduced cell is the lattice's shortest: a site's nearest own image.
    shortest = float(np.linalg.norm(cell[0]))
    if shortest > min_distance and len(frac_coords) > 1:
        shortest = min(shortest, _nearest(cell, frac_coords, min_distance))
    if shortest <= min_distance:
        return f"shortest distance {shortest:.2f} Å is not above {min_distance:g} Å"
    return None


def reduced_cell(crystal: Crystals) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same crystal in its Minkowski-reduced cell: (3, 3) rows in Å, the shortest first, and (n, 3)
    fractional coordinates in [0, 1). However long and sheared the cell was, its images are near after this.
    """
    from ase.geometry import minkowski_reduce

    with np.errstate(all="ignore"):
        cell, change = minkowski_reduce(crystal.lattices[0])
    frac = (crystal.frac_coords - np.floor(crystal.frac_coords)) @ np.rint(np.linalg.inv(change))
    return np.asarray(cell), frac - np.floor(frac)


def _nearest(cell: NDArray[np.float64], frac: NDArray[np.float64], within: float) -> float:
    """Shortest distance between two different sites in Å, or infinity where none is ≤ ``within``."""
    from scipy.spatial import cKDTree  # for the few that are not valid at a glance

    # A vector no longer than r has components of at most r / height along each axis.
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    images = np.array(list(product(*(range(-n, n + 1) for n in np.ceil(within / heights).astype(int)))))
    margin = within / heights + 1e-9
    points = (frac[None, :, :] + images[:, None, :]).reshape(-1, 3)
    near = ((points > -margin) & (points < 1 + margin)).all(axis=1)
    tree = cKDTree(points[near] @ cell)
    # The nearest point is the site itself, so the second nearest counts.
    distances, _ = tree.query(frac @ cell, k=2, distance_upper_bound=within * (1 + 1e-9))
    return float(distances[:, 1].min())


COMPOSITION_RULES = {
    "paper": "charge neutrality and electronegativity as in CDVAE's evaluation, smact14 oxidation states",
    "smact": "smact.screening.smact_validity of the installed version, with its default settings",
}
"""Names of rules of formulas, and what they are. ``paper`` never changes; ``smact`` changes with the package.
GenBench's rule looks at structures too: :mod:`crysjepa.core.genbench_validity`."""


def composition_validity(
    crystals: Crystals, *, rule: str = "paper", progress: Progress | None = None
) -> dict[str, str | None]:
    """Why each composition is invalid, or None: charge neutrality and electronegativity.

    ``paper`` is the rule of CDVAE's evaluation (Xie et al., arXiv:2110.06197) as
    :func:`smact.screening.smact_validity` has it with the ``smact14`` oxidation states: a single element and
    a mixture of metals are valid; otherwise each element must be able to take one oxidation state such that
    the charges sum to 0 and every cation is less electronegative than every anion. ``smact`` is that
    function of the installed smact, with its defaults. Raises ValueError for any other rule.
    """
    if rule not in COMPOSITION_RULES:
        raise ValueError(f"no composition rule {rule!r}: choose from {', '.join(COMPOSITION_RULES)}")
    judge = composition_reason if rule == "paper" else _smacts_own
    reasons: dict[str, str | None] = {}
    for done, (id_, formula) in enumerate(
        zip(crystals.ids, reduced_formulas(crystals), strict=True), start=1
    ):
        reasons[id_] = judge(formula)
        if progress:
            progress(done, len(crystals))
    return reasons


def reduced_formulas(crystals: Crystals) -> list[Formula]:
    """The reduced formula of each crystal, in the order of the rows."""
    if not len(crystals):
        return []
    rows = np.repeat(np.arange(len(crystals)), crystals.num_atoms)
    keys, counts = np.unique(rows * 1000 + crystals.atomic_numbers, return_counts=True)
    starts = np.flatnonzero(np.diff(keys // 1000, prepend=-1))
    divisors = np.gcd.reduceat(counts, starts)
    reduced = (counts // np.repeat(divisors, np.diff(starts, append=len(keys)))).tolist()
    pairs = list(zip((keys % 1000).tolist(), reduced, strict=True))
    ends = [*starts[1:].tolist(), len(pairs)]
    return [tuple(pairs[a:b]) for a, b in zip(starts.tolist(), ends, strict=True)]


@lru_cache(maxsize=100_000)
def composition_reason(formula: Formula) -> str | None:
    """Why a reduced formula is invalid by the rule ``paper``, or None.

    This is smact's answer without its enumeration, which grows as the product of the oxidation states.

    The electronegativity rule says that some threshold parts the cations from the anions. For each
    threshold the signs are fixed, and the total charges that can be reached are a set that grows by one
    element at a time: it never holds more members than the largest charge, for any number of elements.
    """
    data = [(_smact_element(number), count) for number, count in formula]
    if len(data) == 1 or all(is_metal for (_, is_metal, _, _), _ in data):
        return None
    for (symbol, _, states, electronegativity), _ in data:
        if not states:
            return f"smact knows no oxidation state of {symbol}"
        if electronegativity is None:
            return f"smact knows no electronegativity of {symbol}"
    if 0 not in _charges([(states, count) for (_, _, states, _), count in data]):
        return "no charge-neutral combination of oxidation states"
    thresholds = sorted({e for (_, _, _, e), _ in data if e is not None}) + [math.inf]
    for threshold in thresholds:
        signed = []
        for (_, _, states, electronegativity), count in data:
            assert electronegativity is not None
            cation = electronegativity < threshold
            signed.append((tuple(s for s in states if (s >= 0 if cation else s <= 0)), count))
        if 0 in _charges(signed):
            return None
    return "charge-neutral only with a cation more electronegative than an anion"


@lru_cache(maxsize=100_000)
def _smacts_own(formula: Formula) -> str | None:
    from pymatgen.core import Composition, Element
    from smact.screening import smact_validity

    composition = Composition({Element.from_Z(number): count for number, count in formula})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of elements without an oxidation state in its tables
            valid = smact_validity(composition)
    except (KeyError, NameError, TypeError) as error:  # beyond the elements that smact tabulates
        return f"smact does not know it ({error})"
    return None if valid else "smact_validity says no"


def _charges(choices: list[tuple[tuple[int, ...], int]]) -> set[int]:
    """Total charges that can be reached with one oxidation state for each element."""
    totals = {0}
    for states, count in choices:
        totals = {total + state * count for total in totals for state in states}
    return totals


@lru_cache(maxsize=128)
def _smact_element(number: int) -> tuple[str, bool, tuple[int, ...], float | None]:
    """Symbol, whether smact counts it as a metal, its smact14 oxidation states, its electronegativity."""
    import smact
    from pymatgen.core import Element

    symbol = Element.from_Z(number).symbol
    try:
        element = smact.Element(symbol)
    except (KeyError, NameError):  # beyond the elements that smact tabulates
        return symbol, False, (), None
    states = tuple(element.oxidation_states_smact14 or ())
    return symbol, symbol in smact.metals, states, element.pauling_eneg
