"""Properties that a composition decides, against pymatgen's own arithmetic and well-known values."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_crystals import of_formula, table_of, table_of_formulas
from pymatgen.analysis.cost import CostAnalyzer, CostDBElements
from pymatgen.analysis.hhi import HHIModel
from pymatgen.core import Composition

from crysjepa.properties import find_property
from crysjepa.properties.base import How, Measured, PropertyError

COMPOUNDS = ("NaCl", "LiFePO4", "BaTiO3", "Fe2O3", "CuAu", "Si", "K2PtCl6", "LiCoO2")


def measured(name: str, *formulas: str) -> Measured:
    return find_property(name).measure(table_of_formulas(*formulas), How())


@pytest.fixture(scope="module")
def costs() -> CostAnalyzer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CostAnalyzer(CostDBElements())


def per_kilogram(costs: CostAnalyzer, formula: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(costs.get_cost_per_kg(formula))


def test_price_is_that_of_pymatgen(costs: CostAnalyzer) -> None:
    found = measured("price", *COMPOUNDS)
    assert not found.reasons
    for formula in COMPOUNDS:
        assert found.values[formula] == pytest.approx(per_kilogram(costs, formula), rel=1e-4)


def test_element_price_is_the_dearest_elements(costs: CostAnalyzer) -> None:
    found = measured("element_price", *COMPOUNDS).values
    for formula in COMPOUNDS:
        each = [per_kilogram(costs, e.symbol) for e in Composition(formula)]
        assert found[formula] == pytest.approx(max(each), rel=1e-4)


@pytest.mark.parametrize("kind", ["production", "reserve"])
def test_supply_risk_is_that_of_pymatgen(kind: str) -> None:
    model = HHIModel()
    of = model.get_hhi_production if kind == "production" else model.get_hhi_reserve
    found = measured(f"hhi_{kind}", *COMPOUNDS)
    assert not found.reasons
    for formula in COMPOUNDS:
        assert found.values[formula] == pytest.approx(of(formula), rel=1e-3)


def test_abundance_is_the_rarest_elements() -> None:
    """Oxygen is the most abundant element of the crust, then silicon; gold is rare."""
    found = measured("abundance", "SiO2", "Si", "O", "Au", "AuO2Si").values
    assert found["O"] > found["Si"] > 1e5 > 0.1 > found["Au"] > 0
    assert found["SiO2"] == found["Si"] and found["AuO2Si"] == found["Au"]


def test_capacities_are_those_of_the_textbook() -> None:
    found = measured("capacity:Li", "LiFePO4", "LiCoO2", "Li", "NaCl").values
    assert found["LiFePO4"] == pytest.approx(169.9, abs=0.3)
    assert found["LiCoO2"] == pytest.approx(273.8, abs=0.3)
    assert found["Li"] == pytest.approx(3861, abs=2)
    assert found["NaCl"] == 0
    assert measured("capacity:Mg", "Mg").values["Mg"] == pytest.approx(2205, abs=2), "two electrons each"
    assert measured("capacity:Al", "Al").values["Al"] == pytest.approx(2980, abs=2), "three"


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(COMPOUNDS), st.floats(8, 40))
def test_by_volume_it_is_that_by_mass_times_the_density(formula: str, volume: float) -> None:
    structure = of_formula(formula, volume)
    table = table_of([structure], ["x"])
    by_mass, by_volume = (
        find_property(f"{name}:Li").measure(table, How()).values["x"]
        for name in ("capacity", "volumetric_capacity")
    )
    assert by_volume == pytest.approx(by_mass * float(structure.density), rel=1e-5)
    atoms = find_property("number_density:Li").measure(table, How()).values["x"]
    assert atoms == pytest.approx(1000 * structure.composition["Li"] / structure.volume, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(COMPOUNDS))
def test_mass_fractions_are_those_of_pymatgen_and_add_up(formula: str) -> None:
    composition = Composition(formula)
    total = 0.0
    for element in composition:
        share = measured(f"mass_fraction:{element.symbol}", formula).values[formula]
        assert share == pytest.approx(composition.get_wt_fraction(element), rel=1e-5)
        total += share
    assert total == pytest.approx(1)


def test_toxic_mass_fraction() -> None:
    found = measured("toxic_mass_fraction", "PbO", "NaCl", "Tl", "CdPbHg", "Ra", "BeO").values
    assert found["PbO"] == pytest.approx(Composition("PbO").get_wt_fraction("Pb"), rel=1e-5)
    assert found["BeO"] == pytest.approx(Composition("BeO").get_wt_fraction("Be"), rel=1e-5)
    assert found["NaCl"] == 0 and found["Tl"] == found["CdPbHg"] == found["Ra"] == pytest.approx(1)


@pytest.mark.parametrize("name", ["price", "element_price", "abundance", "hhi_production", "hhi_reserve"])
def test_an_element_without_a_value_costs_no_other_crystal_its_own(name: str) -> None:
    found = measured(name, "NaCl", "EsCl3", "Si")
    alone = measured(name, "NaCl", "Si")
    assert "Es" in found.reasons["EsCl3"] and "not known" in found.reasons["EsCl3"]
    assert set(found.reasons) == {"EsCl3"} and found.values == alone.values


def test_how_many_a_cell_holds_does_not_matter() -> None:
    """Nor does the order of the crystals."""
    structure = of_formula("LiFePO4")
    table = table_of([structure.make_supercell([2, 1, 1], in_place=False), structure], ["two", "one"])
    for name in ("price", "abundance", "hhi_reserve", "capacity:Li", "volumetric_capacity:Li",
                 "number_density:Fe", "mass_fraction:P", "toxic_mass_fraction"):  # fmt: skip
        found = find_property(name).measure(table, How()).values
        assert found["two"] == pytest.approx(found["one"], rel=1e-6), name


def test_what_has_no_capacity_is_said() -> None:
    with pytest.raises(PropertyError, match="no element 'Xx'"):
        find_property("capacity:Xx")
    with pytest.raises(PropertyError, match="F leaves no crystal as a cation"):
        find_property("capacity:F")
    with pytest.raises(PropertyError, match="no element ''"):
        find_property("mass_fraction:")
