"""Substitution: known crystals with some of their elements swapped for similar ones.

Every crystal comes of its own stream of random numbers, made of the seed and the crystal's number alone: a
parent, the elements to be swapped, and what for. Ionic compounds keep their charges: an element is swapped
for one that is common in the same oxidation state. A draw is thrown away, and counted, where no element is
similar enough, the composition could not be charge-neutral, the crystal is already known, or an earlier one
of the same sample is the same. Then the cell is given the volume that the elements' sizes ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.generators.base import Draws, Samples, Untrained
from crysjepa.generators.constraints import Constraints, element_shares, symbols
from crysjepa.generators.substitution.parents import Parents
from crysjepa.generators.substitution.proposals import Proposals, SubstitutionConfig, Swaps
from crysjepa.generators.substitution.volumes import best_scales, element_sizes, scaled, swapped
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.runtime.executors import open_pool
from crysjepa.runtime.progress import Progress
from crysjepa.runtime.threads import ONE_THREAD

_EXHAUSTED = "no draw gave something new that obeys: the parents hold too few different crystals for it"
_BLOCK = 64
_TRIES = 5
"""How often a crystal is drawn whose space group is not the parent's once it has its volume."""
_VOLUME_FACTORS = (0.94, 0.97, 1.0, 1.03, 1.06)


@dataclass(eq=False)
class SubstitutionGenerator(Untrained):
    """See the module. ``jepa`` is a checkpoint for ``jepa_volume``; by default the one that ships."""

    parents: Parents
    config: SubstitutionConfig = field(default_factory=SubstitutionConfig)
    jepa: Path | None = None
    name = "substitution"

    @classmethod
    def of(
        cls, table: CandidateTable, source: str = "", config: SubstitutionConfig | None = None, **more: Any
    ) -> SubstitutionGenerator:
        """From a table of known crystals."""
        return cls(Parents.of(table, source), config or SubstitutionConfig(), **more)

    @property
    def element_shares(self) -> NDArray[np.float64]:
        """(119,) share of the parents that hold each element."""
        return element_shares(self.parents.crystals)

    def sample(
        self,
        num: int,
        *,
        seed: int = 0,
        device: str = "cpu",
        prefix: str = "gen",
        progress: Progress | None = None,
    ) -> Samples:
        """Draw ``num`` crystals without the elements that are excluded by default."""
        return self.sample_within(
            num, Constraints(), seed=seed, device=device, prefix=prefix, progress=progress
        )

    def sample_within(
        self,
        num: int,
        constraints: Constraints,
        *,
        seed: int = 0,
        device: str = "cpu",
        prefix: str = "gen",
        processes: int = 1,
        progress: Progress | None = None,
    ) -> Samples:
        """Swap into what the constraints allow.

        Raises
        ------
        ConstraintError
            If no parent can be turned into a crystal that obeys.
        """
        proposals = Proposals(self.parents, self.config, constraints)
        ids = [f"{prefix}-{i}" for i in range(num)]
        made: dict[str, tuple[int, Swaps]] = {}
        parts: list[Crystals] = []
        todo = list(range(num))
        for again in range(_TRIES):
            new: dict[str, tuple[int, Swaps]] = {}
            for index in todo:
                found = proposals.draw(np.random.default_rng([seed, index, *([again] if again else [])]))
                new |= {} if found is None else {ids[index]: found}
                if progress is not None and not again and index % _BLOCK == _BLOCK - 1:
                    progress((index + 1) // (2 if self.config.jepa_volume else 1), num)
            part = self._realise(list(new), list(new.values()), device, processes, progress, num)
            # another volume may have another space group, within what is tolerated
            broken = constraints.broken(part)
            proposals.rejected.update(broken.values())
            parts.append(part.select([i for i in part.ids if i not in broken]))
            made |= {i: p for i, p in new.items() if i not in broken}
            todo = [k for k in todo if ids[k] in broken]
            if not todo:
                break
        if progress is not None:
            progress(num, num)
        failures = {i: _EXHAUSTED for i in ids if i not in made}
        return Samples(
            Crystals.concatenate(parts).select([i for i in ids if i in made]),
            failures,
            Draws(num, proposals.drawn, dict(proposals.rejected), self._notes(proposals)),
            {
                "parent": {i: self.parents.crystals.ids[made[i][0]] for i in ids if i in made},
                "swaps": {i: _spell(made[i][1]) for i in ids if i in made},
            },
        )

    def _notes(self, proposals: Proposals) -> tuple[str, ...]:
        source = self.parents.source or "the source"
        notes = [f"{proposals.num_fit} of {source}'s {len(self.parents)} parents can be made to obey"]
        if proposals.bold:
            notes.append(
                f"{proposals.bold} crystals needed less similar swaps than the temperature of "
                f"{self.config.temperature:g} gives: there was nothing else left"
            )
        return tuple(notes)

    def _realise(
        self,
        ids: Sequence[str],
        proposals: Sequence[tuple[int, Swaps]],
        device: str,
        processes: int,
        progress: Progress | None,
        total: int,
    ) -> Crystals:
        """The swapped crystals at their volumes."""
        if not ids:
            return Crystals.empty()
        old = self.parents.crystals[[row for row, _ in proposals]].with_ids(ids)
        crystals = swapped(old, [swaps for _, swaps in proposals], self._sizes)
        if not self.config.jepa_volume:
            return crystals
        blocks = [crystals[start : start + _BLOCK] for start in range(0, len(crystals), _BLOCK)]
        factors: dict[int, NDArray[np.float64]] = {}
        for number, found in _choose_volumes(blocks, self.jepa, device, processes):
            factors[number] = found
            if progress is not None:
                progress(total // 2 + len(factors) * total // len(blocks) // 2, total)
        return scaled(crystals, np.concatenate([factors[k] for k in range(len(blocks))]))

    @cached_property
    def _sizes(self) -> NDArray[np.float64]:
        return element_sizes(self.parents.crystals)


def _spell(swaps: Swaps) -> str:
    return ", ".join(f"{symbols([a])[0]}→{symbols([b])[0]}" for a, b in swaps)


# -- volumes, in other processes where there are some --------------------------------------------


def _choose_volumes(
    blocks: Sequence[Crystals], jepa: Path | None, device: str, processes: int
) -> Iterable[tuple[int, NDArray[np.float64]]]:
    if processes <= 1:
        choose = _set_up(jepa, device)
        yield from ((k, choose(block)) for k, block in enumerate(blocks))
        return
    with open_pool("generate", _set_up, (jepa, device), min(processes, len(blocks)), ONE_THREAD) as pool:
        for number, block in enumerate(blocks):
            pool.submit(number, block, tries=2)
        for number, done in pool.results():
            if done.kind != "done":
                raise RuntimeError(f"a worker process that chooses volumes {done.trouble}")
            yield number, done.value


def _set_up(jepa: Path | None, device: str) -> Any:
    model = CrysJepa.load(jepa)
    factors = tuple(f ** (1 / 3) for f in _VOLUME_FACTORS)
    return lambda crystals: best_scales(crystals, model, factors, device)
