"""Phonons by EMT: what is known to be at rest in a minimum, and what is not."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from crysjepa.checks.phonons import (
    MAX_ATOMS,
    MIN_SPACING,
    PhonopyMissing,
    check_phonopy,
    phonons,
    supercell,
)
from crysjepa.core.crystals import Crystals
from crysjepa.properties.rest import AtRest, at_rest, standardised
from crysjepa.relaxation.force_fields.base import ForceField, Prediction
from crysjepa.relaxation.force_fields.registry import get_force_field

pytest.importorskip("phonopy")


def crystal(atoms: Atoms) -> Crystals:
    return Crystals.from_atoms([atoms], ["x"])


@pytest.fixture(scope="module")
def emt() -> ForceField:
    return get_force_field("ase.calculators.emt:EMT")


def resting(atoms: Atoms, force_field: ForceField) -> AtRest:
    found = at_rest(crystal(atoms), force_field)
    assert isinstance(found, AtRest)
    return found


class Springs:
    """A simple cubic crystal of springs k (eV/Å²) between nearest neighbours, along the bonds only."""

    name, version, scale, max_atomic_number = "springs", "1", "unknown", 118

    def __init__(self, k: float) -> None:
        self.k = k

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Prediction | str]:
        found: list[Prediction | str] = []
        for a in atoms:
            n = round(len(a) ** (1 / 3))
            spacing = a.cell.lengths()[0] / n
            sites = np.round(a.positions / spacing)
            moved = a.positions - sites * spacing
            grid = np.empty((n, n, n), dtype=int)
            grid[tuple((sites.astype(int) % n).T)] = np.arange(len(a))
            forces = np.zeros((len(a), 3))
            for axis in range(3):
                for step in (1, -1):
                    other = np.empty(len(a), dtype=int)
                    other[grid.reshape(-1)] = np.roll(grid, step, axis=axis).reshape(-1)
                    forces[:, axis] += self.k * (moved[other, axis] - moved[:, axis])
            found.append(Prediction(0.0, forces, np.zeros(6)))
        return found


def test_frequencies_are_those_of_the_chain() -> None:
    # along a chain, ω² = 4 k / m · sin²(q/2): highest at the zone's edge, and 0 across it
    atoms = bulk("Po", "sc", a=4.0)
    found = phonons(AtRest(atoms, atoms), Springs(1.0))
    assert not isinstance(found, str)
    assert found.num_atoms == 8 and found.spacing == pytest.approx(8.0)
    assert found.min_frequency_gamma is None
    assert found.min_frequency == pytest.approx(0, abs=1e-4)
    upside_down = phonons(AtRest(atoms, atoms), Springs(-1.0))
    assert not isinstance(upside_down, str)
    omega = np.sqrt(4 * 1.602176634e-19 * 1e20 / (atoms.get_masses()[0] * 1.66053906892e-27))
    assert upside_down.min_frequency == pytest.approx(-omega / (2 * np.pi * 1e12), rel=1e-5)
    assert upside_down.stable is False


def test_fcc_copper_is_stable_and_bcc_copper_is_not(emt: ForceField) -> None:
    fcc = phonons(resting(bulk("Cu", "fcc", a=3.6), emt), emt)
    bcc = phonons(resting(bulk("Cu", "bcc", a=2.87), emt), emt)
    assert not isinstance(fcc, str) and not isinstance(bcc, str)
    assert fcc.stable is True and fcc.min_frequency is not None and fcc.min_frequency > 1
    assert bcc.stable is False and bcc.min_frequency is not None and bcc.min_frequency < -0.5
    assert fcc.remark is None and fcc.spacing >= MIN_SPACING


def test_cell_and_orientation_change_nothing(emt: ForceField) -> None:
    primitive = bulk("Cu", "fcc", a=3.6)
    other = bulk("Cu", "fcc", a=3.6, cubic=True) * (1, 1, 2)
    other.rotate(37, (1, 2, 3), rotate_cell=True)
    one, two = (phonons(resting(a, emt), emt) for a in (primitive, other))
    assert not isinstance(one, str) and not isinstance(two, str)
    assert one.min_frequency == pytest.approx(two.min_frequency, abs=2e-2)


def test_an_ordered_alloy_has_optical_modes(emt: ForceField) -> None:
    atoms = bulk("Cu", "fcc", a=3.75, cubic=True)
    atoms.symbols[0] = "Au"
    found = phonons(resting(atoms, emt), emt)
    assert not isinstance(found, str)
    assert found.min_frequency_gamma is not None and found.min_frequency_gamma > 2
    assert found.min_frequency is not None and found.min_frequency <= found.min_frequency_gamma


def test_supercells_are_wide_or_as_wide_as_may_be() -> None:
    fcc = standardised(crystal(bulk("Cu", "fcc", a=3.6)))
    unit, multiples = supercell(fcc) or (None, None)
    assert unit is not None and multiples is not None
    assert (
        len(unit) * np.prod(multiples) == 64
    )  # 4 × 4 × 4 primitive cells; 3 × 3 × 3 conventional ones have 108
    flat = Atoms(
        "Cu150", positions=np.random.default_rng(0).uniform(0, 4, (150, 3)), cell=[4, 30, 30], pbc=True
    )
    assert supercell(AtRest(flat, flat)) == (flat, (1, 1, 1))
    many = flat * (2, 1, 1)
    assert len(many) > MAX_ATOMS and supercell(AtRest(many, many)) is None


def test_a_narrow_supercell_is_told() -> None:
    from crysjepa.checks.phonons import Phonons

    assert "4.0 Å across" in str(Phonons(None, 1.0, 4.0, 150).remark)


def test_without_phonopy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phonopy", None)
    with pytest.raises(PhonopyMissing, match=r"crysjepa\[phonons\]"):
        check_phonopy()


def test_what_a_force_field_does_not_know_has_a_reason(emt: ForceField) -> None:
    found = at_rest(crystal(bulk("Fe", "bcc", a=2.87)), emt)
    assert isinstance(found, str) and "force field" in found


def test_a_crystal_that_moves_is_told(emt: ForceField) -> None:
    assert resting(bulk("Cu", "fcc", a=3.61), emt).remark is None
    assert "+" not in str(resting(bulk("Cu", "fcc", a=3.8), emt).remark)
    assert "%" in str(resting(bulk("Cu", "fcc", a=3.8), emt).remark)
