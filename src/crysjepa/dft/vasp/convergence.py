"""Whether VASP converged: by the last changes of the energy and by the forces, not by steps that were left.

A relaxation that was stopped early (by a STOPCAR, or by a script short of its time) leaves fewer steps than
NSW and a complete vasprun.xml, as a converged one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NO_STEP = "no ionic step"
EDIFF_PER_ATOM = 5e-5
"""Of MPRelaxSet and MPStaticSet, eV; taken where a file does not state its own."""
_LOOK_BACK = 2
"""Ionic steps that the last one is compared with: a conjugate-gradient step may be a trial, thrown away."""
_DIGITS = 2e-8
"""Energies are written with eight decimals, in eV."""


@dataclass(frozen=True)
class Convergence:
    """Why the electrons and the ions are not converged; None where they are."""

    electronic: str | None = None
    ionic: str | None = None


def convergence(
    steps: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    num_atoms: int,
    *,
    completed: bool = False,
) -> Convergence:
    """Judge the ionic steps of pymatgen's Vasprun or of emmet's documents.

    Parameters
    ----------
    steps
        Each with ``e_fr_energy`` (eV, the whole cell), ``forces`` (N, 3) in eV/Å and ``electronic_steps``, or
        ``num_electronic_steps`` in their place; what is missing is not judged by.
    parameters
        With NELM, NSW, EDIFF and EDIFFG; as VASP does, EDIFFG is ten times EDIFF where it is not stated.
    completed
        Whether somebody who saw more says that all converged: steps are not counted then.
    """
    if not steps:
        return Convergence(NO_STEP)
    ediff = abs(_number(parameters.get("EDIFF")) or EDIFF_PER_ATOM * num_atoms)
    electronic = _electronic(steps[-1], parameters, ediff, completed)
    return Convergence(electronic, _ionic(steps, parameters, ediff, completed))


def _electronic(
    last: Mapping[str, Any], parameters: Mapping[str, Any], ediff: float, completed: bool
) -> str | None:
    loop = last.get("electronic_steps") or ()
    count = len(loop) or last.get("num_electronic_steps") or 0
    most = parameters.get("NELM", 60)
    if not completed and count >= most >= 1:
        return "the last electronic loop ran out of steps"
    energies = [_number(step.get("e_fr_energy")) for step in loop]
    if len(energies) < 2 or energies[-1] is None or energies[-2] is None:
        return None
    change = abs(energies[-1] - energies[-2])
    if change <= ediff + _DIGITS:
        return None
    return f"the last electronic loop stopped at a change of {change:.2g} eV (EDIFF {ediff:.2g})"


def _ionic(
    steps: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], ediff: float, completed: bool
) -> str | None:
    most = parameters.get("NSW", 0)
    if most <= 1:
        return None
    if not completed and len(steps) >= most:
        return "the relaxation ran out of steps"
    stated = _number(parameters.get("EDIFFG"))
    limit = 10 * ediff if stated is None else stated
    if limit < 0:
        forces = steps[-1].get("forces")
        if forces is None:
            return None
        largest = float(np.linalg.norm(np.asarray(forces, dtype=float).reshape(-1, 3), axis=1).max())
        if largest <= -limit:
            return None
        return f"the relaxation stopped at a force of {largest:.2g} eV/Å (EDIFFG {limit:.2g})"
    energies = [_number(step.get("e_fr_energy")) for step in steps[-1 - _LOOK_BACK :]]
    if energies[-1] is None:
        return None
    if len(steps) == 1:
        return None if completed else "the relaxation stopped after one step"
    changes = [abs(energies[-1] - energy) for energy in energies[:-1] if energy is not None]
    if not changes or min(changes) <= limit + _DIGITS:
        return None
    return f"the relaxation stopped at a change of {min(changes):.2g} eV (EDIFFG {limit:.2g})"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
