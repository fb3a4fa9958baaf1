"""Holes in force fields, and starts that are only too dense."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from nasty_force_field import Constant

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.energy.hull import Hull
from crysjepa.evaluation.criteria import evaluate_table
from crysjepa.ranking.registry import RankerContext, make_ranker
from crysjepa.relaxation.batch_optimizer import relax_together
from crysjepa.relaxation.energy_bounds import energy_bounds
from crysjepa.relaxation.force_fields.base import static_energies
from crysjepa.relaxation.force_fields.registry import AseForceField, get_force_field
from crysjepa.relaxation.settings import RelaxSettings

MP = "materials_project"


@pytest.fixture(scope="module")
def chgnet():
    return get_force_field("chgnet")


def gadolinium():
    """Two atoms 2.1 Å apart, of which CHGNet says -238.8 eV/atom."""
    return Atoms("Gd2", positions=[[0, 0, 0], [2.1, 0, 0]], cell=[4.5] * 3, pbc=True)


def relaxed(atoms, force_field, **settings):
    return relax_together(Crystals.from_atoms([atoms], ["x"]), force_field, RelaxSettings(**settings))[0]


def test_a_hole_is_noticed_at_the_first_evaluation(chgnet):
    outcome = relaxed(gadolinium(), chgnet)
    assert outcome.crystal is None and outcome.record is None
    assert "-238.8 eV/atom is below the floor of these elements, -20.1" in outcome.reason


def test_a_hole_is_ranked_last_with_a_reason():
    salt = bulk("NaCl", "rocksalt", a=5.64)
    hull = Hull.from_entries(["NaCl"], [-2.1], scale=MP, source="test")
    context = RankerContext(Crystals.from_atoms([salt], ["known"]), hull=hull)
    scores = make_ranker("chgnet", context).score(Crystals.from_atoms([gadolinium(), salt], ["hole", "salt"]))
    assert scores["hole"].value is None and "-224.7 eV/atom of formation is below -6" in scores["hole"].reason
    assert scores["salt"].value == pytest.approx(0, abs=0.1)


def test_a_given_energy_that_is_none_fails_and_is_not_stable():
    salts = (("NaCl", 5.6), ("KCl", 6.3))
    crystals = Crystals.from_atoms([bulk(f, "rocksalt", a=a) for f, a in salts], ["hole", "salt"])
    table = CandidateTable.from_crystals(crystals).with_column(
        "energy_per_atom", {"hole": -224.7, "salt": -2.0}, "Float64"
    )
    references = ElementalReferences({"Na": 0.0, "K": 0.0, "Cl": 0.0}, "x", MP, "test")
    hull = Hull.from_entries(["NaCl", "KCl"], [-2.1, -2.1], scale=MP, source="test")
    judged = evaluate_table(table, hull=hull, references=references)
    assert judged.column("stable") == [None, True] and judged.column("e_above_hull")[0] is None
    assert judged.column("status")[0] == "failed" and "below -6" in judged.column("reason")[0]


@pytest.mark.parametrize("a", [2.6, 2.8, 3.3])
def test_a_dense_start_relaxes_to_rock_salt(chgnet, a):
    outcome = relaxed(bulk("NaCl", "rocksalt", a=a), chgnet)
    assert outcome.reason is None and outcome.record.converged
    assert outcome.record.energy_per_atom == pytest.approx(-3.668, abs=0.002)
    assert (4 * outcome.crystal.volumes[0]) ** (1 / 3) == pytest.approx(5.69, abs=0.05)


def test_a_ceiling_is_for_what_is_not_relaxed():
    high = AseForceField(Constant(-0.1, (50.0, 50.0, -1.0)), name="sevennet", scale=f"{MP}_uncorrected")
    copper = bulk("Cu", cubic=True)
    assert "above the ceiling of these elements, 15.9" in relaxed(copper, high, max_steps=0).reason
    high.calculator.calls = 0
    assert relaxed(copper, high, max_steps=3).reason is None


def test_where_the_zero_is_not_known_a_fall_is_a_hole_unless_atoms_part():
    copper = bulk("Cu", cubic=True)
    for pressure, said in ((0.1, "the energy fell by more than 50 eV/atom"), (-0.1, None)):
        outcome = relaxed(copper, AseForceField(Constant(pressure, (0.0, -60.0)), name="own"), max_steps=2)
        assert outcome.reason == said


def test_scales():
    assert energy_bounds("ase.calculators.emt:EMT", "unknown") is None
    numbers = np.array([29, 95])  # americium has no reference: it may be as low as any
    for name, scale in (("chgnet", MP), ("mace", f"{MP}_uncorrected"), ("fairchem", "omat24")):
        bounds = energy_bounds(name, scale)
        assert bounds.too_low(-14.0, numbers) is None and bounds.too_low(-25.0, numbers)
        assert bounds.too_high(9.0, numbers) is None and bounds.too_high(60.0, numbers)


def test_known_crystals_are_far_within_the_bounds(chgnet):
    table = datasets.load("known")
    crystals = table.crystals()
    energies = np.array(table.column("formation_energy_per_atom", crystals.ids), dtype=float)
    small = np.flatnonzero((crystals.num_atoms <= 8) & np.isfinite(energies))
    order = small[np.argsort(energies[small])]
    extremes = crystals[np.concatenate([order[:20], order[-20:], order[:: len(order) // 20]])]
    bounds = energy_bounds("chgnet", MP)
    for crystal, energy in zip(extremes, static_energies(chgnet, extremes.to_atoms()), strict=True):
        per_atom, numbers = energy / len(crystal.atomic_numbers), crystal.atomic_numbers
        assert bounds.too_low(per_atom - 1.0, numbers) is None
        assert bounds.too_high(per_atom + 10.0, numbers) is None
