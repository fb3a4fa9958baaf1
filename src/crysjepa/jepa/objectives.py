"""The losses of Crys-JEPA's objectives on a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crysjepa.jepa.augment import distort, rotate, translate
from crysjepa.jepa.losses import info_nce, mean_absolute, sigreg
from crysjepa.jepa.network import Jepa, JepaConfig
from crysjepa.nn.batches import Batch

SIGREG_WEIGHT = 1.0
"""λ of SIGReg + MSE."""
SITES, RELAXED, CONTRAST = 0.5, 0.3, 0.02
"""Weights of the site energies, of the relaxed energies and of Eq. 9 beside the crystals' energies."""
CONTEXTS = 6
"""One crystal in so many is also seen distorted: a second pass through the encoder is what it costs."""


@dataclass(frozen=True)
class JepaLoss:
    """The objective of a configuration: (model, batch, noise) → named losses."""

    config: JepaConfig

    def __call__(self, model: nn.Module, batch: Batch, noise: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch: ``loss`` is minimised, the others are for the record."""
        assert isinstance(model, Jepa)
        if self.config.objective == "energy":
            return self._energy(model, batch, noise)
        target, _ = model.encoder(batch.atomic_numbers, batch.frac_coords, batch.lattices, batch.mask)
        predicted = _from_context(model, batch, noise)
        if self.config.objective == "sigreg":
            gap = F.mse_loss(predicted, target)
            spread = sigreg(target, noise)
            return {"loss": gap + SIGREG_WEIGHT * spread, "mse": gap, "sigreg": spread}
        energies = batch.energies if self.config.objective == "info-nce" else None
        loss = info_nce(predicted, target, energies, temperature=self.config.temperature)
        return {"loss": loss, "top1": _top1(predicted, target)}

    def _energy(self, model: Jepa, batch: Batch, noise: torch.Generator) -> dict[str, Tensor]:
        """Energies of crystals and sites; energies after relaxation, from the predicted embedding; Eq. 9."""
        embedded, atoms = model.encoder(batch.atomic_numbers, batch.frac_coords, batch.lattices, batch.mask)
        losses = {
            "energy": mean_absolute(model.energies(embedded), batch.energies),
            "sites": mean_absolute(model.energies(atoms), batch.site_energies),
        }
        loss = losses["energy"] + SITES * losses["sites"]
        if self.config.invariant:
            relaxed = model.energies(model.predictor(embedded))
            losses["relaxed"] = mean_absolute(relaxed, batch.relaxed_energies)
            loss = loss + RELAXED * losses["relaxed"]
        # A target has to be at rest. Rows of like size stand together, so any of them will do.
        at_rest = torch.nonzero(batch.relaxed_energies == batch.energies)[:, 0][: len(batch) // CONTEXTS]
        if len(at_rest) > 1:
            some = batch.rows(at_rest)
            predicted = _from_context(model, some, noise)
            found = mean_absolute(model.energies(predicted), some.energies)
            contrast = info_nce(
                predicted, embedded[at_rest], some.energies, temperature=self.config.temperature
            )
            losses |= {"context": found, "contrast": contrast}
            share = len(at_rest) / max(1, len(batch) // CONTEXTS)
            loss = loss + share * (RELAXED * found + CONTRAST * contrast)
        return {"loss": loss, **losses}


def _from_context(model: Jepa, batch: Batch, noise: torch.Generator) -> Tensor:
    """The predicted embeddings (B, D) of a batch, from moved or (invariant encoder) distorted copies."""
    if model.config.invariant:
        coords, cells = distort(batch.frac_coords, batch.lattices, noise)
        seen, _ = model.encoder(batch.atomic_numbers, coords, cells, batch.mask)
        return model.predictor(seen)
    device = batch.mask.device
    t = torch.rand(len(batch), 3, generator=noise, device=device)
    r = torch.rand(len(batch), 3, generator=noise, device=device)
    moved = (translate(batch.frac_coords, t), rotate(batch.lattices, r))
    seen, _ = model.encoder(batch.atomic_numbers, *moved, batch.mask)
    return model.predictor(seen, t, r)


@torch.no_grad()
def _top1(predicted: Tensor, target: Tensor) -> Tensor:
    """How often the right target is the nearest."""
    similarity = F.normalize(predicted, dim=-1) @ F.normalize(target, dim=-1).T
    return (similarity.argmax(dim=1) == torch.arange(len(target), device=target.device)).float().mean()
