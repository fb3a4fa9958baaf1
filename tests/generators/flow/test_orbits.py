import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher

from crysjepa import datasets
from crysjepa.core.crystals import Crystals
from crysjepa.generators.flow.orbits import (
    STRAINS,
    NoOrbits,
    equivalents,
    orbits_of,
    settle,
    symmetry,
)
from crysjepa.generators.flow.templates import Templates

GROUPS = list(range(1, 231))


def rebuilt(settled, strain=None):
    """The crystal of its orbits, by numpy alone."""
    orbits = settled.orbits
    representatives = orbits.positions + np.einsum("rij,rj->ri", orbits.free, settled.free_coords)
    sites = np.einsum("nij,nj->ni", orbits.rotations, representatives[orbits.owner]) + orbits.translations
    matrix = np.einsum("s,sij->ij", settled.strain if strain is None else strain, STRAINS)
    lattice = symmetry(orbits.space_group).reference @ scipy.linalg.expm(matrix)
    numbers = settled.atomic_numbers[orbits.owner]
    return Crystals(numbers, sites % 1.0, lattice[None], np.array([len(sites)]), ("again",))


def onto_itself(sites, rotations, translations):
    """Whether each operation maps the set of sites onto itself, up to lattice vectors."""
    images = np.einsum("gij,nj->gni", rotations, sites) + translations[:, None]
    gaps = images[:, :, None] - sites[None, None]
    return bool((np.abs(gaps - np.round(gaps)) < 1e-6).all(axis=-1).any(axis=2).all())


@pytest.fixture(scope="module")
def known():
    crystals = datasets.load("flla").crystals()
    return crystals[np.random.default_rng(0).choice(len(crystals), 150, replace=False)]


@pytest.mark.parametrize("number", GROUPS)
def test_every_group_leaves_its_lattices_and_strains_as_they_are(number):
    group = symmetry(number)
    assert (group.rotations[0] == np.eye(3)).all() and not group.translations[0].any()
    coefficients = group.projector @ np.random.default_rng(number).normal(size=6)
    for strain in (np.zeros(6), coefficients):
        lattice = group.reference @ scipy.linalg.expm(np.einsum("s,sij->ij", strain, STRAINS))
        metric = lattice @ lattice.T
        moved = group.rotations.transpose(0, 2, 1) @ metric @ group.rotations
        np.testing.assert_allclose(moved, np.broadcast_to(metric, moved.shape), atol=1e-9)
    np.testing.assert_allclose(group.projector @ group.projector, group.projector, atol=1e-12)
    free = {1: 6, 2: 6, **dict.fromkeys(range(3, 16), 4), **dict.fromkeys(range(16, 75), 3)}
    free |= dict.fromkeys(range(75, 195), 2) | dict.fromkeys(range(195, 231), 1)
    assert round(float(np.trace(group.projector))) == free[number]


@settings(max_examples=60)
@given(number=st.sampled_from(GROUPS), seed=st.integers(0, 2**20))
def test_sites_that_move_freely_keep_the_symmetry(number, seed):
    rng, group = np.random.default_rng(seed), symmetry(number)
    orbits = orbits_of(number, np.array([[0.1317, 0.2749, 0.4183], [0.3571, 0.1093, 0.2239]]))
    assert (orbits.multiplicities == len(group.rotations)).all() and (orbits.num_free == 3).all()
    moved = orbits.positions + np.einsum("rij,rj->ri", orbits.free, rng.random((2, 3)))
    sites = np.einsum("nij,nj->ni", orbits.rotations, moved[orbits.owner]) + orbits.translations
    assert onto_itself(sites, group.rotations, group.translations)


def test_known_crystals_come_back(known):
    """Judged by pymatgen's matcher; free coordinates shift along lattice vectors without a trace."""
    matcher = StructureMatcher(ltol=0.01, stol=0.01, angle_tol=0.5)
    for crystal in known:
        settled = settle(crystal)
        again = rebuilt(settled)
        assert matcher.fit(crystal.to_structures()[0], again.to_structures()[0]), crystal.ids
        group = symmetry(settled.orbits.space_group)
        assert onto_itself(again.frac_coords, group.rotations, group.translations)


def test_free_coordinates_move_sites_along_their_symmetry_elements(known):
    rng = np.random.default_rng(1)
    for crystal in known[:60]:
        settled = settle(crystal)
        free = rng.random(settled.free_coords.shape) * (np.arange(3) < settled.orbits.num_free[:, None])
        moved = rebuilt(type(settled)(settled.orbits, settled.atomic_numbers, free, settled.strain))
        group = symmetry(settled.orbits.space_group)
        assert onto_itself(moved.frac_coords, group.rotations, group.translations)
        # and a whole period of a free coordinate is a lattice vector
        period = rebuilt(type(settled)(settled.orbits, settled.atomic_numbers, free + 1.0, settled.strain))
        gaps = moved.frac_coords - period.frac_coords
        np.testing.assert_allclose(gaps - np.round(gaps), 0, atol=1e-9)


def test_equivalent_choices_of_a_representative_are_the_same_sites(known):
    rng = np.random.default_rng(2)
    for crystal in known[:40]:
        settled = settle(crystal)
        orbits = settled.orbits
        free = rng.random(settled.free_coords.shape) * (np.arange(3) < orbits.num_free[:, None])
        choices = equivalents(orbits)
        assert all(np.allclose(t[0] @ t[0], t[0]) and np.allclose(c[0], c[0].round()) for t, c in choices)
        picked = [rng.integers(len(turns)) for turns, _ in choices]
        other = np.array(
            [turns[k] @ u + shifts[k] for k, u, (turns, shifts) in zip(picked, free, choices, strict=True)]
        )
        one = rebuilt(type(settled)(orbits, settled.atomic_numbers, free, settled.strain))
        two = rebuilt(type(settled)(orbits, settled.atomic_numbers, other, settled.strain))
        for r in range(len(orbits)):
            gaps = one.frac_coords[orbits.owner == r][:, None] - two.frac_coords[orbits.owner == r][None]
            assert (np.abs(gaps - np.round(gaps)) < 1e-6).all(axis=-1).any(axis=1).all()


def test_a_general_position_may_be_represented_by_any_of_its_sites():
    for number in (2, 14, 62, 166, 225):
        ((turns, shifts),) = equivalents(orbits_of(number, np.array([[0.1317, 0.2749, 0.4183]])))
        assert len(turns) == len(shifts) == len(symmetry(number).rotations)


def test_without_symmetry_every_site_is_its_own(salts):
    plain = settle(salts[6], plain=True)
    assert plain.orbits.space_group == 1 and len(plain.orbits) == 5
    assert (plain.orbits.num_free == 3).all()
    assert StructureMatcher().fit(salts[6].to_structures()[0], rebuilt(plain).to_structures()[0])


def test_a_site_next_to_a_symmetry_element_is_refused():
    # A quarter turn moves it by less than the tolerance, half a turn by more.
    with pytest.raises(NoOrbits, match="near a symmetry element"):
        orbits_of(75, np.array([[0.0007, 0.0, 0.3]]))
    with pytest.raises(ValueError, match="no space group"):
        symmetry(231)


def test_what_cannot_be_settled_says_so():
    """Sites in a chain, each within the tolerance of the next, in a cell so long that they are apart."""
    sites = np.array([[0.5, 0.5, 0.3], [0, 0, 0], [0, 0, 0.015], [0, 0, 0.03]])
    chain = Crystals(np.array([8, 6, 7, 6]), sites, np.diag([4.0, 4, 100])[None], np.array([4]), ("chain",))
    with pytest.raises(NoOrbits):
        settle(chain)
    assert len(settle(chain, plain=True).orbits) == 4
    with pytest.raises(NoOrbits):
        orbits_of(226, np.array([[-0.249566, -0.249566, -0.251302]]))
    for cell, numbers in ((np.diag([4.0, 4, np.nan]), [8]), (np.zeros((3, 3)), [8]), (4 * np.eye(3), [101])):
        with pytest.raises(NoOrbits):
            settle(
                Crystals(np.array(numbers), np.zeros((1, 3)), cell[None], np.array([1]), ("x",)), plain=True
            )


def test_templates_are_the_kinds_of_crystals(salts, known):
    templates = Templates.of([settle(s).orbits for s in salts])
    assert len(templates) == 2 and templates.weights.tolist() == pytest.approx([6 / 7, 1 / 7])
    assert templates.num_sites.tolist() == [2, 5] and templates.num_orbits.tolist() == [2, 3]
    settled = [settle(k).orbits for k in known]
    many = Templates.of(settled)
    again = Templates.from_tensors(many.tensors())
    keys = {o.key() for o in settled}
    assert {again.orbits(row).key() for row in range(len(again))} == keys and len(again) == len(keys)
    both = templates.merged(many, 0.25)
    assert both.weights.sum() == pytest.approx(1) and both.weights[:2].sum() == pytest.approx(0.75)
    assert both.orbits(len(templates)).key() == many.orbits(0).key()
