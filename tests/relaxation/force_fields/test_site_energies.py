"""CHGNet's energies by site."""

import numpy as np
import pytest

from crysjepa.relaxation.force_fields.chgnet import ChgnetForceField


@pytest.fixture(scope="module")
def force_field():
    return ChgnetForceField()


def test_site_energies_sum_to_the_energy(force_field, rocksalt_and_alloy):
    atoms = rocksalt_and_alloy
    by_site = force_field.site_energies(atoms)
    totals = force_field.energies(atoms)
    assert [len(e) for e in by_site] == [len(a) for a in atoms]
    np.testing.assert_allclose([e.sum() for e in by_site], totals, rtol=1e-5)


def test_a_crystal_without_energies_has_a_reason_and_costs_no_other(force_field, rocksalt_and_alloy):
    unknown = rocksalt_and_alloy[0].copy()
    unknown.numbers[:] = 100
    found = force_field.site_energies([unknown, rocksalt_and_alloy[0]])
    assert "not Z = 100" in found[0]
    assert len(found[1]) == len(rocksalt_and_alloy[0])


@pytest.fixture(scope="module")
def rocksalt_and_alloy():
    from ase.build import bulk

    return [bulk("NaCl", "rocksalt", a=5.64), bulk("Cu", "fcc", a=3.6) * (2, 1, 1)]
