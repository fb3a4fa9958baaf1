"""The search for competitors and the closed hull, with EMT for a force field."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.spacegroup import crystal
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from crysjepa.closed_hull.judged import COLUMNS, competitor_table, systems_to_close, with_closed_hull
from crysjepa.closed_hull.prototypes import Prototypes
from crysjepa.closed_hull.search import Closed, CompeteSettings, Pool, Search
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.chemical_systems import element_fractions
from crysjepa.core.crystals import Crystals
from crysjepa.energy.elemental_references import ElementalReferences
from crysjepa.energy.hull import Hull
from crysjepa.generators.substitution.parents import Parents
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.relaxation.relax import RelaxSettings

pytestmark = pytest.mark.slow

EMT = "ase.calculators.emt:EMT"
CU_AU = (29, 79)
CUBIC = [5.5, 5.5, 5.5, 90, 90, 90]
SETTINGS = CompeteSettings(
    static=6, relaxed=3, rounds=3, margin=50.0, relaxation=RelaxSettings(fmax=0.1, max_steps=30)
)


def alloys() -> Crystals:
    """L1_2, L1_0, B2 and zinc blende, of silver and palladium."""
    l12 = bulk("Ag", "fcc", a=4.0, cubic=True)
    l12.numbers[0] = 46
    l10 = bulk("Ag", "fcc", a=4.0, cubic=True)
    l10.numbers[:2] = 46
    blende = crystal(
        ["Ag", "Pd"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=216, cellpar=[5.5] * 3 + [90] * 3
    )
    return Crystals.from_atoms(
        [l12, l10, bulk("AgPd", "cesiumchloride", a=3.2), blende], ["l12", "l10", "b2", "zb"]
    )


@pytest.fixture(scope="module")
def prototypes() -> Prototypes:
    return Prototypes.of(Parents.of(CandidateTable.from_crystals(alloys()), "alloys"))


@pytest.fixture(scope="module")
def references() -> ElementalReferences:
    zero = {Element.from_Z(z).symbol: 0.0 for z in range(1, 101)}
    return ElementalReferences(zero, EMT, "materials_project", "nothing", None, None)


class _Flat(Search):
    """A search whose predictions are all alike, so that nothing depends on a model."""

    def pool(self, crystals: Crystals) -> Pool:
        return Pool(crystals, np.zeros(len(crystals)), np.zeros(len(crystals)), element_fractions(crystals))


@pytest.fixture(scope="module")
def search(prototypes, references, tiny) -> Search:
    hull = Hull.from_entries(["CuAg"], [-1e-4], scale="materials_project", source="nothing much")
    return _Flat(
        prototypes, CrysJepa.load(tiny.jepa), hull, references,
        force_field=EMT, settings=SETTINGS, processes=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def closed(search):
    return search.close([CU_AU])


def test_it_finds_compounds_and_the_hull_goes_down(search, closed):
    assert len(closed.crystals) > 0
    assert closed.hull_before is search.hull
    assert closed.num_tried == closed.tried[CU_AU] >= closed.num_relaxed[CU_AU] == len(closed.crystals)
    for composition in closed.crystals.compositions():
        assert closed.hull.energy(composition) <= (search.hull.energy(composition) or 0.0)
    assert min(closed.energies) < 0, "copper and gold mix, by EMT too"


def test_it_goes_down_to_the_convex_hull_of_what_was_relaxed(closed):
    entries = [PDEntry(Composition(s), 0.0) for s in ("Cu", "Au")]
    entries += [
        PDEntry(c, e * c.num_atoms)
        for c, e in zip(closed.crystals.compositions(), closed.energies, strict=True)
    ]
    oracle = PhaseDiagram(entries)
    for composition in closed.crystals.compositions():
        height = oracle.get_hull_energy_per_atom(composition)
        assert closed.hull.energy(composition) == pytest.approx(min(height, 0.0), abs=1e-7)


def test_no_formula_is_relaxed_more_than_twice_a_round(closed):
    formulas = closed.crystals.reduced_formulas()
    assert max(formulas.count(f) for f in formulas) <= 2 * SETTINGS.rounds


def test_it_converges_and_says_so(search, prototypes):
    everything = SETTINGS.model_copy(update={"static": 100, "relaxed": 100, "rounds": 8})
    search = _Flat(
        prototypes, search.model, search.hull, search.references, force_field=EMT, settings=everything,
        processes=1,
    )  # fmt: skip
    assert search.close([CU_AU]).converged == {CU_AU: True}


def test_the_same_again_from_shards(search, closed, tmp_path):
    def found():
        again = _Flat(
            search.prototypes, search.model, search.hull, search.references, force_field=EMT,
            settings=SETTINGS, processes=2, shards=tmp_path,
        ).close([CU_AU])  # fmt: skip
        return competitor_table(again).content_hash()

    first = found()
    assert first == found() == competitor_table(closed).content_hash()


def test_a_hole_in_the_force_field_is_no_competitor(prototypes, references, tiny):
    class _Deep(_Flat):
        def pool(self, crystals):
            flat = super().pool(crystals)
            return Pool(flat.crystals, flat.predicted + 40.0, flat.gains, flat.fractions)

    hull = Hull.from_entries(["CuAg"], [-1e-4], scale="materials_project", source="nothing much")
    search = _Deep(
        prototypes,
        CrysJepa.load(tiny.jepa),
        hull,
        references,
        force_field=EMT,
        settings=SETTINGS,
        processes=1,
    )
    found = search.close([CU_AU])
    assert not len(found.crystals)
    assert all("hole in the force field" in reason for reason in found.failures.values())


def test_a_known_formula_competes_with_dfts_energy_alone(search):
    """Unless something is clearly lower: else it is the known compound, by a force field that errs."""
    deep = Hull.from_entries(["CuAu"], [-5.0], scale="materials_project", source="known")
    found = replace(search, hull=deep).close([CU_AU])
    assert len(found.crystals) and "CuAu" not in found.crystals.reduced_formulas()
    shallow = Hull.from_entries(["CuAu"], [8.0], scale="materials_project", source="known")
    assert "CuAu" in replace(search, hull=shallow).close([CU_AU]).crystals.reduced_formulas()


# -- crystals against the closed hull ----------------------------------------------------------------


def candidates() -> CandidateTable:
    """Two structures of CuAu, the lower one twice, one of CuAu3, and one that failed."""
    l10 = bulk("Cu", "fcc", a=3.9, cubic=True)
    l10.numbers[:2] = 79
    l12 = bulk("Au", "fcc", a=4.0, cubic=True)
    l12.numbers[0] = 29
    b2 = bulk("CuAu", "cesiumchloride", a=3.1)
    table = CandidateTable.from_crystals(
        Crystals.from_atoms([b2, l10, l10, l12, l12], ["b2", "l10", "twin", "l12", "failed"])
    )
    energies = {"b2": 0.02, "l10": -0.06, "twin": -0.0605, "l12": -0.01, "failed": -9.0}
    table = table.with_column("formation_energy_per_atom", energies, "Float64")
    return table.decide("relax", {"failed": "went astray"}, Status.FAILED)


def nothing_found(hull: Hull) -> Closed:
    """A search that found nothing."""
    nothing = {CU_AU: 0}
    return Closed(hull, hull, Crystals.empty(), np.zeros(0), {}, {}, nothing, nothing, {CU_AU: True}, {}, 0)


def test_energies_above_the_closed_hull_by_hand():
    hull = Hull.from_entries(["CuAu"], [-0.02], scale="materials_project", source="known")
    bare = nothing_found(hull)
    table = candidates()
    found = with_closed_hull(table, table.ok_ids, bare, competitor_table(bare))
    above = dict(zip(found.ids, found.column("e_above_closed_hull"), strict=True))
    assert above["b2"] == pytest.approx(0.02 + 0.0605), "the lower twin competes with it"
    assert above["l10"] == pytest.approx(-0.06 + 0.02), "its twin is itself: only the known compound competes"
    assert above["l12"] == pytest.approx(-0.01 + 0.0605 / 2), "half of the twin, half of gold"
    assert above["failed"] is None
    assert found.column("lower_polymorph") == ["twin", None, None, None, None]
    mixture = json.loads(found.column("decomposes_to", ["l12"])[0])
    assert [(p["formula"], p["id"], p["known"]) for p in mixture] == [
        ("CuAu", "twin", False),
        ("Au", None, True),
    ]
    assert sum(p["amount"] for p in mixture) == pytest.approx(1.0)


def test_known_compounds_are_named_by_their_id():
    hull = Hull.from_entries(["CuAu"], [-0.5], scale="materials_project", source="known")
    bare = nothing_found(hull)
    found = with_closed_hull(candidates(), ["l12"], bare, competitor_table(bare))
    mixture = json.loads(found.column("decomposes_to", ["l12"])[0])
    assert mixture[0]["formula"] == "CuAu" and mixture[0]["known"] and mixture[0]["id"].startswith("mp-")
    assert found.column("e_above_closed_hull", ["b2"]) == [None], "it was not asked for"
    assert set(COLUMNS) <= set(found.frame)


def test_elements_have_no_system_to_close():
    cells = Crystals.from_atoms([bulk("Cu"), bulk("CuAu", "cesiumchloride", a=3.1)], ["Cu", "CuAu"])
    assert systems_to_close(cells) == {"CuAu": CU_AU}
