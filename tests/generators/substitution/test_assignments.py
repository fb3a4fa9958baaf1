"""Substitution into a formula that is asked for."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element

from crysjepa import datasets
from crysjepa.core.validity import reduced_formulas
from crysjepa.generators.constraints import ConstraintError, Constraints
from crysjepa.generators.sampling import draw
from crysjepa.generators.substitution.assignments import Assignments, brought_in, targets_of
from crysjepa.generators.substitution.element_similarity import oxidation_states, swap_costs
from crysjepa.generators.substitution.generator import SubstitutionGenerator
from crysjepa.matching.structure_hash import crystal_hashes


def formula(text):
    return tuple(sorted((Element(str(e)).Z, int(n)) for e, n in Composition(text).items()))


@pytest.fixture(scope="module")
def generator():
    return SubstitutionGenerator.of(datasets.load("flla"), "flla")


@pytest.mark.parametrize("parent, wanted", [("LiFePO4", "LiMnPO4"), ("NaCl", "LiF"), ("SrTiO3", "TiSrO3"),
                                            ("CaAl2O4", "MgV2O4")])  # fmt: skip
def test_ways_are_all_bijections_of_like_counts_but_the_one_that_changes_nothing(parent, wanted):
    old, new = formula(parent), formula(wanted)
    found = Assignments.of(old, new, None, np.inf)
    elements, targets = [z for z, _ in old], [z for z, _ in new]
    counts = dict(old)
    brute = set()
    for order in itertools.permutations(targets):
        mapping = dict(zip(elements, order, strict=True))
        if all(dict(new)[mapping[z]] == counts[z] for z in elements):
            swaps = tuple((z, mapping[z]) for z in elements if mapping[z] != z)
            if all(np.isfinite(swap_costs()[a, b]) for a, b in swaps):
                brute.add(swaps)
    assert set(found.swaps) == brute - {()} and (found.costs > 0).all()
    assert found.cost == found.costs.min()


def test_with_charges_an_element_keeps_its_state():
    old, new = formula("LiFePO4"), formula("LiMnPO4")
    found = Assignments.of(old, new, oxidation_states(old), 6.0)
    assert found.swaps == (((26, 25),),)
    assert Assignments.of(old, formula("MnP2O4"), None, np.inf) is None
    assert Assignments.of(old, old, oxidation_states(old), 0.5) is None, "to change nothing is no way"


@pytest.mark.parametrize("text", ["SrTiO3", "MgAl2O4", "NaCl", "Li2S"])
def test_polymorphs_of_a_known_formula(generator, text):
    """The formula comes out exactly, and no structure twice: neither a known one nor an earlier one."""
    asked = Constraints.parse(formula=text)
    samples = draw(generator, 12, asked, seed=2)
    assert len(samples.crystals) >= 3 and set(reduced_formulas(samples.crystals)) == {formula(text)}
    hashes, _ = crystal_hashes(samples.crystals)
    assert len(set(hashes.values())) == len(samples.crystals)
    known = generator.parents.known
    same = [i for i, f in zip(known.ids, reduced_formulas(known), strict=True) if f == formula(text)]
    assert not set(hashes.values()) & set(crystal_hashes(known.select(same))[0].values())
    assert draw(generator, 12, asked, seed=2).crystals.content_hash() == samples.crystals.content_hash()


@pytest.mark.parametrize(
    "asked",
    [
        {"formula": "ABX3", "space_group": "Pm-3m"},
        {"formula": "AB2X4", "formula_units": "2", "elements": "Mg,Al,Zn,Ga,O,S,Fe,Cr"},
        {"space_group": "hexagonal", "max_elements": 2},
        {"formula": "ABX3", "chemical_system": "Ba-Zr-O"},
    ],
)
def test_parents_are_chosen_by_what_swaps_leave_as_it_is(generator, asked):
    constraints = Constraints.parse(**asked)
    samples = draw(generator, 20, constraints, seed=3)
    assert len(samples.crystals) >= 3 and not constraints.broken(samples.crystals)
    assert not any("broke a constraint" in reason for reason in samples.failures.values())


@given(
    parent=st.frozensets(st.sampled_from([3, 11, 12, 8, 16, 9, 26]), min_size=1, max_size=4),
    wanted=st.frozensets(st.sampled_from([3, 11, 19, 8, 16, 17, 25]), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_what_is_to_be_in_the_crystal_is_brought_in_at_the_least_cost(parent, wanted):
    """Against all ways to choose which elements become what is lacking."""
    targets = targets_of([(z, 1) for z in sorted(parent)], None, np.ones(119, dtype=bool), 6.0)
    found = brought_in([(z, 1) for z in sorted(parent)], targets, wanted)
    costs = {z: dict(zip(new.tolist(), cost.tolist(), strict=True)) for z, (new, cost) in targets.items()}
    lacking = sorted(wanted - parent)
    ways = [
        sum(costs[z][new] for z, new in zip(places, lacking, strict=True))
        for places in itertools.permutations(sorted(parent - wanted), len(lacking))
        if all(new in costs.get(z, {}) for z, new in zip(places, lacking, strict=True))
    ]
    assert (found is None) == (not ways)
    if found is not None:
        become = {z: new.tolist()[0] for z, (new, _) in found.items() if set(new.tolist()) <= wanted - parent}
        assert sorted(become.values()) == lacking and not found.keys() & wanted
        assert sum(costs[z][new] for z, new in become.items()) == pytest.approx(min(ways))
        others = [new for z, (new, _) in found.items() if z not in become]
        assert not {z for new in others for z in new.tolist()} & wanted


def test_a_formula_that_no_parent_has_is_refused_before_any_work(generator):
    with pytest.raises(ConstraintError, match="no crystal of flla can be turned into one with the formula"):
        generator.sample_within(5, Constraints.parse(formula="Li7Na11K13O17"))
