"""eSEN (Fu et al., arXiv:2502.12147), UMA and other models of FAIR chemistry; weights are downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

TASK = "omat"
"""Of models that know several levels of theory: that of OMat24, inorganic crystals."""


def calculator(model: str | Path, device: str) -> Calculator:
    """A name of ``fairchem.core.pretrained_mlip``, or an inference checkpoint of fairchem-core 2.

    eSEN-30M-MP (``esen_30m_mptrj.pt``) and the other models of OMat24's paper are of fairchem-core 1, which
    version 2 cannot read. Published weights are on Hugging Face, after a login that has accepted their
    licence. A checkpoint is a pickle, fairchem has no other form: load only what you trust. In single
    precision without TF32, uncompiled and unmerged: crystals come in all sizes and compositions.

    Raises
    ------
    ValueError
        For a name that fairchem does not know, or a file that is no checkpoint of its version 2.
    RuntimeError
        For a model of several tasks without that of OMat24.
    """
    import torch
    from fairchem.core import FAIRChemCalculator, pretrained_mlip
    from fairchem.core.units.mlip_unit import InferenceSettings

    devices = [torch.cuda.current_device()] if device.startswith("cuda") else []

    class _Calculator(FAIRChemCalculator):
        def calculate(self, *arguments: Any, **keywords: Any) -> None:
            # each edge is turned by a random angle about itself, which moves results by rounding: the same
            # angles whatever was done before, so that the same crystal has the same energy
            with torch.random.fork_rng(devices):
                torch.manual_seed(0)
                super().calculate(*arguments, **keywords)

    settings = InferenceSettings(activation_checkpointing=False)
    with torch.random.fork_rng(devices):  # loading seeds torch, too
        try:
            unit = pretrained_mlip.get_predict_unit(str(model), inference_settings=settings, device=device)
        except AttributeError as error:
            raise ValueError(f"{model} is no inference checkpoint of fairchem-core 2: {error}") from error
    return _Calculator(unit, task_name=TASK if TASK in unit.dataset_to_tasks else None)


def torch_sim_model(calculator: Any, device: str) -> Any:
    """``fairchem.core.calculate.torchsim_interface.FairChemModel``, with the calculator's predictor."""
    import torch
    from fairchem.core.calculate.torchsim_interface import FairChemModel
    from torch_sim.models.interface import ModelInterface

    devices = [torch.cuda.current_device()] if device.startswith("cuda") else []

    class _Model(FairChemModel):
        def __init__(self) -> None:
            ModelInterface.__init__(self)  # FairChemModel's would load the weights again, with other settings
            self._device, self._dtype = torch.device(device), torch.float32
            self._compute_stress = self._compute_forces = True
            self.task_name, self.predictor = calculator.task_name, calculator.predictor

        def forward(self, state: Any, **options: Any) -> Any:
            with torch.random.fork_rng(devices):  # as in the calculator
                torch.manual_seed(0)
                return super().forward(state, **options)

    return _Model()
