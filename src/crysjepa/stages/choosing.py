"""Which crystals are worth relaxing, and which are worth learning from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.canonical import canonicalise
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import composition_validity, invalid_structures, reduced_formulas
from crysjepa.energy.support import ORDER, TOO_LOW, HullSupport, systems_of
from crysjepa.evaluation.grades import KnownFormulas
from crysjepa.ranking.base import Score
from crysjepa.ranking.selection import ranked_vun, select_best

STAGE = "screen"
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
"""Among which ``keep = "auto"`` chooses."""
FEWEST = 8
"""Crystals of the validation half that a share must have to be judged by."""
ALWAYS = 0.02
"""Share of the chosen crystals that any element may be in, however rare it is."""
HOPELESS = 0.05
"""Worth of a crystal that hardly meets what is asked for."""
LANTHANIDES = range(57, 72)


def worth_relaxing(
    generated: CandidateTable,
    scores: Mapping[str, Score],
    num: int,
    *,
    known: KnownFormulas | None = None,
    support: HullSupport | None = None,
) -> CandidateTable:
    """The ``num`` rows to go on with; those of the others say why not (:func:`narrowed`).

    Valid crystals before others, each formula once before any twice; then new formulas before ``known`` ones,
    those where the hull's answer is worth more before others, and then by score. A score further below the
    hull than any discovery is no promise but a sign of a missing competitor: it comes after the others.
    Where objectives are weighed (columns ``worth`` and ``merit``), what hardly meets them comes after new
    formulas, and merit comes before score.
    """
    crystals = generated.crystals(generated.ok_ids)
    composition = composition_validity(crystals)
    bad = invalid_structures(crystals) | {i: r for i, r in composition.items() if r is not None}
    formulas = dict(zip(crystals.ids, reduced_formulas(crystals), strict=True))
    first = {}
    merits = _merits(generated)
    systems = systems_of(formulas.values())
    for (id_, formula), system in zip(formulas.items(), systems, strict=True):
        value = _value(scores.get(id_))
        trust = 0 if support is None else ORDER[support.of(system).verdict]
        is_known = known is not None and known.compound(formula) is not None
        hopeless, merit = merits.get(id_, (False, 0.0))
        first[id_] = (id_ in bad, is_known, hopeless, trust, value < TOO_LOW, -merit, value)
    order = sorted(crystals.ids, key=first.__getitem__)
    seen: Counter[object] = Counter()
    keys = {}
    for place, id_ in enumerate(order):
        keys[id_] = (id_ in bad, seen[formulas[id_]], place)
        seen[formulas[id_]] += 1
    best = sorted(order, key=keys.__getitem__)[:num]
    spare = [i for i in generated.ids if i not in formulas][
        : num - len(best)
    ]  # those without a crystal, if need be
    return generated.only([*best, *spare])


def narrowed(
    generated: CandidateTable, kept: CandidateTable, scores: Mapping[str, Score], by: str
) -> CandidateTable:
    """All that was drawn, with its score: what was not kept is rejected, at stage ``screen``."""
    left = set(generated.ok_ids) - set(kept.ids)
    reason = f"not among the {len(kept)} of {len(generated)} that {by} would have relaxed"
    table = generated.with_column("screen_score", {i: s.value for i, s in scores.items()}, "Float64")
    return table.decide(STAGE, dict.fromkeys(left, reason), Status.REJECTED)


def _merits(generated: CandidateTable) -> dict[str, tuple[bool, float]]:
    """By id, whether it hardly meets what is asked for, and its merit; nothing where nothing is."""
    if "merit" not in generated:
        return {}
    rows = zip(generated.ids, generated.column("worth"), generated.column("merit"), strict=True)
    return {i: (worth is None or worth < HOPELESS, merit or 0.0) for i, worth, merit in rows}


def _value(score: Score | None) -> float:
    return math.inf if score is None or score.value is None else score.value


def finetuning_set(
    judged: CandidateTable, keep: float | str, drift: float | None, known: Crystals, seed: int
) -> list[str]:
    """Ids of the V.U.N. crystals to fine-tune on, best first (section 4.2, steps 2 and 5)."""
    if isinstance(keep, str):
        keep = share_worth_keeping(judged, seed)
    if drift is None:
        return select_best(judged, keep)
    ranked = ranked_vun(judged)
    return within_drift(judged.crystals(ranked), len(select_best(judged, keep)), known, drift)


def share_worth_keeping(judged: CandidateTable, seed: int) -> float:
    """The largest of :data:`SHARES` that is as good as the best, on a random half of the V.U.N. crystals.

    Good is how many of those ranked first are stable; as good, within one standard error of the best.
    """
    ranked = ranked_vun(judged)
    half = np.random.default_rng((seed, 1)).random(len(ranked)) < 0.5
    stable = np.array([bool(s) for s in judged.column("stable", ranked)], dtype=bool)[half]
    counts = {share: math.ceil(share * len(stable)) for share in SHARES}
    rates = {share: float(stable[:n].mean()) for share, n in counts.items() if n >= FEWEST}
    if not rates:
        return SHARES[-1]
    best = max(rates, key=lambda share: (rates[share], share))
    error = math.sqrt(rates[best] * (1 - rates[best]) / counts[best])
    return max(share for share, rate in rates.items() if rate >= rates[best] - error)


def within_drift(crystals: Crystals, num: int, known: Crystals, drift: float) -> list[str]:
    """The first ``num`` ids of which no element is in more than its part; fewer, if the others run out.

    That is ``drift`` times its share of the known crystals, and at least :data:`ALWAYS`, of ``num``, and one
    crystal more. Lanthanides, which stand in for each other, have a part all together too.
    """
    most = np.floor(num * np.maximum(drift * _shares(known), ALWAYS)) + 1
    have = np.zeros(len(most))
    kept: list[str] = []
    for id_, holds in zip(crystals.ids, _holds(crystals), strict=True):
        if len(kept) == num:
            break
        if (have + holds <= most)[holds].all():
            kept.append(id_)
            have += holds
    return kept


def _holds(crystals: Crystals) -> NDArray[np.bool_]:
    """(B, 120) which elements each has, and in the last column whether a lanthanide."""
    found = np.zeros((len(crystals), 120), dtype=bool)
    rows = np.repeat(np.arange(len(crystals)), crystals.num_atoms)
    found[rows, crystals.atomic_numbers] = True
    found[:, -1] = found[:, list(LANTHANIDES)].any(axis=1)
    return found


def _shares(crystals: Crystals) -> NDArray[np.float64]:
    holds = _holds(crystals)
    return holds.mean(axis=0) if len(crystals) else np.ones(holds.shape[1])


def with_replay(chosen: Crystals, known: Crystals, share: float, seed: int) -> Crystals:
    """The crystals chosen, and so many known ones that these are ``share`` of the whole.

    What was learnt first is not forgotten then. Known ones are drawn at random, each once at most.
    """
    wanted = min(round(share / (1 - share) * len(chosen)), len(known))
    if not wanted:
        return chosen
    rows = np.sort(np.random.default_rng((seed, 2)).choice(len(known), size=wanted, replace=False))
    again, _ = canonicalise(known[rows])
    return Crystals.concatenate([chosen, again.with_ids([f"known-{i}" for i in again.ids])])


def at_random(table: CandidateTable, num: int, seed: tuple[int, ...]) -> CandidateTable:
    """``num`` rows at random, in their order."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(table))[:num])
    return CandidateTable(table.frame.iloc[rows].reset_index(drop=True))


def is_enough(rates: Sequence[float], patience: int | None) -> bool:
    """Whether the last ``patience`` rounds were no better than the best before them."""
    if patience is None or len(rates) <= patience:
        return False
    return max(rates[-patience:]) <= max(rates[:-patience])
