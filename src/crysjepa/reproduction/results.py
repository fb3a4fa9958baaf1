"""Rows of the tables: what was judged, put together over seeds, with intervals on the ratio to the base."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable
from crysjepa.evaluation.rates import METRICS, flag_columns, wilson_interval
from crysjepa.reproduction.plan import Arm

RATES = ("valid", "stable", "novel", "unique", "sun", "vsun", "vsun_new_formula")
PAPERS_RATES = {name: METRICS[name].columns for name in ("valid", "stable", "novel", "sun", "vsun")}
AS_THE_PAPER = "vsun_as_the_paper"
"""V.S.U.N. where novelty is against the known crystals alone, and what was learnt from may be drawn again."""
_DRAWS = 4000


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the tables. Rates are fractions of all that was drawn, with every seed.

    Attributes
    ----------
    ranker
        None for the base model.
    chosen, chosen_of, chosen_stable
        Crystals learnt from, of how many V.U.N. ones, and how many of them the judge calls stable.
    rates, intervals
        By name, with Wilson's 95 % intervals.
    by_seed
        V.S.U.N. of each seed.
    spread
        Mean and standard deviation over batches, as the paper reports.
    ratio
        V.S.U.N. over the base's, with a 95 % interval over seeds and crystals.
    folders
        Of the judged crystals.
    """

    ranker: str | None
    label: str
    num_crystals: int
    rates: dict[str, float | None]
    intervals: dict[str, list[float] | None]
    by_seed: list[float]
    spread: dict[str, dict[str, float | None]]
    folders: list[Path]
    keep: float | None = None
    share: float = 1.0
    swept: bool = False
    chosen: int | None = None
    chosen_of: int | None = None
    chosen_stable: int | None = None
    ratio: list[float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "folders": [str(f) for f in self.folders]}


def base_row(folder: Path, batch_size: int) -> Row:
    """The pool, judged by the yardstick of all."""
    table = CandidateTable.read(folder / "crystals.parquet")
    rates, intervals = _pooled([table])
    return Row(
        ranker=None, label="base model", num_crystals=len(table), rates=rates, intervals=intervals,
        by_seed=[rates["vsun"] or 0.0], spread=_spread([table], batch_size), folders=[Path(folder.name)],
    )  # fmt: skip


def refined_row(
    arm: Arm,
    base: Row,
    chosen: CandidateTable,
    of: int,
    folders: Sequence[Path],
    judged: Path,
    batch_size: int,
) -> Row:
    """What the generators drew that learnt from one arm's choice, one generator a seed.

    ``of`` is how many V.U.N. crystals there were to choose from, ``judged`` the folder of the base.
    """
    tables = [CandidateTable.read(f / "crystals.parquet") for f in folders]
    rates, intervals = _pooled(tables)
    verdicts = CandidateTable.read(judged / "crystals.parquet")
    stable = dict(zip(verdicts.ids, verdicts.column("stable"), strict=True))
    out = judged.parent
    hits = [_vsun(t) for t in tables]
    return Row(
        ranker=arm.ranker, label=arm.label, num_crystals=sum(map(len, tables)), rates=rates,
        intervals=intervals, by_seed=[float(h.mean()) for h in hits],
        spread=_spread(tables, batch_size),
        folders=[f.relative_to(out) for f in folders], keep=arm.keep, share=arm.share, swept=arm.swept,
        chosen=len(chosen), chosen_of=of, chosen_stable=sum(bool(stable.get(i)) for i in chosen.ids),
        ratio=ratio_interval(hits, base.rates["vsun"] or 0.0, base.num_crystals),
    )  # fmt: skip


def ratio_interval(
    hits: Sequence[NDArray[np.bool_]], base: float, num_base: int, *, draws: int = _DRAWS
) -> list[float] | None:
    """Ratio of rates and the ends of a 95 % interval: seeds drawn again, rates from Jeffreys' posteriors.

    With one seed it says nothing of what another fine-tuning would give, and with few too little: of n seeds
    drawn again the variance is (n − 1) / n of theirs. None where the base has no hit.
    """
    if not base:
        return None
    hit, sizes = np.array([h.sum() for h in hits]), np.array([len(h) for h in hits])
    rng = np.random.default_rng(zlib.crc32(b"ratio"))
    seeds = rng.integers(len(hits), size=(draws, len(hits)))

    def rates(num: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.float64]:
        return rng.beta(num + 0.5, of - num + 0.5)

    ours = rates(hit[seeds], sizes[seeds]).mean(axis=1)
    theirs = rates(np.full(draws, round(base * num_base)), np.full(draws, num_base))
    low, high = np.quantile(ours / theirs, [0.025, 0.975])
    return [float((hit / sizes).mean() / base), float(low), float(high)]


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
    columns = [np.array([bool(v) for v in table.column(c)]) for c in ("valid", "stable", "unique")]
    return np.logical_and.reduce([*columns, _novel(table, learnt_may_return=learnt_may_return)])


def _novel(table: CandidateTable, *, learnt_may_return: bool) -> NDArray[np.bool_]:
    """(B,) whether each is novel; or may be, if it matches nothing but what was learnt from."""
    novel = np.array([bool(v) for v in table.column("novel")])
    if learnt_may_return and "matches_finetuning" in table:
        known = table.column("matches") if "matches" in table else [None] * len(table)
        pairs = zip(table.column("matches_finetuning"), known, strict=True)
        novel |= np.array([tuned is not None and match is None for tuned, match in pairs], dtype=bool)
    return novel


def _spread(tables: Sequence[CandidateTable], size: int) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation of each rate over whole batches of all seeds, novelty as in the paper."""
    values: dict[str, list[float]] = {name: [] for name in PAPERS_RATES}
    for table in tables:
        flags = {c: np.array([bool(v) for v in table.column(c)]) for c in ("valid", "stable", "unique")}
        flags["novel"] = _novel(table, learnt_may_return=True)
        batch = np.array(table.column("batch"), dtype=np.int64)
        for number in np.unique(batch):
            rows = batch == number
            if rows.sum() == size:
                for name, columns in PAPERS_RATES.items():
                    values[name].append(
                        float(np.logical_and.reduce([flags[c][rows] for c in columns]).mean())
                    )
    return {n: {"mean": fmean(v), "std": stdev(v) if len(v) > 1 else None} for n, v in values.items() if v}
