"""Properties that a force field calculates: moduli, and hardness by correlation with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.properties.base import Calibration, How, Measured, Property
from crysjepa.properties.elastic import elasticity
from crysjepa.properties.moduli import CHEN_OFFSET, chen_hardness, estimated_bulk_moduli
from crysjepa.properties.rest import at_rest
from crysjepa.relaxation.checks import unfit
from crysjepa.relaxation.force_fields.registry import get_for_worker
from crysjepa.relaxation.relax import default_workers
from crysjepa.runtime.executors import device_for, open_pool
from crysjepa.runtime.threads import ONE_THREAD

AT_ONCE = 32
"""Crystals whose bulk modulus is estimated in one task."""
AT_REST = "elastic constants of the crystal at rest, its ions relaxed (Voigt–Reuss–Hill)"
SECONDS = 300.0
"""For each task."""
BULK: Mapping[str, Calibration] = {
    "chgnet": Calibration(1.08, 0.20, 200),
    "sevennet-l3i5": Calibration(0.99, 0.16, 200),
}
BULK_AT_REST: Mapping[str, Calibration] = {
    "chgnet": Calibration(1.11, 0.25, 140),
}
SHEAR: Mapping[str, Calibration] = {
    "chgnet": Calibration(2.71, 0.44, 140),
}
"""Against DFT's elastic constants of crystals of the Materials Project: ``benchmarks/moduli.py``."""

Answer = dict[str, float] | str
"""Values by property, or why there are none."""


def bulk_modulus() -> Property:
    """How hard a crystal is to compress, from two evaluations."""
    return Property(
        name="bulk_modulus", unit="GPa", description="resistance against compression",
        source="stresses of a cell stretched and shrunk by 1 %, ions held, the pressure corrected for",
        measure=lambda table, how: _one(
            "bulk_modulus", calculated(table, how, "estimate"), BULK.get(how.force_field)
        ),
        by_force_field=True, calibrations=BULK,
    )  # fmt: skip


def shear_modulus() -> Property:
    """How hard a crystal is to shear."""
    return Property(
        name="shear_modulus", unit="GPa", description="resistance against shear", source=AT_REST,
        measure=lambda table, how: _one(
            "shear_modulus", calculated(table, how, "elastic"), SHEAR.get(how.force_field)
        ),
        by_force_field=True, at_rest=True, calibrations=SHEAR,
    )  # fmt: skip


def hardness() -> Property:
    """Vickers hardness by its correlation with both moduli."""

    def measure(table: CandidateTable, how: How) -> Measured:
        answers = calculated(table, how, "elastic")
        bulk = _one("bulk_modulus", answers, BULK_AT_REST.get(how.force_field))
        shear = _one("shear_modulus", answers, SHEAR.get(how.force_field)).values
        return Measured({i: chen_hardness(k, shear[i]) for i, k in bulk.values.items()}, bulk.reasons)

    return Property(
        name="hardness", unit="GPa", source=f"{AT_REST}, scaled as the moduli are, by Chen's correlation",
        description="Vickers hardness by its correlation with both moduli (Chen et al., Intermetallics 19, "
        "1275 (2011)): an estimate of polycrystals",
        measure=measure, by_force_field=True, at_rest=True, calibrations=_spread_of_hardness(),
        offset=CHEN_OFFSET,
    )  # fmt: skip


def _spread_of_hardness() -> dict[str, Calibration]:
    """That of 2 (G³/K²)^0.585, as if errors of G and K were independent."""
    found = {}
    for name in BULK_AT_REST.keys() & SHEAR.keys():
        bulk, shear = BULK_AT_REST[name], SHEAR[name]
        spread = 0.585 * math.hypot(3 * shear.spread, 2 * bulk.spread)
        found[name] = Calibration(1.0, spread, 0)
    return found


def calculated(table: CandidateTable, how: How, what: str) -> dict[str, Answer]:
    """What workers, each with the force field loaded once, say of every row; the same on any number of them.

    ``what`` is ``"estimate"`` or ``"elastic"``. A crystal that kills its worker, or takes too long, has that
    for a reason.
    """
    crystals, found = table.crystals(table.ids), dict[str, Answer]()
    if not len(crystals):
        return found
    each = AT_ONCE if what == "estimate" else 1
    tasks = [crystals[slice(start, start + each)] for start in range(0, len(crystals), each)]
    device = device_for("check", how.device)
    workers = min(how.processes or default_workers(device, "check"), len(tasks))
    with open_pool("check", _set_up, (how.force_field, device, what), workers, ONE_THREAD) as pool:
        for task in tasks:
            pool.submit(task.ids, task, SECONDS, tries=2)
        for ids, done in pool.results():
            if done.kind == "done":
                found |= dict(zip(ids, done.value, strict=True))
            elif len(ids) == 1:
                found[ids[0]] = f"the force field's {done.trouble} on this crystal"
            else:  # one of them is to blame, and shall not cost the others theirs
                for id_ in ids:
                    pool.submit((id_,), crystals.select([id_]), SECONDS, tries=2)
            if how.progress is not None:
                how.progress("moduli", len(found), len(crystals))
    return found


def _set_up(name: str, device: str, what: str) -> Callable[[Crystals], list[Answer]]:
    """In a worker: load a force field and look at it once."""
    loaded = get_for_worker(name, device)
    work = _estimates if what == "estimate" else _elastic
    return lambda crystals: work(crystals, loaded)


def _estimates(crystals: Crystals, force_field: Any) -> list[Answer]:
    answers: list[Answer] = [unfit(c, force_field.max_atomic_number) or "" for c in crystals]
    fit = [row for row, reason in enumerate(answers) if not reason]
    if not fit:
        return answers
    atoms = crystals[fit].to_atoms()
    for row, modulus in zip(fit, estimated_bulk_moduli(atoms, force_field), strict=True):
        if isinstance(modulus, str):
            answers[row] = modulus
        elif not math.isfinite(modulus):
            answers[row] = "the bulk modulus is not finite"
        else:
            answers[row] = {"bulk_modulus": modulus}
    return answers


def _elastic(crystals: Crystals, force_field: Any) -> list[Answer]:
    return [_moduli(crystal, force_field) for crystal in crystals]


def _moduli(crystal: Crystals, force_field: Any) -> Answer:
    rest = at_rest(crystal, force_field)
    found = rest if isinstance(rest, str) else elasticity(rest.primitive, force_field)
    if isinstance(found, str):
        return found
    bulk, shear = found.bulk_modulus, found.shear_modulus
    if bulk is None or shear is None:
        return "not stable against strain"
    if bulk <= 0 or shear <= 0:
        return f"bulk and shear modulus {bulk:.0f} and {shear:.0f} GPa: not both above 0"
    return {"bulk_modulus": bulk, "shear_modulus": shear}


def _one(name: str, answers: Mapping[str, Answer], calibration: Calibration | None) -> Measured:
    factor = 1.0 if calibration is None else calibration.factor
    values = {i: factor * a[name] for i, a in answers.items() if isinstance(a, dict)}
    return Measured(values, {i: a for i, a in answers.items() if isinstance(a, str)})
