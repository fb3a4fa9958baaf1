"""A model of torch-sim's that misbehaves for some elements. Only where torch-sim is installed."""

from __future__ import annotations

from typing import Any

import torch
from torch_sim.models.interface import ModelInterface

GROWS, SHRINKS, FALLS, LIES, RAISES = 2, 3, 4, 36, 18  # He, Li, Be, Kr, Ar


class Nasty(ModelInterface):
    """Energies and forces are zero, and so is the stress but for some elements, one a crystal."""

    def __init__(self) -> None:
        super().__init__()
        self._device, self._dtype = torch.device("cpu"), torch.float64
        self._compute_stress = self._compute_forces = True
        self.sizes: list[int] = []

    def forward(self, state: Any, **options: Any) -> dict[str, torch.Tensor]:
        self.sizes.append(state.n_atoms)
        number = state.atomic_numbers[torch.searchsorted(state.system_idx, torch.arange(state.n_systems))]
        if (number == RAISES).any():
            raise ArithmeticError("argon is not for me")
        pressure = torch.zeros(len(number), dtype=torch.float64)
        pressure[number == GROWS], pressure[number == SHRINKS] = -3.0, 3.0
        pressure[number == FALLS] = -0.1
        energy = torch.zeros(len(number), dtype=torch.float64)
        moved = state.volume > 1.0001 * 2.5**3
        energy[(number == FALLS) & moved] = -60.0
        energy[(number == LIES)] = torch.nan
        return {
            "energy": energy,
            "forces": torch.zeros_like(state.positions),
            "stress": pressure[:, None, None] * torch.eye(3, dtype=torch.float64),
        }
