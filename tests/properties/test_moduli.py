"""Moduli by a force field: the quick estimate against elastic constants, and hardness of diamond."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.properties import find_property
from crysjepa.properties.base import Calibration, How, Property
from crysjepa.properties.by_force_field import calculated
from crysjepa.properties.elastic import Elasticity, elasticity
from crysjepa.properties.moduli import chen_hardness, estimated_bulk_moduli
from crysjepa.properties.rest import AtRest, at_rest
from crysjepa.relaxation.force_fields.base import ForceField, Prediction
from crysjepa.relaxation.force_fields.registry import get_force_field

EMT = "ase.calculators.emt:EMT"


@pytest.fixture(scope="module")
def emt() -> ForceField:
    return get_force_field(EMT)


def scaled(atoms: Atoms, strain: float) -> Atoms:
    other = atoms.copy()
    other.set_cell(atoms.cell * (1 + strain), scale_atoms=True)
    return other


@pytest.fixture(scope="module")
def copper(emt: ForceField) -> Atoms:
    """At rest."""
    found = at_rest(Crystals.from_atoms([bulk("Cu", "fcc", a=3.6)], ["x"]), emt)
    assert isinstance(found, AtRest)
    return found.primitive


@pytest.fixture(scope="module")
def modulus(copper: Atoms, emt: ForceField) -> float:
    """Copper's, from its elastic constants."""
    found = elasticity(copper, emt)
    assert isinstance(found, Elasticity) and found.bulk_modulus is not None
    return found.bulk_modulus


def metals(*symbols: str) -> CandidateTable:
    return CandidateTable.from_crystals(Crystals.from_atoms([bulk(s) for s in symbols], list(symbols)))


def test_the_estimate_agrees_with_elastic_constants(copper: Atoms, modulus: float, emt: ForceField) -> None:
    (found,) = estimated_bulk_moduli([copper], emt)
    assert found == pytest.approx(modulus, rel=0.05)


def test_the_pressure_of_a_cell_is_corrected_for(copper: Atoms, modulus: float, emt: ForceField) -> None:
    """Without it, the modulus would be some 20 % off."""
    strained = [scaled(copper, strain) for strain in (-0.015, 0.015)]
    small, large = estimated_bulk_moduli(strained, emt)
    assert small == pytest.approx(modulus, rel=0.15) and large == pytest.approx(modulus, rel=0.15)
    (alone,) = estimated_bulk_moduli(strained[:1], emt)
    assert alone == small, "whatever stands beside it"


class Held:
    """A solid of one modulus (eV/Å³) and one pressure, whatever its cell."""

    name, version, scale, max_atomic_number = "held", "1", "unknown", 118

    def __init__(self, modulus: float, pressure: float, volume: float) -> None:
        self.modulus, self.pressure, self.volume = modulus, pressure, volume

    def evaluate(self, atoms: list[Atoms]) -> list[Prediction | str]:
        stresses = [self.modulus * np.log(a.get_volume() / self.volume) - self.pressure for a in atoms]
        return [
            Prediction(0.0, np.zeros((len(a), 3)), np.array([s] * 3 + [0.0] * 3))
            for a, s in zip(atoms, stresses, strict=True)
        ]


@pytest.mark.parametrize("modulus", [1.0, -1.0])
@pytest.mark.parametrize(("pressure", "expected"), [(0, 1), (0.05, 0.8), (-0.05, 1.2)])
def test_of_a_solid_with_a_given_slope(modulus: float, pressure: float, expected: float) -> None:
    atoms = bulk("Cu", "fcc", a=3.6)
    field = Held(modulus, pressure, atoms.get_volume())
    (found,) = estimated_bulk_moduli([atoms], field)
    assert isinstance(found, float)
    assert found / 160.2177 == pytest.approx(modulus - 1 + expected, abs=0.01)


@pytest.mark.parametrize("modulus", [1.0, -1.0])
@pytest.mark.parametrize(("pressure", "factor"), [(9.0, 0.5), (-9.0, 2.0)])
def test_the_correction_is_held_within_the_modulus(modulus: float, pressure: float, factor: float) -> None:
    """A high pressure makes K lower, also where it is below 0 already."""
    atoms = bulk("Cu", "fcc", a=3.6)
    (found,) = estimated_bulk_moduli([atoms], Held(modulus, pressure, atoms.get_volume()))
    expected = factor if modulus > 0 else -1 / factor
    assert isinstance(found, float)
    assert found / 160.2177 == pytest.approx(expected, abs=0.01)


def test_diamond_is_hard_and_nothing_is_softer_than_nothing() -> None:
    assert chen_hardness(443, 535) == pytest.approx(95, abs=2)
    assert chen_hardness(100, 5) == 0
    assert chen_hardness(200, 150) > chen_hardness(200, 100) > chen_hardness(300, 100)


def test_what_the_force_field_does_not_know_has_a_reason() -> None:
    found = calculated(metals("Cu", "Fe", "Au"), How(force_field=EMT, processes=1), "estimate")
    assert list(found) == ["Cu", "Fe", "Au"] and isinstance(found["Fe"], str) and found["Fe"]
    assert isinstance(found["Cu"], dict) and isinstance(found["Au"], dict)
    measured = find_property("bulk_modulus").measure(metals("Cu", "Fe"), How(force_field=EMT, processes=1))
    assert set(measured.values) == {"Cu"} and measured.reasons == {"Fe": found["Fe"]}
    assert measured.values["Cu"] == found["Cu"]["bulk_modulus"], "no factor is known of it"


@pytest.mark.slow
def test_processes_change_nothing() -> None:
    for what in ("estimate", "elastic"):
        one, two = (
            calculated(metals("Cu", "Au", "Fe"), How(force_field=EMT, processes=n), what) for n in (1, 2)
        )
        assert one == two, what


@pytest.mark.slow
def test_moduli_at_rest_and_hardness_by_them(modulus: float) -> None:
    how = How(force_field=EMT, processes=1)
    answers = calculated(metals("Cu", "Fe"), how, "elastic")
    copper = answers["Cu"]
    assert isinstance(copper, dict) and copper["bulk_modulus"] == pytest.approx(modulus, rel=0.01)
    shear, hardness = (
        find_property(n).measure(metals("Cu", "Fe"), how) for n in ("shear_modulus", "hardness")
    )
    assert shear.values == {"Cu": copper["shear_modulus"]}
    assert hardness.values == {"Cu": chen_hardness(copper["bulk_modulus"], copper["shear_modulus"])}
    assert set(shear.reasons) == {"Fe"} == set(hardness.reasons)


def test_none_of_no_crystals() -> None:
    table = metals("Cu")
    empty = CandidateTable(table.frame.iloc[:0].reset_index(drop=True))
    assert calculated(empty, How(force_field=EMT), "estimate") == {}


def test_a_property_says_by_whom_and_how_far_it_errs() -> None:
    for name in ("bulk_modulus", "shear_modulus", "hardness"):
        one: Property = find_property(name)
        known: Calibration = one.calibrations["chgnet"]
        assert one.by_force_field and one.error(200.0, "chgnet") == pytest.approx(
            (200 + one.offset) * known.spread
        )
        worst = max(c.spread for c in one.calibrations.values())
        assert one.spread(EMT) == worst, "of a force field that was not compared with DFT"
        assert "never compared with DFT" in one.source_by(EMT)
        said = str(known.num) if known.num else "follows from those of both moduli"
        assert one.source_by("chgnet").startswith("chgnet: ") and said in one.source_by("chgnet")
    assert find_property("density").source_by("chgnet") == "structure"
