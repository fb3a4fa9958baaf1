"""Which formulas the flow would rather not draw, and which are left where few elements are allowed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from crysjepa.core.validity import Formula, composition_reason
from crysjepa.generators.constraints import Constraints

MOST = 4
"""Elements of which all formulas are tried. Of more there are too many, and few are refused."""
Counts = tuple[int, ...]


@dataclass(frozen=True)
class Rules:
    """No formula of a training crystal (``novel``, by the keys ``known``), and charges balance."""

    known: frozenset[int]
    novel: bool
    balanced: bool

    def refuse(self, formula: Formula) -> str | None:
        """Why not; None for a formula that will do."""
        if self.novel and formula_keys([formula])[0] in self.known:
            return "formula of a training crystal"
        if self.balanced and composition_reason(formula) is not None:
            return "composition not charge-balanced"
        return None

    def weaker(self) -> list[Rules]:
        """These, and what is left of them where nothing obeys them all."""
        return [self, replace(self, novel=False), replace(self, novel=False, balanced=False)]


@dataclass(frozen=True)
class Targets:
    """Sites of each of the ``elements`` on a template such that constraints and rules hold."""

    wanted: Constraints
    elements: tuple[int, ...]
    rules: Rules
    _found: dict[Counts, tuple[Counts, ...]] = field(default_factory=dict, repr=False, compare=False)
    _good: dict[Formula, bool] = field(default_factory=dict, repr=False, compare=False)

    def of(self, sizes: Counts) -> tuple[Counts, ...]:
        """All of them for orbits of these sizes, falling."""
        if sizes not in self._found:
            self._found[sizes] = tuple(t for t in _totals(sizes, len(self.elements)) if self._obeys(t))
        return self._found[sizes]

    def exist(self, sizes: Counts) -> bool:
        """Whether there are any."""
        return bool(self.of(sizes))

    def _obeys(self, totals: Counts) -> bool:
        divisor = math.gcd(*totals)
        formula = tuple((z, n // divisor) for z, n in zip(self.elements, totals, strict=True) if n)
        if formula not in self._good:
            wanted = self.wanted
            good = wanted.system is None or wanted.system == {z for z, _ in formula}
            good = good and (wanted.max_elements is None or len(formula) <= wanted.max_elements)
            held = {z for z, _ in formula}
            good = good and wanted.has_one(held) and wanted.all_of <= held
            good = good and (wanted.formula is None or wanted.formula.fits(formula))
            self._good[formula] = good and self.rules.refuse(formula) is None
        return self._good[formula]


@lru_cache(maxsize=1024)
def _totals(sizes: Counts, num_elements: int) -> tuple[Counts, ...]:
    """All ways to add up orbits of these sizes to sites of each element."""
    found = {(0,) * num_elements}
    for size in sizes:
        found = {(*t[:k], t[k] + size, *t[k + 1 :]) for t in found for k in range(num_elements)}
    return tuple(sorted(found))


def formula_keys(formulas: Sequence[Formula]) -> list[int]:
    """A number of 63 bits for each formula, the same everywhere and always."""
    return [
        int.from_bytes(hashlib.sha256(repr(formula).encode()).digest()[:8], "big") >> 1
        for formula in formulas
    ]
