"""What a run says of itself: rates of each round, what they are relative to, and what to beware of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.discovery.aimed import aimed_rates
from crysjepa.discovery.config import DiscoverConfig
from crysjepa.energy.hull import Hull
from crysjepa.energy.support import SUPPORT_SAYS, TOO_LOW, Support
from crysjepa.evaluation.grades import Grade
from crysjepa.evaluation.metrics import crystal_metrics
from crysjepa.evaluation.result_files import judge_name
from crysjepa.evaluation.run import Evaluator

FEW = 10
"""Crystals that are little to fine-tune on."""


def run_metrics(
    config: DiscoverConfig,
    judge: Evaluator,
    rounds: list[CandidateTable],
    generated: list[dict[str, int]],
    table: CandidateTable,
    about: list[str],
    controls: Sequence[CandidateTable | None] = (),
    learnt_at_random: Sequence[CandidateTable | None] = (),
) -> dict[str, Any]:
    """For ``metrics.json``: from each round's own table, and from all of them joined.

    ``table`` has the rounds joined, without repeats, as they were before the hull was closed. ``generated``
    counts what became of all that each round drew; ``about`` are the rankers' own notes;
    ``controls`` are crystals of each round that no ranker chose; ``learnt_at_random`` those of a generator
    that learnt from crystals at random.
    """
    ended = list(zip(table.column("round"), table.column("status"), strict=True))
    before = [
        {
            "round": r,
            "name": _title(r, len(rounds) - 1),
            **crystal_metrics(t),
            "num_drawn": sum(generated[r].values()),
            "drawn": generated[r],
            # Without what repeats an earlier round: a tuned model may return its own training set.
            "vsun_beyond_earlier_rounds": ended.count((r, Status.OK)) / len(t),
        }
        for r, t in enumerate(rounds)
    ]
    for entry, control, ends in zip(before, controls, generated, strict=False):
        if control is not None:
            entry["control"] = _control(control, ends)
    for entry, table_ in zip(before, learnt_at_random, strict=False):
        if table_ is not None:
            what = f"{len(table_)} drawn by a generator that learnt from crystals at random"
            entry["learnt_at_random"] = {
                "what": what,
                **crystal_metrics(table_),
                "aimed": aimed_rates(table_),
            }
    if config.objectives:
        for entry, judged in zip(before, rounds, strict=True):
            entry["aimed"] = aimed_rates(judged)
    screened = {"oversample", "screen_by"} if config.oversample > 1 else set()
    settings = config.model_dump(mode="json", include={"ranker", "seed"} | screened)
    return {
        "rounds": before,
        **{name: before[-1][name] for name in ("vsun", "vsun_new_formula")},
        "hull": None if judge.hull is None else judge.hull.source,
        "novelty_set": judge.names[0],
        "judge": judge_name(judge.describe()),
        "num_selected": [sum(bool(v) for v in t.column("selected")) for t in rounds[:-1]],
        "protocol": judge.describe() | settings,
        "notes": [*_notes(judge, config, rounds, generated, table), *(f"Ranking: {note}." for note in about)],
    }


def _control(control: CandidateTable, generated: dict[str, int]) -> dict[str, Any]:
    """Rates of crystals drawn at random; ``eligible`` are those that come first, whatever the ranker says.

    They are valid, of a formula not known, and where the hull is supported: what the ranker has to beat.
    """
    columns = (control.column(c) for c in ("valid", "novelty_grade", "hull_support"))
    passed = [
        bool(valid) and grade == Grade.NEW_FORMULA and support == Support.SUPPORTED
        for valid, grade, support in zip(*columns, strict=True)
    ]
    eligible = CandidateTable(control.frame[np.array(passed, dtype=bool)].reset_index(drop=True))
    return {
        "what": f"{len(control)} of the {sum(generated.values())} that were drawn, at random",
        **crystal_metrics(control),
        "eligible": crystal_metrics(eligible),
        "aimed": aimed_rates(control),
    }


def _notes(
    judge: Evaluator,
    config: DiscoverConfig,
    rounds: list[CandidateTable],
    generated: list[dict[str, int]],
    table: CandidateTable,
) -> list[str]:
    relaxation = judge.protocol.relaxation
    notes = [
        f"Energies are {judge.protocol.force_field}'s, not DFT's. Relaxations stop at a largest force of "
        f"{relaxation.fmax} eV/Å or after {relaxation.max_steps} steps; those that stopped early count too."
    ]
    if config.oversample > 1:
        asked = ", and that are likely to meet what was asked for" if config.objectives else ""
        notes.insert(
            0,
            f"{config.oversample} crystals were drawn for each that was relaxed. Rates are of those "
            "relaxed, but for those at random. Relaxed are, each formula once while there are others, valid "
            "crystals of formulas not known where the hull is supported, as long as there are some; of these "
            f"those that {config.screen_by} expects most of{asked}. That they are valid, unique and novel "
            "was seen to before, and is no result.",
        )
    diverged = sum(counts.get("failed: generate", 0) for counts in generated)
    if diverged and config.oversample > 1:
        notes.append(
            f"{diverged} of {sum(sum(c.values()) for c in generated)} crystals "
            "failed when they were drawn; they "
            "are in drawn.parquet, and count in no rate unless too few others were left to relax."
        )
    if len(rounds) <= config.rounds:
        notes.append(
            f"Stopped after round {len(rounds) - 1}: no better V.S.U.N. in {config.patience} rounds."
        )
    for round_, judged in enumerate(rounds[:-1]):
        chosen = sum(bool(s) for s in judged.column("selected"))
        if not chosen:
            notes.append(
                f"Nothing in round {round_} was fit to fine-tune on: the next round has the same generator."
            )
        elif chosen < FEW:
            many = "Only one crystal of" if chosen == 1 else f"Only {chosen} crystals of"
            notes.append(
                f"{many} round {round_} could be learnt from: the next round knows little more than these."
            )
    if config.wanted.named and config.drift is not None:
        notes.append(
            "Elements were asked for by name, so that none is held back in what is learnt from (drift)."
        )
    notes += _hull_notes(judge.hull, table)
    notes.append(
        f"Novel means: no match among the {len(judge.reference.crystals)} crystals of the reference "
        f"({Path(config.reference).name}). New formula means: nor is any compound of that reduced formula "
        "known, in the reference, in the hull or in the bundled list. These lists lack most of the Materials "
        "Project, and all of the ICSD that is not in it: a formula that is new to them may be in the "
        "literature, or an ordered cell of a known solid solution. Look each one up before you spend DFT "
        "time on it (crysjepa evaluate RUN --fetch-phases mp asks the Materials Project)."
    )
    return notes


def _hull_notes(hull: Hull | None, table: CandidateTable) -> list[str]:
    if hull is None:
        return []
    notes = []
    notes.append(
        f"Energies above hull are relative to {len(hull)} compounds ({hull.source}, scale "
        f"{hull.scale_description}). A hull that lacks competing compounds makes crystals look more "
        f"stable than they are. {SUPPORT_SAYS}"
    )
    if hull.left_out is not None:
        notes.append(f"Of the hull {hull.source}, {hull.left_out}.")
    counts = Counter(table.column("hull_support")) if "hull_support" in table else Counter()
    described = ", ".join(f"{counts[s]} {s}" for s in Support if counts[s])
    warned = sum(w is not None for w in table.column("hull_warning")) if "hull_warning" in table else 0
    if described:
        notes.append(
            f"Of all crystals that were relaxed: {described}. {warned} lie more than {-TOO_LOW} eV/atom "
            "below the hull, further than discoveries do: a competitor is missing there or the energy is "
            "wrong. They count as stable in the rates, and stand last on the short list or not at all."
        )
    return notes


def round_name(round_: int) -> str:
    """How ids of a round begin: in natural order, earlier rounds come first."""
    return "base" if round_ == 0 else f"refined{round_}"


def _title(round_: int, rounds: int) -> str:
    return "base" if round_ == 0 else "refined" if rounds == 1 else f"refined {round_}"
