"""The page's sentences: what was done, what came of it, and what must be known to read the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crysjepa.energy.limits import within
from crysjepa.report.funnel import oversample
from crysjepa.report.objectives import aims_of, rows_of
from crysjepa.report.results import Results, Round, numbers, plain, real, truths
from crysjepa.report.wording import number, percent, rate_with_interval


def headline(results: Results, survivors: int, listed: int, new: int | None = None) -> str:
    """What was done and what came of it, in a sentence or two; ``new`` survivors have an unknown formula."""
    total, rounds = len(results.generated), len(results.rounds)
    if not total:
        return "No crystal was generated, so there is nothing to screen."
    generated = total * oversample(results)
    crystals = "1 crystal was" if generated == 1 else f"{generated:,} crystals were"
    field = plain(results.protocol.get("force_field"))
    start = f"{crystals} generated" + (f" in {rounds} rounds" if rounds > 1 else "")
    if generated > total:
        asked = " and by what was asked for" * bool(aims_of(results))
        start += f", the best {total:,} of them by {plain(results.protocol.get('screen_by'))}{asked} chosen"
    relaxed = results.protocol.get("relax") is not False
    start += f", {'relaxed' if relaxed else 'judged'} with {field} and screened" if field else " and screened"
    if not survivors:
        return f"{start}. None of them is valid, stable, unique and novel at once." + _listed(listed)
    many = f"{survivors:,} of them are" if survivors > 1 else "One of them is"
    limit = results.threshold
    stable = "stable" if limit is None else f"stable (at most {limit:g} eV/atom above the hull)"
    if new is not None:
        return (
            f"{start}. {many} valid, {stable}, unique and novel, {new:,} with a formula that is not on the "
            "lists "
            "here." + _listed(listed)
        )
    return f"{start}. {many} valid, stable, unique and novel." + _listed(listed)


def plainly(results: Results, listed: Sequence[int]) -> list[str]:
    """Whose numbers these are, rates beside their control, and what the short list is worth."""
    judge, hull = (plain(results.metrics.get(k)) for k in ("judge", "hull"))
    lines = [*_asked(results), *_aimed(results)]
    if judge and hull:
        known, protocol = plain(results.metrics.get("novelty_set")), results.protocol
        teacher = ", and the first teacher of the ranker that ships" if judge.startswith("chgnet") else ""
        sizes = [number(real(protocol.get(k)), 0) for k in ("hull_compounds", "novelty_set_size")]
        lines.append(
            f"Judge: {judge}, a force field, not DFT{teacher}. Hull: “{hull}”, {sizes[0]} compounds. "
            f"Novelty: against “{known}”, {sizes[1]} crystals."
        )
    for part in results.rounds:
        control = part.rates.get("control")
        if isinstance(control, Mapping) and real(control.get("vsun_new_formula")) is not None:
            chosen, chance = (rate_with_interval(r, "vsun_new_formula") for r in (part.rates, control))
            line = (
                f"V.S.U.N. with a formula not known, {plain(part.name)}: {chosen} % of the "
                f"{part.rates['num_crystals']:,} chosen; "
            )
            eligible = control.get("eligible")
            if isinstance(eligible, Mapping) and eligible.get("num_crystals"):
                rate = rate_with_interval(eligible, "vsun_new_formula")
                line += (
                    f"{rate} % of {eligible['num_crystals']} at random among those like them, valid, of a "
                    "formula not known and where the hull is supported: the difference is what the ranker "
                    "adds; "
                )
            lines.append(f"{line}{chance} % of {plain(control['what'])}, whatever they are.")
    if len(listed) and "hull_support" in results.frame:
        part = results.frame.iloc[list(listed)]
        supported = int((part["hull_support"] == "supported").sum())
        warned = int(part["hull_warning"].notna().sum()) if "hull_warning" in part else 0
        polymorphs = int((part["novelty_grade"] == "known formula").sum()) if "novelty_grade" in part else 0
        lines.append(
            f"Of the short list's {len(listed)}: the hull is supported for {supported}; {polymorphs} are "
            f"of known formulas, marked so; {warned} lie more than 0.1 eV/atom below the hull, "
            "marked so, and stand last."
        )
        lines += _of_trust(results, part)
        above = numbers(part, "e_above_closed_hull" if "e_above_closed_hull" in part else "e_above_hull")
        error = real(results.protocol.get("elemental_references_mae"))
        if error is not None and np.isfinite(above).any():
            lines.append(
                f"Its energies above hull, {number(np.nanmin(above))} to {number(np.nanmax(above))} eV/atom, "
                f"are uncertain: elemental references alone err by {error:.3f} eV/atom, and the force field "
                "more. Differences of that size mean nothing. A formula new to the lists here may be in the "
                "literature: look it up first."
            )
    return lines


def _asked(results: Results) -> list[str]:
    """What the crystals were to be, and what was thrown away for it."""
    asked = results.metrics.get("asked")
    if not isinstance(asked, list) or not asked or not results.config.get("constraints"):
        return []
    again: Counter[str] = Counter()
    for part in results.rounds:
        away = part.rates.get("thrown_away")
        for reason, num in away.items() if isinstance(away, Mapping) else ():
            again[plain(reason)] += int(real(num) or 0)
    line = f"Asked for: {'; '.join(plain(a) for a in asked)}."
    if again:
        line += f" Drawn again: {', '.join(f'{n:,} × {reason}' for reason, n in again.most_common())}."
    return [line]


def _aimed(results: Results) -> list[str]:
    """What was asked for beyond stability, and how often it was met, chosen and at random."""
    aims = aims_of(results)
    if not aims:
        return []
    rows = [f"{row.name} {row.cells[-1]} % of {row.num:,}" for row in rows_of(results.rounds)]
    met = f" V.S.U.N. and all of it: {'; '.join(rows)}." if rows else ""
    return [f"Asked for: {', '.join(aim.text for aim in aims)}.{met}"]


def _of_trust(results: Results, listed: pd.DataFrame) -> list[str]:
    """How far competitors were looked for, what further judges say of the short list, and what to expect."""
    lines = []
    closed, expected = results.trust.get("closed_hull"), results.trust.get("expected")
    if isinstance(closed, Mapping):
        names = ("num_systems", "num_competitors", "num_relaxed", "num_on_hull", "num_converged")
        systems, tried, relaxed, lowest, converged = (number(real(closed.get(n)), 0) for n in names)
        lines.append(
            f"Competitors were searched for in {systems} chemical systems: {tried} evaluated, {relaxed} "
            f"relaxed, {lowest} of them on the closed hull; in {converged} systems the last round found "
            "nothing new. A phase that no prototype here has is not among them."
        )
        if real(closed.get("num_converged")) != real(closed.get("num_systems")):
            lines.append(
                "In the others the search did not converge: it stopped at its last round, and more may lie "
                "lower. crysjepa compete RUN/shortlist --effort thorough --out closed searches further, for "
                "the short list alone."
            )
    limit = results.threshold
    by_its_own, which = (", by its own energies of the competitors", "closed ") if closed else ("", "")
    for name, column in results.judges:
        above = numbers(listed, column)
        if limit is not None and np.isfinite(above).any():
            lines.append(
                f"Judge {name}{by_its_own}: {int(within(above, limit).sum())} of the "
                f"{int(np.isfinite(above).sum())} on the short list are at most {limit:g} eV/atom above the "
                f"{which}hull."
            )
    for note in (plain(results.trust.get(k)) for k in ("judge_note", "closed_hull_note")):
        if note:
            lines.append(f"{note[0].upper()}{note[1:]}.")
    if isinstance(expected, Mapping) and expected.get("num"):
        likely = number(real(expected.get("expected")), 1)
        low, high = (number(real(expected.get(k)), 0) for k in ("low", "high"))
        lines.append(
            f"Of the {plain(expected['num'])} listed, DFT is expected to put {likely} (95 %: {low} to "
            f"{high}) at most 0.1 eV/atom above the hull: the sum of their chances, which were fitted on "
            "crystals of the Materials Project's kind."
        )
    return lines


def _listed(listed: int) -> str:
    if not listed:
        return " The short list is empty."
    return f" {listed:,} {'is' if listed == 1 else 'are'} on the short list."


def change(rounds: Sequence[Round]) -> str:
    """How V.S.U.N. went from the first round to the last, or "" if there is nothing to compare.

    Where there are controls, it is theirs, of a formula not known: what was chosen tells of the choice as
    well.
    """
    measured = [r for r in rounds if real(r.rates.get("vsun")) is not None]
    if len(measured) < 2:
        return ""
    key, what, rates = "vsun", "V.S.U.N.", [r.rates for r in measured]
    controls = [c for r in rates if isinstance(c := r.get("control"), Mapping)]
    if len(controls) == len(rates) and all(real(c.get("vsun_new_formula")) is not None for c in controls):
        key, what, rates = "vsun_new_formula", "At random, V.S.U.N. with a formula not known", controls
    first, last = measured[0], measured[-1]
    before, after = float(rates[0][key]), float(rates[-1][key])
    verb = "rose" if after > before else "fell" if after < before else "did not change:"
    text = f"{what} {verb} from {percent(before)} ({first.name}) to {percent(after)} ({last.name})"
    old, new = ((r.get("intervals") or {}).get(key) for r in (rates[0], rates[-1]))
    if not old or not new:
        return text + "; no intervals were recorded, so chance cannot be ruled out."
    if old[1] < new[0] or new[1] < old[0]:
        return text + "; the intervals do not overlap."
    return text + "; the intervals overlap, so that chance may have done it."


def caveats(results: Results, listed: Sequence[int]) -> list[str]:
    """What must be known to read the numbers, as far as the saved results tell.

    The general ones only if the run left no notes of its own.
    """
    out = [] if results.metrics.get("notes") else _general_caveats(results.protocol)
    support = numbers(results.frame, "hull_entries")[list(listed)]
    few = int((support < 3).sum())
    if few:
        out.append(
            f"{few:,} of the short list {'rests' if few == 1 else 'rest'} on fewer than three known "
            "compounds in the chemical system: treat these energies above hull with care."
        )
    done = converged(results)
    if done is not None and done[0] < done[1]:
        out.append(f"{done[1] - done[0]:,} of {done[1]:,} relaxations stopped before they had converged.")
    return out


def _general_caveats(protocol: Mapping[str, Any]) -> list[str]:
    field, hull = plain(protocol.get("force_field")), plain(protocol.get("hull"))
    reference = plain(protocol.get("reference"))
    out = [f"Energies are those of {field or 'a force field'}, not of a DFT calculation."]
    out.append(
        f"Energies above hull are relative to {hull or 'the hull of this run'}. A compound that is missing "
        "there makes its neighbours look more stable than they are."
    )
    if reference:
        out.append(f"Novel means not in {reference}; the crystal may still be known elsewhere.")
    return out


def converged(results: Results) -> tuple[int, int] | None:
    """How many relaxations converged, of how many; None if that was not recorded."""
    known = truths(results.generated, "converged").dropna()
    return (int(known.sum()), len(known)) if len(known) else None


def listed_notes(notes: Any) -> list[str]:
    """The notes of ``metrics.json``, a list or a single one, as text."""
    return [plain(n) for n in (notes if isinstance(notes, list) else [notes] if notes else [])]
