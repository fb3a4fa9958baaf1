"""Where each verdict comes from: who judged what against which data, and what was found of one crystal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crysjepa.energy.support import SUPPORT_SAYS
from crysjepa.report.funnel import CRITERIA
from crysjepa.report.results import Results, plain, real
from crysjepa.report.wording import number, percent

_ANSWERS = {True: "yes", False: "no"}


@dataclass(frozen=True)
class Verdict:
    """What was found of one crystal, and why. ``known`` is the id of a known crystal that it matches."""

    name: str
    answer: str
    why: str = ""
    known: str = ""


def sources(results: Results) -> list[tuple[str, str]]:
    """Each verdict and who gave it, against what: as far as the run recorded it."""
    protocol, metrics = results.protocol, results.metrics
    judge, hull = plain(metrics.get("judge")), plain(metrics.get("hull") or protocol.get("hull"))
    matcher, rule = (plain(protocol.get(k), 300) for k in ("matcher", "composition_rule"))
    known = plain(metrics.get("novelty_set") or protocol.get("novelty_set_name"))
    found = []
    if rule:
        found.append(("valid", f"distances, the cell's volume, and the composition rule “{rule}”"))
    if "bonding" in results.frame:
        found.append(
            (
                "charges",
                "oxidation states of the ICSD that balance the formula, the commonest first; no criterion",
            )
        )
    if matcher:
        batch = real(protocol.get("batch_size"))
        among = f"within batches of {batch:,.0f}" if batch else "among all crystals here"
        found.append(("unique", f"{among}, by {matcher}"))
    if known:
        size, tuned = _count(protocol.get("novelty_set_size")), plain(protocol.get("finetuning_set_name"))
        beside = f" and {tuned}, which the generator was fine-tuned on" if tuned else ""
        found.append(("novel", f"against {known}{size and f', {size} crystals'}{beside}"))
    if judge and hull:
        size = _count(protocol.get("hull_compounds"))
        limit = "" if results.threshold is None else f"; stable: at most {results.threshold:g} eV/atom"
        found.append(("stable", f"{judge} above the hull {hull}{size and f', {size} compounds'}{limit}"))
        found.append(("hull support", SUPPORT_SAYS))
    if "space_group" in results.frame and (symprec := real(protocol.get("symprec"))) is not None:
        written = "a CIF's header has the one within 0.01 Å, which may be lower"
        found.append(("space group", f"moyo, within {symprec:g} Å; {written}"))
    found += _trust_sources(results)
    return found


def _trust_sources(results: Results) -> list[tuple[str, str]]:
    found = []
    if "closed_hull" in results.trust:
        judge = plain(results.metrics.get("judge"))
        found.append(("closed hull", f"known compounds, and competitors that were searched for, by {judge}"))
    listed = results.trust.get("judges")
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, Mapping):
            name, version = plain(one.get("name"), 40), plain(one.get("version"), 80)
            against = plain(one.get("hull"), 200)
            found.append((name, f"{version or name}, energies of its own{against and f', above {against}'}"))
    if "p_stable" in results.frame:
        found.append(
            ("chance", "logistic regressions of the judges' energies, fitted on crystals with DFT energies")
        )
    return found


def _count(value: Any) -> str:
    found = real(value)
    return "" if found is None else f"{found:,.0f}"


def verdicts(results: Results, row: int) -> tuple[Verdict, ...]:
    """What was found of one crystal, in the order in which it was judged; only what has a column."""
    record = results.record(row)
    found = [_criterion(results, row, name) for name in CRITERIA if name in results.frame]
    if bonding := plain(record.get("bonding"), 40):
        states, odd = (plain(record.get(c), 200) for c in ("oxidation_states", "unusual_oxidation_states"))
        why = "; ".join(filter(None, (states, odd and f"unusual: {odd}")))
        found.append(Verdict("charges", bonding, why))
    if grade := plain(record.get("novelty_grade")):
        compared = plain(record.get("known_structures"), 200)
        why = f"compared with {compared}; known as" if compared else ""
        found.append(Verdict("formula", grade, why, plain(record.get("known_compound"), 80)))
    if support := plain(record.get("hull_support")):
        gaps = plain(record.get("hull_gaps"), 200)
        why = (
            f"no entry in {gaps}, where LeMat-Bulk has some"
            if gaps
            else plain(record.get("hull_systems"), 300)
        )
        found.append(Verdict("hull support", support, why))
    if warning := plain(record.get("hull_warning"), 200):
        found.append(Verdict("warning", warning))
    found += _of_trust(results, record)
    state, stage, reason = (plain(record[c], 300) for c in ("status", "stage", "reason"))
    found.append(Verdict("in the end", state, ": ".join(filter(None, (stage, reason)))))
    return tuple(found)


def _criterion(results: Results, row: int, name: str) -> Verdict:
    record, judged = results.record(row), results.truths(name).iloc[row]
    answer = "not judged" if judged is pd.NA else _ANSWERS[bool(judged)]
    why, known = [], ""
    if name == "stable" and (above := real(record.get("e_above_hull"))) is not None:
        entries = real(record.get("hull_entries"))
        of = "" if entries is None else f", of {entries:.0f} entries"
        why.append(f"{number(above)} eV/atom above the hull{of}")
    if name == "unique" and (first := plain(record.get("duplicate_of"), 80)):
        why.append(f"duplicate of {first}")
    if name == "novel" and (match := plain(record.get("matches"), 80)):
        why.append("matches")
        known = match
    if name == "valid":
        why += [plain(record.get(c), 200) for c in ("invalid_structure", "invalid_composition")]
    if judged is pd.NA and plain(record["stage"]) == CRITERIA[name]:
        why.append(plain(record["reason"], 300))
    return Verdict(name, answer, "; ".join(filter(None, why)), known)


def _of_trust(results: Results, record: pd.Series) -> list[Verdict]:
    found = []
    if (closed := real(record.get("e_above_closed_hull"))) is not None:
        tried = real(record.get("num_competitors"))
        ended = "converged" if str(record.get("search_converged")) == "True" else "not converged"
        why = "" if tried is None else f"{tried:.0f} competitors tried, the search {ended}"
        if lower := plain(record.get("lower_polymorph"), 80):
            why = "; ".join(filter(None, (why, f"{lower} is a lower polymorph")))
        found.append(Verdict("closed hull", f"{number(closed)} eV/atom above it", why))
    for name, column in results.judges:
        if (above := real(record.get(column))) is not None:
            found.append(Verdict(name, f"{number(above)} eV/atom above its hull"))
    spread, agree = real(record.get("judge_spread")), str(record.get("judges_agree"))
    if spread is not None:
        same = {"True": "agree", "False": "do not agree"}.get(agree, "were not compared")
        found.append(Verdict("judges", same, f"they differ by up to {number(spread)} eV/atom"))
    if silent := plain(record.get("judges_reason"), 200):
        found.append(Verdict("judges", "one has nothing to say", silent))
    if (chance := real(record.get("p_stable"))) is not None:
        by = plain(record.get("p_from"), 120)
        found.append(Verdict("chance", f"{percent(chance)} that DFT agrees", by and f"from {by}"))
    return found
