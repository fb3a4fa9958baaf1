"""A force field through its library's model for torch-sim: any number of crystals in one evaluation."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crysjepa.relaxation.checks import num_alone
from crysjepa.relaxation.force_fields.base import Prediction, alone, evaluate_batch
from crysjepa.relaxation.force_fields.registry import ADAPTERS, ForceFieldInfo, load_calculator, quietly

if TYPE_CHECKING:
    from ase import Atoms


class TorchSimForceField:
    """A model of torch-sim's as a force field.

    Parameters
    ----------
    model
        A ``torch_sim.models.interface.ModelInterface`` with forces and stress.
    info
        What is known of the force field.
    cutoff
        Å, beyond which an atom does not see another; None where it is not known.
    """

    def __init__(self, model: Any, info: ForceFieldInfo, cutoff: float | None) -> None:
        self.name, self.version, self.scale = info.name, info.version, info.scale
        self.max_atomic_number = info.max_atomic_number
        self.cutoff = cutoff
        self.model = in_double_precision(model)

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
        """A prediction or a reason for each crystal, in one batch unless that fails."""
        found: list[Prediction | str] = [self.alone(a) or "" for a in atoms]
        seen = [i for i, reason in enumerate(found) if not reason]
        for i, result in zip(seen, evaluate_batch([atoms[i] for i in seen], self._predict), strict=True):
            found[i] = result
        return found

    def alone(self, atoms: Atoms) -> str | None:
        """Why there is no energy of atoms that see nothing; None where they do."""
        if self.cutoff is None or not np.isfinite(atoms.positions).all():
            return None
        number = num_alone(atoms.cell.scaled_positions(atoms.positions), atoms.cell.array, self.cutoff)
        return alone(number, len(atoms), self.cutoff) if number else None

    def state(self, atoms: Sequence[Atoms]) -> Any:
        """A ``torch_sim.SimState`` of crystals, on the model's device and in double precision."""
        import torch_sim

        return torch_sim.io.atoms_to_state(list(atoms), self.model.device, self.model.dtype)

    def _predict(self, atoms: Sequence[Atoms]) -> list[Prediction]:
        if not atoms:
            return []
        found = self.model(self.state(atoms))
        return predictions(found["energy"], found["forces"], found["stress"], [len(a) for a in atoms])


def predictions(energy: Any, forces: Any, stress: Any, sizes: Sequence[int]) -> list[Prediction]:
    """Of each crystal, from tensors (B,), (N, 3) and (B, 3, 3); stress with ASE's sign and order."""
    energies, tensors = energy.cpu().double().numpy(), stress.cpu().double().numpy()
    tensors = (tensors + tensors.transpose(0, 2, 1)) / 2
    by_crystal = np.split(forces.cpu().double().numpy(), np.cumsum(sizes)[:-1])
    voigt = tensors[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    return [Prediction(float(e), f, s) for e, f, s in zip(energies, by_crystal, voigt, strict=True)]


def in_double_precision(model: Any) -> Any:
    """The model for an optimiser in double precision, whatever its own; a geometry that it has just seen it
    does not compute again, for torch-sim asks for the first one once for atoms and once for cells.
    """
    import torch
    from torch_sim.models.interface import ModelInterface

    class _Double(ModelInterface):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model
            self._device, self._dtype = model.device, torch.float64
            self._compute_stress = self._compute_forces = True
            self.seen: tuple[Any, ...] = ()
            self.said: dict[str, Any] = {}

        def forward(self, state: Any, **options: Any) -> dict[str, Any]:
            now = (state.positions, state.cell, state.atomic_numbers, state.system_idx)
            if not self.seen or not all(map(torch.equal, now, self.seen)):
                said = self.inner(state.to(dtype=self.inner.dtype), **options)
                wanted = ("energy", "forces", "stress")
                self.said = {name: said[name].detach().to(torch.float64) for name in wanted}
                self.seen = tuple(t.clone() for t in now)
            return {name: value.clone() for name, value in self.said.items()}

    return _Double()


def get_torch_sim_force_field(name: str, device: str = "cpu") -> TorchSimForceField:
    """Load a force field as a model of torch-sim.

    Raises as :func:`crysjepa.relaxation.force_fields.registry.get_force_field` does, and ValueError for one
    that torch-sim has no model of.
    """
    loaded = load_calculator(name, device)
    if loaded.entry is None or loaded.entry.adapter is None:
        raise ValueError(f"torch-sim has no model of the force field {name!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies, where they have no GPU
        make = importlib.import_module(f"{ADAPTERS}.{loaded.entry.adapter}").torch_sim_model
        model = quietly(make, loaded.calculator, device)
    return TorchSimForceField(model, loaded.info, loaded.cutoff)
