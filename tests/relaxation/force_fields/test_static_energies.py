"""Energies alone, without forces."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from crysjepa.relaxation.force_fields.base import check_energy, evaluate_batch, static_energies
from crysjepa.relaxation.force_fields.registry import get_force_field


def strange():
    """Two ordinary crystals about one that cannot be evaluated."""
    alone = Atoms("H", cell=30 * np.eye(3), pbc=True)
    return [bulk("NaCl", "rocksalt", a=5.64), alone, bulk("Fe", "bcc", a=2.87)]


def test_chgnet_gives_the_same_energies_as_with_forces():
    force_field = get_force_field("chgnet")
    fast, full = static_energies(force_field, strange()), force_field.evaluate(strange())
    assert fast[1] == full[1] and "no neighbour" in fast[1]
    assert [fast[0], fast[2]] == pytest.approx([full[0].energy, full[2].energy], abs=1e-5)
    assert static_energies(force_field, []) == []


def test_a_force_field_without_them_is_asked_for_all():
    force_field = get_force_field("ase.calculators.emt:EMT")
    assert not hasattr(force_field, "energies")
    found = static_energies(force_field, [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64)])
    assert found[0] == pytest.approx(force_field.evaluate([bulk("Cu")])[0].energy)
    assert "force field failed" in found[1]


def test_an_energy_that_is_not_finite_costs_no_other():
    assert evaluate_batch([1.0, np.nan], lambda b: [float(x) for x in b], check_energy) == [
        1.0,
        "the force field's energy is not finite",
    ]

    def picky(batch):
        if 2.0 in batch:
            raise RuntimeError("no twos")
        return list(batch)

    found = evaluate_batch([1.0, 2.0, 3.0], picky, check_energy)
    assert found[::2] == [1.0, 3.0] and "no twos" in found[1]
