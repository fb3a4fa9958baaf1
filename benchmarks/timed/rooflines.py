"""Floating-point operations a second of the networks, beside a matrix product that does nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from crysjepa.generators.registry import make_generator
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.relaxation.force_fields.chgnet import ChgnetForceField
from timed.rows import Plan

SIDE = 2000


def peak() -> float:
    """GFLOP/s of one thread in a matrix product of SIDE by SIDE in single precision."""
    torch.set_num_threads(1)
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    return 2 * SIDE**3 / _median_seconds(lambda: a @ b) / 1e9


def _median_seconds(work: Callable[[], object], rounds: int = 5) -> float:
    work()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def _roofline(what: str, work: Callable[[], object], num: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    work()
    with FlopCounterMode(display=False) as counter:
        work()
    seconds = _median_seconds(work)
    return {"what": what, "num": num, "flop": counter.get_total_flops() / num, "seconds": seconds / num}


def embedding(plan: Plan) -> dict[str, Any]:
    """Crys-JEPA, from crystals to embeddings."""
    crystals, model = plan.generated(plan.number(1000)), CrysJepa.load()
    return _roofline("Crys-JEPA, an embedding", lambda: model.embed(crystals), len(crystals))


def chgnet_energies(plan: Plan) -> dict[str, Any]:
    """Our CHGNet, energies alone, from atoms."""
    atoms, force_field = plan.generated(plan.number(200)).to_atoms(), ChgnetForceField()
    return _roofline("CHGNet, an energy", lambda: force_field.energies(atoms), len(atoms))


def chgnet_forces(plan: Plan) -> dict[str, Any]:
    """Our CHGNet, with forces and stress."""
    atoms, force_field = plan.generated(plan.number(200)).to_atoms(), ChgnetForceField()
    return _roofline("CHGNet, energy, forces and stress", lambda: force_field.evaluate(atoms), len(atoms))


def flow(plan: Plan) -> dict[str, Any]:
    """The flow, a crystal from noise."""
    generator, num = make_generator("flow"), plan.number(200)
    return _roofline("flow, a crystal", lambda: generator.sample(num, seed=2), num)


ROOFLINES: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "embedding-roofline": embedding,
    "chgnet-energy-roofline": chgnet_energies,
    "chgnet-forces-roofline": chgnet_forces,
    "flow-roofline": flow,
}
