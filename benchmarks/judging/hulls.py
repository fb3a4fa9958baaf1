"""Energies above hull beside one pymatgen PhaseDiagram for each candidate."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import numpy as np
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from crysjepa.core.chemical_systems import element_fractions
from crysjepa.core.crystals import Crystals
from crysjepa.energy.hull import Hull
from crysjepa.energy.lower_hull import LowerHull

TOLERANCE = 1e-6
"""eV/atom; pymatgen rounds to 1e-8 per atom of its own, and solves in another way."""


def compare_hulls(crystals: Crystals, hull: Hull, *, diagrams: int, seed: int = 0) -> dict[str, Any]:
    """e_above_hull of every crystal's composition at 0 eV/atom, and of a sample with PhaseDiagram.

    The sample is drawn once; both are timed on the sample, and ours on all. A PhaseDiagram is built for each
    candidate from the hull's entries in its chemical system, which are found beforehand and not timed.
    Seconds are those of the processor.
    """
    fractions = element_fractions(crystals)
    LowerHull(hull).heights(fractions[:1])  # compiles
    started = time.process_time()
    heights, _ = LowerHull(hull).heights(fractions)
    seconds = time.process_time() - started

    rng = np.random.default_rng(seed)
    sample = np.sort(rng.permutation(len(crystals))[:diagrams])
    started = time.process_time()
    ours, _ = LowerHull(hull).heights(fractions[sample])
    sample_seconds = time.process_time() - started
    theirs, diagram_seconds = _diagrams(crystals, hull, sample)
    gaps = np.abs(ours - theirs)
    return {
        "num_compositions": len(crystals),
        "num_without_height": int(np.isnan(heights).sum()),
        "num_entries": len(hull),
        "num_diagrams": len(sample),
        "largest_difference": float(gaps.max()) if len(gaps) else 0.0,
        "differ": [crystals.ids[sample[i]] for i in np.flatnonzero(~(gaps <= TOLERANCE))],
        "seconds": seconds,
        "seconds_on_sample": sample_seconds,
        "diagram_seconds_on_sample": diagram_seconds,
    }


def _diagrams(crystals: Crystals, hull: Hull, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """(len(rows),) heights of the hull in eV/atom by one diagram each, and the seconds they took."""
    by_system: dict[tuple[str, ...], list[PDEntry]] = {}
    compositions = crystals[rows].compositions() if len(rows) else []
    systems = [tuple(sorted(e.symbol for e in c.elements)) for c in compositions]
    for system in set(systems):
        entries = [PDEntry(Composition(e), 0.0) for e in system]
        for known, energy in hull.entries(system).items():
            entries.append(PDEntry(Composition(dict(known)), energy * sum(n for _, n in known)))
        by_system[system] = entries
    heights, seconds = np.empty(len(rows)), 0.0
    for i, (composition, system) in enumerate(zip(compositions, systems, strict=True)):
        started = time.process_time()
        diagram = PhaseDiagram(by_system[system], elements=[Element(e) for e in system])
        heights[i] = diagram.get_hull_energy_per_atom(composition)
        seconds += time.process_time() - started
    return heights, seconds


def systems_of(crystals: Crystals) -> dict[str, int]:
    """How many crystals have how many elements."""
    counts: dict[str, int] = defaultdict(int)
    for system in crystals.chemical_systems():
        counts[str(len(system.split("-")))] += 1
    return dict(sorted(counts.items()))
