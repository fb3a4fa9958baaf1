"""Rates and their intervals from the columns of judged crystals (paper, appendix D.2, Eq. 21 to 23)."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy.special import ndtri

from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.limits import within
from crysjepa.energy.support import Support
from crysjepa.evaluation.grades import Grade

AT_HULL = 0.0
"""eV/atom; the hull's linear programme is exact to about 1e-8."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Metric:
    """A rate by name and version: the share of all crystals for which every one of ``columns`` is true.

    A version changes when the same crystals could get another number.
    """

    version: int
    columns: tuple[str, ...]
    description: str


METRICS = {
    "valid": Metric(1, ("valid",), "structure and composition valid"),
    "stable": Metric(1, ("stable",), "energy above hull at most the limit"),
    "unique": Metric(1, ("unique",), "no earlier crystal (of its batch) matches"),
    "novel": Metric(1, ("novel",), "no known crystal matches"),
    "sun": Metric(1, ("stable", "unique", "novel"), "S.U.N., Eq. 22"),
    "vsun": Metric(1, ("valid", "stable", "unique", "novel"), "V.S.U.N., Eq. 23"),
    "converged": Metric(1, ("converged",), "relaxation converged"),
    "stable_at_0": Metric(1, ("stable_at_0",), "energy above hull at most 0"),
    "sun_at_0": Metric(1, ("stable_at_0", "unique", "novel"), "S.U.N. with stable_at_0"),
    "vsun_at_0": Metric(1, ("valid", "stable_at_0", "unique", "novel"), "V.S.U.N. with stable_at_0"),
    "new_formula": Metric(1, ("unique", "novel", "new_formula"), "unique, novel, of a formula not known"),
    "vsun_new_formula": Metric(
        1, ("valid", "stable", "unique", "novel", "new_formula"), "V.S.U.N., of a formula not known"
    ),
    "vsun_supported": Metric(
        1,
        ("valid", "stable", "unique", "novel", "new_formula", "hull_supported"),
        "V.S.U.N., of a formula not known, where the hull is supported and gives no warning",
    ),
    "new_prototype": Metric(
        1, ("unique", "novel", "new_prototype"), "unique, novel, and no known crystal matches without species"
    ),
}
"""``stable_at_0``, ``new_formula`` and ``hull_supported`` are taken from the columns ``e_above_hull``,
``novelty_grade``, ``hull_support`` and ``hull_warning``; the others are columns."""


def crystal_metrics(table: CandidateTable) -> dict[str, Any]:
    """Rates over *all* rows from the columns of judged crystals.

    A row whose value is null (it failed, or could not be judged) counts against the rate: the denominator
    is always the number of rows.

    Returns
    -------
    dict
        ``num_crystals``; every rate of :data:`METRICS` as a fraction; ``intervals`` with a Wilson 95 %
        interval ``[low, high]`` for each of these; ``num_vsun_without_hull_entries``, the number of
        V.S.U.N. rows for which the hull has no compound (``hull_entries`` 0), so that they were compared
        with the elements only; ``counts``, the number of rows by state (:meth:`CandidateTable.counts`);
        ``novelty_grades``, ``hull_support`` and ``num_hull_warnings`` count rows too. A
        rate is None if one of its columns is absent, or without rows; the number is None if one of its
        columns is absent.
    """
    flags = _flags(table)
    rates = {name: _rate(hit) for name, hit in flags.items()}
    return {
        "num_crystals": len(table),
        **{name: rate for name, (rate, _) in rates.items()},
        "intervals": {name: interval for name, (_, interval) in rates.items()},
        "num_vsun_without_hull_entries": _without_hull_entries(table, flags["vsun"]),
        "counts": table.counts(),
        "novelty_grades": _counted(table, "novelty_grade"),
        "hull_support": _counted(table, "hull_support"),
        "num_hull_warnings": (
            sum(w is not None for w in table.column("hull_warning")) if "hull_warning" in table else None
        ),
    }


def bootstrap_intervals(
    table: CandidateTable, *, resamples: int = RESAMPLES
) -> dict[str, list[float] | None]:
    """Percentile bootstrap: 95 % intervals ``[low, high]`` of every rate, None where there is no rate.

    Crystals are drawn with replacement and keep their verdicts. The number of hits among n draws from n
    verdicts with k hits is binomial(n, k / n), and is drawn as such. The draws depend on the rate's name and
    nothing else. With 0 or n hits a bootstrap has no width; the Wilson intervals of
    :func:`crystal_metrics` have.
    """
    found: dict[str, list[float] | None] = {}
    for name, hits in _flags(table).items():
        if not hits:
            found[name] = None
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        resampled = rng.binomial(len(hits), sum(hits) / len(hits), size=resamples) / len(hits)
        found[name] = [float(v) for v in np.quantile(resampled, [0.025, 0.975])]
    return found


def batch_metrics(table: CandidateTable, size: int, wanted: int | None = None) -> dict[str, Any]:
    """Each rate's mean and standard deviation over batches, as the paper reports them (section 3).

    A batch is the rows with one value of the column ``batch``. Only complete ones, ``size`` rows each, enter;
    where there is none, the one that there is does.

    Returns
    -------
    dict
        ``size``, ``wanted`` (how many batches the protocol asks for), ``num_batches``, ``left_over`` (rows
        of batches that do not enter), and ``rates``: for each ``values``, ``mean`` and ``std`` (the sample's,
        n − 1 in the denominator; None for fewer than two batches); None for a rate that was not judged.
    """
    number = np.array(table.column("batch"), dtype=np.int64)
    flags = _flags(table)
    counts = {int(b): int(c) for b, c in zip(*np.unique(number, return_counts=True), strict=True)}
    chosen = [b for b, c in counts.items() if c == size] or list(counts)[:1]
    rates: dict[str, Any] = {}
    for name, hits in flags.items():
        if not hits:
            rates[name] = None
            continue
        array = np.array(hits)
        values = [float(array[number == b].mean()) for b in chosen]
        rates[name] = {
            "values": values,
            "mean": fmean(values),
            "std": stdev(values) if len(values) > 1 else None,
        }
    return {
        "size": size,
        "wanted": wanted,
        "num_batches": len(chosen),
        "left_over": len(table) - sum(counts[b] for b in chosen),
        "rates": rates,
    }


def by_round(table: CandidateTable) -> list[dict[str, Any]] | None:
    """:func:`crystal_metrics` of each round of a run, with its number; None where there are no rounds."""
    if "round" not in table:
        return None
    found = []
    for number in sorted({r for r in table.column("round") if r is not None}):
        rows = (table.frame["round"] == number).fillna(False).to_numpy(dtype=bool)
        part = CandidateTable(table.frame[rows].reset_index(drop=True))
        found.append({"round": number, **crystal_metrics(part)})
    return found


def flag_columns(table: CandidateTable) -> dict[str, list[bool] | None]:
    """Whether each row is a hit of each rate of :data:`METRICS`; None for a rate that was not judged."""
    return _flags(table)


def _flags(table: CandidateTable) -> dict[str, list[bool] | None]:
    plain = {c for m in METRICS.values() for c in m.columns} - set(_DERIVED_COLUMNS)
    values = {c: table.column(c) for c in plain if c in table} | _derived(table)
    found: dict[str, list[bool] | None] = {}
    for name, metric in METRICS.items():
        columns = [values.get(c) for c in metric.columns]
        found[name] = (
            None
            if any(c is None for c in columns)
            else [all(v is not None and bool(v) for v in row) for row in zip(*columns, strict=True)]
        )
    return found


_DERIVED_COLUMNS = ("stable_at_0", "new_formula", "hull_supported")


def _derived(table: CandidateTable) -> dict[str, list[bool | None]]:
    """What is told by another column than its own."""
    found: dict[str, list[bool | None]] = {}
    if "e_above_hull" in table:
        found["stable_at_0"] = [
            None if e is None else within(e, AT_HULL) for e in table.column("e_above_hull")
        ]
    if "novelty_grade" in table:
        found["new_formula"] = [g == Grade.NEW_FORMULA for g in table.column("novelty_grade")]
    if "hull_support" in table and "hull_warning" in table:
        found["hull_supported"] = [
            s == Support.SUPPORTED and w is None
            for s, w in zip(table.column("hull_support"), table.column("hull_warning"), strict=True)
        ]
    return found


def _counted(table: CandidateTable, column: str) -> dict[str, int] | None:
    """Rows by the values of a column, those without one not counted; None where there is no column."""
    if column not in table:
        return None
    return dict(sorted(Counter(v for v in table.column(column) if v is not None).items()))


def _rate(hits: Sequence[bool] | None) -> tuple[float | None, list[float] | None]:
    if not hits:
        return None, None
    return sum(hits) / len(hits), wilson_interval(sum(hits), len(hits))


def wilson_interval(hits: int, num: int) -> list[float]:
    """Low and high end of the 95 % interval of a share (Wilson 1927).

    As ``scipy.stats.binomtest(hits, num).proportion_ci(0.95, "wilson")``, number for number: that module
    takes longer to import than all the rest of an evaluation needs for its page.
    """
    share, z = int(hits) / int(num), float(ndtri(0.5 + 0.5 * 0.95))
    width = 2 * (num + z**2)
    middle = (2 * num * share + z**2) / width
    half = z / width * math.sqrt(4 * num * share * (1 - share) + z**2)
    return [0.0 if hits == 0 else middle - half, 1.0 if hits == num else middle + half]


def _without_hull_entries(table: CandidateTable, hits: Sequence[bool] | None) -> int | None:
    if hits is None or "hull_entries" not in table:
        return None
    return sum(hit and n == 0 for hit, n in zip(hits, table.column("hull_entries"), strict=True))


def same_number(one: float | None, other: float | None) -> bool:
    """Whether two rates are the same but for how they were written down."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, abs_tol=1e-9)
