"""What a training makes of crystals that it does not see, and when it has learnt what there is to learn."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from crysjepa.nn.batches import sorted_batches

if TYPE_CHECKING:
    from crysjepa.nn.train_settings import TrainSettings
    from crysjepa.nn.training import LossFunction, TrainingData
    from crysjepa.nn.training_state import Training

PREFIX = "validation_"
KEY = f"{PREFIX}loss"
"""Of the loss curve: the same losses, of crystals that are held out."""


@dataclass(frozen=True)
class Validation:
    """Crystals that are held out, whole chemical systems at a time, and the batches that they come in.

    ``batches`` are rows of the data; their noise is the same each time, so that losses can be compared.
    """

    batches: list[NDArray[np.int64]]
    loss: LossFunction
    seed: int
    patience: int | None

    @classmethod
    def of(
        cls, data: TrainingData, loss: LossFunction, settings: TrainSettings, seed: int
    ) -> tuple[NDArray[np.int64], Validation | None]:
        """Rows to train on, and what is held out of them: None where nothing is to be.

        Raises ValueError where the share takes everything.
        """
        rows = np.arange(len(data))
        if not settings.validation:
            return rows, None
        held = held_out(data.systems, settings.validation, seed)
        if held.all():
            raise ValueError(
                f"validation = {settings.validation:g} leaves no crystal to train on: there are "
                f"{len(np.unique(data.systems))} chemical systems"
            )
        rows, kept = rows[~held], rows[held]
        kept = np.random.default_rng((seed, 2)).permutation(kept)  # what lies side by side is alike
        parts = [kept[b] for b in sorted_batches(data.num_atoms.numpy()[kept], settings.batch_size)]
        return rows, cls(parts, loss, seed, settings.patience)

    @torch.no_grad()
    def losses(self, training: Training, data: TrainingData, fabric: Any) -> dict[str, float]:
        """Mean losses of the averaged weights, by the names of the loss with :data:`PREFIX`."""
        sums: dict[str, float] = {}
        weights: dict[str, int] = {}
        training.ema.eval()
        noise = torch.Generator(fabric.device).manual_seed(self.seed)
        for rows in self.batches:
            with fabric.autocast():
                found = self.loss(training.ema, data.batch(rows).to(fabric.device), noise)
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(rows)
                weights[name] = weights.get(name, 0) + len(rows)
        return {f"{PREFIX}{name}": total / weights[name] for name, total in sums.items()}

    def look_at(self, training: Training) -> bool:
        """Whether patience is at its end. The best weights are kept, where they are asked for."""
        if self.patience is None:
            return False
        values = np.array([row[KEY] for row in training.curve])
        best = int(np.argmin(np.where(np.isnan(values), np.inf, values)))
        if best == len(values) - 1:
            training.best = copy.deepcopy(training.ema)
        return len(values) - 1 - best >= self.patience


def held_out(systems: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """(B,) whether each row is held out: systems in the seed's order, until their rows are ``share``."""
    names, counts = np.unique(systems, return_counts=True)
    order = np.random.default_rng((seed, 1)).permutation(len(names))
    taken = order[: int(np.searchsorted(np.cumsum(counts[order]), share * len(systems))) + 1]
    return np.isin(systems, names[taken])
