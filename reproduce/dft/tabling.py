"""What DFT says, beside what was said before: energies above DFT's own hull, shares, and agreement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from pymatgen.core import Composition
from scipy.optimize import LinearConstraint, milp

from crysjepa.evaluation.rates import wilson_interval

LIMITS = (0.1, 0.0)
"""eV/atom above the hull."""
NOISE = 0.001
"""eV/atom: what lies no further above a limit is at it."""


@dataclass(frozen=True)
class Energy:
    """One calculation: eV/atom in total, and whether it relaxed."""

    key: str
    formula: str
    energy: float
    converged: bool


@dataclass(frozen=True)
class Candidate:
    """A crystal of a group, the phases that hulls name as its decomposition, and what judges say.

    ``keys`` of the named phases are None where there is no structure. ``judges`` are energies above hull in
    eV/atom, ``chance`` is p_stable.
    """

    id: str
    formula: str
    key: str
    named: Mapping[str, str | None]
    judges: Mapping[str, float | None] = field(default_factory=dict)
    chance: float | None = None
    trouble: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a candidate.

    ``state`` is ``judged``, ``hull incomplete`` (a phase that was named has no energy: ``above`` is then a
    lower bound), ``failed``, or ``waiting``. ``above`` is eV/atom above DFT's hull of all others.
    """

    candidate: Candidate
    state: str
    above: float | None = None
    products: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None


def above_hull(
    formula: str, energy: float, others: Sequence[tuple[str, float]]
) -> tuple[float | None, dict[str, float]]:
    """Energy above the hull of the others in eV/atom (Eq. 5 and 6, total energies), and what is below.

    Negative below the hull; None where the others cannot make the composition.
    """
    target = Composition(formula)
    elements = sorted(str(e) for e in target.elements)
    lowest: dict[tuple[float, ...], tuple[float, str]] = {}
    for other, value in others:
        composition = Composition(other)
        if {str(e) for e in composition.elements} <= set(elements):
            point = tuple(round(composition.get_atomic_fraction(e), 10) for e in elements)
            lowest[point] = min(lowest.get(point, (math.inf, "")), (value, other))
    if not lowest:
        return None, {}
    mixing = np.array(list(lowest)).T
    heights = np.array([e for e, _ in lowest.values()])
    wanted = np.array([target.get_atomic_fraction(e) for e in elements])
    tight = 1e-8  # of the fractions, which were rounded
    found = milp(heights, constraints=LinearConstraint(mixing, wanted - tight, wanted + tight))
    if found.x is None:
        return None, {}
    names = [name for _, name in lowest.values()]
    below = {n: float(x) for n, x in zip(names, found.x, strict=True) if x > 1e-4}
    return energy - float(found.fun), below


def judge(candidate: Candidate, energies: Mapping[str, Energy], troubles: Mapping[str, str]) -> Verdict:
    """DFT's verdict on one candidate, from all that is calculated by the same settings."""
    own = energies.get(candidate.key)
    if candidate.trouble is not None or candidate.key in troubles:
        return Verdict(candidate, "failed", reason=candidate.trouble or troubles[candidate.key])
    if own is None:
        return Verdict(candidate, "waiting")
    if not own.converged:
        return Verdict(candidate, "failed", reason="not relaxed within the steps allowed")
    others = [(e.formula, e.energy) for e in energies.values() if e.key != own.key]
    above, below = above_hull(candidate.formula, own.energy, others)
    there = {f: energies.get(key or "") for f, key in candidate.named.items()}
    lacking = [f for f, found in there.items() if found is None]
    if above is None or lacking:
        return Verdict(candidate, "hull incomplete", above, below, f"without {', '.join(sorted(lacking))}")
    return Verdict(candidate, "judged", above, below)


def shares(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Counts of a group, and the share at most each limit above DFT's hull of those judged or failed."""
    states = {
        s: sum(v.state == s for v in verdicts) for s in ("judged", "failed", "hull incomplete", "waiting")
    }
    num = states["judged"] + states["failed"]
    found: dict[str, Any] = {"asked": len(verdicts), **{s.replace(" ", "_"): n for s, n in states.items()}}
    for limit in LIMITS:
        hits = sum(v.state == "judged" and _within(v.above, limit) for v in verdicts)
        found[f"within_{limit}"] = {
            "hits": hits,
            "num": num,
            "share": hits / num if num else None,
            "interval": wilson_interval(hits, num) if num else None,
        }
    bounds = [v.above for v in verdicts if v.state == "hull incomplete" and v.above is not None]
    found["incomplete_above_0.1"] = sum(not _within(b, 0.1) for b in bounds)
    heights = sorted(v.above for v in verdicts if v.state == "judged" and v.above is not None)
    found["median_above_hull"] = float(np.median(heights)) if heights else None
    return found


def agreement(verdicts: Sequence[Verdict], judge: str, limit: float = 0.1) -> dict[str, Any]:
    """How a judge's energies above hull compare with DFT's, over the crystals on which both speak."""
    pairs = [
        (said, v.above)
        for v in verdicts
        if v.state == "judged" and v.above is not None and (said := v.candidate.judges.get(judge)) is not None
    ]
    count = _counter(pairs, lambda said: _within(said, limit), limit)
    differences = [said - above for said, above in pairs]
    return {
        **count,
        "mean_absolute_difference": fmean(map(abs, differences)) if pairs else None,
        "mean_difference": fmean(differences) if pairs else None,
    }


def chance_agreement(verdicts: Sequence[Verdict], limit: float = 0.1) -> dict[str, Any]:
    """p_stable beside DFT: counts at one half, the mean chance and the share, the Brier score."""
    pairs = [
        (v.candidate.chance, v.above)
        for v in verdicts
        if v.state == "judged" and v.above is not None and v.candidate.chance is not None
    ]
    hits = [_within(above, limit) for _, above in pairs]
    return {
        **_counter(pairs, lambda chance: chance >= 0.5, limit),
        "mean_chance": fmean(p for p, _ in pairs) if pairs else None,
        "share": fmean(hits) if pairs else None,
        "brier": fmean((p - h) ** 2 for (p, _), h in zip(pairs, hits, strict=True)) if pairs else None,
    }


def _counter(
    pairs: Sequence[tuple[float, float]], stable: Callable[[float], bool], limit: float
) -> dict[str, int]:
    both = [(stable(said), _within(above, limit)) for said, above in pairs]
    return {
        "num": len(both),
        "both_stable": both.count((True, True)),
        "judge_alone": both.count((True, False)),
        "dft_alone": both.count((False, True)),
        "neither": both.count((False, False)),
        "agree": sum(a == b for a, b in both),
    }


def _within(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit + NOISE


def row(verdict: Verdict) -> dict[str, Any]:
    """A crystal's line of the JSON."""
    c = verdict.candidate
    return {
        "id": c.id, "formula": c.formula, "state": verdict.state, "reason": verdict.reason,
        "dft_e_above_hull": verdict.above, "decomposes_to": dict(verdict.products),
        **c.judges, "p_stable": c.chance,
    }  # fmt: skip
