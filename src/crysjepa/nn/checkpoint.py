"""Weights on disk: one safetensors file whose header carries what is needed to use them.

The header's ``crysjepa`` entry is JSON: the kind of model, its configuration and scalers, and where it
came from (data hash, seed, version, steps). Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from crysjepa.runtime.files import replacing

_KEY = "crysjepa"
_SMALL = 100_000
"""Whole numbers in settings up to here need no look: steps, timesteps and the like."""


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
    try:
        header = json.loads(metadata[_KEY])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is not valid JSON ({error})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its header is no object of JSON")
    return header


Network = TypeVar("Network", bound=nn.Module)


def filled(build: Callable[[], Network], tensors: Mapping[str, Tensor], settings: Any) -> Network:
    """The network that ``build`` makes by ``settings``, with these weights.

    Shapes are compared before any memory is taken for it.

    Raises
    ------
    CheckpointError
        If settings and weights contradict each other, or a weight is not a finite number.
    """
    numbers = sum(tensor.numel() for tensor in tensors.values())
    for name, value in _whole_numbers(settings):
        most = len(tensors) if name == "layers" else max(numbers, _SMALL)
        if value > most:
            raise CheckpointError(f"{name} = {value}, with {len(tensors)} tensors of {numbers} numbers")
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in build().state_dict().items()}
    for name in sorted(wanted.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != wanted.get(name):
            raise CheckpointError(f"{name} is of shape {found}, its settings say {wanted.get(name)}")
        if tensors[name].is_floating_point() and not bool(torch.isfinite(tensors[name]).all()):
            raise CheckpointError(f"{name} holds a number that is not finite")
    network = build()
    network.load_state_dict(dict(tensors))
    return network


def _whole_numbers(settings: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Name and value of each whole number in settings from JSON."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _whole_numbers(value, str(key))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _whole_numbers(value, name)
    elif isinstance(settings, int) and not isinstance(settings, bool):
        yield name, settings


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn the many ways in which a header and weights can contradict this version into CheckpointError."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path} is damaged, or of another version of crysjepa: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RuntimeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0][:200]
        raise CheckpointError(f"{path} was made by another version of crysjepa: {what}") from error
