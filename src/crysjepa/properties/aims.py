"""Objectives put to the crystals of a table: values, what they are worth, and the front.

Columns: each property's (:attr:`Property.column`), with ``…_error`` where a standard error is known;
``objective_reason``, why one is missing; ``worth``, the product of what the objectives are worth, and
``merit``, that times the chance of stability (:mod:`crysjepa.properties.objective`); ``meets_targets``, where
there are targets; ``on_front``, whether no other crystal is better in one respect and as good in the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.properties.base import How, Property, PropertyError, column_name
from crysjepa.properties.objective import Floats, Objective, front, merits, parse_objectives
from crysjepa.relaxation.force_fields.registry import force_field_info

Combination = Literal["product", "pareto"]
NOT_STABLE = "not stable, so not calculated"
JUDGED = {"worth": "Float64", "merit": "Float64", "meets_targets": "boolean", "on_front": "boolean"}
"""Columns of :meth:`Aims.judge`, and their types."""
REASON = "objective_reason"


@dataclass(frozen=True)
class Aims:
    """Objectives, how their properties are measured, and how they are put together.

    ``combine`` is ``product`` (by merit), or ``pareto``: those on the front first, then by merit.
    """

    objectives: tuple[Objective, ...]
    how: How = field(default_factory=How)
    combine: Combination = "product"

    def __post_init__(self) -> None:
        names = dict[str, str]()
        for one in self.properties:
            if (other := names.setdefault(one.column, one.name)) != one.name:
                raise PropertyError(f"{other} and {one.name} would have the same column, {one.column}")

    @classmethod
    def parse(cls, texts: Sequence[str], combine: str = "product", how: How | None = None) -> Aims | None:
        """From text; None for no objective. Raises PropertyError for what cannot be read."""
        if combine not in ("product", "pareto"):
            raise PropertyError(f"no way to combine {combine!r}: choose product or pareto")
        found = parse_objectives(texts)
        kept: Combination = "pareto" if combine == "pareto" else "product"
        return cls(found, how or How(), kept) if found else None

    @property
    def properties(self) -> tuple[Property, ...]:
        """Each once, in their order."""
        return tuple({o.of.name: o.of for o in self.objectives}.values())

    @property
    def columns(self) -> dict[str, str]:
        """Columns of :meth:`measure`, and their types."""
        found: dict[str, str] = {}
        for one in self.properties:
            found[one.column] = "Float64"
            if one.error(1.0, self.how.force_field) is not None:
                found[f"{one.column}_error"] = "Float64"
        return {**found, REASON: "string"}

    @property
    def key(self) -> str:
        """What the values depend on beside the crystals."""
        names = [" ".join((p.name, p.version)).strip() for p in self.properties]
        if any(p.by_force_field for p in self.properties):
            names.append(force_field_info(self.how.force_field).version)
        return "; ".join(names)

    def elements_beyond(self) -> frozenset[int]:
        """Atomic numbers of elements that no crystal that meets the targets has."""
        return frozenset().union(*(o.elements_beyond() for o in self.objectives))

    def measure(
        self, table: CandidateTable, ids: Sequence[str], stable: Collection[str] | None = None
    ) -> CandidateTable:
        """The table with values of ``ids``, which have valid structures; the others get null.

        ``stable`` are those for which seconds a crystal are worth it (:attr:`Property.at_rest`); by default
        all.
        """
        values: dict[str, dict[str, Any]] = {name: {} for name in self.columns}
        reasons: dict[str, list[str]] = {}
        for one in self.properties:
            chosen = [i for i in ids if stable is None or not one.at_rest or i in stable]
            found = one.measure(table.only(chosen), self.how)
            values[one.column] = dict(found.values)
            skipped = dict.fromkeys(set(ids) - set(chosen), NOT_STABLE)
            for id_, reason in {**found.reasons, **skipped}.items():
                reasons.setdefault(id_, []).append(f"{one.name}: {reason}")
            if (name := f"{one.column}_error") in values:
                errors = {i: one.error(v, self.how.force_field) for i, v in found.values.items()}
                values[name] = dict(errors)
        values[REASON] = {i: "; ".join(r) for i, r in reasons.items()}
        for name, dtype in self.columns.items():
            table = table.with_column(name, {**dict.fromkeys(table.ids), **values[name]}, dtype)
        return table

    def judge(
        self,
        table: CandidateTable,
        chances: Mapping[str, float | None],
        judges: Sequence[str] = (),
        looked: Collection[str] = (),
    ) -> CandidateTable:
        """The table with the columns of :data:`JUDGED`. ``chances`` are of stability, by id.

        What is to be the largest is compared among the rows with a value and a chance; on the front are rows
        that are ``ok``. Of the rows that further ``judges`` have ``looked`` at, the least favourable value
        counts; one that a judge has no value of counts as unknown.
        """
        ids, looked_at = table.ids, set(looked)
        seen = np.array([i in looked_at for i in ids], dtype=bool)
        values = [self._least_favourable(o, table, judges, seen) for o in self.objectives]
        ok = np.array([status == Status.OK for status in table.column("status")], dtype=bool)
        found = self.judged(values, _floats([chances.get(i) for i in ids]), ok)
        for name, dtype in JUDGED.items():
            table = table.with_column(name, dict(zip(ids, found[name], strict=True)), dtype)
        return table

    @staticmethod
    def _least_favourable(
        objective: Objective, table: CandidateTable, judges: Sequence[str], seen: NDArray[np.bool_]
    ) -> Floats:
        column = objective.of.column
        own = _floats(table.column(column))
        for judge in judges if objective.of.by_force_field else ():
            theirs = _floats(table.column(by_judge(column, judge)))
            worse = np.minimum(own, theirs) if objective.upward else np.maximum(own, theirs)
            own = np.where(seen, worse, own)
        return own

    def judged(
        self, values: Sequence[Floats], chances: Floats, among: NDArray[np.bool_] | None = None
    ) -> dict[str, list[Any]]:
        """The same of arrays (B,), one for each objective; lists by the names of :data:`JUDGED`, None for
        null. Only rows ``among`` (B,) may be on the front.
        """
        there = np.isfinite(chances) & np.all([np.isfinite(v) for v in values], axis=0)
        kept = [np.where(there, v, np.nan) for v in values]
        chance = np.where(there, chances, np.nan)
        worth, merit = merits(self.objectives, kept, chance, self.how.force_field)
        goods = [o.good(v) for o, v in zip(self.objectives, kept, strict=True)]
        in_race = there if among is None else there & among
        on = front(np.where(in_race[:, None], np.column_stack([chance, *goods]), np.nan))
        meets = [self.met([v[row] for v in kept]) if ok else None for row, ok in enumerate(there)]
        return {
            "worth": _plain(worth), "merit": _plain(merit), "meets_targets": meets,
            "on_front": [bool(o) if ok else None for o, ok in zip(on, there, strict=True)],
        }  # fmt: skip

    def met(self, values: Sequence[float]) -> bool | None:
        """Whether values, one for each objective, meet every target; None where there is no target."""
        pairs = zip(self.objectives, values, strict=True)
        verdicts = [o.met(float(v)) for o, v in pairs if o.target is not None]
        return all(verdicts) if verdicts else None

    @property
    def before_relaxation(self) -> Aims | None:
        """Those that can be told of a crystal as it was drawn; None where there are none."""
        found = tuple(o for o in self.objectives if not o.of.at_rest)
        return replace(self, objectives=found) if found else None

    def by(self, force_field: str) -> Aims:
        """Those that a force field calculates, by another one."""
        found = tuple(o for o in self.objectives if o.of.by_force_field)
        return replace(self, objectives=found, how=replace(self.how, force_field=force_field))

    def describe(self) -> list[dict[str, Any]]:
        """Each objective with what its property is: for ``metrics.json``."""
        return [
            {
                "objective": str(o), "column": o.of.column, "sense": o.sense, "target": o.target,
                "property": o.of.name, "unit": o.of.unit,
                "description": o.of.description,
                "source": o.of.source_by(self.how.force_field),
                "relative_error": o.of.error(1.0, self.how.force_field),
            }
            for o in self.objectives
        ]  # fmt: skip


def by_judge(column: str, judge: str) -> str:
    """The column of what a further judge says of a property."""
    return f"{column}_{column_name(judge).lower()}"


def _floats(values: Sequence[Any]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def _plain(values: Floats) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
