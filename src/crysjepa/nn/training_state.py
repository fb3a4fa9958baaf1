"""Where a training stands, in memory and in a file that belongs to this training alone."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from crysjepa.nn import checkpoint

if TYPE_CHECKING:
    from crysjepa.nn.training import LossFunction, TrainingData, TrainSettings


@dataclass
class Training:
    """Where a training stands: ``curve`` has a row of mean losses for every ``record_every`` steps.

    ``best`` are the averaged weights with the lowest validation loss so far, where these were asked for.
    """

    model: nn.Module
    ema: nn.Module
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    best: nn.Module | None = None


def identity_of(
    model: nn.Module, data: TrainingData, loss: LossFunction, settings: TrainSettings, seed: int
) -> dict[str, Any]:
    """What decides where a training goes; the keys are the words of the error message."""
    return {
        # How often a state is kept does not change where training goes.
        "settings": settings.model_dump(exclude={"checkpoint_every"}),
        "seed": seed,
        "crystals": data.content_hash,
        "energies": data.energies_hash,
        "shapes of the weights": {k: list(v.shape) for k, v in model.state_dict().items()},
        "initial weights": _weights_hash(model),
        "loss": _name(loss),
    }


def _weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, types and bytes of the weights."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name}\0{value.dtype}\0".encode())
        # Viewed as bytes because numpy has no bfloat16.
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _name(loss: LossFunction) -> str:
    """The loss with its configuration; a function by name, since its repr holds an address."""
    if dataclasses.is_dataclass(loss):
        return repr(loss)
    named = loss if hasattr(loss, "__qualname__") else type(loss)
    return f"{named.__module__}.{named.__qualname__}"


def keep(training: Training, optimizer: Any, state: Path, identity: Mapping[str, Any]) -> None:
    """Write a training to the file ``state``, with whose it is."""
    tensors = {f"model.{k}": v for k, v in training.model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in training.ema.state_dict().items()}
    if training.best is not None:
        tensors |= {f"best.{k}": v for k, v in training.best.state_dict().items()}
    for i, slot in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v for k, v in slot.items()}
    header = {"kind": "training-state", "step": training.step, "curve": training.curve}
    checkpoint.save(state, tensors, header | {"seconds": training.seconds, "identity": dict(identity)})


def restore(training: Training, optimizer: Any, state: Path, identity: Mapping[str, Any]) -> None:
    """Set a training to what :func:`keep` wrote. Raises ValueError for the state of another training."""
    tensors, header = checkpoint.load(state, kind="training-state")
    own, kept = json.loads(json.dumps(identity)), header["identity"]
    if kept != own:
        same_keys = kept.keys() == own.keys()
        differing = ", ".join(k for k in own if kept[k] != own[k]) if same_keys else "version of crysjepa"
        raise ValueError(
            f"{state} belongs to another training (other {differing}): delete the file to start anew, "
            "or choose another output"
        )
    training.model.load_state_dict(_under("model.", tensors))
    training.ema.load_state_dict(_under("ema.", tensors))
    if best := _under("best.", tensors):
        training.best = copy.deepcopy(training.ema)
        training.best.load_state_dict(best)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        index, key = name.split(".", 1)
        slots.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    training.step, training.curve = int(header["step"]), list(header["curve"])
    training.seconds = float(header["seconds"])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
