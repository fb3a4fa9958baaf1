"""The paper's generator: a DDPM over atom vectors with a Transformer denoiser (appendix B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crysjepa import __version__
from crysjepa.core import lattice
from crysjepa.core.crystals import Crystals
from crysjepa.generators.base import Samples
from crysjepa.generators.diffusion.denoiser import NUM_ELEMENTS, Denoiser, Noisy
from crysjepa.generators.diffusion.schedule import Schedule
from crysjepa.nn import checkpoint
from crysjepa.nn.batches import Batch, PackedCrystals, sorted_batches
from crysjepa.nn.training import Training, TrainOptions, TrainSettings, train_model
from crysjepa.nn.transformer import TransformerConfig
from crysjepa.runtime.files import file_hash
from crysjepa.runtime.progress import Progress

KIND = "ddpm-generator"
# Crystals drawn from one random stream: the unit that a resumed or split run repeats. A GPU wants more.
_SHARD, _GPU_SHARD = 256, 4096
_BATCH, _GPU_BATCH = 64, 1024
LatticeNoise = Literal["crystal", "site"]
COORDS, TYPES, LATTICE = (-1.0, 1.0), (0.0, 1.0), (-5.0, 5.0)
"""What the parts of x_0 can be: 2 X − 1, a one-hot vector, standard deviations of the training lattices."""


@dataclass(frozen=True)
class DiffusionConfig:
    """Network, number of timesteps T, and what has lattice noise of its own.

    With ``site`` all of V in Eq. 3 has independent noise, the lattice's copy on each atom too, and the copies
    are averaged in the end; with ``crystal`` the lattice's noise is drawn once.
    """

    denoiser: TransformerConfig = field(default_factory=TransformerConfig)
    timesteps: int = 256
    lattice_noise: LatticeNoise = "crystal"

    def divided(self, by: int) -> DiffusionConfig:
        """The same with about one ``by``-th of the parameters."""
        return replace(self, denoiser=self.denoiser.divided(by))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DiffusionConfig:
        """Inverse of ``dataclasses.asdict``. Raises TypeError or KeyError for other fields."""
        network = TransformerConfig(**values["denoiser"])
        return cls(network, values["timesteps"], values.get("lattice_noise", "crystal"))


PAPER = DiffusionConfig(TransformerConfig(layers=12, width=1024, heads=8, dropout=0.01))
"""The 151 M parameters of appendix B.3."""

LAPTOP = PAPER.divided(64)
"""The same at 2.7 M parameters, to be compared with other generators at equal compute."""


class DiffusionGenerator:
    """A denoiser with what is needed to draw crystals from it: lattice scaler and size histogram."""

    def __init__(
        self,
        config: DiffusionConfig,
        denoiser: Denoiser,
        scaler: lattice.Scaler,
        sizes: Sequence[float],
        origin: dict[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.denoiser = denoiser.eval()
        self.scaler = scaler
        self.sizes = tuple(float(s) for s in sizes)
        self.origin = dict(origin or {})

    # -- training --------------------------------------------------------------------------

    @classmethod
    def train(
        cls,
        crystals: Crystals,
        config: DiffusionConfig,
        settings: TrainSettings,
        **how: Unpack[TrainOptions],
    ) -> tuple[DiffusionGenerator, Training]:
        """Train from random weights on canonical crystals."""
        data = PackedCrystals(crystals)
        vectors = lattice.to_vector(lattice.polar_decompose(crystals.lattices)[0])
        sizes = np.bincount(crystals.num_atoms)
        torch.manual_seed(how.get("seed", 0))
        fresh = cls(config, Denoiser(config.denoiser), lattice.Scaler.fit(vectors), sizes / sizes.sum())
        return fresh._fit(data, settings, how)

    def finetune(
        self,
        crystals: Crystals,
        settings: TrainSettings,
        **how: Unpack[TrainOptions],
    ) -> tuple[DiffusionGenerator, Training]:
        """A new generator trained on from this one; scaler and sizes stay those of the first training."""
        return self._copy()._fit(PackedCrystals(crystals), settings, how)

    def _fit(
        self,
        data: PackedCrystals,
        settings: TrainSettings,
        how: TrainOptions,
    ) -> tuple[DiffusionGenerator, Training]:
        self.denoiser.train()
        loss = DiffusionLoss(self.config, self.scaler)
        training = train_model(self.denoiser, data, loss, settings, **how)
        ema = training.ema.cpu()
        assert isinstance(ema, Denoiser)
        origin = {
            "version": __version__,
            "seed": how.get("seed", 0),
            "steps": training.step,
            "num_crystals": len(data),
            "data": data.content_hash,
            "finetuned_from": self.origin or None,
        }
        return DiffusionGenerator(self.config, ema, self.scaler, self.sizes, origin), training

    def _copy(self) -> DiffusionGenerator:
        denoiser = Denoiser(self.config.denoiser)
        denoiser.load_state_dict(self.denoiser.state_dict())
        return DiffusionGenerator(self.config, denoiser, self.scaler, self.sizes, self.origin)

    # -- sampling --------------------------------------------------------------------------

    def sample(
        self,
        num: int,
        *,
        seed: int = 0,
        device: str = "cpu",
        prefix: str = "gen",
        progress: Progress | None = None,
    ) -> Samples:
        """Draw ``num`` crystals by the reverse process (Eq. 19, 20), sizes from the training histogram."""
        parts: list[Crystals] = []
        failures: dict[str, str] = {}
        size = _SHARD if device == "cpu" else _GPU_SHARD
        for shard, start in enumerate(range(0, num, size)):
            stop = min(start + size, num)
            ids = [f"{prefix}-{i}" for i in range(start, stop)]

            def report(done: int, start: int = start, stop: int = stop) -> None:
                if progress is not None:
                    progress(start + (stop - start) * done // self.config.timesteps, num)

            part, bad = self._sample_shard(ids, (seed, shard), device, report)
            parts.append(part)
            failures |= bad
        return Samples(Crystals.concatenate(parts), failures)

    @torch.inference_mode()
    def _sample_shard(
        self, ids: list[str], seed: tuple[int, int], device: str, report: Any
    ) -> tuple[Crystals, dict[str, str]]:
        rng = np.random.default_rng(seed)
        counts = rng.choice(len(self.sizes), size=len(ids), p=np.asarray(self.sizes))
        noise = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        network, schedule = self.denoiser.to(device), Schedule.cosine(self.config.timesteps).to(device)
        groups = sorted_batches(counts, _BATCH if device == "cpu" else _GPU_BATCH)
        states = []
        for rows in groups:
            slots = torch.arange(int(counts[rows].max()), device=device)
            mask = slots[None, :] < torch.as_tensor(counts[rows], device=device)[:, None]
            states.append((_normal(mask, noise, self.config.lattice_noise), mask))
        for t in range(self.config.timesteps, 0, -1):
            for g, (x, mask) in enumerate(states):
                steps = torch.full((len(mask),), t, device=device)
                predicted = network(x, steps, mask)
                fresh = _normal(mask, noise, self.config.lattice_noise)
                states[g] = (
                    Noisy(
                        schedule.step_back(x.coords, predicted.coords, t, fresh.coords, COORDS),
                        schedule.step_back(x.types, predicted.types, t, fresh.types, TYPES),
                        schedule.step_back(x.lattice, predicted.lattice, t, fresh.lattice, LATTICE),
                    ),
                    mask,
                )
            report(self.config.timesteps - t + 1)
        found: dict[str, Crystals] = {}
        failures: dict[str, str] = {}
        for rows, (x, mask) in zip(groups, states, strict=True):
            for i, row in enumerate(rows):
                self._decode(x, mask, i, ids[row], found, failures)
        return Crystals.concatenate([found[i] for i in ids if i in found]), failures

    def _decode(
        self, x: Noisy, mask: Tensor, i: int, id_: str, found: dict[str, Crystals], failures: dict[str, str]
    ) -> None:
        coords = ((x.coords[i, mask[i]].double().cpu().numpy() + 1) / 2) % 1.0
        numbers = x.types[i, mask[i]].argmax(dim=-1).cpu().numpy() + 1
        vector = x.lattice[i] if self.config.lattice_noise == "crystal" else x.lattice[i, mask[i]].mean(dim=0)
        cell = lattice.from_vector(self.scaler.inverse(vector.double().cpu().numpy()))
        if not (np.isfinite(coords).all() and np.isfinite(cell).all()):
            failures[id_] = "the generator returned numbers that are not finite"
        elif (np.linalg.eigvalsh(cell) <= 0).any():
            failures[id_] = "the generator returned a lattice that is not positive definite"
        else:
            found[id_] = Crystals(numbers, coords, cell[None], np.array([len(numbers)]), (id_,))

    # -- on disk ---------------------------------------------------------------------------

    def save(
        self, path: Path, *, dtype: torch.dtype = torch.float32, card: dict[str, Any] | None = None
    ) -> None:
        """Write weights (as ``dtype``), configuration, scaler, sizes and origin to one safetensors file."""
        header = {
            "kind": KIND,
            "config": asdict(self.config),
            "scaler": asdict(self.scaler),
            "sizes": self.sizes,
            "origin": self.origin,
            **({"card": card} if card else {}),
        }
        checkpoint.save(path, {k: v.to(dtype) for k, v in self.denoiser.state_dict().items()}, header)

    @classmethod
    def load(cls, path: Path) -> DiffusionGenerator:
        """Read what :meth:`save` wrote. Raises CheckpointError for anything else."""
        tensors, header = checkpoint.load(path, kind=KIND)
        with checkpoint.explained(path):
            config = DiffusionConfig.from_dict(header["config"])
            denoiser = checkpoint.filled(lambda: Denoiser(config.denoiser), tensors, header["config"])
            scaler = lattice.Scaler(**{k: tuple(v) for k, v in header["scaler"].items()})
            origin = dict(header["origin"], file=file_hash(path))
            return cls(config, denoiser, scaler, header["sizes"], origin)


@dataclass(frozen=True)
class DiffusionLoss:
    """The training objective (Eq. 18), t uniform in 1..T."""

    config: DiffusionConfig
    scaler: lattice.Scaler

    def __call__(self, model: nn.Module, batch: Batch, noise: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch: ``loss``, and its parts ``coords``, ``types``, ``lattice`` (per component)."""
        clean = self.encode(batch)
        device = batch.mask.device
        schedule = Schedule.cosine(self.config.timesteps).to(device)
        t = torch.randint(1, len(schedule) + 1, (len(batch),), generator=noise, device=device)
        of_sites = self.config.lattice_noise == "site"
        if of_sites:
            repeated = clean.lattice[:, None, :].expand(-1, batch.mask.shape[1], -1)
            clean = Noisy(clean.coords, clean.types, repeated)
        epsilon = _normal(batch.mask, noise, self.config.lattice_noise)
        x = Noisy(
            schedule.diffuse(clean.coords, epsilon.coords, t),
            schedule.diffuse(clean.types, epsilon.types, t),
            schedule.diffuse(clean.lattice, epsilon.lattice, t),
        )
        output = model(x, t, batch.mask)
        errors = (output.lattice - epsilon.lattice) ** 2
        parts = {
            "coords": _per_site((output.coords - epsilon.coords) ** 2, batch.mask),
            "types": _per_site((output.types - epsilon.types) ** 2, batch.mask),
            "lattice": _per_site(errors, batch.mask) if of_sites else errors.mean(),
        }
        return {"loss": 3 * parts["coords"] + NUM_ELEMENTS * parts["types"] + 6 * parts["lattice"], **parts}

    def encode(self, batch: Batch) -> Noisy:
        """x_0: centred coordinates 2 X − 1, one-hot types, standardised lattice vector (Eq. 2)."""
        types = F.one_hot((batch.atomic_numbers - 1).clamp(min=0), NUM_ELEMENTS)
        rows, columns = np.triu_indices(3)
        vector = batch.lattices[:, rows, columns]
        mean = torch.tensor(self.scaler.mean, device=vector.device, dtype=vector.dtype)
        std = torch.tensor(self.scaler.std, device=vector.device, dtype=vector.dtype)
        return Noisy(2 * batch.frac_coords - 1, types * batch.mask[..., None], (vector - mean) / std)


def _per_site(errors: Tensor, mask: Tensor) -> Tensor:
    """Mean of errors (B, M, D) over real sites and components."""
    return (errors * mask[..., None]).sum() / (mask.sum() * errors.shape[-1])


def _normal(mask: Tensor, generator: torch.Generator, lattice_noise: LatticeNoise) -> Noisy:
    """Standard normal noise for crystals whose sites are in ``mask`` (B, M)."""
    batch, sites = mask.shape

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=generator.device)

    of_lattice = (batch, 6) if lattice_noise == "crystal" else (batch, sites, 6)
    return Noisy(draw(batch, sites, 3), draw(batch, sites, NUM_ELEMENTS), draw(*of_lattice))
