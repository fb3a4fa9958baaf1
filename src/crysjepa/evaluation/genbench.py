"""LeMat-GenBench's metrics by its names (arXiv:2512.04562; its repository at 5bab2cd8).

Its rates are of crystals that are valid by its rules, for it takes all others out first; here every share is
of *all* crystals, as it says of its board. Distances between distributions are to the reference that is at
hand, not to LeMat-Bulk; what cannot be had here is named with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.core.genbench_validity import distance_reason, plausibility_reason
from crysjepa.core.symmetry import space_groups
from crysjepa.energy.limits import within
from crysjepa.evaluation.evaluator import Evaluator
from crysjepa.evaluation.frechet import frechet_jepa
from crysjepa.evaluation.rates import AT_HULL, wilson_interval

Floats = NDArray[np.float64]

METASTABLE = 0.1
"""eV/atom above the hull."""
ELEMENTS, GROUPS = 118, 230
REFERENCE = 5000
"""Crystals of a larger reference that distributions are compared with, evenly spaced in its order."""
BINS = {"density": 0.5, "a": 0.5, "b": 0.5, "c": 0.5, "packing_factor": 0.05}
"""Widths of the bins of physical diversity: g/cm³, Å, Å, Å, 1."""
MISSING = {
    "frechet_distance": "embeddings by ORB, MACE and UMA and the statistics of LeMat-Bulk's are not bundled",
    "ensemble": "ORB, MACE and UMA and their hulls are not bundled: one force field judges",
}
_SYSTEMS = (2, 15, 74, 142, 167, 194, 230)
"""Last space group of each crystal system, triclinic to cubic."""
BLOCK = 512
"""Rows of a kernel's matrix that are in memory at once."""
_DALTON = 1.66053906660
"""g/cm³ of one u/Å³."""


def genbench_part(table: CandidateTable, evaluator: Evaluator) -> dict[str, Any]:
    """``genbench`` of ``metrics.json``: :func:`genbench_metrics`; nothing by another rule."""
    protocol = evaluator.protocol
    if protocol.composition_rule != "genbench":
        return {}
    known = evaluator.reference.crystals
    return {"genbench": genbench_metrics(table, known, symprec=protocol.symprec)}


def genbench_metrics(table: CandidateTable, reference: Crystals, *, symprec: float) -> dict[str, Any]:
    """GenBench's metrics of crystals that were judged by the rule ``genbench``
    (:func:`~crysjepa.evaluation.criteria.evaluate_table`).

    Returns
    -------
    dict
        ``rates``: ``overall_valid``, ``charge_neutral``, ``distance_valid``, ``plausibility_valid``,
        ``unique``, ``novel``, ``stable`` (at most 0 eV/atom above the hull), ``metastable`` (at most 0.1),
        ``sun`` and ``meta_sun``, each with ``share`` of all crystals and its Wilson 95 % ``interval``, None
        where it was not judged; from ``unique`` on, a crystal must be valid too. ``mean_e_above_hull`` of the
        valid (eV/atom), ``diversity``, ``distribution`` (with ``reference_size``), ``hhi`` (0 to 10), and
        ``missing`` with reasons. ``frechet_jepa`` is ours, and none of GenBench's.
    """
    valid = [i for i, ok in zip(table.ids, table.column("valid"), strict=True) if ok is True]
    crystals = table.crystals(valid)
    energies = [e for e in _column(table, "e_above_hull", valid) if e is not None]
    some = reference
    if len(reference) > REFERENCE:
        some = reference[(np.arange(REFERENCE) * len(reference)) // REFERENCE]
    return {
        "rates": _rates(table),
        "mean_e_above_hull": float(np.mean(energies)) if energies else None,
        "diversity": diversity_of(crystals, symprec=symprec) if valid else None,
        "distribution": distances_between(crystals, some, symprec=symprec) if valid else None,
        "frechet_jepa": frechet_jepa(crystals, some) if valid else None,
        "hhi": _hhi(crystals) if valid else None,
        "missing": MISSING,
    }


# -- rates ------------------------------------------------------------------------------------


def _rates(table: CandidateTable) -> dict[str, dict[str, Any] | None]:
    ids = table.ids
    structure, charges = (_column(table, f"invalid_{w}", ids) for w in ("structure", "composition"))
    valid, unique, novel = (_column(table, c, ids) for c in ("valid", "unique", "novel"))
    above = _column(table, "e_above_hull", ids)
    wrong = {i for i, reason in zip(ids, structure, strict=True) if reason is not None}
    sound = table.crystals([i for i, v in zip(ids, valid, strict=True) if v is not None and i in wrong])
    near = {i for i, c in zip(sound.ids, sound, strict=True) if _fails(c, distance_reason)}
    odd = {i for i, c in zip(sound.ids, sound, strict=True) if _fails(c, plausibility_reason)}
    judged = [v is not None for v in valid]
    ok = [v is True for v in valid]
    flags: dict[str, list[bool]] = {
        "overall_valid": ok,
        "charge_neutral": [there and c is None for there, c in zip(judged, charges, strict=True)],
        "distance_valid": [there and i not in near for there, i in zip(judged, ids, strict=True)],
        "plausibility_valid": [there and i not in odd for there, i in zip(judged, ids, strict=True)],
    }
    if "unique" in table:
        flags["unique"] = _all(ok, unique)
    if "novel" in table:
        flags["novel"] = _all(ok, novel)
    for name, sun, limit in (("stable", "sun", AT_HULL), ("metastable", "meta_sun", METASTABLE)):
        if any(e is not None for e in above):
            flags[name] = _all(ok, [e is not None and within(e, limit) for e in above])
            if "novel" in table:
                flags[sun] = _all(flags[name], unique, novel)
    names = (*list(flags)[:4], "unique", "novel", "stable", "metastable", "sun", "meta_sun")
    return {name: _share(flags[name]) if name in flags else None for name in names}


def _fails(crystal: Crystals, rule: Any) -> bool:
    """A structure that has no sound cell fails every rule."""
    try:
        with np.errstate(all="ignore"):
            return rule(crystal) is not None
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return True


def _all(*columns: Sequence[Any]) -> list[bool]:
    return [all(v is not None and bool(v) for v in row) for row in zip(*columns, strict=True)]


def _column(table: CandidateTable, name: str, ids: Sequence[str]) -> list[Any]:
    return list(table.column(name, list(ids))) if name in table else [None] * len(ids)


def _share(hits: Sequence[bool]) -> dict[str, Any] | None:
    if not hits:
        return None
    return {"share": sum(hits) / len(hits), "interval": wilson_interval(sum(hits), len(hits))}


# -- diversity --------------------------------------------------------------------------------


def diversity_of(crystals: Crystals, *, symprec: float) -> dict[str, Any]:
    """Diversity of elements, space groups, numbers of sites and sizes.

    A Vendi score is the exponential of the Shannon entropy (nats) of a histogram: over atoms by element, over
    crystals by space group, and by number of sites. ``physical`` has the entropies of histograms of
    density, cell lengths and packing factor (covalent radii) in bins of :data:`BINS`;
    ``avg_norm_shannon_entropy`` is their mean over the binary logarithm of the number of crystals, as there.
    """
    found: dict[str, Any] = {}
    groups = list(space_groups(crystals, symprec).values())
    elements = Counter(crystals.atomic_numbers.tolist())
    for name, values, most in (
        ("element", elements, ELEMENTS),
        ("space_group", Counter(groups), GROUPS),
        ("site_number", Counter(crystals.num_atoms.tolist()), None),
    ):
        entropy = _entropy(values)
        found[name] = {"vendi_score": float(np.exp(entropy)), "shannon_entropy": entropy}
        if most is not None:
            found[name]["coverage"] = len(values) / most
    lengths = np.linalg.norm(crystals.lattices, axis=2)
    sizes = {"density": _densities(crystals), "packing_factor": _packing(crystals)}
    sizes |= {name: lengths[:, column] for column, name in enumerate("abc")}
    bins = {n: (sizes[n][np.isfinite(sizes[n])] // width).tolist() for n, width in BINS.items()}
    entropies = {n: _entropy(Counter(values)) for n, values in bins.items()}
    mean = float(np.mean(list(entropies.values())))
    norm = float(np.log2(len(crystals)))
    found["physical"] = {**entropies, "avg_norm_shannon_entropy": mean / norm if norm else None}
    return found


def _entropy(histogram: Counter[Any]) -> float:
    """Shannon's, in nats."""
    shares = np.array(sorted(histogram.values()), dtype=float)
    if not len(shares):
        return 0.0
    shares /= shares.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0


def _densities(crystals: Crystals) -> Floats:
    """(B,) g/cm³."""
    return np.array([float(c.weight) for c in crystals.compositions()]) * _DALTON / crystals.volumes


def _packing(crystals: Crystals) -> Floats:
    """(B,) share of the cell within the covalent radii of its sites, at most 1."""
    spheres = np.array([_covalent_volume(int(z)) for z in crystals.atomic_numbers])
    return np.minimum(np.add.reduceat(spheres, crystals.offsets[:-1]) / crystals.volumes, 1.0)


@cache
def _covalent_volume(number: int) -> float:
    """Å³; NaN of an element that Cordero et al. (2008) have no radius of."""
    from pymatgen.analysis.molecule_structure_comparator import CovalentRadius
    from pymatgen.core import Element

    radius = CovalentRadius.radius.get(Element.from_Z(number).symbol, float("nan"))
    return float(4 / 3 * np.pi * radius**3)


# -- distances between distributions ----------------------------------------------------------


def distances_between(crystals: Crystals, reference: Crystals, *, symprec: float) -> dict[str, Any]:
    """How far crystals are from a reference, as distributions.

    ``js_distance``: Jensen–Shannon distances (square root, natural logarithm) of space groups, crystal
    systems, elements over atoms (``composition_counts``) and over crystals (``composition``); ``mmd``:
    squared maximum mean discrepancies, with a Gaussian kernel of width 1, of cell volumes (Å³), densities
    (g/cm³) and sites per Å³. Means of both, and ``reference_size``.
    """
    from scipy.spatial.distance import jensenshannon

    both = [_histograms(c, symprec) for c in (crystals, reference)]
    js = {name: float(jensenshannon(both[0][name], both[1][name])) for name in both[0]}
    mmd = {
        "volume": _mmd(crystals.volumes, reference.volumes),
        "density": _mmd(_densities(crystals), _densities(reference)),
        "atomic_density": _mmd(*(c.num_atoms / c.volumes for c in (crystals, reference))),
    }
    return {
        "reference_size": len(reference),
        "js_distance": {**js, "average": float(np.mean(list(js.values())))},
        "mmd": {**mmd, "average": float(np.mean(list(mmd.values())))},
    }


def _histograms(crystals: Crystals, symprec: float) -> dict[str, Floats]:
    groups = list(space_groups(crystals, symprec).values())
    per_crystal = np.unique(
        np.repeat(np.arange(len(crystals)), crystals.num_atoms) * 1000 + crystals.atomic_numbers
    )
    return {
        "space_group": _counts(groups, GROUPS),
        "crystal_system": _counts((int(np.searchsorted(_SYSTEMS, g)) + 1 for g in groups), len(_SYSTEMS)),
        "composition_counts": _counts(crystals.atomic_numbers.tolist(), ELEMENTS),
        "composition": _counts((per_crystal % 1000).tolist(), ELEMENTS),
    }


def _counts(values: Iterable[Hashable], most: int) -> Floats:
    """How often each of 1 to ``most`` occurs."""
    counts = Counter(values)
    return np.array([counts[number] for number in range(1, most + 1)], dtype=float)


def _mmd(one: Floats, other: Floats) -> float:
    def kernel(a: Floats, b: Floats) -> float:
        blocks = (a[start : start + BLOCK, None] for start in range(0, len(a), BLOCK))
        total = sum(float(np.exp(-((rows - b[None, :]) ** 2) / 2).sum()) for rows in blocks)
        return total / (len(a) * len(b))

    return kernel(one, one) + kernel(other, other) - 2 * kernel(one, other)


# -- supply risk ------------------------------------------------------------------------------


def _hhi(crystals: Crystals) -> dict[str, float]:
    """Means of the Herfindahl–Hirschman indices / 1,000, weighted by atoms; 10 for an element without."""
    values = np.array([_element_hhi(int(z)) for z in crystals.atomic_numbers])
    sums = np.add.reduceat(values, crystals.offsets[:-1], axis=0)
    production, reserve = (sums / crystals.num_atoms[:, None]).mean(axis=0).tolist()
    return {
        "production": production,
        "reserve": reserve,
        "combined": 0.25 * production + 0.75 * reserve,
    }


@cache
def _element_hhi(number: int) -> tuple[float, float]:
    """Of production and of reserves (Gaultois et al., Chem. Mater. 25, 2911, 2013), by smact's table."""
    import smact
    from pymatgen.core import Element

    try:
        element = smact.Element(Element.from_Z(number).symbol)
    except (KeyError, NameError):  # beyond the elements that smact tabulates
        return 10.0, 10.0
    found = [10_000.0 if v is None else float(v) for v in (element.HHI_p, element.HHI_r)]
    return found[0] / 1000, found[1] / 1000
