"""The verb ``doctor``: what works here."""

from __future__ import annotations

import torch

from crysjepa.nn.checkpoint import read_header
from crysjepa.relaxation.force_fields.status import force_field_status
from crysjepa.runtime.run_directory import versions
from crysjepa.weights import shipped


def doctor() -> list[tuple[str, bool, str]]:
    """What works here: (name, whether it works, detail) for libraries, devices, weights and force fields."""
    found = [(name, True, version) for name, version in versions().items()]
    for name in ("jepa", "generator"):
        header = read_header(shipped(name))
        found.append((f"weights: {name}", True, f"{header['origin']['steps']} steps"))
    cuda = torch.cuda.is_available()
    detail = (
        torch.cuda.get_device_name() if cuda else f"no CUDA device that torch {torch.__version__} can use"
    )
    found += [("device: cpu", True, f"{torch.get_num_threads()} threads"), ("device: cuda", cuda, detail)]
    return found + [(f"force field: {n}", works, detail) for n, works, detail in force_field_status()]
