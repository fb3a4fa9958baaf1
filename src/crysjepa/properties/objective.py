"""What is wanted of a property: a target, or as much or as little as there is; and how good a crystal is.

With s the spread of ln(value) about DFT's, the chance that a target t > 0 is met is

    P(value ≥ t) = Φ(ln(value / t) / s),

and where a value is exact, 1 if it is, and else a thousandth of the share of the crystals at hand that are
further from it: an order to learn by. What is to be the largest or the smallest is worth the share of the
crystals at hand that it is better than, ties by half. The ``merit`` of a crystal is the product of these and
of the chance that it is stable: were they independent, the chance that it is all that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from crysjepa.properties.base import Property, PropertyError
from crysjepa.properties.registry import find_property

Floats = NDArray[np.float64]
Sense = Literal["max", "min", ">=", "<="]
MISSED = 1e-3
"""What misses an exact target is worth less than this."""
_TARGET = re.compile(r"(?P<name>[^<>=]+?)\s*(?P<sense>>=|<=)\s*(?P<target>[-+0-9.eE]+)")
_EXTREME = re.compile(r"(?P<sense>max|min):(?P<name>[^<>=]+)")


@dataclass(frozen=True)
class Objective:
    """A property, and what is wanted of it.

    ``sense`` is ``max`` or ``min``, without a ``target``; ``>=`` or ``<=`` with one, in the property's unit.
    """

    of: Property
    sense: Sense
    target: float | None = None

    @classmethod
    def parse(cls, text: str) -> Objective:
        """From ``"bulk_modulus>=200"``, ``"density <= 4"``, ``"max:capacity:Li"`` or ``"min:price"``.

        Raises PropertyError for text of no such form, and for a property that nothing has.
        """
        stripped = text.strip()
        if found := _EXTREME.fullmatch(stripped):
            sense: Sense = "max" if found["sense"] == "max" else "min"
            return cls(find_property(found["name"].strip()), sense)
        found = _TARGET.fullmatch(stripped)
        if found is None:
            raise PropertyError(
                f"no objective {text!r}: write PROPERTY>=NUMBER, PROPERTY<=NUMBER, max:PROPERTY or "
                "min:PROPERTY"
            )
        try:
            target = float(found["target"])
        except ValueError:
            raise PropertyError(f"no objective {text!r}: {found['target']} is no number") from None
        if not np.isfinite(target):
            raise PropertyError(f"no objective {text!r}: a target is a finite number")
        return cls(find_property(found["name"].strip()), ">=" if found["sense"] == ">=" else "<=", target)

    def __str__(self) -> str:
        if self.target is None:
            return f"{self.sense}:{self.of.name}"
        return f"{self.of.name}{self.sense}{self.target:g}"

    @property
    def upward(self) -> bool:
        """Whether more is better."""
        return self.sense in ("max", ">=")

    def worth(self, values: Floats, force_field: str) -> Floats:
        """(B,) in [0, 1] of values (B,), NaN where there is none; see this module."""
        from scipy.stats import rankdata

        found, there = np.full(len(values), np.nan), np.isfinite(values)
        signed = values[there] if self.upward else -values[there]
        if self.target is None:
            found[there] = (rankdata(signed) - 0.5) / max(len(signed), 1)
            return found
        beyond = signed - (self.target if self.upward else -self.target)
        nearness = MISSED * (rankdata(beyond) - 0.5) / max(len(beyond), 1)
        worth = np.where(beyond >= 0, 1.0, nearness)
        spread = self.of.spread(force_field)
        offset, target = self.of.offset, self.target + self.of.offset
        if spread is not None and target > 0:
            shifted = values[there] + offset
            positive = shifted > 0  # what is not has no logarithm, and misses whatever is above 0
            logs = np.log(np.where(positive, shifted, 1.0)) - np.log(target)
            worth = np.where(positive, ndtr((logs if self.upward else -logs) / spread), worth)
        found[there] = worth
        return found

    def good(self, values: Floats) -> Floats:
        """(B,) the more the better, of values (B,): what meets a target is as good as any that does."""
        signed = values if self.upward else -values
        if self.target is None:
            return signed
        return np.minimum(signed, self.target if self.upward else -self.target)

    def met(self, value: float | None) -> bool | None:
        """Whether a value meets the target; None without a value, or without a target."""
        if value is None or self.target is None:
            return None
        return value >= self.target if self.upward else value <= self.target

    def elements_beyond(self) -> frozenset[int]:
        """Atomic numbers of elements that no crystal that meets the target has."""
        rule = self.of.by_element
        if rule is None or self.target is None or rule.lowest != self.upward:
            return frozenset()
        return frozenset(z for z in range(1, 119) if not self.met(rule.values.get(z)))


def parse_objectives(texts: Sequence[str]) -> tuple[Objective, ...]:
    """Several objectives. Raises PropertyError for one that cannot be read, that is there twice, or for
    targets that exclude each other.
    """
    found = tuple(Objective.parse(text) for text in texts)
    seen = set[tuple[str, str]]()
    bounds: dict[str, dict[bool, float]] = {}
    for one in found:
        if (key := (one.of.name, one.sense)) in seen:
            raise PropertyError(f"{one.of.name} is asked for twice")
        seen.add(key)
        if one.target is not None:
            bounds.setdefault(one.of.name, {})[one.upward] = one.target
        elif (one.of.name, "min" if one.sense == "max" else "max") in seen:
            raise PropertyError(f"{one.of.name} cannot be the largest and the smallest")
    for name, both in bounds.items():
        if len(both) == 2 and both[True] > both[False]:
            raise PropertyError(f"no {name} is at least {both[True]:g} and at most {both[False]:g}")
    return found


def merits(
    objectives: Sequence[Objective], values: Sequence[Floats], chances: Floats, force_field: str
) -> tuple[Floats, Floats]:
    """The worth of what was asked for (B,), and with the ``chances`` (B,) of stability the merit (B,).

    ``values`` (B,) are of each objective. NaN where one is missing.
    """
    worth = np.ones(len(chances))
    for one, own in zip(objectives, values, strict=True):
        worth = worth * one.worth(own, force_field)
    return worth, worth * chances


def front(goods: Floats) -> NDArray[np.bool_]:
    """(B,) which of (B, K) rows are on the Pareto front: no other is as good in all and better in one.

    More is better. Rows with NaN are not on it; of equal rows all are.
    """
    on = np.zeros(len(goods), dtype=bool)
    there = np.flatnonzero(np.isfinite(goods).all(axis=1))
    if not len(there):
        return on
    rows, same = np.unique(-goods[there], axis=0, return_inverse=True)  # the best first, equal ones once
    best = np.zeros((0, goods.shape[1]))
    first = np.zeros(len(rows), dtype=bool)
    for place, one in enumerate(-rows):  # what dominates a row has come before it
        if not (best >= one).all(axis=1).any():
            first[place] = True
            best = np.vstack([best, one])
    on[there] = first[same.reshape(-1)]
    return on
