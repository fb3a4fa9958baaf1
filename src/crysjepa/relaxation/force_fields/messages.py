"""Messages between processes of two environments: a length, then safetensors. Nothing in them is run."""

from __future__ import annotations

import json
import struct
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

_LENGTH = struct.Struct("<Q")
_SAID = "said"


def write(pipe: IO[bytes], arrays: dict[str, NDArray[Any]], said: dict[str, Any]) -> None:
    """Send arrays, and what JSON can hold. Raises BrokenPipeError where nobody reads."""
    text = np.frombuffer(json.dumps(said).encode(), dtype=np.uint8)
    body = save({**{k: np.ascontiguousarray(v) for k, v in arrays.items()}, _SAID: text})
    pipe.write(_LENGTH.pack(len(body)) + body)
    pipe.flush()


def read(pipe: IO[bytes]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The next message. Raises EOFError at the end, and where a message breaks off."""
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    arrays = load(_exactly(pipe, length))
    return arrays, json.loads(arrays.pop(_SAID).tobytes())


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = pipe.read(count)
        if not part:
            raise EOFError("the message breaks off")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
