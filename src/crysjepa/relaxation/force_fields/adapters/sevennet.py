"""SevenNet (Park et al., JCTC 20, 4857 (2024)); its weights are in its wheel."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


def calculator(model: str | Path, device: str) -> Calculator:
    """``7net-0``, ``7net-l3i5``, or a checkpoint as SevenNet's training saves it, of a single modality.

    Such a file is a pickle, SevenNet has no other form: load only what you trust. In single precision.

    Raises
    ------
    ValueError
        For a name that SevenNet does not know, and for a model of several modalities.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.", category=DeprecationWarning)
        if device == "cpu":  # its accelerators are for GPUs; there, the advice to install one is good
            warnings.filterwarnings("ignore", message="No tensor product accelerator", category=UserWarning)
        from sevenn.calculator import SevenNetCalculator

        return SevenNetCalculator(model, device=device)


def torch_sim_model(calculator: Any, device: str) -> Any:
    """``sevenn.torchsim.SevenNetModel``."""
    from sevenn.torchsim import SevenNetModel

    from crysjepa.relaxation.force_fields.adapters.torch_sim_neighbors import neighbors

    return SevenNetModel(calculator.model, modal=calculator.modal, device=device, neighbor_list_fn=neighbors)
