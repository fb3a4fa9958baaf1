"""A force field in another Python environment, where its library can be installed and here it cannot.

``CRYSJEPA_PYTHON_MACE=/envs/mace/bin/python`` names the interpreter of an environment with
``crysjepa[mace]``, for all force fields of that library; so do ``CRYSJEPA_PYTHON_SEVENNET``, …_CHGNET,
…_FAIRCHEM, …_MATTERSIM and …_ORB. It runs :mod:`crysjepa.relaxation.force_fields.serve`, which answers over
pipes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import crysjepa
from crysjepa.relaxation.force_fields.base import Prediction, evaluate_batch
from crysjepa.relaxation.force_fields.messages import read, write
from crysjepa.runtime.errors import DeviceFault
from crysjepa.runtime.notes import UsageError

if TYPE_CHECKING:
    from ase import Atoms

_VARIABLE = "CRYSJEPA_PYTHON_"
_SERVE = "crysjepa.relaxation.force_fields.serve"
INFO_LIMIT = 300.0
"""Seconds in which the other environment must say what it has."""


def python_for(library: str) -> Path | None:
    """The interpreter for a library's force fields; None for this one.

    Raises UsageError where the variable names none.
    """
    name = _VARIABLE + library.upper()
    if not (named := os.environ.get(name)):
        return None
    if not os.access(named, os.X_OK) or Path(named).is_dir():
        raise UsageError(f"{name} names no interpreter: {named}")
    return Path(named)


def told_by(python: Path, name: str) -> dict[str, Any]:
    """What the other environment says of a force field: name, version, scale, max_atomic_number, functional;
    ``lacks``, what its library lacks there, or None.

    Raises
    ------
    RuntimeError
        Where it cannot be asked, or has another version of crysjepa.
    ValueError, FileNotFoundError
        As :func:`crysjepa.relaxation.force_fields.registry.force_field_info` does there.
    """
    return dict(_told_by(python, name))


@lru_cache
def _told_by(python: Path, name: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            _command(python, name), env=_environment(), capture_output=True, text=True, timeout=INFO_LIMIT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{python} cannot be asked for {name!r}: {error}") from error
    said = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode or not said.startswith("{"):
        why = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise RuntimeError(f"{python} cannot be asked for {name!r} (exit code {done.returncode}): {why}")
    found: dict[str, Any] = json.loads(said)
    if (theirs := found.pop("crysjepa")) != crysjepa.__version__:
        raise RuntimeError(
            f"{python} has crysjepa {theirs}, and this is {crysjepa.__version__}: install the same there"
        )
    if (refused := found.pop("error")) is not None:
        raise (FileNotFoundError if refused[0] == "FileNotFoundError" else ValueError)(refused[1])
    return found


class ElsewhereForceField:
    """A force field whose evaluations another environment's interpreter does.

    A process that dies is started anew, and the batch done in halves, down to the crystal that it dies on.

    Raises RuntimeError where it cannot be loaded there, ImportError where its library is absent.
    """

    def __init__(self, python: Path, name: str, device: str) -> None:
        told = told_by(python, name)
        if told["lacks"]:
            raise ImportError(f"{told['lacks']} (in the environment of {python})")
        self.name, self.version, self.scale = told["name"], told["version"], told["scale"]
        self.max_atomic_number: int = told["max_atomic_number"]
        self._python, self._device = python, device
        self._process: subprocess.Popen[bytes] | None = None
        self._running()

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
        """A prediction or a reason for each crystal."""
        found: list[Prediction | str] = evaluate_batch(list(atoms), self._ask, _as_it_is) if atoms else []
        return found

    def close(self) -> None:
        """End the process; the next evaluation starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what was not sent yet
                    if pipe is not None:
                        pipe.close()

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [*_command(self._python, self.name), self._device], env=_environment(),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            _, said = self._receive()
            if said["trouble"] is not None:
                self.close()
                raise RuntimeError(f"{said['trouble']} (in the environment of {self._python})")
        return self._process

    def _receive(self) -> tuple[dict[str, Any], dict[str, Any]]:
        process = self._process
        assert process is not None and process.stdout is not None
        try:
            return read(process.stdout)
        except EOFError:
            code = process.wait()
            self.close()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise RuntimeError(f"the process of {self._python} died ({how})") from None

    def _ask(self, atoms: Sequence[Atoms]) -> list[Any]:
        process = self._running()
        assert process.stdin is not None
        sizes = [len(a) for a in atoms]
        asked = {
            "sizes": np.array(sizes),
            "numbers": np.concatenate([a.numbers for a in atoms]),
            "positions": np.concatenate([a.positions for a in atoms]),
            "cells": np.stack([a.cell.array for a in atoms]),
        }
        with contextlib.suppress(BrokenPipeError):  # it is dead: what is read says how
            write(process.stdin, asked, {})
        arrays, said = self._receive()
        if said["fault"] is not None:
            self.close()
            raise DeviceFault(said["fault"])
        forces = np.split(arrays["forces"], np.cumsum(sizes)[:-1])
        parts = zip(arrays["energies"], forces, arrays["stresses"], said["reasons"], strict=True)
        return [reason or Prediction(float(e), f.copy(), s.copy()) for e, f, s, reason in parts]


def _as_it_is(found: Prediction | str) -> Prediction | str:
    """It was checked over there."""
    return found


def _command(python: Path, name: str) -> list[str]:
    return [str(python), "-P", "-m", _SERVE, name]


def _environment() -> dict[str, str]:
    """Without what leads an interpreter back to this environment."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONHOME" and not k.startswith(_VARIABLE)}
