"""The other side of :mod:`crysjepa.relaxation.force_fields.elsewhere`, run by another environment's Python.

``python -m crysjepa.relaxation.force_fields.serve NAME`` prints what is known of a force field as JSON;
with a device after it, it loads the force field and evaluates what comes in on standard input.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from dataclasses import asdict
from typing import IO, Any

import numpy as np

import crysjepa
from crysjepa.relaxation.force_fields.base import ForceField, Prediction
from crysjepa.relaxation.force_fields.messages import read, write
from crysjepa.relaxation.force_fields.registry import (
    force_field_info,
    force_field_names,
    get_force_field,
    require_installed,
)
from crysjepa.runtime.errors import DeviceFault, describe_error


def told(name: str) -> dict[str, Any]:
    """What is known of a force field without loading it, and the version of crysjepa that knows."""
    found: dict[str, Any] = {"crysjepa": crysjepa.__version__, "error": None, "lacks": None}
    try:
        found |= asdict(force_field_info(name))
    except (ValueError, FileNotFoundError) as error:
        return found | {"error": [type(error).__name__, str(error)]}
    try:
        if name.partition("@")[0] in force_field_names():
            require_installed(name)
    except ImportError as error:
        found["lacks"] = str(error)
    return found


def serve(name: str, device: str, requests: IO[bytes], replies: IO[bytes]) -> None:
    """Load, and answer until nobody asks any more: then the process ends, whatever it is at."""
    try:
        field = get_force_field(name, device)
    except Exception as error:  # noqa: BLE001 - a library raises anything; the other side says it
        write(replies, {}, {"trouble": describe_error(error)})
        return
    write(replies, {}, {"trouble": None})
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                waiting.put(read(requests)[0])
        except EOFError:
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        write(replies, *answer(field, waiting.get()))


def answer(field: ForceField, asked: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Energies (B,), forces (N, 3), stresses (B, 6), and the reason of each crystal that has none."""
    from ase import Atoms

    ends = np.cumsum(asked["sizes"])[:-1]
    parts = (np.split(asked["numbers"], ends), np.split(asked["positions"], ends), asked["cells"])
    atoms = [Atoms(n, positions=x, cell=c, pbc=True) for n, x, c in zip(*parts, strict=True)]
    try:
        found = field.evaluate(atoms)
    except DeviceFault as error:
        return {}, {"fault": str(error)}
    known = [f if isinstance(f, Prediction) else _nothing(len(a)) for f, a in zip(found, atoms, strict=True)]
    arrays = {
        "energies": np.array([k.energy for k in known]),
        "forces": np.concatenate([k.forces for k in known]),
        "stresses": np.stack([k.stress for k in known]),
    }
    return arrays, {"fault": None, "reasons": [f if isinstance(f, str) else None for f in found]}


def _nothing(num_sites: int) -> Prediction:
    return Prediction(np.nan, np.full((num_sites, 3), np.nan), np.full(6, np.nan))


def main() -> None:
    """Standard output is for messages alone: what libraries print goes to standard error."""
    name, *device = sys.argv[1:]
    if not device:
        print(json.dumps(told(name)))
        return
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(name, device[0], sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
