"""How far crystals spread over chemical systems and space groups, and which hold elements to avoid."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.rates import wilson_interval

RARE = frozenset(["Ru", "Rh", "Pd", "Te", "Re", "Os", "Ir", "Pt", "Au"])
"""The nine rarest metals and metalloids of the Earth's crust: U.S. Geological Survey, Fact Sheet 087-02
(2002), Figure 4."""
TOXIC = frozenset(["Be", "As", "Cd", "Hg", "Tl", "Pb"])
"""As, Cd, Hg and Pb are class 1 of the ICH guideline Q3D(R2) on elemental impurities (toxic to humans, not
to be used), Tl is class 2B of the same; Be is in Group 1 of the IARC Monographs (vol. 100C, 2012)."""
_DRAWS = 500


@cache
def radioactive() -> frozenset[str]:
    """Elements without a stable isotope, by pymatgen's ``Element.is_radioactive``: Tc, Pm, Po and on."""
    from pymatgen.core import Element

    return frozenset(e.symbol for e in Element if e.is_radioactive)


def diversity(table: CandidateTable) -> dict[str, Any]:
    """Spread and elements of all rows that have a structure, from ``chemical_system`` and
    ``space_group_number``.

    Returns
    -------
    dict
        ``chemical_systems`` and ``space_groups``, each with ``num`` different ones, ``effective`` (the
        exponential of their Shannon entropy: how many equally frequent ones would spread as much) and its
        bootstrap 95 % ``interval`` (None where so few come twice that it would miss the number itself: then
        the number is of the sample, and says little of what it was drawn from); ``rare``, ``toxic`` and
        ``radioactive``, each with the ``share`` of crystals that hold such an element and its Wilson 95 %
        ``interval``. Values are None without rows.
    """
    systems = [s for s in table.column("chemical_system") if s is not None]
    groups = [g for g in table.column("space_group_number") if g is not None]
    found: dict[str, Any] = {
        "chemical_systems": _spread("chemical_systems", systems),
        "space_groups": _spread("space_groups", groups),
    }
    for name, elements in (("rare", RARE), ("toxic", TOXIC), ("radioactive", radioactive())):
        found[name] = _share([bool(elements & set(s.split("-"))) for s in systems])
    return found


def troublesome(system: str) -> Mapping[str, bool]:
    """Whether a chemical system such as ``"As-Ga"`` holds a rare, toxic or radioactive element."""
    elements = set(system.split("-"))
    return {
        "rare": bool(elements & RARE),
        "toxic": bool(elements & TOXIC),
        "radioactive": bool(elements & radioactive()),
    }


def _spread(name: str, values: Sequence[Any]) -> dict[str, Any]:
    if not values:
        return {"num": 0, "effective": None, "interval": None}
    counts = np.array([n for _, n in sorted(Counter(map(str, values)).items())])
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    resampled = rng.multinomial(len(values), counts / len(values), size=_DRAWS)
    low, high = np.quantile([_effective(row) for row in resampled], [0.025, 0.975])
    effective = _effective(counts)
    interval = [float(low), float(high)] if low <= effective <= high else None
    return {"num": len(counts), "effective": effective, "interval": interval}


def _effective(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _share(hits: Sequence[bool]) -> dict[str, Any]:
    if not hits:
        return {"share": None, "interval": None}
    return {"share": sum(hits) / len(hits), "interval": wilson_interval(sum(hits), len(hits))}
