"""The force fields by name: CHGNet, others through their ASE calculators, and any ASE calculator at all."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from crysjepa.relaxation.force_fields.ase_calculator import AseForceField
from crysjepa.relaxation.force_fields.base import ForceField, Prediction
from crysjepa.relaxation.force_fields.chgnet import ChgnetForceField
from crysjepa.relaxation.force_fields.elsewhere import ElsewhereForceField, python_for, told_by
from crysjepa.relaxation.force_fields.entries import ENTRIES, Entry
from crysjepa.relaxation.force_fields.self_test import probe
from crysjepa.runtime.errors import describe_error
from crysjepa.runtime.files import file_hash

__all__ = [
    "AseForceField",
    "ChgnetForceField",
    "ForceField",
    "ForceFieldInfo",
    "Prediction",
    "force_field_info",
    "force_field_names",
    "get_force_field",
]

ADAPTERS = "crysjepa.relaxation.force_fields.adapters"


@dataclass(frozen=True)
class ForceFieldInfo:
    """What is known of a force field without loading it; see :class:`ForceField`.

    ``functional`` is that of the DFT it was trained on.
    """

    name: str
    version: str
    scale: str
    max_atomic_number: int
    functional: str = "unknown"


def imports_of(name: str) -> tuple[str, ...]:
    """Modules that every worker with this force field imports; of a calculator by path nothing is known."""
    entry, _ = _entry(name)
    if entry is None or python_of(name) is not None:
        return ()
    return ("torch", "chgnet.model") if entry.adapter is None else ("torch",)


def force_field_names() -> list[str]:
    """The names that :func:`get_force_field` knows."""
    return list(ENTRIES)


def force_field_info(name: str) -> ForceFieldInfo:
    """Name, version and scale of a force field, without loading its weights.

    Raises ValueError for an unknown name, FileNotFoundError for a checkpoint that is not there.
    """
    entry, checkpoint = _entry(name)
    if entry is None:
        module, _ = _split_path(name)
        return ForceFieldInfo(name, _version(module.split(".")[0]), "unknown", 118)
    if (python := python_of(name)) is not None:
        told = told_by(python, name)
        return ForceFieldInfo(**{f.name: told[f.name] for f in fields(ForceFieldInfo)})
    model, scale, functional = entry.model, entry.scale, entry.functional
    if checkpoint is not None:
        known = _published(entry, checkpoint)  # somebody's own: who knows what it was trained on
        scale, functional = (known.scale, known.functional) if known else ("unknown", "unknown")
        model = f"{checkpoint.name} {file_hash(checkpoint)[:12]}"
    version = model if entry.adapter is None else f"{model} ({entry.package} {_version(entry.package)})"
    return ForceFieldInfo(name, version, scale, entry.max_atomic_number, functional)


def get_force_field(name: str, device: str = "cpu") -> ForceField:
    """Load a force field.

    Parameters
    ----------
    name
        A name from :func:`force_field_names`; such a name with a checkpoint of your own,
        ``"mattersim-5m@/data/mattersim-v1.0.0-5M.pth"``; or ``"module:attribute"`` for a callable that
        returns an ASE calculator, such as ``"ase.calculators.emt:EMT"``. It is called with ``device=`` when
        it has such a parameter, and else without arguments.
    device
        ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    ValueError
        For an unknown name.
    FileNotFoundError
        For a checkpoint that is not there.
    ImportError
        When its package is absent; the message says what to install.
    RuntimeError
        When weights cannot be had; the message says how to bring them.
    """
    if (python := python_of(name)) is not None:
        return ElsewhereForceField(python, name, device)
    entry, _ = _entry(name)
    if entry is not None and entry.adapter is None:
        require_installed(name)
        return ChgnetForceField(device)
    loaded = load_calculator(name, device)
    info = loaded.info
    return AseForceField(
        loaded.calculator,
        name=info.name,
        version=info.version,
        scale=info.scale,
        max_atomic_number=info.max_atomic_number,
        cutoff=loaded.cutoff,
    )


@dataclass(frozen=True)
class Loaded:
    """An ASE calculator, and what is known of it. ``entry`` is None where it has no name of ours."""

    calculator: Any
    entry: Entry | None
    info: ForceFieldInfo
    cutoff: float | None


def load_calculator(name: str, device: str) -> Loaded:
    """A force field's ASE calculator. Raises as :func:`get_force_field` does; CHGNet has none here."""
    info = force_field_info(name)
    entry, checkpoint = _entry(name)
    if entry is None:
        return Loaded(quietly(_from_path, name, device), None, info, None)
    require_installed(name)
    make = importlib.import_module(f"{ADAPTERS}.{entry.adapter}").calculator
    try:
        calculator = quietly(make, checkpoint or entry.model, device)
    except Exception as error:
        if checkpoint is None and entry.file is not None:
            raise RuntimeError(
                f"the weights of {name!r} ({entry.model}) could not be loaded or downloaded "
                f"({describe_error(error)}): fetch them where there is a network, and name the file, "
                f"as in {name}@/path/to/{entry.file}"
            ) from error
        raise
    return Loaded(calculator, entry, info, _cutoff(calculator, entry, checkpoint))


def torch_sim_names() -> list[str]:
    """Names of the force fields that torch-sim has a model of."""
    return [name for name in ENTRIES if wrapped_by_torch_sim(name)]


def wrapped_by_torch_sim(name: str) -> bool:
    """Whether torch-sim has a model of a force field: of each library with an adapter, not of CHGNet and not
    of any other ASE calculator.

    Raises as :func:`force_field_info` does.
    """
    entry, _ = _entry(name)
    return entry is not None and entry.adapter is not None


def get_for_worker(
    name: str, device: str, load: Callable[[str, str], ForceField] | None = None
) -> ForceField:
    """A force field for a worker process, which it sets to one thread: loaded (by :func:`get_force_field`, or
    otherwise), and looked at once.

    Raises as :func:`get_force_field` does, and RuntimeError for one that cannot be trusted
    (:func:`~crysjepa.relaxation.force_fields.self_test.probe`).
    """
    loaded = (load or get_force_field)(name, device)
    if "torch" in sys.modules:  # not worth its import for a force field without it
        sys.modules["torch"].set_num_threads(1)
    if trouble := probe(loaded, must_know_any=False):
        raise RuntimeError(f"the force field {name!r} cannot be trusted: {trouble}")
    return loaded


def _cutoff(calculator: Any, entry: Entry | None, checkpoint: Path | None) -> float | None:
    """Å: what the library's calculator says, or is known of the published model; None for any other."""
    if entry is None:
        return None
    for name in ("cutoff", "r_max"):  # SevenNet's and MACE's
        value = getattr(calculator, name, None)
        if isinstance(value, int | float):
            return float(value)
    return entry.cutoff if checkpoint is None else None


def is_model(name: str, published: str, model: str) -> bool:
    """Whether a force field is the one called ``published`` with that ``model``: by its name, or by a
    checkpoint that is called as its publisher calls it (``mace@/data/mace-mp-0b3-medium.model``).
    """
    known = ENTRIES.get(published)
    return known is not None and known.model == model and _published(*_entry(name)) is known


def _published(entry: Entry | None, checkpoint: Path | None) -> Entry | None:
    """The entry whose published weights these are; None for somebody's own."""
    if entry is None or checkpoint is None:
        return entry
    files = {e.file.lower(): e for e in ENTRIES.values() if e.adapter == entry.adapter and e.file}
    return files.get(checkpoint.name.lower())


def _entry(name: str) -> tuple[Entry | None, Path | None]:
    """What a name stands for, and the checkpoint after its @; (None, None) for an import path."""
    known, at, path = name.partition("@")
    if known not in ENTRIES or (at and (not path or ENTRIES[known].adapter is None)):
        _split_path(name)
        return None, None
    if at and not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint {path} for the force field {known!r}")
    return ENTRIES[known], Path(path) if at else None


def python_of(name: str) -> Path | None:
    """The interpreter of the environment that a force field is evaluated in
    (:mod:`~crysjepa.relaxation.force_fields.elsewhere`); None for this one.

    Raises as :func:`force_field_info` does, and UsageError where no interpreter is.
    """
    entry, _ = _entry(name)
    return None if entry is None else python_for(entry.adapter or entry.package)


def require_installed(name: str) -> None:
    """Raise ImportError, with what to install, where a force field with a name lacks its package."""
    entry, _ = _entry(name)
    assert entry is not None
    if (python := python_of(name)) is not None:
        if lacks := told_by(python, name)["lacks"]:
            raise ImportError(f"{lacks} (in the environment of {python})")
        return
    try:  # a folder of that name counts as a module: its package must be there, too
        found = importlib.util.find_spec(entry.module.split(".")[0]) and metadata.version(entry.package)
    except metadata.PackageNotFoundError:
        found = None
    if not found:
        raise ImportError(f"the force field {name!r} needs a package: pip install {entry.install}")


def _split_path(name: str) -> tuple[str, str]:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(
            f"no force field {name!r}: it is one of {', '.join(ENTRIES)}, one of these with a checkpoint of "
            "your own (mattersim@FILE), or module:attribute for an ASE calculator, such as "
            "ase.calculators.emt:EMT"
        )
    return module, attribute


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _from_path(name: str, device: str) -> Any:
    module, attribute = _split_path(name)
    factory = getattr(importlib.import_module(module), attribute, None)
    if not callable(factory):
        raise ImportError(f"{module} has nothing callable named {attribute}")
    try:
        takes_device = "device" in inspect.signature(factory).parameters
    except ValueError:  # compiled callables have no signature
        takes_device = False
    return factory(device=device) if takes_device else factory()


def quietly(make: Callable[..., Any], *arguments: Any) -> Any:
    """What it makes, without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return make(*arguments)
