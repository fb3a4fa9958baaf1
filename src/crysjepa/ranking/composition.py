"""A baseline that sees the composition alone: what energy above hull to expect of it."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import NUM_ELEMENTS, SystemTable, element_fractions, system_keys
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ScaleMismatch
from crysjepa.energy.lower_hull import LowerHull
from crysjepa.ranking.base import Score
from crysjepa.ranking.context import RankerContext

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridge penalties; the one with the least error on the crystals that each fit leaves out is taken."""
_BLOCK = 4096


def composition(context: RankerContext) -> Composition:
    """Fitted on the formation energies of the reference."""
    hull = context.needed_hull("composition")
    energies = context.formation_energies
    if energies is None or not np.isfinite(energies).any():
        raise ValueError("the ranker composition learns from formation energies, and the reference has none")
    if context.scale != hull.scale and not context.allow_mixed_scales:
        raise ScaleMismatch(
            f"the reference's formation energies are on the scale {context.scale!r} but the hull is on "
            f"{hull.scale!r}: give a --reference and a --hull of one scale"
        )
    labelled = np.flatnonzero(np.isfinite(energies))
    weights, error = fit_ridge(_features(element_fractions(context.reference[labelled])), energies[labelled])
    note = (
        f"a linear model of the composition, fitted on {len(labelled)} crystals of the reference, with an "
        f"error of {error:.3f} eV/atom (root mean square) on those left out"
    )
    return Composition(
        weights, context.lower_hull("composition"), SystemTable.of_crystals(context.reference), (note,)
    )


@dataclass(frozen=True, eq=False)
class Composition:
    """A linear model's formation energy above the hull at that composition (eV/atom): blind to structure."""

    weights: NDArray[np.float64]
    hull: LowerHull
    known: SystemTable
    notes: tuple[str, ...] = ()
    name: str = "composition"
    chunk_size: int = 20_000

    @property
    def key(self) -> str:
        """Of the fitted model, the hull and the reference."""
        digest = hashlib.sha256(self.weights.tobytes())
        digest.update(f"{self.hull.key}\0{self.known.content_hash}".encode())
        return digest.hexdigest()

    def score(self, crystals: Crystals) -> dict[str, Score]:
        """Expected energies above hull."""
        values = np.zeros(len(crystals))
        counts = np.zeros(len(crystals), dtype=np.int64)
        reasons: dict[int, str] = {}
        for start in range(0, len(crystals), _BLOCK):
            rows = slice(start, start + _BLOCK)
            fractions = element_fractions(crystals[rows])
            values[rows], why = self.hull.above(_features(fractions) @ self.weights, fractions)
            reasons |= {start + row: reason for row, reason in why.items()}
            counts[rows] = self.known.num_within(system_keys(fractions))
        return {
            id_: Score(float(value), int(count))
            if np.isfinite(value)
            else Score(None, int(count), reason=reasons[row])
            for row, (id_, value, count) in enumerate(zip(crystals.ids, values, counts, strict=True))
        }


def fit_ridge(
    features: NDArray[np.float64], energies: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Ridge regression (R, F), (R,) → weights (F,) and the error on the rows that a fit leaves out.

    Leaving one row out of a ridge fit needs no second fit: with the hat matrix H, its residual is
    (y − ŷ) / (1 − H_ii).
    """
    left, singular, right = np.linalg.svd(features, full_matrices=False)
    projected = left.T @ energies
    best, weights = np.inf, np.zeros(features.shape[1])
    for penalty in PENALTIES:
        shrink = singular**2 / (singular**2 + penalty)
        leverage = (left**2) @ shrink
        residual = (energies - left @ (shrink * projected)) / np.maximum(1 - leverage, 1e-6)
        error = float(np.sqrt((residual**2).mean()))
        if error < best:
            best, weights = error, right.T @ (singular / (singular**2 + penalty) * projected)
    return weights, best


def _features(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, F): fractions of elements, products of the fractions of groups of the periodic table, the spread of
    electronegativity and of radius, their fourth moments' roots, and the number of valence electrons' spread.

    A pure element has no product of two groups and no spread: what is left is linear in the fractions, as
    formation energies of mixtures would be if nothing reacted.
    """
    groups, properties = _elements()
    by_group = fractions @ groups
    first, second = np.triu_indices(groups.shape[1], k=1)
    columns = [fractions[:, 1:], by_group[:, first] * by_group[:, second]]
    for values in properties.T:
        mean = fractions @ values
        gaps = (values[None, :] - mean[:, None]) * (fractions > 0)
        variance = (fractions * gaps**2).sum(axis=1)
        columns += [variance[:, None], np.sqrt(variance)[:, None]]
    return np.column_stack(columns)


@lru_cache(maxsize=1)
def _elements() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(119, 20) which group an element is of (lanthanides and actinides have their own), and (119, 3) its
    electronegativity, radius and Mendeleev number, standardised; the mean where it is not known.
    """
    from pymatgen.core import Element

    groups = np.zeros((NUM_ELEMENTS + 1, 20))
    properties = np.full((NUM_ELEMENTS + 1, 3), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of each value that it does not know
        for z in range(1, NUM_ELEMENTS + 1):
            element = Element.from_Z(z)
            series = 18 if element.is_lanthanoid else 19 if element.is_actinoid else element.group - 1
            groups[z, series] = 1
            radius = element.atomic_radius
            for column, value in enumerate((element.X, radius, element.mendeleev_no)):
                properties[z, column] = np.nan if value is None else float(value)
    mean, spread = np.nanmean(properties, axis=0), np.nanstd(properties, axis=0)
    return groups, np.nan_to_num((properties - mean) / spread)
