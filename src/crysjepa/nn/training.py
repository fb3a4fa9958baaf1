"""The one training loop: Lightning Fabric, EMA, mixed precision, checkpoints that resume exactly.

Randomness never flows from one step to the next: the order of an epoch comes from (seed, epoch), and the
noise and the dropout of a step from (seed, step). A run that was killed therefore resumes on the same
path as one that was left alone, and the caller's own random streams are where they were.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crysjepa.nn.batches import epoch_batches
from crysjepa.nn.train_settings import TrainOptions, TrainRun, TrainSettings
from crysjepa.nn.training_state import Training, identity_of, keep, restore
from crysjepa.nn.transformer import Block
from crysjepa.nn.validation import Validation

if TYPE_CHECKING:  # two seconds, which whoever reads a checkpoint need not wait
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

LossFunction = Callable[[nn.Module, Any, torch.Generator], dict[str, Tensor]]
"""(model, batch, noise) → losses; the one named ``"loss"`` is minimised, the others are recorded."""


class TrainingData(Protocol):
    """Crystals to train on, such as :class:`crysjepa.nn.batches.PackedCrystals`.

    ``batch(rows)`` is a dataclass of tensors with a method ``to(device)``; ``num_atoms`` (B,) is how long
    each crystal is in a batch, ``systems`` (B,) numbers their chemical systems; the hashes say what the
    crystals and their energies are. ``to(device)`` is the same data, whose batches are on that device.
    """

    num_atoms: Tensor

    @property
    def systems(self) -> NDArray[np.int64]: ...

    @property
    def content_hash(self) -> str: ...

    @property
    def energies_hash(self) -> str: ...

    def __len__(self) -> int: ...

    def batch(self, rows: NDArray[np.int64]) -> Any: ...

    def to(self, device: torch.device) -> TrainingData: ...


class Objective(nn.Module):
    """Model and loss as one module, so that precision and gradient exchange wrap the whole of it."""

    def __init__(self, model: nn.Module, loss: LossFunction) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Callable[[], Any], noise: torch.Generator) -> dict[str, Tensor]:
        """Losses of what ``batch()`` returns. Fabric would cast tensors in the open, sites too, to half
        precision.
        """
        return self.loss(self.model, batch(), noise)


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, then a cosine from the peak to ``final_learning_rate`` of it."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    low = settings.final_learning_rate
    return settings.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def train_model(
    model: nn.Module,
    data: TrainingData,
    loss: LossFunction,
    settings: TrainSettings,
    **how: Unpack[TrainOptions],
) -> Training:
    """Minimise ``loss`` over ``data`` for ``settings.steps`` steps.

    Returns the model, its exponential moving average (use this one), and the loss curve. With ``validation``
    the curve has losses of crystals that are held out; with ``patience`` it stops when these no longer fall,
    and the average is that of the best record. For ``how`` see :class:`TrainRun`.

    Raises ValueError without crystals, where all would be held out, and for a state of another training.
    """
    run = TrainRun(**how)
    seed, state = run.seed, run.state
    if not len(data):
        raise ValueError("there are no crystals to train on")
    fabric = _launched(settings, run.device, run.devices)
    identity = identity_of(model, data, loss, settings, seed)  # of the initial weights: before restoring
    # An optimiser casts the state it is given to where the parameters are: move them first.
    model.to(fabric.device)
    training = Training(model, copy.deepcopy(model).requires_grad_(False))
    optimizer = _optimizer(model, settings, fabric.device)
    data = data.to(fabric.device)
    rows, validation = Validation.of(data, loss, settings, seed)
    if state is not None and state.exists():
        restore(training, optimizer, state, identity)
    if settings.compiled:
        _compile_blocks(model)
    wrapped, optimizer = fabric.setup(Objective(model, loss), optimizer)
    wrapped.train()
    started = time.monotonic() - training.seconds
    recent = _RecentLosses()
    ended = validation is not None and bool(training.curve) and validation.look_at(training)
    with _own_randomness(fabric.device) as reseed:
        batches = _batches(data, rows, settings, seed, training.step, fabric)
        for batch in () if ended else batches:
            noise = torch.Generator(fabric.device).manual_seed(_mix(seed, training.step, fabric.global_rank))
            reseed(_mix(seed, training.step, fabric.global_rank, 1))  # for dropout
            losses = wrapped(partial(batch.to, fabric.device), noise)
            _descend(fabric, wrapped, optimizer, losses["loss"], settings, training.step)
            training.step += 1
            _update_ema(training, settings.ema_decay)
            recent.add(losses)
            if training.step % settings.record_every == 0 or training.step == settings.steps:
                held = {} if validation is None else validation.losses(training, data, fabric)
                training.curve.append({"step": training.step, **recent.means(), **held})
                ended = validation is not None and validation.look_at(training)
                ended = fabric.broadcast(ended)  # rounding differs between devices
                if run.recorded is not None:
                    run.recorded(training.curve[-1])
            training.seconds = time.monotonic() - started
            if state is not None and training.step % settings.checkpoint_every == 0 and fabric.is_global_zero:
                keep(training, optimizer, state, identity)
            if run.progress is not None:
                run.progress(training.step, settings.steps)
            if ended:
                break
    if state is not None and fabric.is_global_zero:
        keep(training, optimizer, state, identity)
    training.ema = training.best or training.ema
    training.ema.eval()
    return training


class _RecentLosses:
    """Sums since the last record, on the device, which is waited for only when their means are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}  # not every step has every loss

    def add(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Of each loss; the sums start anew."""
        means = {k: float(v) / self._counts[k] for k, v in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means


def _launched(settings: TrainSettings, device: str, devices: int) -> Fabric:
    from lightning_fabric import Fabric

    fabric = Fabric(
        accelerator=device, devices=devices, precision=_precision(settings, device), plugins=[_environment()]
    )
    fabric.launch()
    return fabric


def _optimizer(model: nn.Module, settings: TrainSettings, device: torch.device) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99),
        fused=device.type == "cuda" and settings.precision != "16-mixed",  # whose scaler it refuses
    )  # fmt: skip


def _compile_blocks(model: nn.Module) -> None:
    blocks = [m for m in model.modules() if isinstance(m, Block)]
    if not blocks:
        raise ValueError("compiled = true compiles Transformer blocks, and this model has none")
    for block in blocks:
        block.compile(dynamic=True)  # a few kernels do for batches of any length


def _descend(
    fabric: Fabric, model: Any, optimizer: Any, loss: Tensor, settings: TrainSettings, step: int
) -> None:
    """One step of the optimiser down the gradient of ``loss``."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, settings)
    fabric.backward(loss)
    fabric.clip_gradients(model, optimizer, max_norm=settings.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _environment() -> LightningEnvironment | TorchElasticEnvironment:
    """Where processes come from: this one starts them, or torchrun did. Left to itself, Fabric warns wherever
    there is an ``srun`` on the PATH, and inside an allocation takes Slurm's variables for its own.
    """
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    return TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()


def _precision(settings: TrainSettings, device: str) -> Any:
    if settings.precision != "auto":
        return settings.precision
    return "32-true" if device in ("cpu", "mps") else "bf16-mixed"


def _batches(
    data: TrainingData,
    of: NDArray[np.int64],
    settings: TrainSettings,
    seed: int,
    done: int,
    fabric: Fabric,
) -> Any:
    """Batches of the rows ``of`` from step ``done`` to the last; each process of several takes every n-th."""
    step, epoch, num_atoms = 0, 0, data.num_atoms[torch.from_numpy(of)]
    while step < settings.steps:
        rows = [of[b] for b in epoch_batches(num_atoms, settings.batch_size, (seed, epoch))]
        usable = max(len(rows) // fabric.world_size, 1)
        for i in range(usable):
            if step == settings.steps:
                return
            if step >= done:
                yield data.batch(rows[(i * fabric.world_size + fabric.global_rank) % len(rows)])
            step += 1
        epoch += 1


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[Callable[[int], None]]:
    """A function that seeds the global generators of CPU and ``device``, both put back at the end.

    ``torch.manual_seed`` would reach further: it seeds every accelerator there is, also those that are
    not put back.
    """

    def reseed(seed: int) -> None:
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)

    # fork_rng cannot fork MPS, whose get_rng_state takes no device.
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng([device] if device.type == "cuda" else [], device_type="cuda"):
        try:
            yield reseed
        finally:
            if mps is not None:
                torch.mps.set_rng_state(mps)


def _mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers (a linear congruence is enough: only distinctness matters)."""
    out = 0x9E3779B9
    for n in numbers:
        out = (out * 6364136223846793005 + n + 1442695040888963407) % (1 << 63)
    return out


@torch.no_grad()
def _update_ema(training: Training, decay: float) -> None:
    # A short run would average over its own initialisation: the decay warms up (as in Karras et al.).
    decay = min(decay, (1 + training.step) / (10 + training.step))
    current = [p.detach() for p in training.model.parameters()]
    torch._foreach_lerp_(list(training.ema.parameters()), current, 1 - decay)
