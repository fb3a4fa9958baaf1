"""Uniqueness and novelty of judged crystals: whether one matches another of its table, or a known one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.evaluation.columns import set_column
from crysjepa.matching.by_name import Index, novel_by, unique_by
from crysjepa.matching.uniqueness import Matching
from crysjepa.runtime.progress import Progress, StageProgress, of_stage

if TYPE_CHECKING:
    from crysjepa.evaluation.criteria import Rules

KnownSet = Crystals | Index


def judge_uniqueness(
    table: CandidateTable,
    crystals: Crystals,
    ranks: Mapping[str, int],
    rules: Rules,
    progress: StageProgress | None,
) -> CandidateTable:
    """Decide ``unique`` within each ``batch``; of duplicates the one of least rank, by id, stands for all."""
    found = _duplicates(table, crystals, ranks, rules, of_stage(progress, "uniqueness"))
    return _decide_matching(table, found, "uniqueness", "unique", "duplicate_of", "duplicate of")


def judge_novelty(
    table: CandidateTable,
    crystals: Crystals,
    reference: KnownSet | None,
    finetuned_on: KnownSet | None,
    rules: Rules,
    progress: StageProgress | None,
) -> CandidateTable:
    """Decide ``novel`` by the reference, and by what the generator was fine-tuned on, where given."""
    if reference is not None:
        matches = _known(crystals, reference, rules, of_stage(progress, "novelty"))
        table = _decide_matching(table, matches, "novelty", "novel", "matches", "matches")
    if finetuned_on is not None:
        tuned = _known(crystals, finetuned_on, rules, of_stage(progress, "novelty (fine-tuning set)"))
        table = _decide_against_finetuning(table, tuned)
    return table


def _known(crystals: Crystals, reference: KnownSet, rules: Rules, progress: Progress | None) -> Matching:
    return novel_by(
        rules.matching, crystals, reference,
        matcher=rules.matcher, processes=rules.processes, progress=progress,
    )  # fmt: skip


def _duplicates(
    table: CandidateTable,
    crystals: Crystals,
    ranks: Mapping[str, int],
    rules: Rules,
    progress: Progress | None,
) -> Matching:
    batch = np.array(table.column("batch", crystals.ids), dtype=np.int64)
    found = Matching()
    for number in np.unique(batch):
        part = crystals[batch == number]
        step = _shifted(progress, len(found.matches) + len(found.failures), len(crystals))
        one = unique_by(
            rules.matching, part,
            matcher=rules.matcher, ranks=ranks, processes=rules.processes, progress=step,
        )  # fmt: skip
        found.matches.update(one.matches)
        found.failures.update(one.failures)
    return found


def _decide_matching(
    table: CandidateTable, found: Matching, stage: str, column: str, matched: str, wording: str
) -> CandidateTable:
    table = set_column(table, column, {i: match is None for i, match in found.matches.items()}, "boolean")
    table = set_column(table, matched, found.matches, "string")
    table = table.decide(stage, found.failures, Status.FAILED)
    reasons = {i: f"{wording} {match}" for i, match in found.matches.items() if match is not None}
    return table.decide(stage, reasons, Status.REJECTED)


def _decide_against_finetuning(table: CandidateTable, found: Matching) -> CandidateTable:
    """A crystal stays novel only if it matches nothing of the fine-tuning set either."""
    before = dict(zip(table.ids, table.column("novel"), strict=True)) if "novel" in table else {}
    both = {
        i: None if before.get(i, True) is None else bool(before.get(i, True)) and match is None
        for i, match in found.matches.items()
    }
    table = set_column(table, "novel", both, "boolean")
    table = set_column(table, "matches_finetuning", found.matches, "string")
    table = table.decide("novelty", found.failures, Status.FAILED)
    reasons = {i: f"matches {m} of the fine-tuning set" for i, m in found.matches.items() if m is not None}
    return table.decide("novelty", reasons, Status.REJECTED)


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else (lambda done, _: progress(before + done, total))
