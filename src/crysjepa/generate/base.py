"""What a generator is, and how one is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crysjepa.crystals import Crystals
from crysjepa.nn.training import Training, TrainSettings

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Samples:
    """What came of asking for N crystals: those that are crystals, and a reason for each that is not.

    Their ids together are the N asked for: nothing is redrawn, for that would bias the sample.
    """

    crystals: Crystals
    failures: dict[str, str]


class Generator(Protocol):
    """A source of crystals that can be refined."""

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


def load_generator(path: str | Path | None = None) -> Generator:
    """The generator in a checkpoint, or the one that ships with crysjepa.

    Raises
    ------
    CheckpointError
        If the file is missing or is no generator.
    """
    from crysjepa.generate.diffusion import DiffusionGenerator
    from crysjepa.weights import shipped

    return DiffusionGenerator.load(Path(path) if path is not None else shipped("generator"))
