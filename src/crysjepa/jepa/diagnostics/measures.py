"""Would we notice if an embedding were collapsed or meaningless? Numbers that would show it.

The paper warns (appendix C.2) that maps of a collapsed embedding may still look well ordered. Beside them we
ask how many dimensions the embeddings fill, whether their distances say anything about energies (in general,
within a chemical system, and where energies are close), what can be read out of them on chemical systems that
were never seen, and whether they stay where they are when the same crystal is described otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.jepa.diagnostics.distances import Agreement, Spread, measure_agreement, measure_spread
from crysjepa.jepa.diagnostics.equivalent_cells import TOLERANCE, Dependence, embed_each, measure_dependence
from crysjepa.jepa.diagnostics.readouts import Readout, compare_readouts, hold_out_systems
from crysjepa.runtime.progress import StageProgress, of_stage

Floats = NDArray[np.float64]

LOW_RANK = 0.05
"""An effective rank below this share of the width is called out as a partial collapse."""
LARGE_MOVE = 0.05
"""As a share of the typical distance: how far another description may move a canonical crystal unremarked."""
WEAK = 0.1
"""A correlation of distance with |ΔE| below this, over at least ENOUGH_PAIRS, says next to nothing."""
ENOUGH_PAIRS = 100


@dataclass(frozen=True)
class Finding:
    """Something that the numbers show and that one should not overlook."""

    kind: Literal["collapse", "energy", "representation"]
    text: str


@dataclass(frozen=True)
class HeldOut:
    """What the errors of the read-outs were measured on, and how that was chosen."""

    how: str
    num_known: int
    num_held_out: int
    num_set_aside: int


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was measured of one model on one set of crystals.

    ``skipped`` says what was not measured, and why; ``failures`` which crystals could not be embedded.
    ``crystals``, ``embeddings`` (B, D) and ``energies`` (B,) are those that could, for maps of them.
    """

    spread: Spread
    agreement: list[Agreement]
    held_out: HeldOut | None
    readouts: list[Readout]
    dependence: list[Dependence]
    findings: list[Finding]
    skipped: dict[str, str]
    failures: dict[str, str]
    crystals: Crystals = field(repr=False)
    embeddings: Floats = field(repr=False)
    energies: Floats = field(repr=False)

    @property
    def collapsed(self) -> bool:
        """Whether any finding is of a collapse."""
        return any(f.kind == "collapse" for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Every number as plain values; crystals, embeddings and energies are left out."""
        parts = ("agreement", "readouts", "dependence", "findings")
        return {
            "spread": asdict(self.spread),
            "held_out": asdict(self.held_out) if self.held_out else None,
            **{name: [asdict(part) for part in getattr(self, name)] for name in parts},
            "collapsed": self.collapsed,
            "skipped": dict(self.skipped),
            "failures": dict(self.failures),
        }


def diagnose_model(
    model: CrysJepa,
    crystals: Crystals,
    energies: NDArray[np.floating] | None = None,
    splits: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: StageProgress | None = None,
) -> Diagnosis:
    """Measure all of it.

    Parameters
    ----------
    crystals
        Canonical ones, unless the model is invariant.
    energies
        Formation energies (B,) in eV/atom, NaN where unknown. Without them what needs them is skipped.
    splits
        train, val or test for each crystal (None where unknown), if the data have a split.

    Raises ValueError if fewer than two crystals can be embedded.
    """

    kept, embeddings, failures = embed_each(
        model, crystals, device=device, progress=of_stage(progress, "embed")
    )
    rows = [row for row, id_ in enumerate(crystals.ids) if id_ not in failures]
    known = np.full(len(rows), np.nan) if energies is None else np.asarray(energies, dtype=float)[rows]
    parts = None if splits is None else [splits[r] for r in rows]
    spread = measure_spread(embeddings, seed=seed)
    agreement, held_out, readouts, skipped = _energies(model, kept, embeddings, known, parts, seed=seed)
    dependence: list[Dependence] = []
    if spread.collapsed_to_a_point or not spread.typical_distance > 0:
        reason = "most embeddings are the same: there is no distance to compare a movement with"
        skipped["dependence on representation"] = reason
    else:
        dependence = measure_dependence(
            model,
            kept,
            spread.typical_distance,
            seed=seed,
            device=device,
            progress=of_stage(progress, "redescribe"),
        )
    findings = [
        *_collapse(spread),
        *_energy_findings(agreement, readouts),
        *representation_findings(dependence, model.invariant),
    ]
    return Diagnosis(
        spread,
        agreement,
        held_out,
        readouts,
        dependence,
        findings,
        skipped,
        failures,
        kept,
        embeddings,
        known,
    )


def _energies(
    model: CrysJepa,
    crystals: Crystals,
    embeddings: Floats,
    energies: Floats,
    splits: Sequence[str | None] | None,
    *,
    seed: int,
) -> tuple[list[Agreement], HeldOut | None, list[Readout], dict[str, str]]:
    """What needs energies; and what of it was skipped, and why."""
    rows = np.flatnonzero(np.isfinite(energies))
    if len(rows) < 2:
        reason = f"{len(rows)} of {len(crystals)} crystals have a formation energy"
        return [], None, [], {"distances and energies": reason, "energy read-out": reason}
    systems = crystals.chemical_systems()
    agreement = measure_agreement(embeddings[rows], [systems[r] for r in rows], energies[rows], seed=seed)
    skipped = {f"correlation, {a.scope}": a.reason for a in agreement if a.reason}
    parts = hold_out_systems(systems, energies, splits)
    held_out = HeldOut(parts.how, int(parts.known.sum()), int(parts.held_out.sum()), parts.set_aside)
    if parts.reason:
        return agreement, held_out, [], skipped | {"energy read-out": parts.reason}
    own = model.energies(embeddings.astype(np.float32)) if model.has_energies else None
    if own is None:
        skipped["the model's own read-out"] = "this model has none"
    centred = embeddings - embeddings.mean(axis=0)
    return agreement, held_out, compare_readouts(centred, crystals, energies, parts, own), skipped


# -- what must not be overlooked -------------------------------------------------------------------


def _collapse(spread: Spread) -> list[Finding]:
    rank, width = spread.effective_rank, spread.width
    if spread.collapsed_to_a_point:
        return [Finding("collapse", "collapsed to a point: all embeddings are the same up to rounding")]
    if rank < 2:
        return [Finding("collapse", f"collapsed to a line: effective rank {rank:.2f} of {width} dimensions")]
    found = []
    if rank < LOW_RANK * width:
        text = f"partial collapse: effective rank {rank:.1f} of {width} dimensions"
        found.append(Finding("collapse", text))
    if spread.mean_cosine > 0.99:
        text = f"all embeddings point the same way: the mean cosine between two is {spread.mean_cosine:.3f}"
        found.append(Finding("collapse", text))
    return found


def _energy_findings(agreement: Sequence[Agreement], readouts: Sequence[Readout]) -> list[Finding]:
    found = []
    for a in agreement[:2]:  # among crystals of like energy, distances may well be about other things
        if a.spearman is not None and a.spearman < WEAK and a.num_pairs >= ENOUGH_PAIRS:
            text = f"distance says next to nothing about |ΔE| over {a.scope}: Spearman {a.spearman:.2f}"
            found.append(Finding("energy", text))
    best = min((r for r in readouts if r.kind != "baseline"), key=lambda r: r.mae, default=None)
    baseline = min((r for r in readouts if r.kind == "baseline"), key=lambda r: r.mae, default=None)
    if best is not None and baseline is not None and best.mae + best.standard_error >= baseline.mae:
        text = (
            f"no read-out of the embedding clearly beats the baseline “{baseline.name}”: "
            f"{best.mae:.3f} ± {best.standard_error:.3f} against {baseline.mae:.3f} eV/atom"
        )
        found.append(Finding("energy", text))
    return found


def representation_findings(dependence: Sequence[Dependence], invariant: bool) -> list[Finding]:
    """Movements beyond what is allowed: with an invariant model as it is, else between canonical crystals."""
    limit = TOLERANCE if invariant else LARGE_MOVE
    over = {
        d.change: d.largest
        for d in dependence
        if d.canonical is not invariant and d.largest is not None and d.largest > limit
    }
    if not over:
        return []
    each = ", ".join(f"{change} {100 * v:.2g} %" for change, v in sorted(over.items(), key=lambda i: -i[1]))
    though = "the model is invariant by construction" if invariant else "both descriptions are made canonical"
    text = (
        "describing a crystal otherwise moves its embedding, at the most, by this much of the typical "
        f"distance between crystals, though {though}: {each}"
    )
    return [Finding("representation", text)]
