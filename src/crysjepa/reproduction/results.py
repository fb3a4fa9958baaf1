"""Rows of the tables: what was judged, put together over seeds, with intervals on the ratio to the base."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.rates import flag_columns, wilson_interval
from crysjepa.runtime.files import read_json

RATES = ("valid", "stable", "novel", "unique", "sun", "vsun", "vsun_new_formula")
AS_THE_PAPER = "vsun_as_the_paper"
"""V.S.U.N. where novelty is against the known crystals alone, and what was learnt from may be drawn again."""
_DRAWS = 4000


@dataclass(frozen=True)
class Arm:
    """A ranker, the share ``keep`` of the V.U.N. crystals that it chooses, and the share of the pool."""

    ranker: str
    keep: float
    share: float = 1.0
    swept: bool = False

    @property
    def folder(self) -> str:
        """Its name among the files."""
        return f"{self.ranker}-k{self.keep:g}" + ("" if self.share == 1 else f"-of-{self.share:g}")

    @property
    def label(self) -> str:
        """Its name in progress and notes."""
        own = f"{self.ranker}, k = {self.keep:.2%}" if self.swept else self.ranker
        return own if self.share == 1 else f"{own}, {self.share:.0%} of the pool"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the tables. Rates are fractions of all that was drawn, with every seed.

    Attributes
    ----------
    ranker
        None for the base model.
    chosen, chosen_stable
        Crystals learnt from, and how many of them the judge calls stable.
    rates, intervals
        By name, with Wilson's 95 % intervals.
    by_seed
        V.S.U.N. of each seed.
    spread
        Mean and standard deviation over batches, as the paper reports.
    ratio
        V.S.U.N. over the base's, with a 95 % bootstrap interval over seeds and crystals.
    folders
        Of the judged crystals.
    """

    ranker: str | None
    label: str
    num_crystals: int
    rates: dict[str, float | None]
    intervals: dict[str, list[float] | None]
    by_seed: list[float]
    spread: dict[str, list[float | None]]
    folders: list[Path]
    keep: float | None = None
    share: float = 1.0
    swept: bool = False
    chosen: int | None = None
    chosen_stable: int | None = None
    ratio: list[float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "folders": [str(f) for f in self.folders]}


def base_row(folder: Path, metrics: Mapping[str, Any]) -> Row:
    """The pool, judged by the yardstick of all."""
    table = CandidateTable.read(folder / "crystals.parquet")
    rates, intervals = _pooled([table])
    return Row(
        ranker=None, label="base model", num_crystals=len(table), rates=rates, intervals=intervals,
        by_seed=[rates["vsun"] or 0.0], spread=_spread([metrics]), folders=[Path(folder.name)],
    )  # fmt: skip


def refined_row(arm: Arm, base: Row, chosen: CandidateTable, folders: Sequence[Path], judged: Path) -> Row:
    """What the generators drew that learnt from one arm's choice, one generator a seed."""
    tables = [CandidateTable.read(f / "crystals.parquet") for f in folders]
    rates, intervals = _pooled(tables)
    verdicts = CandidateTable.read(judged / "crystals.parquet")
    stable = verdicts.column("stable", [i for i in chosen.ids if i in set(verdicts.ids)])
    out = judged.parent
    hits = [_vsun(t) for t in tables]
    return Row(
        ranker=arm.ranker, label=arm.label, num_crystals=sum(map(len, tables)), rates=rates,
        intervals=intervals, by_seed=[float(h.mean()) for h in hits],
        spread=_spread([read_json(f / "metrics.json") for f in folders]),
        folders=[f.relative_to(out) for f in folders], keep=arm.keep, share=arm.share, swept=arm.swept,
        chosen=len(chosen), chosen_stable=sum(bool(s) for s in stable),
        ratio=ratio_interval(hits, base.rates["vsun"] or 0.0, base.num_crystals),
    )  # fmt: skip


def ratio_interval(
    hits: Sequence[NDArray[np.bool_]], base: float, num_base: int, *, draws: int = _DRAWS
) -> list[float] | None:
    """Ratio of rates with the ends of a 95 % bootstrap interval, over seeds and then over crystals.

    With one seed it says nothing of what another training would give. None where the base has no hit.
    """
    if not base:
        return None
    rates, sizes = np.array([h.mean() for h in hits]), np.array([len(h) for h in hits])
    rng = np.random.default_rng(zlib.crc32(b"ratio"))
    seeds = rng.integers(len(hits), size=(draws, len(hits)))
    ours = (rng.binomial(sizes[seeds], rates[seeds]) / sizes[seeds]).mean(axis=1)
    theirs = rng.binomial(num_base, base, size=draws) / num_base
    with np.errstate(divide="ignore"):
        low, high = np.quantile(
            np.where(theirs > 0, ours / np.maximum(theirs, 1e-12), np.inf), [0.025, 0.975]
        )
    return [float(rates.mean() / base), float(low), float(high)]


def _pooled(
    tables: Sequence[CandidateTable],
) -> tuple[dict[str, float | None], dict[str, list[float] | None]]:
    rates: dict[str, float | None] = {}
    intervals: dict[str, list[float] | None] = {}
    total = sum(map(len, tables))
    found = {name: [flag_columns(t)[name] for t in tables] for name in RATES}
    counts: dict[str, int | None] = {
        name: None if any(p is None for p in parts) else sum(sum(p or []) for p in parts)
        for name, parts in found.items()
    }
    counts[AS_THE_PAPER] = sum(int(_vsun(t, learnt_may_return=True).sum()) for t in tables)
    for name, count in counts.items():
        rates[name] = None if count is None or not total else count / total
        intervals[name] = None if count is None or not total else wilson_interval(int(count), total)
    return rates, intervals


def _vsun(table: CandidateTable, *, learnt_may_return: bool = False) -> NDArray[np.bool_]:
    """(B,) whether each is V.S.U.N."""
    columns = [np.array([bool(v) for v in table.column(c)]) for c in ("valid", "stable", "unique", "novel")]
    if learnt_may_return and "matches_finetuning" in table:
        known = table.column("matches") if "matches" in table else [None] * len(table)
        again = [
            t is not None and m is None
            for t, m in zip(table.column("matches_finetuning"), known, strict=True)
        ]
        columns[3] |= np.array(again, dtype=bool)
    return np.logical_and.reduce(columns)


def _spread(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Mean and standard deviation of each rate over all batches of all seeds."""
    found: dict[str, list[float | None]] = {}
    for name in RATES:
        values = [
            v
            for m in metrics
            if m.get("batches") and (e := m["batches"]["rates"].get(name))
            for v in e["values"]
        ]
        if values:
            found[name] = [fmean(values), stdev(values) if len(values) > 1 else None]
    return found
