"""Substitution: crystals near the known ones, each of its own stream of random numbers."""

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import FrameworkComparator, StructureMatcher
from pymatgen.core import Composition, Element

from crysjepa import datasets
from crysjepa.core.candidates import CandidateTable
from crysjepa.core.crystals import Crystals
from crysjepa.core.validity import composition_validity, reduced_formulas, structure_validity
from crysjepa.generators.base import NotTrainable
from crysjepa.generators.constraints import ConstraintError, Constraints, element_shares
from crysjepa.generators.sampling import draw, drift
from crysjepa.generators.substitution.element_similarity import (
    isovalent,
    oxidation_states,
    swap_costs,
)
from crysjepa.generators.substitution.generator import SubstitutionGenerator
from crysjepa.generators.substitution.parents import Parents, is_valid_composition
from crysjepa.generators.substitution.proposals import SubstitutionConfig
from crysjepa.generators.substitution.volumes import best_scales, element_sizes, length_scales, scaled
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.matching.uniqueness import novel, unique
from crysjepa.nn.training import TrainSettings


def z(symbol):
    return Element(symbol).Z


@pytest.fixture(scope="module")
def generator():
    return SubstitutionGenerator.of(datasets.load("flla"), "flla")


@pytest.fixture(scope="module")
def samples(generator):
    return generator.sample(150, seed=1)


def test_similar_elements_are_the_cheap_swaps():
    costs, allowed = swap_costs(), Constraints().allowed
    for element, likest in (
        ("Zr", "Hf"),
        ("Nb", "Ta"),
        ("Si", "Ge"),
        ("La", "Ce"),
        ("Cl", "Br"),
        ("Sb", "Bi"),
    ):
        order = [Element.from_Z(k).symbol for k in np.argsort(costs[z(element)]) if k in allowed]
        assert order[0] == likest, (element, order[:3])
    assert costs[z("O"), z("Li")] > 4 > costs[z("O"), z("S")] > costs[z("Na"), z("K")]
    np.testing.assert_array_equal(costs, costs.T)
    assert np.isinf(np.diag(costs)).all() and (costs > 0).all()


@pytest.mark.parametrize(
    "formula", ["NaCl", "SrTiO3", "LiFePO4", "Al2O3", "MgSiO3", "K2S", "ZnFe2O4", "CaF2"]
)
def test_oxidation_states_agree_with_pymatgens_guess(formula):
    composition = Composition(formula)
    key = tuple(sorted((Element(e.symbol).Z, int(n)) for e, n in composition.items()))
    guess = {z(e): int(o) for e, o in composition.oxi_state_guesses()[0].items()}
    assert oxidation_states(key) == guess


def test_no_oxidation_states_where_charges_do_not_balance():
    assert oxidation_states(((28, 5), (57, 1))) is None  # LaNi5
    assert oxidation_states(((11, 1), (19, 1))) is None  # no anion
    assert oxidation_states(((8, 4), (26, 3))) is None  # Fe3O4: mixed valence


def test_isovalent_elements():
    divalent = isovalent(z("Mg"), 2)
    assert divalent[[z(e) for e in ("Ca", "Zn", "Fe", "Pb")]].all()
    assert not divalent[[z(e) for e in ("Mg", "Na", "Al", "O", "Tm")]].any()


def test_what_it_promises(generator, samples):
    crystals = samples.crystals
    assert crystals.ids == tuple(f"gen-{i}" for i in range(150)) and not samples.failures
    assert not Constraints().broken(crystals)
    assert not any(composition_validity(crystals).values()), "every composition is valid"
    assert not any(structure_validity(crystals).values())
    assert all(m is None for m in unique(crystals).matches.values())
    assert all(m is None for m in novel(crystals, generator.parents.known).matches.values())
    counts = samples.counts
    assert counts.asked == 150 and counts.drawn == 150 + counts.drawn_again


def test_a_child_has_its_parents_structure_and_the_swaps_it_says(generator, samples):
    matcher = StructureMatcher(comparator=FrameworkComparator())
    parents = generator.parents.crystals.select(list(samples.columns["parent"].values()))
    for child, parent in list(zip(samples.crystals, parents, strict=True))[:25]:
        swaps = dict(s.split("→") for s in samples.columns["swaps"][child.ids[0]].split(", "))
        numbers = {z(a): z(b) for a, b in swaps.items()}
        assert child.atomic_numbers.tolist() == [numbers.get(n, n) for n in parent.atomic_numbers.tolist()]
        assert child.atomic_numbers.tolist() != parent.atomic_numbers.tolist()
        assert matcher.fit(child.to_structures()[0], parent.to_structures()[0])


def test_ionic_compounds_keep_their_charges(generator, samples):
    parents = generator.parents.crystals.select(list(samples.columns["parent"].values()))
    ionic = 0
    for old, id_ in zip(reduced_formulas(parents), samples.crystals.ids, strict=True):
        states = oxidation_states(old)
        for swap in samples.columns["swaps"][id_].split(", "):
            a, b = (z(s) for s in swap.split("→"))
            if states is not None:
                ionic += 1
                assert isovalent(a, states[a])[b]
    assert ionic > 40


def test_each_crystal_is_of_the_seed_and_its_number(generator, samples):
    fewer = generator.sample(60, seed=1)
    assert fewer.crystals.content_hash() == samples.crystals[:60].content_hash()
    other = generator.sample(60, seed=2)
    assert fewer.crystals.content_hash() != other.crystals.content_hash()


def test_elements_are_as_frequent_as_among_the_parents(generator):
    samples = generator.sample(600, seed=0)
    lanthanides = slice(57, 72)
    before, now = (
        generator.element_shares[lanthanides].sum(),
        element_shares(samples.crystals)[lanthanides].sum(),
    )
    assert abs(now - before) < 0.1
    assert len(set(samples.crystals.chemical_systems())) > 400
    assert len(drift(samples, generator, Constraints())) <= 5


@pytest.mark.parametrize(
    "asked",
    [
        {"elements": "Li,Mg,O,P,S"},
        {"chemical_system": "Li-Fe-O"},
        {"max_sites": 4},
        {"exclude_elements": "O,S,F,Cl,Fe,Co"},
        {"elements": "U,Th,O"},
        {"contains": "Li,S"},
        {"contains": "Na", "contains_any": "O,Se", "max_elements": 3},
        {"contains": "Li,Mg", "elements": "Li,Mg,O,F,S,Cl"},
    ],
)
def test_constraints_are_swapped_into(generator, asked):
    constraints = Constraints.parse(**asked)
    samples = draw(generator, 40, constraints, seed=4)
    assert len(samples.crystals) >= 20 and not constraints.broken(samples.crystals)
    assert len(samples.crystals) + len(samples.failures) == 40
    if "chemical_system" in asked:
        assert set(samples.crystals.chemical_systems()) == {"Fe-Li-O"}


def test_when_nothing_new_is_left_the_rest_fail_with_the_reason(salts):
    few = SubstitutionGenerator.of(CandidateTable.from_crystals(salts), "salts")
    samples = draw(few, 200, Constraints.parse(elements="Na,Cl,K,Br"))
    assert 0 < len(samples.crystals) < 10
    assert len(samples.crystals) + len(samples.failures) == 200
    assert all("too few different crystals" in reason for reason in samples.failures.values())


def test_the_impossible_is_refused(generator):
    with pytest.raises(
        ConstraintError, match="no crystal of flla can be turned into one with only the elements"
    ):
        generator.sample_within(5, Constraints.parse(elements="Li"))
    with pytest.raises(ValueError, match="no crystal that elements could be swapped in"):
        SubstitutionGenerator.of(CandidateTable.from_crystals(Crystals.empty(), {"x": "unreadable"}))


def test_it_has_nothing_to_train(generator, samples, tmp_path):
    with pytest.raises(NotTrainable, match="substitution cannot be fine-tuned"):
        generator.finetune(samples.crystals, TrainSettings())
    with pytest.raises(NotTrainable, match="cannot be saved"):
        generator.save(tmp_path / "x.safetensors")


def test_a_low_temperature_takes_the_likest(generator):
    def cost(temperature):
        config = SubstitutionConfig(temperature=temperature)
        made = SubstitutionGenerator(generator.parents, config).sample(60, seed=3)
        pairs = [s.split("→") for line in made.columns["swaps"].values() for s in line.split(", ")]
        return np.mean([swap_costs()[z(a), z(b)] for a, b in pairs])

    assert cost(0.05) < cost(0.25) < cost(1.5)
    for wrong in ({"temperature": 0.0}, {"another_swap": 1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SubstitutionConfig(**wrong)


def test_several_swaps(generator):
    config = SubstitutionConfig(another_swap=0.9)
    made = SubstitutionGenerator(generator.parents, config).sample(40, seed=3)
    assert sum("," in line for line in made.columns["swaps"].values()) > 20


def test_parents_are_near_the_hull_and_compounds():
    table = datasets.load("flla")
    parents = Parents.of(table, "flla")
    above = dict(zip(table.ids, table.column("e_above_hull"), strict=True))
    assert max(above[i] for i in parents.crystals.ids) <= 0.1 < max(above.values())
    assert min(len(c) for c in parents.counts) == 2
    row = next(k for k, i in enumerate(parents.crystals.ids) if i in set(parents.known.ids))
    size = parents.primitive_sites(row)
    assert parents.knows(parents.formulas[row]) and parents.knows(parents.formulas[row], size)
    assert not parents.knows(parents.formulas[row], 1000) and not parents.knows(((3, 17), (4, 19)))


def test_valid_compositions():
    assert is_valid_composition(((11, 1), (17, 1)))
    assert not is_valid_composition(((11, 1), (17, 2)))


def test_sizes_predict_volumes(generator):
    """The fit's residual on crystals that it has not seen, against that of one size for all elements."""
    crystals = generator.parents.crystals
    half = np.arange(len(crystals)) % 2 == 0
    fitted, rest = element_sizes(crystals[half]), crystals[~half]
    lengths = np.cbrt(rest.volumes / rest.num_atoms)
    predicted = np.add.reduceat(fitted[rest.atomic_numbers], rest.offsets[:-1]) / rest.num_atoms
    error = np.abs(np.log(predicted / lengths))
    blind = np.abs(np.log(lengths.mean() / lengths))
    assert error.mean() < 0.55 * blind.mean()


def test_swapping_nothing_scales_nothing(salts):
    sizes = element_sizes(salts)
    np.testing.assert_array_equal(length_scales(salts, salts, sizes), np.ones(len(salts)))
    larger = scaled(salts, np.full(len(salts), 1.1))
    np.testing.assert_allclose(larger.volumes, 1.1**3 * salts.volumes)


def test_the_best_scale_is_the_one_of_least_energy(tiny, salts):
    jepa = CrysJepa.load(tiny.jepa)
    factors = (0.9, 1.0, 1.1)
    energies = [jepa.energies(jepa.embed(scaled(salts, np.full(len(salts), f)))) for f in factors]
    best = best_scales(salts, jepa, factors)
    np.testing.assert_array_equal(best, np.array(factors)[np.argmin(energies, axis=0)])


@pytest.mark.slow
def test_volumes_by_energy_are_the_same_on_two_processes(tiny, generator):
    config = SubstitutionConfig(jepa_volume=True)
    by_energy = SubstitutionGenerator(generator.parents, config, tiny.jepa)
    one = draw(by_energy, 70, seed=7)
    two = draw(by_energy, 70, seed=7, processes=2)
    plain = draw(generator, 70, seed=7)
    assert one.crystals.content_hash() == two.crystals.content_hash() and one.counts == two.counts
    ratio = one.crystals.volumes / plain.crystals.volumes
    assert set(np.round(ratio, 6)) <= {0.94, 0.97, 1.0, 1.03, 1.06} and len(set(np.round(ratio, 6))) > 1
