"""Relaxed crystals with formation energies: a force field's total energies, corrected, less the elements'."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crysjepa.core.crystals import Crystals
from crysjepa.energy.corrections import corrections_by
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.energy.limits import no_formation_energy
from crysjepa.relaxation.relax import RelaxSettings, relax_crystals
from crysjepa.runtime.progress import Progress


@dataclass(frozen=True)
class Formed:
    """Crystals as they were left, and by id what is known of them.

    Attributes
    ----------
    crystals
        Those that have a total energy.
    totals
        The force field's energies in eV/atom, without corrections.
    formation
        Formation energies in eV/atom, with the corrections that the elemental references ask for (Eq. 4).
    converged
        Whether the relaxation reached its force.
    failures
        Why there is no formation energy.
    """

    crystals: Crystals
    totals: dict[str, float]
    formation: dict[str, float]
    converged: dict[str, bool]
    failures: dict[str, str]


def formation_energies(
    crystals: Crystals,
    references: ElementalReferences,
    *,
    force_field: str,
    settings: RelaxSettings,
    device: str = "cpu",
    processes: int | None = None,
    shards: Path | None = None,
    progress: Progress | None = None,
) -> Formed:
    """Relax crystals (with ``max_steps`` 0 they stay as they are), and give them formation energies.

    See :func:`crysjepa.relaxation.relax.relax_crystals`, which this raises as.
    """
    done = relax_crystals(
        crystals, force_field=force_field, settings=settings, device=device, processes=processes,
        shards=shards, progress=progress,
    )  # fmt: skip
    failures, formation = dict(done.failures), dict[str, float]()
    totals = {i: r.energy_per_atom for i, r in done.records.items() if i not in failures}
    final = done.crystals.select(list(totals))
    added = corrections_by(references.corrections, final).tolist()
    for id_, composition, correction in zip(final.ids, final.compositions(), added, strict=True):
        energy, reason = references.formation_energy_per_atom(composition, totals[id_] + correction)
        if energy is None:
            lacks = f"{references.corrections} has no correction for it"
            failures[id_] = lacks if np.isnan(correction) else str(reason)
        elif (reason := no_formation_energy(energy)) is not None:
            failures[id_] = reason
        else:
            formation[id_] = energy
    return Formed(final, totals, formation, {i: done.records[i].converged for i in totals}, failures)
