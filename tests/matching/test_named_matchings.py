"""Hashes of bonded graphs, distances and merged elements: known answers, invariance, and bad crystals."""

from __future__ import annotations

import builtins
from importlib.util import find_spec

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from conftest import crystals_of, rock_salt
from crysjepa.core.crystals import Crystals
from crysjepa.matching import pdd, structure_hash
from crysjepa.matching.bonded_graph import bawl, bawl_candidates, bonded_graph_hash
from crysjepa.matching.by_name import MATCHINGS, index_by, novel_by, unique_by
from crysjepa.matching.disorder import may_share_a_site, merged, sets_of
from crysjepa.matching.structure_hash import BONDED_GRAPH, crystal_hashes

SALT, FLIPPED = (
    "aff1e5a835d320dd754c77e1494790ea_225_Na1Cl1", "be6c9af4b1b946a20b1c57c08ef098b3_225_Na1Cl1",
)  # fmt: skip
"""BAWL of rock salt with sodium first, and with chlorine first: the graph hashes are those that
structuregraph-helpers 0.0.9, which LeMat's hasher calls, gives with its settings."""


needs_amd = pytest.mark.skipif(
    find_spec("amd") is None, reason="needs PDDs, for research only: pip install 'crysjepa[pdd]'"
)


def named(cells, ids):
    return crystals_of(cells, "c").with_ids(ids)


def structure(cell):
    numbers, coords, lattice = cell
    return Structure(Lattice(lattice), numbers, coords)


def caesium_chloride(a):
    return [11, 17], [[0.0, 0, 0], [0.5, 0.5, 0.5]], a * np.eye(3)


FAULTY = ([11, 17], [[0.0, 0, 0], [0.0, 0, 0]], np.eye(3))


# -- bonded graphs ---------------------------------------------------------------------------


def test_bawl_is_the_published_one_and_knows_the_order_of_sites():
    salt = named([rock_salt(11, 17, 5.6)], ["c"])
    turned = Crystals(salt.atomic_numbers[::-1], salt.frac_coords[::-1], salt.lattices, [2], ("c",))
    assert (bawl(salt), bawl(turned)) == (SALT, FLIPPED)
    assert set(bawl_candidates(salt)) == set(bawl_candidates(turned)) == {SALT, FLIPPED}


def test_our_hash_is_of_the_crystal_and_not_of_its_description():
    salt = structure(rock_salt(11, 17, 5.6))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    alike = [
        salt,
        salt.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]], in_place=False),
        salt.make_supercell([[-1, 1, 1], [1, -1, 1], [1, 1, -1]], in_place=False),
        Structure(Lattice(salt.lattice.matrix @ turn), salt.species[::-1], salt.frac_coords[::-1] + 0.3),
    ]
    hashes = {bonded_graph_hash(c) for c in Crystals.from_structures(alike, list("abcd"))}
    assert len(hashes) == 1
    others = named([caesium_chloride(3.4), rock_salt(11, 35, 5.9)], ["x", "y"])
    assert len(hashes | {bonded_graph_hash(c) for c in others}) == 3


def test_a_crystal_without_a_hash_has_a_reason(monkeypatch):
    crystals = named([rock_salt(11, 17, 5.6), FAULTY], ["good", "bad"])
    hashes, failures = crystal_hashes(crystals, kind=BONDED_GRAPH)
    assert list(hashes) == ["good"] and list(failures) == ["bad"] and failures["bad"]
    monkeypatch.setattr(structure_hash, "TIME_LIMIT", 1e-4)  # the system looks at its clock a few ms apart
    large = structure(rock_salt(11, 17, 5.6)).make_supercell([4, 4, 4], in_place=False)
    large.perturb(0.2, seed=0)  # so that its primitive cell is as large
    hashes, failures = crystal_hashes(Crystals.from_structures([large], ["good"]), kind=BONDED_GRAPH)
    assert (hashes, failures) == ({}, {"good": "no hash within 0.0001 s of CPU"})


def test_a_known_crystal_without_a_hash_leaves_novelty_open():
    crystals, known = named([caesium_chloride(3.4)], ["c"]), named([FAULTY], ["mp-1"])
    found = novel_by(BONDED_GRAPH, crystals, known)
    assert found.matches == {} and found.failures["c"].startswith("the known crystal mp-1: ")


# -- distances -------------------------------------------------------------------------------


@needs_amd
def test_distances_do_not_depend_on_the_cell_and_grow_with_displacement():
    salt = structure(rock_salt(11, 17, 5.6))
    moved = [Structure(salt.lattice, salt.species, [[0, 0, 0], [0.5 + d, 0.5, 0.5]]) for d in (0.01, 0.05)]
    alike = [salt, salt.make_supercell([3, 1, 1], in_place=False), *moved]
    found, failures = pdd.pdds(Crystals.from_structures(alike, list("abcd")))
    assert failures == {}
    same, little, more = (pdd.distance(found["a"], found[i]) for i in "bcd")
    assert same == pytest.approx(0, abs=1e-9)
    assert 0.01 < little < more


@needs_amd
def test_a_crystal_without_a_pdd_has_a_reason():
    flat = ([11, 17], [[0.0, 0, 0], [0.5, 0.5, 0.5]], np.diag([5.0, 5.0, 1e-9]))
    _, failures = pdd.pdds(named([flat], ["bad"]))
    assert "volume" in failures["bad"]


def test_a_missing_package_is_named(monkeypatch):
    def no_amd(name, *args, **kwargs):
        if name == "amd":
            raise ImportError("No module named 'amd'")
        return of_python(name, *args, **kwargs)

    of_python = builtins.__import__
    pdd._amd.cache_clear()
    monkeypatch.setattr(builtins, "__import__", no_amd)
    with pytest.raises(ImportError, match=r"crysjepa\[pdd\]"):
        pdd.pdds(named([rock_salt(11, 17, 5.6)], ["c"]))


# -- merged elements -------------------------------------------------------------------------


def test_elements_that_may_share_a_site():
    assert may_share_a_site(19, 37)  # K and Rb
    assert not may_share_a_site(11, 17)  # Na and Cl
    assert not may_share_a_site(2, 10)  # He and Ne, whose electronegativities nobody knows
    assert sets_of(frozenset({17, 19, 37})) == (frozenset({17}), frozenset({19, 37}))
    salt = named([rock_salt(37, 17, 6.5)], ["c"])
    assert merged(salt, frozenset({17, 19, 37})).atomic_numbers.tolist() == [19, 17]


def ordered(first, second):
    """Rock salt of two cations in layers, of four sites."""
    salt = structure(rock_salt(first, 17, 6.4)).make_supercell([2, 1, 1], in_place=False)
    salt[0] = second
    return salt


def test_an_ordering_is_known_where_its_end_members_are():
    crystals = Crystals.from_structures([ordered(19, "Rb"), ordered(19, "F")], ["mix", "other"])
    known = named([rock_salt(37, 17, 6.6)], ["mp-1"])
    assert novel_by("structure-matcher", crystals, known).matches == {"mix": None, "other": None}
    assert novel_by("disordered", crystals, known).matches == {"mix": "mp-1", "other": None}
    unrelated = named([rock_salt(55, 17, 6.6)], ["mp-2"])  # caesium is not among the elements
    assert novel_by("disordered", crystals, unrelated).matches["mix"] is None
    layers = structure(rock_salt(19, 17, 6.4)).make_supercell([1, 1, 2], in_place=False)
    layers.make_supercell([1, 2, 1])
    layers[0], layers[1] = "Rb", "Rb"
    both = Crystals.from_structures([ordered(19, "Rb"), layers], ["c-1", "c-2"])
    assert unique_by("disordered", both).matches == {"c-1": None, "c-2": "c-1"}


# -- by name ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pytest.param(k, marks=needs_amd) if k == "pdd" else k for k in MATCHINGS])
def test_every_matching_finds_the_same_crystal_again(kind):
    cells = [rock_salt(11, 17, 5.60), rock_salt(11, 17, 5.61), caesium_chloride(3.4), rock_salt(19, 35, 6.6)]
    crystals = named(cells, ["c-2", "c-10", "c-3", "c-4"])
    assert unique_by(kind, crystals).matches == {"c-2": None, "c-10": "c-2", "c-3": None, "c-4": None}
    ranked = unique_by(kind, crystals, ranks={"c-2": 1})
    assert ranked.matches["c-2"] == "c-10" and ranked.matches["c-10"] is None
    known = index_by(kind, named(cells[:1], ["mp-1"]))
    for _ in range(2):  # what an index has found out stays
        found = novel_by(kind, crystals, known)
        assert found.matches == {"c-2": "mp-1", "c-10": "mp-1", "c-3": None, "c-4": None}
        assert found.failures == {}


def test_an_unknown_matching_is_refused():
    with pytest.raises(ValueError, match="choose from structure-matcher"):
        index_by("guess", Crystals.empty())
    with pytest.raises(ValueError, match="choose from hash"):
        unique_by("guess", Crystals.empty())
