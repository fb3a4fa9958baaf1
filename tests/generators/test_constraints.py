"""Constraints hold for every generator, and what was thrown away for them is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Element

from crysjepa.core.crystals import Crystals
from crysjepa.generators.base import Samples, load_generator
from crysjepa.generators.constraints import (
    EXCLUDED_BY_DEFAULT,
    NOBLE_GASES,
    RADIOACTIVE,
    ConstraintError,
    Constraints,
    element_shares,
)
from crysjepa.generators.diffusion.generator import DiffusionConfig, DiffusionGenerator
from crysjepa.generators.from_file import FileGenerator
from crysjepa.generators.sampling import BLOCK, draw, drift
from crysjepa.nn.training import TrainSettings
from crysjepa.nn.transformer import TransformerConfig


def random_crystals(num, rng, elements, most=6, prefix="c"):
    counts = rng.integers(1, most + 1, num)
    return Crystals(
        rng.choice(elements, counts.sum()),
        rng.random((counts.sum(), 3)),
        np.tile(5 * np.eye(3), (num, 1, 1)),
        counts,
        tuple(f"{prefix}-{i}" for i in range(num)),
    )


class Anything:
    """A third party's generator that knows no constraints: random elements on random sites."""

    def __init__(self, elements=range(1, 104), bad=()):
        self.elements, self.bad = np.array(list(elements)), bad

    def sample(self, num, *, seed=0, device="cpu", prefix="gen", progress=None):
        made = random_crystals(num, np.random.default_rng(seed), self.elements, prefix=prefix)
        rows = [k for k in range(num) if k not in self.bad]
        return Samples(made[rows], {f"{prefix}-{k}": "it broke" for k in self.bad if k < num})


def same(a, b):
    return a.crystals.content_hash() == b.crystals.content_hash() and a.failures == b.failures


def test_excluded_elements_are_those_without_a_stable_isotope_and_the_noble_gases():
    named = {Element.from_Z(z).Z for z in range(1, 119) if Element.from_Z(z).is_noble_gas}
    assert named - {118} == NOBLE_GASES
    assert {Element(s).Z for s in ("Tc", "Pm", "Po", "U", "Pu", "Og")} <= RADIOACTIVE
    assert Element("Bi").Z not in EXCLUDED_BY_DEFAULT


@given(
    only=st.none() | st.frozensets(st.integers(1, 20), min_size=1, max_size=6),
    excluded=st.frozensets(st.integers(1, 20), max_size=6),
    max_sites=st.none() | st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_broken_are_exactly_those_that_do_not_obey(only, excluded, max_sites, seed):
    try:
        constraints = Constraints(only, excluded, max_sites=max_sites)
    except ConstraintError:
        assert only is not None and only <= excluded
        return
    crystals = random_crystals(30, np.random.default_rng(seed), np.arange(1, 21))
    broken = constraints.broken(crystals)
    for crystal in crystals:
        held = set(crystal.atomic_numbers.tolist())
        obeys = not held & excluded and (only is None or held <= only)
        obeys = obeys and (max_sites is None or crystal.num_atoms[0] <= max_sites)
        assert (crystal.ids[0] in broken) != obeys


def test_a_chemical_system_is_all_of_its_elements_and_no_other(salts):
    found = Constraints.parse(chemical_system="Na-Cl").broken(salts)
    assert set(salts.ids) - set(found) == {"NaCl"}
    assert found["KCl"] == "element not allowed"
    sodium = salts.select(["NaCl"])
    alone = Crystals(np.array([11, 11]), sodium.frac_coords, sodium.lattices, sodium.num_atoms, ("Na",))
    assert Constraints.parse(chemical_system="Na-Cl").broken(alone) == {"Na": "other chemical system"}


def test_naming_an_element_lifts_its_default_exclusion_and_no_other():
    uranium = Constraints.parse(elements="U,O")
    assert uranium.allowed == {92, 8}
    assert Constraints.parse(chemical_system="Xe-F").allowed == {54, 9}
    fluorides = Constraints.parse(contains="Xe,F").allowed
    assert {54, 9, 8} <= fluorides and not fluorides & {2, 10, 92}
    assert 92 not in Constraints.parse(exclude_elements="Pb").allowed
    assert 82 not in Constraints.parse(exclude_elements="Pb").allowed
    assert Constraints.parse(exclude_elements="none").allowed == frozenset(range(1, 119))
    assert any("default" in line for line in Constraints().describe())


@pytest.mark.parametrize(
    "asked, says",
    [
        ({"elements": "Li,Xx"}, "'Xx' is no element"),
        ({"elements": ""}, "names no element"),
        ({"elements": "Li", "exclude_elements": "Li"}, "Li cannot be in --exclude-elements"),
        ({"elements": "Li,O", "chemical_system": "Li-S"}, "needs S"),
        ({"max_sites": 0}, "--max-sites 0"),
        ({"contains": "Li,Xx"}, "'Xx' is no element"),
        ({"contains": ""}, "names no element"),
        ({"contains": "Li,S", "elements": "Li,O"}, "--contains needs S"),
        ({"contains": "Li,S", "chemical_system": "Li-O"}, "--contains needs S"),
        ({"contains": "Li,S", "formula": "Li2O"}, "--contains needs S"),
        ({"contains": "Li,S", "exclude_elements": "S"}, "S cannot be in --exclude-elements"),
        ({"contains": "Li,S,O", "max_elements": 2}, "--contains has 3 elements, more than --max-elements 2"),
        ({"contains": "Li,S,O", "max_sites": 2}, "the 3 elements of --contains do not fit on"),
        ({"contains": "Li,S,O", "formula": "AX"}, "has 2 elements, --contains needs 3"),
        ({"contains": "Li,S", "contains_any": "O,F", "max_elements": 2}, "more than --max-elements 2"),
        ({"contains_any": "anion"}, "'anion' is no element"),
        ({"contains_any": ""}, "names no element"),
        (
            {"contains_any": "anions", "elements": "Li,Mg"},
            "--contains-any needs one of N, O, F, P, S, Cl, Se",
        ),
        ({"contains_any": "O,S", "exclude_elements": "O,S"}, "needs one of O, S, which the other"),
        ({"contains_any": "O", "formula": "LiF"}, "--contains-any needs one of O"),
        ({"chemical_system": "Li-S-O", "max_sites": 2}, "do not fit"),
        ({"chemical_system": "Li-S-O", "max_elements": 2}, "has 3 elements, more than --max-elements 2"),
        ({"max_elements": 0}, "--max-elements 0"),
        ({"formula": "LiMnPO4", "exclude_elements": "Mn"}, "Mn cannot be in --exclude-elements"),
        ({"formula": "LiMnPO4", "elements": "Li,Mn,O"}, "--formula LiMnPO4 needs P"),
        ({"formula": "LiMnPO4", "chemical_system": "Li-Mn-O"}, "--formula LiMnPO4 needs P"),
        ({"formula": "LiMnPO4", "chemical_system": "Li-Mn-P-O-S"}, "--chemical-system needs S"),
        ({"formula": "LiMnPO4", "max_elements": 2}, "has 4 elements, more than --max-elements 2"),
        ({"formula": "LiMnPO4", "max_sites": 13, "formula_units": "2-4"}, "needs 14 sites"),
        ({"formula": "LiMnPO4", "distinct": True}, "all crystals have the same formula"),
        ({"formula": "ABX3", "chemical_system": "Li-O"}, "has 3 elements, --chemical-system has 2"),
        ({"formula": "ABX3", "elements": "Li,O"}, "needs 3 elements, the constraints leave 2"),
        ({"formula": "ABX3", "formula_units": "4-1"}, "the fewest before the most"),
        ({"formula": "ABX3", "formula_units": "0"}, "at least 1"),
        ({"formula": "ABX3", "formula_units": "some"}, "--formula-units some"),
        ({"formula": "Li2O2", "formula_units": "1"}, "give --formula LiO"),
        ({"formula_units": "1"}, "says nothing without --formula"),
        ({"formula": "ABO3"}, "letters for any element"),
        ({"space_group": "Fm-3n"}, "no space group"),
        ({"space_group": ","}, "names no space group"),
    ],
)
def test_contradictions_are_refused_before_anything_is_drawn(asked, says):
    with pytest.raises(ConstraintError, match=says):
        Constraints.parse(**asked)


def test_no_other_constraint_is_known():
    with pytest.raises(TypeError, match="no constraint element"):
        Constraints.parse(element="Li")


@pytest.mark.parametrize(
    "asked, obey, reason",
    [
        ({"formula": "KCl"}, {"KCl"}, "element not allowed"),
        ({"contains": "Sr,O"}, {"SrTiO3"}, "without an element that is wanted"),
        ({"contains": "K"}, {"KCl", "KBr"}, "without an element that is wanted"),
        ({"contains": "K", "contains_any": "Br,O"}, {"KBr"}, "none of the elements of which one is wanted"),
        ({"contains_any": "Br,Ti"}, {"KBr", "SrTiO3"}, "none of the elements of which one is wanted"),
        ({"contains_any": "anions,K"}, {"NaCl", "KCl", "LiF", "MgO", "CaO", "KBr", "SrTiO3"}, None),
        ({"formula": "AX"}, {"NaCl", "KCl", "LiF", "MgO", "CaO", "KBr"}, "other formula"),
        ({"formula": "ABX3", "formula_units": "2-4"}, set(), "other number of formula units"),
        ({"formula": "ABX3", "formula_units": 1}, {"SrTiO3"}, "other formula"),
        ({"space_group": "Pm-3m"}, {"SrTiO3"}, "other space group"),
        ({"space_group": 225, "elements": "Na,K,Cl"}, {"NaCl", "KCl"}, "element not allowed"),
        ({"max_elements": 2, "max_sites": 4}, {"NaCl", "KCl", "LiF", "MgO", "CaO", "KBr"},
         "more than 2 elements"),
    ],
)  # fmt: skip
def test_formula_symmetry_and_numbers(salts, asked, obey, reason):
    found = Constraints.parse(**asked).broken(salts)
    assert set(salts.ids) - set(found) == obey and (reason in found.values() or not found)


def test_the_space_group_is_that_within_a_tenth_of_an_angstrom(salts):
    """A site moved by less leaves it as it is, and one moved by more does not; atoms on a spot have none."""
    perovskite, wanted = salts[6], Constraints.parse(space_group="Pm-3m")

    def moved(by, site=1):
        coords = perovskite.frac_coords.copy()
        coords[site, 2] += by / 3.905
        return Crystals(
            perovskite.atomic_numbers, coords, perovskite.lattices, perovskite.num_atoms, ("moved",)
        )

    assert not wanted.broken(moved(0.02))
    assert wanted.broken(moved(0.4)) == {"moved": "other space group"}
    flat = Crystals(
        perovskite.atomic_numbers, perovskite.frac_coords, 1e-3 * perovskite.lattices, perovskite.num_atoms,
        ("flat",),
    )  # fmt: skip
    assert wanted.broken(flat) == {"flat": "no space group can be found"}


def test_a_formula_by_name_lifts_the_default_exclusion_of_its_elements():
    assert Constraints.parse(formula="UO2").allowed == {92, 8}
    assert 92 not in Constraints.parse(formula="AX2").allowed


def test_different_constraints_are_described_differently():
    asked = [
        {}, {"formula": "ABX3"}, {"formula": "AX"}, {"formula": "LiF"}, {"space_group": 225},
        {"formula": "LiF", "formula_units": 2}, {"formula": "LiF", "formula_units": "1-2"},
        {"space_group": "cubic"},
        {"contains_any": "O"}, {"contains_any": "anions"}, {"contains": "O"}, {"contains": "Li,F"},
        {"max_elements": 2}, {"max_sites": 2}, {"elements": "Li,F"}, {"chemical_system": "Li-F"},
    ]  # fmt: skip
    assert len({tuple(Constraints.parse(**a).describe()) for a in asked}) == len(asked)


def test_what_does_not_obey_is_drawn_again_and_counted():
    constraints = Constraints.parse(elements="Li,Na,K,Rb,Cs,O,F,Cl")
    samples = draw(Anything(range(3, 20)), 40, constraints, seed=3)
    assert samples.crystals.ids == tuple(f"gen-{i}" for i in range(40)) and not samples.failures
    assert not constraints.broken(samples.crystals)
    counts = samples.counts
    assert counts.asked == 40 and counts.drawn == 40 + counts.drawn_again > 80
    assert set(counts.rejected) == {"element not allowed", "radioactive or noble-gas element"}
    assert same(samples, draw(Anything(range(3, 20)), 40, constraints, seed=3))
    assert not same(samples, draw(Anything(range(3, 20)), 40, constraints, seed=4))


def test_no_formula_comes_twice_where_they_are_to_be_distinct():
    few = Anything([3, 8, 11])
    plain = draw(few, 300, seed=1)
    assert len(set(plain.crystals.reduced_formulas())) < 300
    asked = Constraints(distinct=True)
    samples = draw(few, 300, asked, seed=1)
    formulas = samples.crystals.reduced_formulas()
    assert len(set(formulas)) == len(formulas) and len(formulas) + len(samples.failures) == 300
    assert set(plain.crystals.reduced_formulas()) <= set(formulas)
    kept = dict(zip(samples.crystals.ids, formulas, strict=True))
    met = set()
    for id_, formula in zip(plain.crystals.ids, plain.crystals.reduced_formulas(), strict=True):
        assert formula in met or kept[id_] == formula, "the first of each formula stays where it was"
        met.add(formula)
    assert samples.counts.rejected["formula that was drawn before"] == samples.counts.drawn_again
    assert same(samples, draw(few, 300, asked, seed=1))
    assert "no formula twice" in asked.describe()


def test_a_failed_draw_keeps_its_place_and_is_not_drawn_again():
    samples = draw(Anything([3, 8], bad=(2, 5)), 10, Constraints.parse(elements="Li,O"))
    assert samples.failures == {"gen-2": "it broke", "gen-5": "it broke"}
    assert len(samples.crystals) == 8 and samples.counts.drawn == 10


def test_the_impossible_ends_with_an_error():
    with pytest.raises(ConstraintError, match=r"none of 1\d\d\d crystals drawn obeys .* element not allowed"):
        draw(Anything([3, 8]), 300, Constraints.parse(elements="Au"))


def test_the_nearly_impossible_ends_with_reasons():
    samples = draw(Anything(range(1, 20)), 100, Constraints.parse(elements="Na"), seed=1)
    assert samples.failures and len(samples.crystals) + len(samples.failures) == 100
    assert set(samples.failures.values()) <= {
        "nothing that obeys was drawn: element not allowed",
        "nothing that obeys was drawn: radioactive or noble-gas element",
    }
    assert (samples.crystals.atomic_numbers == 11).all()


def test_a_generator_that_says_it_obeys_is_not_trusted():
    class Liar(Anything):
        def sample_within(self, num, constraints, *, processes=1, **options):
            return self.sample(num, **options)

    samples = draw(Liar([3, 8]), 20, Constraints.parse(elements="Li"))
    assert (samples.crystals.atomic_numbers == 3).all()
    assert len(samples.failures) == 20 - len(samples.crystals) > 0
    assert "broke a constraint" in next(iter(samples.failures.values()))


@pytest.mark.slow
def test_models_obey_and_are_the_same_on_two_processes(tiny, salts):
    """The flow draws nothing that breaks a constraint; what the other draws has to be drawn again."""
    small = DiffusionConfig(TransformerConfig(layers=1, width=16, heads=2), timesteps=8)
    few = TrainSettings(steps=10, batch_size=7, checkpoint_every=10, record_every=10)
    diffusion, _ = DiffusionGenerator.train(salts, small, few)
    for generator, again in ((load_generator(tiny.generator), False), (diffusion, True)):
        constraints = Constraints.parse(exclude_elements="Na,Sr,Ti")
        one = draw(generator, BLOCK + 8, constraints, seed=5)
        two = draw(generator, BLOCK + 8, constraints, seed=5, processes=2)
        assert same(one, two) and one.counts == two.counts and len(one.crystals)
        broken = one.counts.rejected.keys() & {"element not allowed", "radioactive or noble-gas element"}
        assert bool(broken) == again and not constraints.broken(one.crystals)


def test_a_file_is_a_generator(salts, tmp_path):
    from crysjepa.core.candidates import CandidateTable

    CandidateTable.from_crystals(salts, {"broken.cif": "not a CIF"}).write(tmp_path / "s.parquet")
    source = FileGenerator.read(tmp_path / "s.parquet")
    samples = draw(source, 4, Constraints.parse(exclude_elements="Na"))
    assert list(samples.columns["source_id"].values()) == ["KCl", "LiF", "MgO", "CaO"]
    assert samples.counts.rejected == {"element not allowed": 1} and samples.counts.drawn == 5
    everything = draw(source, 10, seed=1)
    assert len(everything.crystals) == 7 and len(everything.failures) == 3
    assert everything.failures["gen-7"] == "not a CIF"
    assert everything.failures["gen-8"] == "s.parquet holds 8 crystals; 10 were asked for"
    assert everything.counts.notes
    shuffled = FileGenerator.read(tmp_path / "s.parquet", "random")
    first, second = (draw(shuffled, 5, seed=seed).columns["source_id"] for seed in (1, 2))
    assert len(set(first.values())) == 5 and first != second
    assert first == draw(shuffled, 5, seed=1).columns["source_id"]


def test_drift_names_what_became_frequent_or_rare(salts):
    generator = Anything([3, 8])
    generator.element_shares = element_shares(
        random_crystals(500, np.random.default_rng(0), np.arange(3, 10))
    )
    samples = draw(generator, 200)
    told = " ".join(drift(samples, generator, Constraints()))
    assert "Li is in" in told and "C is in 0.0 %" in told
    assert drift(samples, generator, Constraints.parse(elements="Li,O")) == []
    honest = Anything(range(3, 10))
    honest.element_shares = generator.element_shares
    assert drift(draw(honest, 500), honest, Constraints()) == []
