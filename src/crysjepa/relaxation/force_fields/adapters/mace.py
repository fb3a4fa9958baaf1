"""MACE (Batatia et al., NeurIPS 2022; MACE-MP: arXiv:2401.00096); weights are downloaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


def calculator(model: str | Path, device: str) -> Calculator:
    """A name that ``mace_mp`` knows, such as ``medium``, or a model as MACE's training saves it (``.model``).

    Such a file is a pickle, MACE has no other form: load only what you trust. Computes in double precision,
    which MACE advises for relaxations.

    Raises
    ------
    ValueError
        For a file that holds something else, such as a training checkpoint.
    """
    with warnings.catch_warnings():
        # MACE sets this variable for e3nn 0.4, to which it is pinned, and torch says so at every load
        warnings.filterwarnings("ignore", message=".*TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", category=UserWarning)
        import torch
        from mace.calculators import MACECalculator, mace_mp

        class _Calculator(MACECalculator):
            def calculate(self, *arguments: Any, **keywords: Any) -> None:
                # an element that it does not know leaves MACE's precision behind as that of the whole process
                before = torch.get_default_dtype()
                try:
                    super().calculate(*arguments, **keywords)
                finally:
                    torch.set_default_dtype(before)

        if isinstance(model, str):
            network = mace_mp(model, device=device, return_raw_model=True)
            return _Calculator(models=network.double(), device=device, default_dtype="float64")
        try:
            # in a list: a path by itself MACE takes for a pattern
            return _Calculator(model_paths=[str(model)], device=device, default_dtype="float64")
        except AttributeError as error:
            raise ValueError(f"{model} holds no MACE model: {error}") from error


def torch_sim_model(calculator: Any, device: str) -> Any:
    """``mace.calculators.mace_torchsim.MaceTorchSimModel``, in double precision as the calculator is."""
    import torch
    from mace.calculators.mace_torchsim import MaceTorchSimModel

    from crysjepa.relaxation.force_fields.adapters.torch_sim_neighbors import neighbors

    return MaceTorchSimModel(
        calculator.models[0], device=torch.device(device), dtype=torch.float64, neighbor_list_fn=neighbors
    )
