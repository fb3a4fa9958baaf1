"""Pre-training Crys-JEPA, embedding with it, and its file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crysjepa import __version__
from crysjepa.crystals import Crystals
from crysjepa.jepa.augment import rotate, translate
from crysjepa.jepa.losses import info_nce
from crysjepa.jepa.model import Encoder, Jepa, JepaConfig
from crysjepa.nn import checkpoint
from crysjepa.nn.batches import Batch, PackedCrystals, sorted_batches
from crysjepa.nn.training import Training, TrainSettings, train_model

KIND = "crys-jepa"
Progress = Callable[[int, int], None]


class CrysJepa:
    """A trained encoder: canonical crystals in, embeddings out."""

    def __init__(self, encoder: Encoder, origin: dict[str, Any] | None = None) -> None:
        self.encoder = encoder.eval()
        self.origin = dict(origin or {})

    @property
    def width(self) -> int:
        """Length D of an embedding."""
        return self.encoder.config.transformer.width

    @classmethod
    def pretrain(
        cls,
        crystals: Crystals,
        formation_energy_per_atom: NDArray[np.float64],
        config: JepaConfig,
        settings: TrainSettings,
        *,
        seed: int = 0,
        device: str = "cpu",
        devices: int = 1,
        state: Path | None = None,
        progress: Progress | None = None,
    ) -> tuple[CrysJepa, Training]:
        """Train from random weights on canonical crystals with formation energies (B,) in eV/atom."""
        data = PackedCrystals(crystals, formation_energy_per_atom)
        torch.manual_seed(seed)
        training = train_model(
            Jepa(config), data, JepaLoss(config), settings, seed=seed, device=device, devices=devices,
            state=state, progress=progress,
        )  # fmt: skip
        ema = training.ema.cpu()
        assert isinstance(ema, Jepa)
        origin = {
            "version": __version__,
            "seed": seed,
            "steps": training.step,
            "num_crystals": len(data),
            "data": data.content_hash,
        }
        return cls(ema.encoder, origin), training

    @torch.inference_mode()
    def embed(
        self,
        crystals: Crystals,
        *,
        device: str = "cpu",
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Embeddings (B, D) of canonical crystals (see :func:`crysjepa.canonical.canonicalise`)."""
        data, encoder = PackedCrystals(crystals), self.encoder.to(device)
        out = np.zeros((len(crystals), self.width), dtype=np.float32)
        done = 0
        for rows in sorted_batches(crystals.num_atoms, batch_size):
            batch = data.batch(rows).to(device)
            embedded, _ = encoder(batch.atomic_numbers, batch.frac_coords, batch.lattices, batch.mask)
            out[rows] = embedded.float().cpu().numpy()
            done += len(rows)
            if progress is not None:
                progress(done, len(crystals))
        return out

    def save(
        self, path: Path, *, dtype: torch.dtype = torch.float32, card: dict[str, Any] | None = None
    ) -> None:
        """Write the encoder (as ``dtype``) with its configuration and origin to one safetensors file."""
        header = {"kind": KIND, "config": asdict(self.encoder.config), "origin": self.origin}
        tensors = {k: v.to(dtype) for k, v in self.encoder.state_dict().items()}
        checkpoint.save(path, tensors, header | ({"card": card} if card else {}))

    @classmethod
    def load(cls, path: str | Path | None = None) -> CrysJepa:
        """Read what :meth:`save` wrote; by default the encoder that ships with crysjepa.

        Raises CheckpointError for anything else.
        """
        from crysjepa.weights import shipped

        path = Path(path) if path is not None else shipped("jepa")
        tensors, header = checkpoint.load(path, kind=KIND)
        with checkpoint.explained(path):
            encoder = Encoder(JepaConfig.from_dict(header["config"]))
            encoder.load_state_dict(tensors)
        return cls(encoder, dict(header["origin"], file=checkpoint.file_hash(path)))


@dataclass(frozen=True)
class JepaLoss:
    """Predict the target's embedding from that of its translated and rotated copy (section 4.1)."""

    config: JepaConfig

    def __call__(self, model: nn.Module, batch: Batch, noise: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch: ``loss`` and ``top1``, how often the right target is the nearest."""
        count, device = len(batch), batch.mask.device
        t = torch.rand(count, 3, generator=noise, device=device)
        r = torch.rand(count, 3, generator=noise, device=device)
        context = (translate(batch.frac_coords, t), rotate(batch.lattices, r))
        assert isinstance(model, Jepa)
        encoder, predictor = model.encoder, model.predictor
        from_context, _ = encoder(batch.atomic_numbers, *context, batch.mask)
        target, _ = encoder(batch.atomic_numbers, batch.frac_coords, batch.lattices, batch.mask)
        predicted = predictor(from_context, t, r)
        energies = batch.energies if self.config.weighted else None
        loss = info_nce(predicted, target, energies, temperature=self.config.temperature)
        with torch.no_grad():
            similarity = (
                nn.functional.normalize(predicted, dim=-1) @ nn.functional.normalize(target, dim=-1).T
            )
            top1 = (similarity.argmax(dim=1) == torch.arange(count, device=device)).float().mean()
        return {"loss": loss, "top1": top1}
