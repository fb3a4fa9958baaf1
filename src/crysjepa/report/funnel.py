"""What became of every candidate: the funnel, the reasons, the short list and the nearest misses."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crysjepa.candidates import Status
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


@dataclass(frozen=True)
class Step:
    """How many candidates of a round are left after a step, and what became of those it lost."""

    name: str
    left: int
    lost: int
    why: tuple[tuple[str, int], ...]


def passed(frame: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Which candidates are left after relaxation and each criterion: passed this one *and* all before.

    A recorded judgement decides; where there is none, a crystal passed a step if nothing
    was decided about it up to that stage.
    """
    position = {stage: i for i, stage in enumerate(STAGES)}
    stage = np.array([position.get(plain(s), len(STAGES)) for s in frame["stage"]], dtype=np.int64)
    ended = np.where((frame["status"] == Status.OK).to_numpy(dtype=bool), len(STAGES) + 1, stage)
    left = ended > position["relax"]
    out = {"relaxed": left}
    for name, decided in CRITERIA.items():
        judged = truths(frame, name)
        fallback = ended > position[decided]
        left = left & np.where(judged.isna(), fallback, judged.fillna(False).to_numpy(dtype=bool))
        out[name] = left
    return out


def funnel(results: Results, part: Round) -> list[Step]:
    """Generated, relaxed, valid, unique, novel, stable: what is left of a round, and why the rest is gone."""
    before = part.rows
    steps = [Step("generated", int(before.sum()), 0, ())]
    for name, mask in passed(results.frame).items():
        now = before & mask
        lost = results.frame[before & ~now]
        why = [(text, count) for _, text, count in _grouped(lost, f"not {name}")]
        steps.append(Step(name, int(now.sum()), len(lost), tuple(why)))
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
    for rows, text, _ in _grouped(ended, "no reason recorded"):
        first = ended.loc[rows[0]]
        counts = tuple(int(part.rows[rows].sum()) for part in results.rounds)
        example = plain(first["reason"]) if _VARIES in text else ""
        out.append(Reason(plain(first["stage"]), plain(first["status"]), text, example, counts))
    return sorted(out, key=lambda r: (-r.total, r.stage, r.status, r.text))


def _grouped(frame: pd.DataFrame, default: str) -> list[tuple[list[int], str, int]]:
    """Rows by stage, status and reason; reasons that differ in numbers or in parentheses go together."""
    groups: dict[tuple[str, str, str], list[tuple[int, list[str]]]] = defaultdict(list)
    for row, stage, status, reason in zip(
        frame.index, frame["stage"], frame["status"], frame["reason"], strict=True
    ):
        words = re.findall(r"\s+|\([^()]*\)|[^\s(]+|\(", plain(reason) or default)
        shape = "".join(_VARIES if w[0] in "('\"" or any(c.isdigit() for c in w) else w for w in words)
        groups[plain(stage), plain(status), shape].append((int(row), words))
    out = []
    for members in groups.values():
        columns = zip(*(words for _, words in members), strict=True)
        text = "".join(column[0] if len(set(column)) == 1 else _VARIES for column in columns)
        text = re.sub(rf"{_VARIES}(?:\s*{_VARIES})+", _VARIES, text)
        out.append(([row for row, _ in members], text, len(members)))
    return sorted(out, key=lambda g: (-g[2], g[1]))


def shortlist(results: Results) -> list[int]:
    """Rows of the short list by rank."""
    rank = numbers(results.frame, "shortlist_rank")
    rows = np.flatnonzero(np.isfinite(rank))
    return [int(r) for r in rows[np.argsort(rank[rows], kind="stable")]]


def near_misses(results: Results, limit: int = 10) -> list[tuple[int, tuple[str, ...]]]:
    """Rows that came nearest to the short list, the fewest misses first, with what each missed.

    Candidates that failed before they could be judged are not among them.
    """
    frame = results.frame
    judged = {name: truths(frame, name) for name in CRITERIA}
    hull = numbers(frame, "e_above_hull")
    known = np.isfinite(hull) | ~np.logical_and.reduce([j.isna().to_numpy() for j in judged.values()])
    found = []
    for row in np.flatnonzero(known & frame["lattice"].notna().to_numpy(dtype=bool)):
        missed = [_missed(name, judged[name].iloc[row], hull[row], results.threshold) for name in CRITERIA]
        texts = tuple(m for m in missed if m)
        order = (len(texts), hull[row] if np.isfinite(hull[row]) else math.inf, int(row))
        found.append((order, int(row), texts))
    return [(row, texts) for _, row, texts in sorted(found)[:limit]]


def _missed(name: str, judged: Any, hull: float, threshold: float | None) -> str:
    if name == "stable" and (judged is pd.NA or not judged) and np.isfinite(hull) and threshold is not None:
        over = hull - threshold
        return f"not stable ({over:.3f} eV/atom above the limit)" if over > 0 else "not stable"
    if judged is pd.NA:
        return f"{name}: not judged"
    return "" if judged else f"not {name}"
