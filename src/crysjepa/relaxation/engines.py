"""What takes the steps of a relaxation: an ASE optimiser for each crystal, or torch-sim's for all at once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib import metadata

from crysjepa.core.crystals import Crystals
from crysjepa.relaxation.batch_optimizer import relax_together
from crysjepa.relaxation.course import Outcome
from crysjepa.relaxation.force_fields.registry import (
    get_for_worker,
    python_of,
    torch_sim_names,
    wrapped_by_torch_sim,
)
from crysjepa.relaxation.settings import RelaxSettings
from crysjepa.runtime.notes import UsageError

_PACKAGE = "torch-sim-atomistic"


def check_engine(engine: str, force_field: str) -> None:
    """Raise UsageError where an engine cannot do with a force field, ImportError where it is not there."""
    if engine != "torch-sim":
        return
    if not wrapped_by_torch_sim(force_field):
        raise UsageError(
            f"torch-sim has no model of the force field {force_field!r}: it has of "
            f"{', '.join(torch_sim_names())}, and of checkpoints of your own for these; the engine crysjepa "
            "does with any"
        )
    if (python := python_of(force_field)) is not None:
        raise UsageError(f"torch-sim relaxes in one environment with its force field, not by {python}")
    if importlib.util.find_spec("torch_sim") is None:
        raise ImportError(
            'the engine torch-sim needs a package, and Python 3.12: pip install "crysjepa[torchsim]"'
        )


def engine_version(engine: str) -> str | None:
    """Which torch-sim it is; None for the engine that comes with crysjepa.

    Raises importlib.metadata.PackageNotFoundError where it is not installed.
    """
    return f"torch-sim {metadata.version(_PACKAGE)}" if engine == "torch-sim" else None


def set_up_worker(name: str, device: str, settings: RelaxSettings) -> Callable[[Crystals], list[Outcome]]:
    """In a worker: load a force field and look at it once; then relax chunks with it, on one thread."""
    if settings.engine == "torch-sim":
        from crysjepa.relaxation.torch_sim_engine import relax_by_torch_sim
        from crysjepa.relaxation.torch_sim_model import TorchSimForceField, get_torch_sim_force_field

        model = get_for_worker(name, device, get_torch_sim_force_field)
        assert isinstance(model, TorchSimForceField)
        return lambda chunk: relax_by_torch_sim(chunk, model, settings)
    loaded = get_for_worker(name, device)
    return lambda chunk: relax_together(chunk, loaded, settings)
