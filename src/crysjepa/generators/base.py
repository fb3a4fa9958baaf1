"""What a generator is, what it hands out, and how one is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from crysjepa.core.crystals import Crystals
from crysjepa.generators.constraints import Constraints
from crysjepa.nn.training import Training, TrainSettings
from crysjepa.runtime.progress import Progress


class NotTrainable(ValueError):
    """Raised where a generator is asked to learn, or to be saved, that has nothing to train."""


@dataclass(frozen=True)
class Draws:
    """How often a crystal was drawn, and why some draws were thrown away and repeated.

    Attributes
    ----------
    asked
        Crystals asked for.
    drawn
        Crystals drawn, the thrown away ones included.
    rejected
        How many were thrown away, by reason.
    notes
        What else is to be said of the sample, for people.
    """

    asked: int
    drawn: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def drawn_again(self) -> int:
        """Draws that were thrown away."""
        return sum(self.rejected.values())


@dataclass(frozen=True)
class Samples:
    """What came of asking for N crystals: those that are crystals, and a reason for each that is not.

    Their ids together are the N asked for. A generator redraws nothing for being bad, for that would bias
    the sample; only what breaks a constraint (or repeats a crystal, where a generator promises not to) is
    drawn again, and ``draws`` counts it.

    Attributes
    ----------
    draws
        None for a generator that keeps no count: then each crystal was drawn once.
    columns
        What is known of each crystal beside its structure: ``{column: {id: text}}``.
    """

    crystals: Crystals
    failures: dict[str, str]
    draws: Draws | None = None
    columns: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def counts(self) -> Draws:
        """``draws``, or one draw for each id."""
        num = len(self.crystals) + len(self.failures)
        return self.draws or Draws(num, num)


class Sampler(Protocol):
    """The least that a generator must do: draw crystals."""

    def sample(
        self,
        num: int,
        *,
        seed: int = 0,
        device: str = "cpu",
        prefix: str = "gen",
        progress: Progress | None = None,
    ) -> Samples:
        """Draw ``num`` crystals with ids ``prefix-0`` …; the same seed gives the same crystals."""
        ...


class Generator(Sampler, Protocol):
    """A source of crystals that can be refined; one that cannot raises :class:`NotTrainable`."""

    def finetune(
        self,
        crystals: Crystals,
        settings: TrainSettings,
        *,
        seed: int = 0,
        device: str = "cpu",
        state: Path | None = None,
        progress: Progress | None = None,
    ) -> tuple[Generator, Training]:
        """A new generator, trained on from this one on ``crystals``; this one is left as it is."""
        ...

    def save(self, path: Path) -> None:
        """Write it as one file that :func:`load_generator` reads."""
        ...


class ConstrainedSampler(Sampler, Protocol):
    """A generator that can draw within constraints, rather than have its misses thrown away."""

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
        """As ``sample``, with constraints; the crystals do not depend on ``processes``."""
        ...


class NarrowedSampler(Sampler, Protocol):
    """A generator that can be told what to draw, and then draws block by block as any other."""

    def within(self, constraints: Constraints) -> Sampler:
        """One that draws what ``constraints`` allow, as far as it can; what breaks them is drawn again."""
        ...


class Untrained:
    """For generators without anything to train: refuses to, and says why."""

    name = "this generator"

    def finetune(
        self,
        crystals: Crystals,
        settings: TrainSettings,
        *,
        seed: int = 0,
        device: str = "cpu",
        state: Path | None = None,
        progress: Progress | None = None,
    ) -> tuple[Generator, Training]:
        """Raises NotTrainable."""
        raise NotTrainable(f"{self.name} cannot be fine-tuned: it has no weights to train")

    def save(self, path: Path) -> None:
        """Raises NotTrainable."""
        raise NotTrainable(f"{self.name} cannot be saved as a checkpoint: it has no weights")


def load_generator(source: str | Path | None = None) -> Generator:
    """The generator of that name, in that checkpoint or from that file; by default the shipped one.

    See :func:`crysjepa.generators.registry.make_generator`, which takes options too.

    Raises
    ------
    CheckpointError
        If the file is missing or is no generator.
    """
    from crysjepa.generators.registry import make_generator

    return make_generator(source)
