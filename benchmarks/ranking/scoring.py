"""Scores of every ranker on a set of crystals, and what it takes to prepare the reference."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences, fit_references
from crysjepa.ranking.embedders import JepaEmbedder
from crysjepa.ranking.registry import Ranker, RankerContext, make_ranker
from crysjepa.relaxation.force_fields.base import static_energies
from crysjepa.relaxation.force_fields.registry import force_field_info, get_force_field
from ranking.data import Labelled, as_array, evenly
from ranking.store import Store

JEPA = ("jepa-relaxed", "jepa-hull", "jepa-distance")
RANKERS = (*JEPA, "composition", "chgnet", "random")
CHGNET_LABELS = 1_580_395
"""Structures of MPtrj that CHGNet and SevenNet-0 learned from, as the paper's Table 2 counts them."""
FITTED_ON = 600
"""Known crystals whose energies a fit of elemental references computes: some 6 for each element."""


@dataclass(frozen=True)
class Scores:
    """Of the crystals of one set, in their order: ``values`` (B,), inf where there is none, and why not."""

    values: NDArray[np.float64]
    reasons: dict[str, str]


@dataclass
class Bench:
    """Rankers, with the seconds that each took to prepare the reference (None: it was there already).

    ``missing`` says why a ranker cannot be had here.
    """

    context: RankerContext
    store: Store
    rankers: dict[str, Ranker] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    preparation: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def set_up(cls, context: RankerContext, store: Store, names: Sequence[str] = RANKERS) -> Bench:
        """Make the rankers. Loading a model and compiling do not count as preparation."""
        bench = cls(replace(context, jepa=context.model), store)
        if set(names) & set(JEPA):
            bench._prepare_jepa()
        for name in names:
            try:
                bench._prepare(name)
            except (ValueError, ImportError, OSError) as error:
                bench.missing[name] = str(error)
        return bench

    def _prepare_jepa(self) -> None:
        """Embed the reference, for all rankers by Crys-JEPA together."""
        context = self.context
        JepaEmbedder(context.model, context.device).embed(context.reference[:32])
        before = files_in(context.index)
        seconds = timed(lambda: context.jepa_index)
        self._note("jepa", seconds, fresh=files_in(context.index) != before)

    def _prepare(self, name: str) -> None:
        made: list[Ranker] = []

        def prepare() -> None:
            made.append(make_ranker(name, self.context))
            made[0].score(self.context.reference[:1])

        if name in JEPA:
            prepare()
        else:
            little = small(self.context)
            for _ in range(2):  # the first time compiles, the second is what loading a model takes
                loading = timed(lambda: make_ranker(name, little).score(little.reference[:1]))
            self._note(name, max(0.0, timed(prepare) - loading), fresh=name != "fingerprint")
        self.rankers[name] = made[0]

    def _note(self, name: str, seconds: float, *, fresh: bool) -> None:
        """Keep what was measured first; what was measured while an old index was read says nothing."""
        parts = (name, self.context.model.content_hash, self.context.reference.content_hash())
        if fresh or self.store.path("prepare", parts, "json").exists():
            self.preparation[name] = self.store.value("prepare", parts, lambda: seconds)
        else:
            self.preparation[name] = None

    def again(self) -> dict[str, Ranker]:
        """The same rankers, made anew: they remember nothing of what they have scored."""
        hull = self.context.hull
        fresh = replace(self.context, hull=None if hull is None else replace(hull))
        return {name: make_ranker(name, fresh) for name in self.rankers}

    def score(self, name: str, crystals: Crystals, label: str) -> Scores:
        """Scores of one ranker, computed once."""
        ranker = self.rankers[name]

        def make() -> pa.Table:
            say(f"{label}: {name} scores {len(crystals)} crystals")
            found = ranker.score(crystals)
            scores = [found[i] for i in crystals.ids]
            reasons = [s.reason if s.value is None else None for s in scores]
            return pa.table(
                {
                    "id": pa.array(crystals.ids, type=pa.string()),
                    "value": pa.array([s.value for s in scores], type=pa.float64()),
                    "reason": pa.array(reasons, type=pa.string()),
                }
            )

        parts = (name, ranker.key, crystals.content_hash())
        return as_scores(self.store.table(f"scores-{label}-{name.replace(':', '-')}", parts, make))

    def score_all(self, crystals: Crystals, label: str) -> dict[str, Scores]:
        """Scores of all rankers."""
        return {name: self.score(name, crystals, label) for name in self.rankers}

    def labels_behind(self, name: str) -> int | None:
        """Crystals with energies that a ranker learned from, the hull's not counted; None if unknown."""
        if name in JEPA:
            return most_crystals(self.context.model.origin)
        if name == "composition" and self.context.formation_energies is not None:
            return int(np.isfinite(self.context.formation_energies).sum())
        return CHGNET_LABELS if name in ("chgnet", "sevennet") else 0


def most_crystals(origin: Mapping[str, Any] | None) -> int | None:
    """How many crystals a model learned from: where its origin does not count those of all stages together
    (``distinct_crystals``), the largest set of a stage; None if unknown.
    """
    found = []
    while origin:
        found.append(origin.get("distinct_crystals"))
        found.append(origin.get("num_crystals"))
        origin = origin.get("init")
    known = [int(n) for n in found if n is not None]
    return max(known, default=None)


def as_scores(table: pa.Table) -> Scores:
    """From a table with the columns ``id``, ``value`` and ``reason``."""
    values = as_array(table["value"].to_pylist())
    pairs = zip(table["id"].to_pylist(), table["reason"].to_pylist(), strict=True)
    return Scores(
        np.where(np.isfinite(values), values, np.inf),
        {i: reason for i, reason in pairs if reason is not None},
    )


def small(context: RankerContext) -> RankerContext:
    """The same with hardly any reference and nothing kept: to load models and compile, not to rank."""
    energies = None if context.formation_energies is None else context.formation_energies[:32]
    return replace(context, reference=context.reference[:32], formation_energies=energies, index=None)


def files_in(folder: Path | None) -> set[str]:
    """Names of the files in a folder, if it is one."""
    return {p.name for p in folder.iterdir()} if folder is not None and folder.is_dir() else set()


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def installed_force_fields() -> tuple[str, ...]:
    """Those that are compared beside CHGNet where they are installed."""
    return ("sevennet",) if importlib.util.find_spec("sevenn") else ()


def with_fitted_references(context: RankerContext, name: str, known: Labelled, store: Store) -> RankerContext:
    """The context with elemental references for a force field that has none for this scale, fitted."""
    labelled = np.flatnonzero(np.isfinite(known.formation_energies))
    fit = known[labelled[evenly(len(labelled), FITTED_ON)]]

    def make() -> str:
        say(f"fit elemental references of {name} on {len(fit.crystals)} crystals")
        found = static_energies(get_force_field(name), fit.crystals.to_atoms())
        sizes = fit.crystals.num_atoms.tolist()
        return fit_references(
            fit.crystals.compositions(),
            [None if isinstance(e, str) else e / n for e, n in zip(found, sizes, strict=True)],
            fit.formation_energies.tolist(),
            force_field=name,
            scale=context.scale,
            source=f"fitted on {len(fit.crystals)} crystals of the reference",
        ).to_json()

    parts = (name, force_field_info(name).version, fit.crystals.content_hash())
    text = store.value("references", parts, make)
    return replace(context, elemental_references=ElementalReferences.from_json(text))


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)
