"""How likely DFT is to agree: the chance that a crystal stands near the hull by DFT, from what judges say.

``p_stable`` is the chance that DFT puts a crystal at most 0.1 eV/atom above the full hull, ``p_on_hull`` at
most 0. Each comes from a logistic regression: of the energies above hull of one or two judges, and of how
many compounds the hull knows there; one for each verdict of hull support (:mod:`crysjepa.energy.support`),
for where compounds may be missing a low energy says less. They were fitted on crystals with DFT energies by
``benchmarks/fit_probability.py``; what on stands in ``weights/p_stable.json``.

With e_j the energies above hull less the limit, and x(e) = sign(e) ln(1 + |e| / 0.02 eV), whose tails are
those of a force field's errors,

    logit p = a + Σ_j w_j x(e_j) + v x(max_j e_j) + c ln(1 + hull entries),   w_j, v ≤ 0.

So p never rises with an energy. The term of the highest energy is the spread of the judges: that they differ
speaks against a crystal. Energies beyond :data:`LOWEST` and :data:`HIGHEST` count as these, for nothing was
fitted there, and a crystal far below the hull more likely lacks a competitor than it is a triumph.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from crysjepa.core.candidates import CandidateTable
from crysjepa.energy.limits import within
from crysjepa.energy.support import Support
from crysjepa.evaluation.columns import set_column
from crysjepa.evaluation.judge_names import above_hull_column

Floats = NDArray[np.float64]

LIMITS: Mapping[str, float] = {"p_stable": 0.1, "p_on_hull": 0.0}
"""eV/atom above the hull, at most, by DFT."""
LOWEST, HIGHEST = -0.1, 0.6
"""eV/atom above hull between which energies tell something."""
SOFT = 0.02
"""eV/atom; up to about this, x(e) is a straight line."""
RIDGE = 1e-3
"""Penalty of a fit: half of this times the sum of squared coefficients, beside the mean of −ln likelihood."""
FILE = "p_stable.json"


@dataclass(frozen=True)
class LogisticModel:
    """One regression; see this module.

    Parameters
    ----------
    target
        A key of :data:`LIMITS`.
    judges
        Force fields, in the order of ``weights``.
    support
        The verdict of hull support for which it is; None where no verdict is known.
    intercept, weights, highest, entries
        a, w_j, v and c of the equation; c is 0 where ``support`` is None.
    most_entries
        More hull entries count as so many: 19 of 20 rows of the fit had no more.
    num, share
        Rows that it was fitted on, and the share of them within the limit.
    """

    target: str
    judges: tuple[str, ...]
    support: str | None
    intercept: float
    weights: tuple[float, ...]
    highest: float
    entries: float
    most_entries: float
    num: int
    share: float

    def probability(self, above: Floats, entries: Floats) -> Floats:
        """(B,) of energies above hull (B, J) in eV/atom and hull entries (B,), which may be NaN
        where ``support`` is None.
        """
        entries = _counted(entries, self.most_entries, self.support)
        coefficients = [*self.weights, *([self.highest] if len(self.judges) > 1 else []), self.entries]
        return np.asarray(
            expit(_features(above, entries, LIMITS[self.target]) @ coefficients + self.intercept)
        )

    @classmethod
    def fit(
        cls,
        target: str,
        judges: Sequence[str],
        support: str | None,
        above: Floats,
        entries: Floats,
        labels: Floats,
    ) -> LogisticModel:
        """Fit on rows with energies above hull (B, J) of the judges, hull entries (B,), and ``labels`` (B,),
        energies above the full hull by DFT; all in eV/atom, without NaN.

        Raises ValueError if all rows, or none, are within the limit.
        """
        hits = within(labels, LIMITS[target])
        if hits.all() or not hits.any():
            raise ValueError(f"{len(hits)} rows of the same outcome: there is nothing to fit")
        most = float(np.quantile(entries, 0.95, method="lower")) if support is not None else 0.0
        features = _features(above, _counted(entries, most, support), LIMITS[target])
        falling = np.arange(features.shape[1]) < features.shape[1] - 1
        found = fit_logistic(features, hits, falling)
        count = len(judges)
        return cls(
            target=target,
            judges=tuple(judges),
            support=support,
            intercept=_rounded(found[-1]),
            weights=tuple(_rounded(w) for w in found[:count]),
            highest=_rounded(found[count]) if count > 1 else 0.0,
            entries=_rounded(found[-2]) if support is not None else 0.0,
            most_entries=most,
            num=len(hits),
            share=round(float(hits.mean()), 4),
        )


def _rounded(value: float) -> float:
    return round(float(value), 5) + 0.0  # no −0


def _counted(entries: Floats, most: float, support: str | None) -> Floats:
    return np.zeros(len(entries)) if support is None else np.minimum(entries, most)


def _features(above: Floats, entries: Floats, limit: float) -> Floats:
    """(B, J + 1), or (B, J + 2) of several judges: x of each, of the highest, and ln(1 + entries)."""
    from_limit = np.clip(above, LOWEST, HIGHEST) - limit
    if above.shape[1] > 1:
        from_limit = np.column_stack([from_limit, from_limit.max(axis=1)])
    soft = np.sign(from_limit) * np.log1p(np.abs(from_limit) / SOFT)
    return np.column_stack([soft, np.log1p(entries)])


def fit_logistic(features: Floats, labels: NDArray[np.bool_], falling: NDArray[np.bool_]) -> Floats:
    """Coefficients (F + 1,), the intercept last, of a logistic regression of ``labels`` (B,) on (B, F).

    Those of ``falling`` (F,) are kept at 0 or below. Penalised by :data:`RIDGE`, but for the intercept.
    """
    design = np.column_stack([features, np.ones(len(features))])
    penalty = np.append(np.full(features.shape[1], RIDGE), 0.0)

    def loss(w: Floats) -> tuple[float, Floats]:
        z = design @ w
        value = float(np.mean(np.logaddexp(0.0, z) - labels * z) + penalty @ w**2 / 2)
        return value, design.T @ (expit(z) - labels) / len(z) + penalty * w

    bounds = [(None, 0.0) if f else (None, None) for f in falling] + [(None, None)]
    start = np.zeros(design.shape[1])
    done = minimize(
        loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-13, "gtol": 1e-8}
    )
    return np.asarray(done.x)


@dataclass(frozen=True)
class ProbabilityModel:
    """Regressions for each target, set of judges and verdict; ``card`` says what they were fitted on."""

    models: tuple[LogisticModel, ...]
    card: Mapping[str, Any]

    @property
    def judges(self) -> list[tuple[str, ...]]:
        """Sets of judges that there is a model for, the largest first."""
        return sorted({m.judges for m in self.models}, key=lambda js: (-len(js), js))

    def get(self, target: str, judges: tuple[str, ...], support: str | None) -> LogisticModel | None:
        """The regression for these, or None."""
        wanted = (target, judges, support)
        return next((m for m in self.models if (m.target, m.judges, m.support) == wanted), None)

    def to_json(self) -> str:
        """As JSON text that :meth:`read` reads."""
        content = {"card": self.card, "models": [asdict(m) for m in self.models]}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: str | Path | None = None) -> ProbabilityModel:
        """From a JSON file; by default the one that ships. Raises ValueError for another file."""
        file = resources.files("crysjepa.weights").joinpath(FILE) if path is None else Path(path)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            models = tuple(
                LogisticModel(**m | {"judges": tuple(m["judges"]), "weights": tuple(m["weights"])})
                for m in content["models"]
            )
            return cls(models, content["card"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file} holds no model of probabilities: {error!r}") from error


@lru_cache(maxsize=1)
def _shipped() -> ProbabilityModel:
    return ProbabilityModel.read()


def with_probability(
    table: CandidateTable,
    *,
    first: str = "chgnet",
    first_column: str = "e_above_hull",
    model: ProbabilityModel | None = None,
) -> CandidateTable:
    """Columns ``p_stable``, ``p_on_hull`` and ``p_from``, which names the judges and the verdict behind them.

    Parameters
    ----------
    table
        Judged crystals: energies above hull (eV/atom) of the judge ``first`` in ``first_column``, and of
        others in ``e_above_hull_NAME`` (:mod:`crysjepa.evaluation.judges`); ``hull_support``,
        ``hull_entries``.
    model
        By default the one that ships.

    Returns
    -------
    CandidateTable
        A crystal that only one judge has an energy of gets the chance by that one; one without a verdict of
        hull support, that of any. Null where there is no energy of a judge that the model knows.
    """
    model = model or _shipped()
    above = {}
    for name in sorted({j for judges in model.judges for j in judges}):
        column = first_column if name == first else above_hull_column(name)
        above[name] = _numbers(table, column)
    entries = _numbers(table, "hull_entries")
    verdicts = table.column("hull_support") if "hull_support" in table else [None] * len(table)
    support = [
        str(v) if v is not None and np.isfinite(n) else None for v, n in zip(verdicts, entries, strict=True)
    ]
    found = {target: np.full(len(table), np.nan) for target in LIMITS}
    origin: list[str | None] = [None] * len(table)
    for judges in reversed(model.judges):  # the largest set last: it has the last word
        energies = np.column_stack([above[j] for j in judges])
        there = np.isfinite(energies).all(axis=1)
        for verdict in (*map(str, Support), None):
            rows = np.flatnonzero(there & np.array([s == verdict for s in support], dtype=bool))
            for target, values in found.items():
                one = model.get(target, judges, verdict) or model.get(target, judges, None)
                if one is not None and len(rows):
                    values[rows] = one.probability(energies[rows], entries[rows])
            for row in rows.tolist():
                origin[row] = f"{', '.join(judges)}; hull {verdict or 'of unknown support'}"
    found["p_on_hull"] = np.minimum(found["p_on_hull"], found["p_stable"])
    for target, values in found.items():
        table = set_column(table, target, dict(zip(table.ids, values.tolist(), strict=True)), "Float64")
    return set_column(table, "p_from", dict(zip(table.ids, origin, strict=True)), "string")


def _numbers(table: CandidateTable, column: str) -> Floats:
    if column not in table:
        return np.full(len(table), np.nan)
    return np.array([np.nan if v is None else v for v in table.column(column)], dtype=float)


def expected_confirmations(
    table: CandidateTable, ids: Iterable[str] | None = None, *, column: str = "p_stable"
) -> dict[str, Any]:
    """How many of some crystals DFT would confirm, by their chances.

    Returns
    -------
    dict
        ``num`` crystals with a chance and ``num_without``; ``expected``, the sum of the chances; ``low`` and
        ``high``, between which the number lies in 95 % of cases, if the chances are right and crystals
        independent of each other. They are not quite: those of one chemical system share what its hull lacks.
    """
    chosen = table.ids if ids is None else list(ids)
    values = table.column(column, chosen) if column in table else [None] * len(chosen)
    chances = [v for v in values if v is not None]
    ways = np.ones(1)
    for p in chances:  # the distribution of a sum of unlike coins
        ways = np.convolve(ways, [1.0 - p, p])
    low, high = np.searchsorted(np.cumsum(ways), [0.025, 0.975]).tolist()
    return {
        "num": len(chances),
        "num_without": len(chosen) - len(chances),
        "expected": float(sum(chances)),
        "low": low,
        "high": min(high, len(chances)),
    }
