"""Orb (Rhodes et al., arXiv:2504.06231); weights are downloaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

ARCHITECTURE = "orb-v3-conservative-inf-mpa"
"""Of a checkpoint with no known name: a file of weights does not say how its network is built."""


def calculator(model: str | Path, device: str) -> Calculator:
    """A name of ``orb_models.forcefield.pretrained``, or a file of weights as Orb publishes them.

    A file whose name begins with a published one, such as ``orb-v2-20241011.ckpt``, is taken for that
    architecture (the longest such name), any other for that of ``orb-v3-conservative-inf-mpa``. Read with
    ``weights_only``. In single precision without TF32, and uncompiled: crystals come in all sizes.

    Of orb-models 0.7, which needs Python 3.12, or of 0.5 on an older one.

    Raises
    ------
    ValueError
        For a name that Orb does not know.
    RuntimeError
        For weights that do not fit the architecture.
    """
    import torch
    from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

    try:
        from orb_models.forcefield.inference.calculator import ORBCalculator
    except ModuleNotFoundError:  # of orb-models 0.5
        from orb_models.forcefield.calculator import ORBCalculator

    name = model if isinstance(model, str) else architecture_of(model.name, list(ORB_PRETRAINED_MODELS))
    if name not in ORB_PRETRAINED_MODELS:
        raise ValueError(f"Orb has no model {name!r}: it is one of {', '.join(ORB_PRETRAINED_MODELS)}")
    weights = {"weights_path": str(model)} if isinstance(model, Path) else {}
    before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    try:
        with warnings.catch_warnings():  # it announces the settings of the process that are put back below
            warnings.filterwarnings(
                "ignore", message="Setting global torch default dtype", category=UserWarning
            )
            warnings.filterwarnings("ignore", message="Consider passing 'precision=", category=UserWarning)
            loaded = ORB_PRETRAINED_MODELS[name](
                device=device, precision="float32-highest", compile=False, **weights
            )
    finally:
        torch.set_default_dtype(before[0])
        torch.set_float32_matmul_precision(before[1])
    parts = (
        loaded if isinstance(loaded, tuple) else (loaded,)
    )  # a network, and since 0.6 what makes its graphs
    return ORBCalculator(*parts, device=device)


def architecture_of(file: str, known: list[str]) -> str:
    return max((name for name in known if file.startswith(name)), key=len, default=ARCHITECTURE)


def torch_sim_model(calculator: Any, device: str) -> Any:
    """torch-sim's wrapper of ``orb_models.forcefield.inference.orb_torchsim``; orb-models 0.6 or newer."""
    from torch_sim.models.orb import OrbModel

    return OrbModel(calculator.model, calculator.adapter, device=device)
