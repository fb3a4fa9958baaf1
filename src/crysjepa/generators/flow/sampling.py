"""Crystals drawn from a flow: a template, elements for its orbits, then sites and lattice."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.generators.base import Draws, Samples
from crysjepa.generators.constraints import ConstraintError, Constraints, names
from crysjepa.generators.flow.fills import Fills, fits, is_needed
from crysjepa.generators.flow.formula_rules import MOST, Counts, Rules, Targets
from crysjepa.generators.flow.network import NUM_ELEMENTS
from crysjepa.generators.flow.orbit_batches import OrbitBatch
from crysjepa.generators.flow.paths import Flow, arrange, compose, draw_noise
from crysjepa.generators.flow.templates import Templates
from crysjepa.nn.geometry import MAX_IMAGES, num_images
from crysjepa.runtime.progress import Progress

STEPS = 64
"""From noise to crystal."""
TEMPERATURE = 0.5
"""Of the choice of elements."""
TRIES, TEMPLATES = (1, 3, 16), 4
"""How often elements are chosen, at most, for a template: once; if that will not do, three times at once;
then sixteen. And how many templates are tried, before elements that are not wanted are taken all the same."""
_SHARD, _GPU_SHARD = 256, 4096


@dataclass(eq=False, repr=False)
class FlowSampler:
    """Draws a template, elements for its orbits, then sites and lattice.

    Parameters
    ----------
    flow, templates
        The network with its prior, and what crystals are built on.
    element_shares
        (119,) share of the training crystals that hold each element.
    known
        Keys of their formulas (:func:`formula_keys`).
    steps, temperature
        Of sampling.
    fresh
        Noise is drawn anew in each step (:func:`crysjepa.generators.flow.paths.arrange`).
    novel
        Choose elements again where a training crystal has the same formula, in the end on another template.
    balanced
        The same where no oxidation states make the composition neutral (the rule ``paper`` of
        :func:`crysjepa.core.validity.composition_validity`).
    constraints
        What sampling tries to obey (:meth:`within`).
    """

    flow: Flow
    templates: Templates
    element_shares: NDArray[np.float64]
    known: frozenset[int] = frozenset()
    _: KW_ONLY
    steps: int = STEPS
    temperature: float = TEMPERATURE
    fresh: bool = True
    novel: bool = True
    balanced: bool = True
    constraints: Constraints = field(default_factory=lambda: Constraints(excluded=frozenset()))
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flow.eval()
        self.known = frozenset(self.known)

    def _with(self, **changes: Any) -> Self:
        """The same but for these attributes."""
        made = copy.copy(self)
        vars(made).update(changes)
        vars(made).pop("_choice", None)
        return made

    def within(self, constraints: Constraints) -> Self:
        """The same generator, which draws no element, formula or cell that ``constraints`` forbid.

        It draws on templates of the space groups that are wanted, of which moyo finds another one for a
        crystal now and then. Raises ConstraintError if no template can be given elements that obey, or an
        element is wanted that the model does not know.
        """
        least = 1 if constraints.formula is None else constraints.formula.num_elements
        beyond = {z for z in constraints.allowed if z > NUM_ELEMENTS}
        known = constraints.allowed - beyond
        wanted = constraints.all_of | (constraints.required or frozenset())
        if wanted & beyond or len(known) < least or not constraints.has_one(known):
            raise ConstraintError(
                f"the flow knows the first {NUM_ELEMENTS} elements, and not {names(beyond)}: too few are left"
            )
        made = self._with(constraints=constraints)
        _ = made._choice
        return made

    @cached_property
    def _choice(self) -> tuple[NDArray[np.float64], Targets | None]:
        """How often each template is drawn, and which formulas are aimed at, where they can be told."""
        wanted, templates = self.constraints, self.templates
        fit = np.array([wanted.allows_sites(n) for n in templates.num_sites.tolist()], dtype=bool)
        if wanted.space_groups is not None:
            fit &= np.isin(templates.space_groups, list(wanted.space_groups))
        fit &= templates.num_orbits >= wanted.fewest_elements
        targets = None
        if wanted.formula is not None and (wanted.formula.elements is not None or not self._few):
            fit &= templates.num_orbits >= wanted.formula.num_elements
            fit = self._where(fit, lambda sizes: fits(wanted, sizes))
        elif self._few and fit.any():
            for rules in self._rules.weaker():
                targets = Targets(wanted, self._elements, rules)
                good = self._where(fit, targets.exist)
                if good.any():
                    break
            fit = good
        if not fit.any():
            raise ConstraintError(f"no template of {len(templates)} has {'; '.join(wanted.describe())}")
        shares = templates.weights * fit
        return np.asarray(shares / shares.sum()), targets

    def _where(self, fit: NDArray[np.bool_], good: Callable[[Counts], bool]) -> NDArray[np.bool_]:
        """Which of the templates have orbits of such sizes, too."""
        found = fit.copy()
        for row in np.flatnonzero(fit).tolist():
            sizes = sorted(self.templates.orbits(row).multiplicities.tolist(), reverse=True)
            found[row] = good(tuple(sizes))
        return found

    @property
    def _elements(self) -> tuple[int, ...]:
        return tuple(sorted(z for z in self.constraints.allowed if z <= NUM_ELEMENTS))

    @property
    def _few(self) -> bool:
        return self.constraints.named and len(self._elements) <= MOST

    @property
    def _rules(self) -> Rules:
        return Rules(self.known, self.novel, self.balanced)

    def sample(
        self,
        num: int,
        *,
        seed: int = 0,
        device: str = "cpu",
        prefix: str = "gen",
        progress: Progress | None = None,
    ) -> Samples:
        """Draw ``num`` crystals; ``draws`` counts the choices of elements that were made again.

        Raises ConstraintError if no template obeys the constraints (:meth:`within`).
        """
        parts: list[Crystals] = []
        failures: dict[str, str] = {}
        again: Counter[str] = Counter()
        size = _SHARD if device == "cpu" else _GPU_SHARD
        for shard, start in enumerate(range(0, num, size)):
            ids = [f"{prefix}-{i}" for i in range(start, min(start + size, num))]
            for part, bad, done in self._sample_shard(ids, (seed, shard), device, again):
                parts.append(part)
                failures |= bad
                if progress is not None:
                    progress(start + done, num)
        found = Crystals.concatenate(parts)
        order = [i for k in range(num) if (i := f"{prefix}-{k}") not in failures]
        draws = Draws(num, num + again.total(), dict(again))
        return Samples(found.select(order), failures, draws)

    @torch.inference_mode()
    def _sample_shard(
        self, ids: Sequence[str], seed: tuple[int, int], device: str, again: Counter[str]
    ) -> Iterator[tuple[Crystals, dict[str, str], int]]:
        rng, (shares, _) = np.random.default_rng(seed), self._choice
        rows = rng.choice(len(self.templates), size=len(ids), p=shares)
        noise = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        flow = self.flow.to(device)
        elements: list[list[int]] = [[] for _ in ids]
        todo, done = np.arange(len(ids)), 0
        for left in range(TEMPLATES - 1, -1, -1):
            elsewhere: list[int] = []  # on another template there is more to be found
            for chosen, batch in self.templates.batches(rows[todo], device=device):
                numbers, good = self._compose(flow, batch, noise, again, last=not left)
                for i, found, kept in zip(todo[chosen].tolist(), numbers, good, strict=True):
                    elements[i] = found[found > 0].tolist()
                    if not (kept or not left):
                        elsewhere.append(i)
            todo = np.array(sorted(elsewhere), dtype=np.int64)
            if not len(todo):
                break
            rows[todo] = rng.choice(len(self.templates), size=len(todo), p=shares)
        for chosen, batch in self.templates.batches(rows, elements, device):
            found, failures = self.arranged(flow, batch, noise, [ids[i] for i in chosen])
            done += len(chosen)
            yield found, failures, done

    def arranged(
        self, flow: Flow, batch: OrbitBatch, noise: torch.Generator, ids: Sequence[str]
    ) -> tuple[Crystals, dict[str, str]]:
        """Sites and lattices for orbits with elements: crystals, and why others have none."""
        numbers = batch.atomic_numbers
        times = torch.linspace(1.0, 0.0, self.steps + 1, device=numbers.device)
        start = draw_noise(batch, noise)
        end = arrange(flow, batch, numbers, start, times, noise if self.fresh else None)
        strain = flow.centre(batch, numbers) + flow.spread * end.shape
        host = batch.to("cpu")
        lattices = host.lattices(strain.cpu().double()).numpy()
        coords = host.sites(end.free_coords.cpu().double()).numpy()
        by_site = torch.gather(numbers.cpu(), 1, host.owner).numpy()
        images = num_images(lattices)
        found, failures = [], {}
        for i, id_ in enumerate(ids):
            sites = slice(0, int(host.num_sites[i]))
            x, cell = coords[i, sites], lattices[i]
            if np.isfinite(x).all() and np.isfinite(cell).all() and images[i] <= MAX_IMAGES:
                found.append(Crystals(by_site[i, sites], x % 1.0, cell[None], np.array([len(x)]), (id_,)))
            else:
                failures[id_] = "the generator went astray: no cell, or coordinates that are not finite"
        return Crystals.concatenate(found), failures

    def _compose(
        self, flow: Flow, batch: OrbitBatch, noise: torch.Generator, again: Counter[str], *, last: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Elements (B, R) of a batch, and which are wanted (B,).

        What is not is chosen again and counted; where ``last``, what comes in the end is taken as it is.
        """
        device, targets = batch.strain.device, self._choice[1]
        allowed = torch.zeros(NUM_ELEMENTS, dtype=torch.bool, device=device)
        allowed[[z - 1 for z in self._elements]] = True
        start, sizes = draw_noise(batch, noise), batch.multiplicity.cpu().numpy()
        numbers, good = np.zeros_like(sizes), np.zeros(len(batch), dtype=bool)
        for left in range(len(TRIES) - 1, -1, -1):
            tries, todo = TRIES[-1 - left], np.flatnonzero(~good)
            if not len(todo):
                break
            at, own = torch.from_numpy(todo).to(device), np.tile(sizes[todo], (tries, 1))
            needed = targets is not None or is_needed(self.constraints)
            fills = Fills(self.constraints, own, targets) if needed else None
            part, begin = batch.rows(at), start.rows(at)
            made = compose(flow, part, begin, allowed, self.temperature, noise, fills, tries).cpu().numpy()
            reasons = self._unwanted(made, own)
            for k, row in enumerate(todo.tolist()):
                of_row = reasons[k :: len(todo)]
                good[row] = None in of_row
                taken = of_row.index(None) if good[row] else tries - 1
                numbers[row] = made[k + taken * len(todo)]
                rejected = of_row[: taken + bool(left or not last)]
                again.update(r for r in rejected if r is not None)
        return numbers, good

    def _unwanted(self, numbers: NDArray[np.int64], multiplicities: NDArray[np.int64]) -> list[str | None]:
        wanted, reasons = self.constraints.formula, list[str | None]()
        rules = self._rules if (targets := self._choice[1]) is None else targets.rules
        if wanted is not None and wanted.elements is not None:  # by name, known or not
            return [None] * len(numbers)
        for elements, counts in zip(numbers, multiplicities, strict=True):
            totals = {int(z): int(counts[elements == z].sum()) for z in set(elements[counts > 0].tolist())}
            divisor = math.gcd(*totals.values())
            reasons.append(rules.refuse(tuple(sorted((z, n // divisor) for z, n in totals.items()))))
        return reasons
