"""Rankers over vectors: the distance of Eq. 11, and energies above hull read out of an embedding."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.chemical_systems import element_fractions, system_keys, system_names
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences, ScaleMismatch, fit_references
from crysjepa.energy.hull import Hull
from crysjepa.energy.lower_hull import LowerHull
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.ranking.base import Score
from crysjepa.ranking.context import RankerContext
from crysjepa.ranking.embedders import Embedded, Embedder, JepaEmbedder
from crysjepa.ranking.reference_index import ReferenceIndex

LOWEST = -5.0
"""eV/atom; the lowest formation energy in the Materials Project is −4.5. A model that predicts less does not
know what it is looking at, and such crystals must not come first."""
_FITTED_ON = 5_000
"""Reference crystals that a fit of shifts between two scales uses: some 50 for each element."""


def jepa_distance(context: RankerContext) -> MeanDistance:
    """The paper's D_C (Eq. 11)."""
    index = context.jepa_index
    return MeanDistance("jepa-distance", JepaEmbedder(context.model, context.device), index, skipped(index))


def jepa_hull(context: RankerContext) -> HullEnergy:
    """The energy of the crystal as it stands, above the hull."""
    return _hull_energy("jepa-hull", context, relaxed=False)


def jepa_relaxed(context: RankerContext) -> HullEnergy:
    """The energy that the crystal is predicted to relax to, above the hull."""
    return _hull_energy("jepa-relaxed", context, relaxed=True)


@dataclass(frozen=True, eq=False)
class MeanDistance:
    """D_C (Eq. 11): the mean square distance to the references of the chemical system and its subsystems.

    Without any reference in its chemical system a crystal has no score.
    """

    name: str
    embedder: Embedder
    index: ReferenceIndex
    notes: tuple[str, ...] = ()
    chunk_size: int = 2048

    @property
    def key(self) -> str:
        """Of the vectors and the reference."""
        return _digest(self.name, self.embedder.content_hash, self.index.key)

    def score(self, crystals: Crystals) -> dict[str, Score]:
        """D_C of each crystal."""
        return self.score_embedded(crystals, self.embedder.embed(crystals))

    def score_embedded(self, crystals: Crystals, embedded: Embedded) -> dict[str, Score]:
        """The same, from vectors that are already there."""
        kept = crystals[embedded.rows]
        systems = system_keys(element_fractions(kept))
        counts = self.index.num_references(systems)
        values = self.index.mean_square(embedded.vectors, systems)
        support = self.index.support(embedded.vectors, systems)
        reasons = {}
        if not counts.all():
            names = system_names(kept)
            reasons = {
                row: f"no reference crystal in {names[row]} or its subsystems"
                for row in np.flatnonzero(counts == 0).tolist()
            }
        return _scores(crystals, embedded, values, counts, support, reasons)


@dataclass(frozen=True, eq=False)
class HullEnergy:
    """A formation energy read out of the embedding, above the hull at that composition (eV/atom).

    ``shifts``, where they are given, bring the model's energies to the hull's scale.
    """

    name: str
    embedder: JepaEmbedder
    index: ReferenceIndex
    hull: LowerHull
    relaxed: bool = False
    shifts: ElementalReferences | None = None
    notes: tuple[str, ...] = ()
    chunk_size: int = 2048

    @property
    def key(self) -> str:
        """Of model, reference, hull and shifts."""
        shifts = "" if self.shifts is None else self.shifts.to_json()
        return _digest(self.name, self.embedder.content_hash, self.index.key, self.hull.key, shifts)

    def score(self, crystals: Crystals) -> dict[str, Score]:
        """Energies above hull; the elements bound the hull, so that no reference is needed for one."""
        return self.score_embedded(crystals, self.embedder.embed(crystals))

    def score_embedded(self, crystals: Crystals, embedded: Embedded) -> dict[str, Score]:
        """The same, from embeddings that are already there."""
        kept = crystals[embedded.rows]
        fractions = element_fractions(kept)
        systems = system_keys(fractions)
        shifts, unknown = self._shifted(fractions)
        energies = self.embedder.model.energies(embedded.vectors, relaxed=self.relaxed)
        values, reasons = self.hull.above(energies - shifts, fractions)
        for row in np.flatnonzero(energies < LOWEST).tolist():
            values[row] = np.nan
            unknown[row] = (
                f"a predicted formation energy of {energies[row]:.1f} eV/atom is below that of any known "
                "compound: the crystal is unlike all that the model has seen"
            )
        counts = self.index.num_references(systems)
        support = self.index.support(embedded.vectors, systems)
        return _scores(crystals, embedded, values, counts, support, reasons | unknown)

    def _shifted(self, fractions: NDArray[np.float64]) -> tuple[NDArray[np.float64], dict[int, str]]:
        """What the model's energies (M,) are too high by on the hull's scale, or NaN and why, by row."""
        if self.shifts is None:
            return np.zeros(len(fractions)), {}
        shifts, unknown = self.shifts.at(fractions)
        return shifts, {
            row: f"how {', '.join(elements)} shifts between the scales {self.embedder.model.scale!r} and "
            f"{self.shifts.scale!r} is not known: too few reference crystals contain it"
            for row, elements in unknown.items()
        }


def _scores(
    crystals: Crystals,
    embedded: Embedded,
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
    support: NDArray[np.float64],
    reasons: dict[int, str],
) -> dict[str, Score]:
    """A score for every crystal, from arrays (M,) for those that were embedded; reasons by their row."""
    scores = failed(crystals, embedded)
    found = zip(embedded.rows.tolist(), values.tolist(), counts.tolist(), support.tolist(), strict=True)
    for place, (row, value, count, distance) in enumerate(found):
        why = None if math.isfinite(value) else reasons.get(place, "no finite score")
        scores[crystals.ids[row]] = Score(known(value), count, known(distance), why)
    return {id_: scores[id_] for id_ in crystals.ids}


def _hull_energy(name: str, context: RankerContext, *, relaxed: bool) -> HullEnergy:
    model, hull = context.model, context.needed_hull(name)
    if not model.has_energies:
        raise ValueError(
            f"the ranker {name} needs a Crys-JEPA that reads energies out of embeddings, and this one was "
            "trained without: choose jepa-distance, or another --jepa"
        )
    if relaxed and not model.invariant:
        raise ValueError(
            f"the ranker {name} needs a Crys-JEPA that predicts relaxation, and this one predicts motions of "
            "the cell: choose jepa-hull, or another --jepa"
        )
    embedder = JepaEmbedder(model, context.device)
    shifts, note = _shifts_to(hull, context, relaxed=relaxed)
    notes = (*note, *skipped(context.jepa_index))
    return HullEnergy(name, embedder, context.jepa_index, context.lower_hull(name), relaxed, shifts, notes)


def _shifts_to(
    hull: Hull, context: RankerContext, *, relaxed: bool
) -> tuple[ElementalReferences | None, tuple[str, ...]]:
    """Shifts per element from the model's scale to the hull's, fitted on the reference; and a note of it."""
    model = context.model
    if model.scale == hull.scale:
        return None, ()
    if context.allow_mixed_scales:
        return None, (f"energies are on the scale {model.scale!r}, the hull is on {hull.scale!r}",)
    if context.formation_energies is None or context.scale != hull.scale:
        has = "no formation energies" if context.formation_energies is None else f"those of {context.scale!r}"
        raise ScaleMismatch(
            f"the model's formation energies are on the scale {model.scale!r} but the hull is on "
            f"{hull.scale!r}, and the reference has {has} to fit the difference on: give a --hull "
            f"on {model.scale!r}, or a --reference with energies on {hull.scale!r}"
        )
    shifts = _fit(model, context.jepa_index, context, relaxed=relaxed)
    return shifts, (
        f"the model's energies ({model.scale}) are shifted element by element to the hull's scale "
        f"({hull.scale}), fitted on {shifts.num_fitted} crystals of the reference with a mean absolute error "
        f"of {shifts.mae:.3f} eV/atom",
    )


def _fit(
    model: CrysJepa, index: ReferenceIndex, context: RankerContext, *, relaxed: bool
) -> ElementalReferences:
    assert context.formation_energies is not None
    place = {id_: row for row, id_ in enumerate(context.reference.ids)}
    rows = np.array([place[id_] for id_ in index.ids])
    labels = context.formation_energies[rows]
    labelled = np.flatnonzero(np.isfinite(labels))
    chosen = np.sort(np.random.default_rng(0).permutation(labelled)[:_FITTED_ON])
    energies = model.energies(np.ascontiguousarray(index.embeddings[chosen]), relaxed=relaxed)
    return fit_references(
        context.reference[rows[chosen]].compositions(),
        energies.tolist(),
        labels[chosen].tolist(),
        force_field="crys-jepa",
        scale=context.scale,
        source=f"fitted on {len(chosen)} crystals of the reference",
    )


def failed(crystals: Crystals, embedded: Embedded) -> dict[str, Score]:
    """Scores of those that could not be embedded."""
    return {crystals.ids[row]: Score(None, reason=reason) for row, reason in embedded.failures.items()}


def known(value: float) -> float | None:
    """None for what is not finite."""
    return value if math.isfinite(value) else None


def skipped(index: ReferenceIndex) -> tuple[str, ...]:
    """A note where reference crystals have no vector."""
    if not index.skipped:
        return ()
    id_, reason = next(iter(index.skipped.items()))
    more = f", and {len(index.skipped) - 1} more" if len(index.skipped) > 1 else ""
    return (f"not in the index of the reference: {id_} ({reason}){more}",)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
