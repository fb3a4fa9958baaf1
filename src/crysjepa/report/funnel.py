"""What became of every candidate: the funnel, the reasons, the short list and the nearest misses."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crysjepa.core.candidates import Status
from crysjepa.energy.limits import within
from crysjepa.report.results import Results, Round, numbers, plain, truths

STAGES = (
    "read",
    "generate",
    "canonicalise",
    "relax",
    "validity",
    "uniqueness",
    "novelty",
    "stability",
    "embed",
)
CRITERIA = {"valid": "validity", "unique": "uniqueness", "novel": "novelty", "stable": "stability"}
"""The four judgements in the order in which the funnel shows them, each with the stage that makes it."""

_VARIES = "…"
_MAX_REASON = 300  # characters


@dataclass(frozen=True)
class Step:
    """How many candidates of a round are left after a step, and what became of those it lost."""

    name: str
    left: int
    lost: int
    why: tuple[tuple[str, int], ...]


def passed(frame: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Which candidates are left after relaxation and each criterion: passed this one *and* all before.

    To pass a criterion, no stage up to the one that judges it may have ended a crystal's way (a crystal
    that repeats one of an earlier round is unique within its own, yet ends at uniqueness), and its
    judgement must be true. Where none was recorded, it passed if a later stage ended its way; if nothing
    did, it was not judged and did not pass.
    """
    position = {stage: i for i, stage in enumerate(STAGES)}
    ok = (frame["status"] == Status.OK).to_numpy(dtype=bool)
    ended = np.array([position.get(plain(s), len(STAGES)) for s in frame["stage"]], dtype=np.int64)
    # Crystals pass through canonicalise once more before they are embedded, when all else is judged.
    again = (ended == position["canonicalise"]) & truths(frame, "valid").notna().to_numpy(dtype=bool)
    ended = np.where(ok, len(STAGES) + 1, np.where(again, position["embed"], ended))
    left = ended > position["relax"]
    out = {"relaxed": left}
    for name, stage in CRITERIA.items():
        judged = truths(frame, name)
        true = np.where(judged.isna(), ~ok, judged.fillna(False).to_numpy(dtype=bool))
        left = left & true & (ended > position[stage])
        out[name] = left
    return out


def oversample(results: Results) -> int:
    """Crystals generated for each that was relaxed."""
    number = results.protocol.get("oversample")
    return number if isinstance(number, int) and number > 0 else 1


def funnel(results: Results, part: Round) -> list[Step]:
    """Generated, relaxed, valid, unique, novel, stable: what is left of a round, and why the rest is gone.

    Where a ranker chose what was worth relaxing, that is a step too; the table has no rows of the rest.
    """
    before = part.rows
    kept, generated = int(before.sum()), int(before.sum()) * oversample(results)
    steps = [Step("generated", generated, 0, ())]
    if generated > kept:
        unfit = (
            "failed; or a known formula, or where the hull is not supported, while there were others; or not "
            f"among the best by {plain(results.protocol.get('screen_by'))}"
        )
        steps.append(Step("screened", kept, generated - kept, ((unfit, generated - kept),)))
    for name, mask in passed(results.frame).items():
        now = before & mask
        lost = before & ~now
        unknown = truths(results.frame, name).isna().to_numpy(dtype=bool)[lost]
        default = np.where(unknown, "not judged", f"not {name}")
        why = [(text, len(rows)) for rows, text in _grouped(results.frame[lost], default)]
        steps.append(Step(name, int(now.sum()), int(lost.sum()), tuple(why)))
        before = now
    return steps


@dataclass(frozen=True)
class Reason:
    """A reason why candidates left, with numbers and names that differ shown as "…"."""

    stage: str
    status: str
    text: str
    example: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Candidates of all rounds that left for it."""
        return sum(self.counts)


def reasons(results: Results) -> list[Reason]:
    """Every reason recorded, the most frequent first, with its counts by round."""
    frame = results.frame
    ended = frame[(frame["status"] != Status.OK).to_numpy(dtype=bool)]
    out = []
    for rows, text in _grouped(ended, ["no reason recorded"] * len(ended)):
        first = ended.loc[rows[0]]
        counts = tuple(int(part.rows[rows].sum()) for part in results.rounds)
        example = plain(first["reason"], _MAX_REASON) if _VARIES in text else ""
        out.append(Reason(plain(first["stage"]), plain(first["status"]), text, example, counts))
    return sorted(out, key=lambda r: (-r.total, r.stage, r.status, r.text))


def _grouped(frame: pd.DataFrame, default: Sequence[str] | NDArray[Any]) -> list[tuple[list[int], str]]:
    """Rows by stage, status and reason, the largest group first.

    Reasons that differ only in words with digits, in quotes or in parentheses go together; what differs
    is written as "…". ``default`` stands for a reason that was not recorded.
    """
    groups: dict[tuple[str, str, str], list[tuple[int, list[str]]]] = defaultdict(list)
    columns = (frame.index, frame["stage"], frame["status"], frame["reason"], default)
    for row, stage, status, reason, otherwise in zip(*columns, strict=True):
        words = re.findall(r"\s+|\([^()]*\)|[^\s(]+|\(", plain(reason, _MAX_REASON) or str(otherwise))
        shape = "".join(_VARIES if w[0] in "('\"" or any(c.isdigit() for c in w) else w for w in words)
        groups[plain(stage), plain(status), shape].append((int(row), words))
    out = []
    for members in groups.values():
        places = zip(*(words for _, words in members), strict=True)
        text = "".join(place[0] if len(set(place)) == 1 else _VARIES for place in places)
        text = re.sub(rf"{_VARIES}(?:\s*{_VARIES})+", _VARIES, text)
        out.append(([row for row, _ in members], text))
    return sorted(out, key=lambda g: (-len(g[0]), g[1], g[0]))


def shortlist(results: Results) -> list[int]:
    """Rows of the short list by rank."""
    rank = numbers(results.frame, "shortlist_rank")
    rows = np.flatnonzero(np.isfinite(rank))
    return [int(r) for r in rows[np.argsort(rank[rows], kind="stable")]]


def near_misses(
    results: Results, limit: int = 10, *, every: bool = False
) -> list[tuple[int, tuple[str, ...]]]:
    """Rows that came nearest to the short list, the fewest misses first, with what each missed.

    Candidates that failed before they could be judged are not among them, unless ``every`` row is wanted.
    """
    frame = results.frame
    judged = {name: truths(frame, name) for name in CRITERIA}
    hull = numbers(frame, "e_above_hull")
    unjudged = np.logical_and.reduce([j.isna().to_numpy(dtype=bool) for j in judged.values()])
    near = (np.isfinite(hull) | ~unjudged) & frame["lattice"].notna().to_numpy(dtype=bool) | every
    missed = np.sum([~j.fillna(False).to_numpy(dtype=bool) for j in judged.values()], axis=0)
    rows = np.flatnonzero(near)
    rows = rows[np.lexsort((rows, hull[rows], missed[rows]))][:limit]  # NaN comes last
    return [
        (
            int(r),
            tuple(filter(None, (_missed(n, judged[n].iloc[r], hull[r], results.threshold) for n in judged))),
        )
        for r in rows
    ]


def _missed(name: str, judged: Any, hull: float, threshold: float | None) -> str:
    if judged is pd.NA:
        return f"not judged: {CRITERIA[name]}"
    if judged:
        return ""
    if name == "stable" and threshold is not None and not within(hull, threshold):
        return f"not stable ({hull - threshold:.3f} eV/atom above the limit)"
    return f"not {name}"
