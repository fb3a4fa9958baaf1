"""Which elements of which known crystal to swap, and what for: the draws of substitution."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.validity import Formula
from crysjepa.generators.constraints import ConstraintError, Constraints
from crysjepa.generators.substitution.assignments import (
    Assignments,
    Swaps,
    Targets,
    brought_in,
    targets_of,
)
from crysjepa.generators.substitution.element_similarity import (
    FRACTION_COST,
    MAX_ATOMIC_NUMBER,
    oxidation_states,
)
from crysjepa.generators.substitution.parents import Parents, Structure, is_valid_composition

DEFAULT_TEMPERATURE = 0.25
_HULL_COST = 12.0
"""Per eV/atom that a parent is above the hull; from the same regression as the costs of swaps."""
_MAX_COST = 6.0
_TRIES_WITH_PARENT = 10
_PARENTS_TRIED = 5
_LEVELS = ((1, False), (2, False), (4, False), (4, True), (8, True), (16, True))
"""When so many parents gave nothing new: by what to raise the temperature, and whether to be bold besides."""
_ANOTHER_IF_BOLD = 0.3
"""To be bold is to swap one more element with this probability, to let charges change, and to take another
structure of a formula that is known."""
_GIVE_UP = 30
"""Crystals in a row of which none could be made, after which no more are tried."""
_BOLDER = 0.25
"""By which share the temperature rises with each try with one parent, so that the choice of parents, and with
it the frequency of elements, depends little on which of them are easy to swap in."""


@dataclass(frozen=True)
class SubstitutionConfig:
    """How bold to be.

    Parameters
    ----------
    temperature
        A swap of cost c (:func:`crysjepa.generators.substitution.element_similarity.swap_costs`) is drawn
        with weight exp(−c / temperature): near 0 only the most similar element is ever taken.
    another_swap
        Probability of swapping one more element, after the first and after each further one.
    jepa_volume
        Let Crys-JEPA's energy choose among five volumes around the one that the elements' sizes ask for.
    valid_compositions
        Draw again what :func:`crysjepa.core.validity.composition_validity` would reject.
    """

    temperature: float = DEFAULT_TEMPERATURE
    another_swap: float = 0.0
    jepa_volume: bool = False
    valid_compositions: bool = True

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"--temperature is {self.temperature}: it must be above 0")
        if not 0 <= self.another_swap < 1:
            raise ValueError(f"another_swap is {self.another_swap}: it must be at least 0 and below 1")


@dataclass(frozen=True, eq=False)
class _Plan:
    """What may be done with a composition: elements, targets of each with costs, and which must go."""

    elements: tuple[int, ...]
    targets: Targets
    cheapest: NDArray[np.float64]
    must: tuple[int, ...]
    cost: float


class Proposals:
    """Draws of (parent, swaps) that obey, and that no earlier draw has taken; with their count."""

    def __init__(self, parents: Parents, config: SubstitutionConfig, constraints: Constraints) -> None:
        self.parents, self.config, self.constraints = parents, config, constraints
        self.allowed = np.zeros(119, dtype=bool)
        self.allowed[list(constraints.allowed)] = True
        self.formula = constraints.formula.exact if constraints.formula is not None else None
        self.plans: dict[tuple[Formula, bool], _Plan | Assignments | None] = {}
        self.rejected: Counter[str] = Counter()
        self.drawn = 0
        self.taken: dict[Formula, list[int]] = {}
        self.known: set[Structure] = set() if self.formula is None else parents.structures(self.formula)
        self.taken_structures: set[Structure] = set()
        self.bold = self.failed_in_a_row = 0
        self.levels: list[tuple[float, NDArray[np.float64], bool]] = []
        above = _HULL_COST * parents.e_above_hull
        fit = [self._fits(row) for row in range(len(parents))]
        costs = {
            bold: np.array([self._cost(row, bold) if ok else np.inf for row, ok in enumerate(fit)])
            for bold in (False, True)
        }
        for factor, bold in _LEVELS:
            if np.isfinite(costs[bold]).any():
                temperature = config.temperature * factor
                cumulative = _cumulative(costs[bold] / temperature + above)
                self.levels.append((temperature, cumulative, bold))
        self.num_fit = int(np.isfinite(costs[True]).sum())
        if not self.levels:
            raise ConstraintError(
                f"no crystal of {parents.source or 'the parents'} can be turned into one with "
                f"{'; '.join(constraints.describe())} by swapping similar elements"
            )

    def draw(self, rng: np.random.Generator) -> tuple[int, Swaps] | None:
        """A parent's row and its swaps, or None where nothing new was found."""
        if self.failed_in_a_row >= _GIVE_UP:
            return None
        for temperature, cumulative, bold in self.levels:
            for _ in range(_PARENTS_TRIED):
                row = _place(cumulative, rng)
                swaps = self._from(row, rng, temperature, bold)
                if swaps is not None:
                    self.bold += temperature > self.config.temperature
                    self.failed_in_a_row = 0
                    return row, swaps
        self.failed_in_a_row += 1
        return None

    def _from(self, row: int, rng: np.random.Generator, temperature: float, bold: bool) -> Swaps | None:
        """Swaps in one parent that give something new."""
        plan = self._plan(self.parents.formulas[row], bold)
        if plan is None:
            return None
        another = max(self.config.another_swap, _ANOTHER_IF_BOLD if bold else 0.0)
        tried: set[Swaps | None] = set()
        for k in range(_TRIES_WITH_PARENT):
            bolder = temperature * (1 + _BOLDER * k)
            swaps = _swaps(plan, rng, bolder, another) if isinstance(plan, _Plan) else _way(plan, rng, bolder)
            if swaps in tried:
                continue
            tried.add(swaps)
            self.drawn += 1
            reason = self._refuse(row, swaps, bold) if swaps else "no similar element left to swap for"
            if reason is None:
                return swaps
            self.rejected[reason] += 1
        return None

    def _refuse(self, row: int, swaps: Swaps, bold: bool) -> str | None:
        """Why not; otherwise the crystal is marked as taken.

        A formula that is known, or taken, is refused; only where there is nothing else, another structure of
        it will do.
        """
        mapping = dict(swaps)
        if not self.constraints.has_one({mapping.get(z, z) for z, _ in self.parents.formulas[row]}):
            return "none of the elements of which one is wanted"
        if self.formula is not None:
            return self._refuse_structure(self.parents.structure(row, mapping))
        formula = tuple(sorted((mapping.get(z, z), n) for z, n in self.parents.formulas[row]))
        if self.config.valid_compositions and not is_valid_composition(formula):
            return "composition not charge-neutral"
        others = self.taken.get(formula, [])
        size = None
        if bold and (others or self.parents.knows(formula)):
            size = self.parents.primitive_sites(row)
        if others and (size is None or any(self.parents.primitive_sites(o) == size for o in others)):
            return "the same as an earlier one"
        if self.parents.knows(formula, size):
            return "already among the known crystals"
        self.taken[formula] = [*others, row]
        return None

    def _refuse_structure(self, structure: Structure) -> str | None:
        """The same where the formula was asked for: it may be known, but not with this structure."""
        if structure in self.known:
            return "already among the known crystals"
        if structure in self.taken_structures:
            return "the same as an earlier one"
        self.taken_structures.add(structure)
        return None

    def _fits(self, row: int) -> bool:
        """Whether what swaps leave as it is obeys: cell, kind of formula, number of elements, symmetry."""
        asked, counts = self.constraints, self.parents.formulas[row]
        if not asked.allows_sites(int(self.parents.crystals.num_atoms[row])):
            return False
        if asked.formula is not None and sorted(n for _, n in counts) != sorted(asked.formula.counts):
            return False
        if asked.max_elements is not None and len(counts) > asked.max_elements:
            return False
        if not asked.named and not asked.has_one(asked.all_of | {z for z, _ in counts}):
            return False  # a swap would bring one in now and then only
        # last, for it is to be found out first
        return asked.space_groups is None or self.parents.space_group(row) in asked.space_groups

    def _cost(self, row: int, bold: bool) -> float:
        """What the constraints force to be swapped costs; infinite for a parent that cannot obey."""
        open_ = self.constraints.required is None and not self.constraints.all_of
        if open_ and self.allowed[list(self.parents.counts[row])].all():
            return 0.0  # and no plan yet: thousands of parents are never chosen
        plan = self._plan(self.parents.formulas[row], bold)
        return np.inf if plan is None else plan.cost

    def _plan(self, formula: Formula, bold: bool) -> _Plan | Assignments | None:
        if (formula, bold) not in self.plans:
            charges = None if bold else oxidation_states(formula)
            if self.formula is None:
                self.plans[formula, bold] = self._make_plan(formula, charges)
            else:
                most = np.inf if bold else _MAX_COST
                self.plans[formula, bold] = Assignments.of(formula, self.formula, charges, most)
        return self.plans[formula, bold]

    def _make_plan(self, formula: Formula, charges: dict[int, int] | None) -> _Plan | None:
        """None for a composition that cannot be made to obey.

        Without ``charges``, where it has to be bold, an ionic compound may change them: the composition is
        still refused if they cannot balance.
        """
        elements = tuple(z for z, _ in formula)
        system = self.constraints.system
        if max(elements) > MAX_ATOMIC_NUMBER or (system is not None and len(system) != len(elements)):
            return None
        num = sum(n for _, n in formula)
        wanted = self.constraints.all_of if system is None else frozenset[int]()  # a system has them anyway
        found: Targets | None = targets_of(formula, charges, self.allowed, _MAX_COST)
        if found and wanted:
            found = brought_in(formula, found, wanted)
        if found is None:
            return None
        targets, cheapest = found, np.full(len(elements), np.inf)
        for k, (element, count) in enumerate(formula):
            if element in targets:
                cheapest[k] = targets[element][1].min() + FRACTION_COST * count / num
        brought = {z for z, (new, _) in targets.items() if len(new) == 1 and new[0] in wanted}
        must = tuple(z for z in elements if not self.allowed[z] or z in brought)
        if any(z not in targets for z in must) or not targets:
            return None
        if len(set().union(*(targets[z][0].tolist() for z in must))) < len(must):
            return None
        # Which parents are free to choose from must not depend on how cheap their swaps are: lanthanides
        # would crowd out all others. What the constraints force to be swapped is another matter.
        cost = float(sum(cheapest[k] for k, z in enumerate(elements) if z in must))
        return _Plan(elements, targets, cheapest, must, cost)


def _swaps(plan: _Plan, rng: np.random.Generator, temperature: float, another: float) -> Swaps | None:
    """What must be swapped, or one element, and with probability ``another`` one more; None if two of them
    would become the same element.
    """
    chosen = list(plan.must)
    while len(chosen) < len(plan.elements):
        if chosen and rng.random() >= another:
            break
        costs = np.where(np.isin(plan.elements, chosen), np.inf, plan.cheapest)
        if not np.isfinite(costs).any():
            break
        chosen.append(plan.elements[_pick(costs, temperature, rng)])
    found: dict[int, int] = {}
    for element in chosen:
        targets, costs = plan.targets[element]
        target = int(targets[_pick(costs, temperature, rng)])
        if target in found.values():
            return None
        found[element] = target
    return tuple(sorted(found.items()))


def _way(plan: Assignments, rng: np.random.Generator, temperature: float) -> Swaps:
    return plan.swaps[_pick(plan.costs, temperature, rng)]


def _cumulative(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(costs.min() - costs)
    return np.asarray(np.cumsum(weights / weights.sum()))


def _pick(costs: NDArray[np.float64], temperature: float, rng: np.random.Generator) -> int:
    """An index, with weight exp(−cost / temperature)."""
    return _place(_cumulative(costs / temperature), rng)


def _place(cumulative: NDArray[np.float64], rng: np.random.Generator) -> int:
    return min(int(np.searchsorted(cumulative, rng.random(), side="right")), len(cumulative) - 1)
