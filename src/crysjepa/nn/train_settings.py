"""How a training goes, and how one run of it is carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crysjepa.runtime.progress import Progress


class TrainSettings(BaseModel):
    """How to train: steps, batch, AdamW with warm-up and cosine decay, EMA."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(2000, ge=0)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    final_learning_rate: float = Field(0.05, ge=0, description="fraction of the peak at the last step")
    warmup: int = Field(100, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema_decay: float = Field(0.999, ge=0, lt=1)
    precision: str = Field("auto", description="a Lightning Fabric precision; auto: bf16-mixed on GPU")
    compiled: bool = Field(False, description="compile Transformer blocks: for long trainings on a GPU")
    checkpoint_every: int = Field(500, ge=1)
    record_every: int = Field(50, ge=1)
    validation: float = Field(
        0.0, ge=0, lt=1, description="share of the crystals, in whole chemical systems, that is held out"
    )
    patience: int | None = Field(
        None, ge=1,
        description="stop after so many records without a lower validation loss, with the best weights",
    )  # fmt: skip

    @model_validator(mode="after")
    def _patience_for_something(self) -> TrainSettings:
        if self.patience is not None and not self.validation:
            raise ValueError("patience looks at the validation loss: set validation, such as 0.05")
        return self

    @model_validator(mode="after")
    def _whole_records(self) -> TrainSettings:
        if self.checkpoint_every % self.record_every:
            raise ValueError("checkpoint_every must be a multiple of record_every")
        return self


Recorded = Callable[[Mapping[str, float]], None]


class TrainOptions(TypedDict, total=False):
    """Keywords of whatever trains; what they mean is said in :class:`TrainRun`."""

    seed: int
    device: str
    devices: int
    state: Path | None
    progress: Progress | None
    recorded: Recorded | None


@dataclass(frozen=True, kw_only=True)
class TrainRun:
    """One run of a training.

    Attributes
    ----------
    seed
        Of weights, batches and noise.
    device, devices
        What it is computed on, and on how many of them.
    state
        Where to keep the training state; if it is there already, training goes on from it. It belongs
        to these initial weights, crystals, energies, settings, seed and loss: anything else is refused
        with a ValueError.
    progress
        Called as ``progress(step, steps)``.
    recorded
        Called with each row of the loss curve.
    """

    seed: int = 0
    device: str = "cpu"
    devices: int = 1
    state: Path | None = None
    progress: Progress | None = None
    recorded: Recorded | None = None
