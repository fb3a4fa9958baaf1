"""What a force field is to crysjepa: a batch of atoms in, a prediction or a reason for each out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from crysjepa.runtime.errors import DeviceFault, describe_error, is_device_fault

if TYPE_CHECKING:
    from ase import Atoms

T = TypeVar("T")
E = TypeVar("E", float, NDArray[np.float64])
R = TypeVar("R")

NOT_FINITE = "is not finite"
"""How the reason ends that a prediction gets in place of a number that is none."""


@dataclass(frozen=True)
class Prediction:
    """What a force field says about one crystal of n atoms.

    Attributes
    ----------
    energy
        Total energy of the cell in eV.
    forces
        (n, 3) in eV/Å.
    stress
        (6,) in eV/Å³, Voigt order xx, yy, zz, yz, xz, xy, with ASE's sign: positive when the cell
        wants to shrink (σ = 1/V · dE/dε).
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]


class ForceField(Protocol):
    """A source of energies, forces and stresses.

    ``scale`` names the correction scheme that its total energies aim at: ``"materials_project"``
    (MP2020 corrections included), ``"materials_project_uncorrected"``, ``"omat24"`` or ``"unknown"``.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def scale(self) -> str: ...
    @property
    def max_atomic_number(self) -> int: ...

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
        """A prediction for each crystal, or the reason why there is none.

        Never raises for a crystal; DeviceFault where the accelerator fails.
        """
        ...


def alone(number: int, of: int, cutoff: float) -> str:
    """The reason of a crystal with atoms that see nothing: a force field has no energy of theirs."""
    return f"{number} of {of} atoms have no neighbour within {cutoff:g} Å"


def check(prediction: Prediction) -> Prediction | str:
    """The prediction, or a reason when any part of it is not finite."""
    for name, value in (
        ("energy", prediction.energy),
        ("force", prediction.forces),
        ("stress", prediction.stress),
    ):
        if not np.all(np.isfinite(value)):
            return f"the force field's {name} {NOT_FINITE}"
    return prediction


def check_energy(energy: E) -> E | str:
    """The energy, or those of the sites, or a reason when any is not finite."""
    return energy if np.all(np.isfinite(energy)) else f"the force field's energy {NOT_FINITE}"


def static_energies(force_field: ForceField, atoms: Sequence[Atoms]) -> list[float | str]:
    """Total energy of each crystal as it stands, in eV, or the reason why there is none.

    Forces are wasted work here: a force field that can do without has a method ``energies`` of this form.
    """
    if (energies := getattr(force_field, "energies", None)) is not None:
        return list(energies(atoms))
    return [p if isinstance(p, str) else p.energy for p in force_field.evaluate(atoms)]


@overload
def evaluate_batch(
    batch: Sequence[T], evaluate: Callable[[Sequence[T]], list[Prediction]]
) -> list[Prediction | str]: ...
@overload
def evaluate_batch(
    batch: Sequence[T], evaluate: Callable[[Sequence[T]], list[R]], check: Callable[[R], R | str]
) -> list[R | str]: ...
def evaluate_batch(
    batch: Sequence[T], evaluate: Callable[[Sequence[T]], list[Any]], check: Callable[[Any], Any] = check
) -> list[Any]:
    """Evaluate a batch at once; when that raises, in halves, and so on down to single crystals.

    So one crystal never costs another, and a batch that does not fit into memory is done in smaller ones.

    Raises DeviceFault where the accelerator has failed: then no reason would be the crystal's own.
    """
    try:
        return [check(p) for p in evaluate(batch)]
    except Exception as error:  # third-party models raise anything; recorded per crystal below
        if is_device_fault(error):
            raise DeviceFault(describe_error(error)) from error
        if len(batch) == 1:
            return [f"the force field failed: {describe_error(error)}"]
    free_device_memory()
    middle = len(batch) // 2
    return [r for half in (batch[:middle], batch[middle:]) for r in evaluate_batch(half, evaluate, check)]


def free_device_memory() -> None:
    """Give back what a failed evaluation left on a GPU, if there is one."""
    if "torch" in sys.modules and (cuda := sys.modules["torch"].cuda).is_initialized():
        cuda.empty_cache()
