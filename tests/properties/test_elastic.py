"""Elastic constants against energies, and against relaxation of strained crystals."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.optimize import BFGS

from crysjepa.core.crystals import Crystals
from crysjepa.properties.elastic import STEP, Elasticity, elasticity, strained_cells
from crysjepa.properties.rest import AtRest, at_rest
from crysjepa.relaxation.force_fields.base import ForceField, Prediction
from crysjepa.relaxation.force_fields.registry import AseForceField, get_force_field


@pytest.fixture(scope="module")
def emt() -> ForceField:
    return get_force_field("ase.calculators.emt:EMT")


def resting(atoms: Atoms, force_field: ForceField) -> Atoms:
    found = at_rest(Crystals.from_atoms([atoms], ["x"]), force_field)
    assert isinstance(found, AtRest)
    return found.primitive


def alloy() -> Atoms:
    """CuAu₂ on a bcc lattice stacked in three layers (MoSi₂ type): ions follow a strain."""
    return Atoms(
        "CuAu2",
        scaled_positions=[[0, 0, 0], [1 / 3, 1 / 3, 0], [2 / 3, 2 / 3, 0]],
        cell=np.array([[-1, 1, 3], [1, -1, 3], [1, 1, -3]]) * 3.1 / 2,
        pbc=True,
    )


def test_bulk_modulus_is_that_of_the_equation_of_state(emt: ForceField) -> None:
    atoms = resting(bulk("Cu", "fcc", a=3.6), emt)
    found = elasticity(atoms, emt)
    assert isinstance(found, Elasticity)
    volumes, energies = [], []
    for scale in np.linspace(0.985, 1.015, 9):
        other = atoms.copy()
        other.set_cell(atoms.cell * scale, scale_atoms=True)
        other.calc = EMT()
        volumes.append(other.get_volume())
        energies.append(other.get_potential_energy())
    expected = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()[2] / units.GPa
    assert found.bulk_modulus == pytest.approx(expected, rel=0.01)
    assert found.stable and found.min_eigenvalue > 10


def test_copper_is_cubic(emt: ForceField) -> None:
    found = elasticity(bulk("Cu", "fcc", a=3.59, cubic=True), emt)
    assert isinstance(found, Elasticity)
    c = found.constants
    np.testing.assert_allclose(c[[0, 1, 2], [0, 1, 2]], c[0, 0], rtol=1e-3)
    np.testing.assert_allclose(c[[3, 4, 5], [3, 4, 5]], c[3, 3], rtol=1e-3)
    np.testing.assert_allclose(c[:3, 3:], 0, atol=0.5)
    expected = sorted([c[0, 0] + 2 * c[0, 1], *[c[0, 0] - c[0, 1]] * 2, *[2 * c[3, 3]] * 3])
    assert found.min_eigenvalue == pytest.approx(expected[0], rel=0.01)


def test_bcc_copper_gives_way(emt: ForceField) -> None:
    found = elasticity(resting(bulk("Cu", "bcc", a=2.87), emt), emt)
    assert isinstance(found, Elasticity)
    assert not found.stable and found.min_eigenvalue < -1
    assert found.bulk_modulus is None


def test_eigenvalues_do_not_depend_on_how_the_crystal_lies(emt: ForceField) -> None:
    atoms = resting(bulk("Cu", "fcc", a=3.6), emt)
    turned = atoms.copy()
    turned.rotate(41, (3, 1, 2), rotate_cell=True)
    one, two = elasticity(atoms, emt), elasticity(turned, emt)
    assert isinstance(one, Elasticity) and isinstance(two, Elasticity)
    assert one.min_eigenvalue == pytest.approx(two.min_eigenvalue, rel=0.01)
    assert one.bulk_modulus == pytest.approx(two.bulk_modulus, rel=0.01)


def test_ions_are_where_a_relaxation_would_put_them(emt: ForceField) -> None:
    atoms = resting(alloy(), emt)
    found = elasticity(atoms, emt)
    assert isinstance(found, Elasticity)
    relaxed, clamped = [], []
    for strained in strained_cells(atoms, STEP):
        strained.calc = EMT()
        clamped.append(strained.get_stress())
        BFGS(strained, logfile=None).run(fmax=1e-4, steps=200)
        relaxed.append(strained.get_stress())
    slope = [(np.array(s)[::2] - np.array(s)[1::2]) / (2 * STEP) / units.GPa for s in (relaxed, clamped)]
    np.testing.assert_allclose(found.constants, (slope[0] + slope[0].T) / 2, atol=0.5)
    assert np.abs(slope[0] - slope[1]).max() > 2  # or the ions do not move, and nothing is tested


def test_a_sign_that_depends_on_the_step_is_no_verdict() -> None:
    class Kinked(EMT):
        """Shear is stiff up to a small angle, and soft beyond."""

        def calculate(self, *args: object, **kwargs: object) -> None:
            super().calculate(*args, **kwargs)
            at = self.atoms.cell.array
            shear = at[0] @ at[1] / (np.linalg.norm(at[0]) * np.linalg.norm(at[1]))
            strength = 1.0 if abs(shear) < 0.75 * STEP else -1.0
            self.results["stress"] = np.array([0, 0, 0, 0, 0, strength * shear]) + self.results["stress"] * [
                *[1] * 5,
                0,
            ]

    found = elasticity(bulk("Cu", "fcc", a=3.59, cubic=True), AseForceField(Kinked(), name="kinked"))
    assert isinstance(found, str) and "changes sign" in found


def test_ions_that_do_not_rest_have_a_reason() -> None:
    class Repelled:
        """Each ion is pushed away from where it is."""

        name, version, scale, max_atomic_number = "repelled", "1", "unknown", 118

        def evaluate(self, atoms: list[Atoms]) -> list[Prediction | str]:
            start = bulk("NaCl", "rocksalt", a=5.6)
            return [Prediction(0.0, a.positions - start.positions, np.zeros(6)) for a in atoms]

    found = elasticity(bulk("NaCl", "rocksalt", a=5.6), Repelled())
    assert isinstance(found, str) and "soft or imaginary" in found
