"""Weights on disk: one safetensors file whose header carries what is needed to use them.

The header's ``crysjepa`` entry is JSON: the kind of model, its configuration and scalers, and where it
came from (data hash, seed, version, steps). Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from crysjepa.runtime.files import replacing

_KEY = "crysjepa"


class CheckpointError(ValueError):
    """The file is not a checkpoint that this version can use."""


def save(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and their header, all or nothing."""
    contiguous = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with replacing(path) as partial:
        save_file(contiguous, partial, metadata={_KEY: json.dumps(header, sort_keys=True)})
        partial.chmod(0o644)  # safetensors writes files that only their owner may read


def load(path: str | Path, *, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU, as float32 where they were stored in half precision) and header.

    Raises
    ------
    CheckpointError
        If the file is missing, is no safetensors file, or holds another kind of model.
    """
    header = read_header(path)
    if header.get("kind") != kind:
        raise CheckpointError(f"{path} holds {header.get('kind', 'something else')!r}, not {kind!r}")
    with safe_open(str(path), framework="pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - not a mapping
    half = (torch.bfloat16, torch.float16)
    return {k: v.float() if v.dtype in half else v for k, v in tensors.items()}, header


def read_header(path: str | Path) -> dict[str, Any]:
    """The header alone, without reading the weights. Raises CheckpointError as :func:`load` does."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no safetensors checkpoint: {error}") from error
    if _KEY not in metadata:
        raise CheckpointError(f"{path} was not written by crysjepa: its header lacks {_KEY!r}")
    return json.loads(metadata[_KEY])


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn the many ways in which a header and weights can contradict this version into CheckpointError."""
    try:
        yield
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} was made by another version of crysjepa: {error}") from error
