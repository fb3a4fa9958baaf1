"""The force fields by name: CHGNet, others through their ASE calculators, and any ASE calculator at all."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from crysjepa.relax.chgnet import ChgnetForceField
from crysjepa.relax.interface import ForceField, Prediction, describe_error, evaluate_batch

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

__all__ = [
    "AseForceField",
    "ChgnetForceField",
    "ForceField",
    "ForceFieldInfo",
    "Prediction",
    "SevenNetForceField",
    "force_field_info",
    "force_field_names",
    "force_field_status",
    "get_force_field",
]


class AseForceField:
    """Any ASE calculator, one crystal at a time.

    Parameters
    ----------
    calculator
        An ASE calculator that gives energy, forces and stress.
    """

    def __init__(
        self,
        calculator: Calculator,
        *,
        name: str,
        version: str = "unknown",
        scale: str = "unknown",
        max_atomic_number: int = 118,
    ) -> None:
        self.calculator = calculator
        self.name = name
        self.version = version
        self.scale = scale
        self.max_atomic_number = max_atomic_number

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
        """A prediction or a reason for each crystal."""
        return [evaluate_batch([a], self._predict)[0] for a in atoms]

    def _predict(self, atoms: Sequence[Atoms]) -> list[Prediction]:
        found = []
        for original in atoms:
            a = original.copy()
            a.calc = self.calculator
            energy = float(a.get_potential_energy())
            forces, stress = np.array(a.get_forces(), dtype=float), np.array(a.get_stress(), dtype=float)
            found.append(Prediction(energy, forces, stress))
        return found


class SevenNetForceField(AseForceField):
    """SevenNet-0 of July 2024 (Park et al., JCTC 20, 4857, 2024), trained on MPtrj."""

    def __init__(self, device: str = "cpu") -> None:
        info = force_field_info("sevennet")
        super().__init__(
            _quietly(_sevennet, device),
            name=info.name,
            version=info.version,
            scale=info.scale,
            max_atomic_number=info.max_atomic_number,
        )


def _sevennet(device: str) -> Calculator:
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator("7net-0", device=device)


def _mattersim(device: str) -> Calculator:
    from mattersim.forcefield import MatterSimCalculator

    return MatterSimCalculator(load_path="MatterSim-v1.0.0-1M.pth", device=device)


def _mace(device: str) -> Calculator:
    from mace.calculators import mace_mp

    return mace_mp(model="medium", device=device, default_dtype="float64")


def _orb(device: str) -> Calculator:
    from orb_models.forcefield import pretrained
    from orb_models.forcefield.inference.calculator import ORBCalculator

    model, adapter = pretrained.orb_v3_conservative_inf_mpa(device=device, compile=False)
    return ORBCalculator(model, atoms_adapter=adapter, device=device)


def _fairchem(device: str) -> Calculator:
    from fairchem.core import FAIRChemCalculator, pretrained_mlip

    unit = pretrained_mlip.get_predict_unit("uma-s-1p1", device=device)
    return FAIRChemCalculator(unit, task_name="omat")


@dataclass(frozen=True)
class _Entry:
    module: str  # what is imported
    package: str  # what is installed
    install: str  # what to type
    model: str
    scale: str
    make: Callable[[str], Calculator] | None
    downloads: bool = False  # weights come on first use, not with the package
    max_atomic_number: int = 118


_ENTRIES = {
    "chgnet": _Entry("chgnet", "chgnet", "chgnet", "0.3.0", "materials_project", None, max_atomic_number=94),
    "sevennet": _Entry(
        "sevenn", "sevenn", '"crysjepa[sevennet]"', "7net-0", "materials_project_uncorrected", _sevennet
    ),
    "mattersim": _Entry(
        "mattersim", "mattersim", "mattersim", "v1.0.0-1M", "materials_project_uncorrected", _mattersim, True
    ),
    "mace": _Entry(
        "mace", "mace-torch", "mace-torch", "mp-medium", "materials_project_uncorrected", _mace, True
    ),
    "orb": _Entry(
        "orb_models",
        "orb-models",
        '"orb-models>=0.6"',
        "v3-conservative-inf-mpa",
        "materials_project_uncorrected",
        _orb,
        True,
    ),
    "fairchem": _Entry(
        "fairchem", "fairchem-core", "fairchem-core", "uma-s-1p1 (omat)", "omat24", _fairchem, True
    ),
}


@dataclass(frozen=True)
class ForceFieldInfo:
    """What is known of a force field without loading it; see :class:`ForceField`."""

    name: str
    version: str
    scale: str
    max_atomic_number: int


def force_field_names() -> list[str]:
    """The names that :func:`get_force_field` knows."""
    return list(_ENTRIES)


def force_field_info(name: str) -> ForceFieldInfo:
    """Name, version and scale of a force field, without loading its weights.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if name in _ENTRIES:
        entry = _ENTRIES[name]
        version = (
            entry.model
            if entry.make is None
            else f"{entry.model} ({entry.package} {_version(entry.package)})"
        )
        return ForceFieldInfo(name, version, entry.scale, entry.max_atomic_number)
    module, _ = _split_path(name)
    return ForceFieldInfo(name, _version(module.split(".")[0]), "unknown", 118)


def get_force_field(name: str, device: str = "cpu") -> ForceField:
    """Load a force field.

    Parameters
    ----------
    name
        A name from :func:`force_field_names`, or ``"module:attribute"`` for a callable that returns an
        ASE calculator, such as ``"ase.calculators.emt:EMT"``. It is called with ``device=`` when it has
        such a parameter, and else without arguments.
    device
        ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    ValueError
        For an unknown name.
    ImportError
        When its package is absent; the message says what to install.
    """
    info = force_field_info(name)
    if name == "chgnet":
        _require(name)
        return ChgnetForceField(device)
    if name in _ENTRIES:
        _require(name)
        make = _ENTRIES[name].make
        assert make is not None
        calculator = _quietly(make, device)
    else:
        module, attribute = _split_path(name)
        factory = getattr(importlib.import_module(module), attribute, None)
        if not callable(factory):
            raise ImportError(f"{module} has nothing callable named {attribute}")
        calculator = _quietly(_call_with_device, factory, device)
    return AseForceField(
        calculator,
        name=info.name,
        version=info.version,
        scale=info.scale,
        max_atomic_number=info.max_atomic_number,
    )


def force_field_status() -> list[tuple[str, bool, str]]:
    """For every known name: does it work here, and what there is to say. Nothing is downloaded."""
    return [(name, *_status(name)) for name in _ENTRIES]


def _status(name: str) -> tuple[bool, str]:
    entry = _ENTRIES[name]
    try:
        _require(name)
        if entry.downloads:
            importlib.import_module(entry.module)
            return True, f"{force_field_info(name).version}; its weights are fetched on first use"
        from ase.build import bulk

        result = get_force_field(name).evaluate([bulk("NaCl", "rocksalt", a=5.64)])[0]
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything; it is reported
        return False, str(error) if isinstance(error, ImportError) else describe_error(error)
    return (False, result) if isinstance(result, str) else (True, force_field_info(name).version)


def _require(name: str) -> None:
    entry = _ENTRIES[name]
    if importlib.util.find_spec(entry.module) is None:
        raise ImportError(f"the force field {name!r} needs a package: pip install {entry.install}")


def _split_path(name: str) -> tuple[str, str]:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(
            f"no force field {name!r}: it is one of {', '.join(_ENTRIES)}, or module:attribute for an ASE "
            "calculator, such as ase.calculators.emt:EMT"
        )
    return module, attribute


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _call_with_device(factory: Callable[..., Any], device: str) -> Any:
    try:
        takes_device = "device" in inspect.signature(factory).parameters
    except ValueError:  # compiled callables have no signature
        takes_device = False
    return factory(device=device) if takes_device else factory()


def _quietly(make: Callable[..., Any], *arguments: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return make(*arguments)
