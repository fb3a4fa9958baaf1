"""MatterSim (Yang et al., arXiv:2405.04967), the force field of the paper; weights are downloaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


def calculator(model: str | Path, device: str) -> Calculator:
    """``MatterSim-v1.0.0-1M``, ``MatterSim-v1.0.0-5M``, or a checkpoint as MatterSim's training saves it.

    In single precision. Published weights are kept in ``~/.local/mattersim/pretrained_models``.
    """
    with warnings.catch_warnings():  # importing it puts a filter of its own before everybody else's
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.", category=DeprecationWarning)
        from loguru import logger
        from mattersim.forcefield import MatterSimCalculator, Potential

    logger.disable("mattersim")  # it tells of each file that it reads
    # absolute: a file of this folder with the name of published weights would be taken for those, and fetched
    source = str(model.absolute()) if isinstance(model, Path) else model
    # the state of its optimizer is of no use here, and larger than the weights
    potential = Potential.from_checkpoint(source, device=device, load_training_state=False)
    return MatterSimCalculator(potential, device=device)


def torch_sim_model(calculator: Any, device: str) -> Any:
    """``mattersim.torchsim.TorchSimWrapper``."""
    from mattersim.torchsim import TorchSimWrapper

    return TorchSimWrapper(calculator.potential, device=device)
