"""Uniqueness and novelty: known answers, pymatgen as the oracle, and bad crystals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from crysjepa.core.crystals import Crystals
from crysjepa.matching.structure_hash import HashIndex, novel_by_hash, unique_by_hash
from crysjepa.matching.uniqueness import FormulaIndex, natural_key, novel, unique


def crystal(
    lattice: object, frac_coords: object, numbers: list[int] | None = None, id_: str = "c"
) -> Crystals:
    frac = np.asarray(frac_coords, dtype=float)
    return Crystals(numbers or [3] * len(frac), frac, np.asarray(lattice, dtype=float), [len(frac)], (id_,))


def rock_salt(a: float, anion: int = 17, id_: str = "c") -> Crystals:
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return crystal(np.eye(3) * a, np.concatenate([fcc, fcc + 0.5]), [11] * 4 + [anion] * 4, id_)


def caesium_chloride(a: float, id_: str = "c") -> Crystals:
    return crystal(np.eye(3) * a, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17], id_)


# -- uniqueness ------------------------------------------------------------------------------


def test_unique_keeps_the_first_in_natural_order_whatever_the_rows_order() -> None:
    crystals = Crystals.concatenate(
        [
            rock_salt(5.6, id_="c-10"),
            rock_salt(5.7, id_="c-2"),
            caesium_chloride(3.5, id_="c-3"),
            caesium_chloride(3.4, id_="c-1"),
            rock_salt(5.6, anion=35, id_="c-4"),
        ]
    )
    expected = {"c-10": "c-2", "c-2": None, "c-3": "c-1", "c-1": None, "c-4": None}
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]):
        found = unique(crystals[order])
        assert found.matches == expected
        assert list(found.matches) == [crystals.ids[i] for i in order]
        assert found.failures == {}


def test_natural_order() -> None:
    assert sorted(["c-10", "c-2", "b", "10", "9", "c-02", "c-2-x"], key=natural_key) == [
        "9",
        "10",
        "b",
        "c-02",
        "c-2",
        "c-2-x",
        "c-10",
    ]


def test_a_supercell_and_a_rotated_cell_are_duplicates() -> None:
    salt = rock_salt(5.6, id_="a").to_structures()[0]
    large = salt.copy()
    large.make_supercell([2, 1, 1])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = Structure(Lattice(salt.lattice.matrix @ turn), salt.species, salt.frac_coords + 0.3)
    found = unique(Crystals.from_structures([salt, large, turned], ["a", "b", "c"]))
    assert found.matches == {"a": None, "b": "a", "c": "a"}


def test_a_crystal_that_cannot_be_compared_is_a_failure_of_its_own() -> None:
    crystals = Crystals.concatenate(
        [
            rock_salt(5.6, id_="c-2"),
            crystal(np.diag([np.nan, 1, 1]), [[0, 0, 0], [0.5, 0, 0]], [11, 17], "c-1"),
            crystal(np.diag([0.6, 0.6, 3000]), [[0, 0, 0], [0, 0, 0.5]], [11, 17], "c-3"),
            rock_salt(5.7, id_="c-4"),
        ]
    )
    seen: list[tuple[int, int]] = []
    found = unique(crystals, progress=lambda done, total: seen.append((done, total)))
    assert found.matches == {"c-2": None, "c-4": "c-2"}
    assert set(found.failures) == {"c-1", "c-3"}
    assert "cannot be reduced" in found.failures["c-1"]
    assert "too long and thin" in found.failures["c-3"]
    assert seen[-1] == (4, 4)


def test_noble_gases_do_not_warn() -> None:
    pair = Crystals.concatenate(
        [crystal(np.eye(3) * 4, [[0, 0, 0], [0.5, 0.5, 0.5]], [2, 18], i) for i in ("a", "b")]
    )
    assert unique(pair).matches == {"a": None, "b": "a"}


# -- novelty ---------------------------------------------------------------------------------


def test_novel_names_the_first_match_of_the_reference() -> None:
    known_ones = Crystals.concatenate(
        [rock_salt(5.6, id_="mp-10"), rock_salt(5.65, id_="mp-9"), caesium_chloride(3.5, id_="mp-1")]
    )
    crystals = Crystals.concatenate([rock_salt(5.7, id_="x"), rock_salt(5.6, anion=35, id_="y")])
    for order in ([0, 1, 2], [2, 1, 0]):
        found = novel(crystals, known_ones[order])
        assert found.matches == {"x": "mp-9", "y": None}
    index = FormulaIndex(known_ones)
    assert novel(crystals[0], index).matches == {"x": "mp-9"}
    assert novel(crystals[1], index).matches == {"y": None}
    assert novel(crystals, Crystals.empty()).matches == {"x": None, "y": None}
    assert novel(Crystals.empty(), known_ones).matches == {}


def test_novel_uses_the_matcher_it_is_given() -> None:
    salt, larger = rock_salt(5.6, id_="x"), rock_salt(6.6, id_="mp-1")
    assert novel(salt, larger).matches == {"x": "mp-1"}  # volumes are scaled by default
    assert novel(salt, larger, matcher=StructureMatcher(scale=False, ltol=0.05)).matches == {"x": None}


def test_a_bad_reference_is_a_failure_only_where_nothing_else_matches() -> None:
    broken = crystal(np.diag([np.nan, 1, 1]), [[0, 0, 0], [0.5, 0, 0]], [11, 17], "mp-0")
    crystals = Crystals.concatenate([rock_salt(5.6, id_="x"), caesium_chloride(3.5, id_="y")])
    found = novel(crystals, Crystals.concatenate([broken, rock_salt(5.6, id_="mp-1")]))
    assert found.matches == {"x": "mp-1"}
    assert "mp-0 cannot be reduced" in found.failures["y"]


@pytest.mark.parametrize("seed", range(6))
def test_reduced_beforehand_gives_the_matchers_own_answer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lattice = np.eye(3) * 5 + rng.normal(size=(3, 3)) * 0.5
    frac = rng.uniform(size=(6, 3))
    one = crystal(lattice, frac, [3, 3, 8, 8, 26, 26], "a")
    two = crystal(
        lattice * 1.02, frac + rng.normal(size=(6, 3)) * 0.03 * (seed % 3), [3, 3, 8, 8, 26, 26], "b"
    )
    expected = StructureMatcher().fit(one.to_structures()[0], two.to_structures()[0])
    assert (novel(two, one).matches["b"] == "a") == expected


# -- speed without another answer ------------------------------------------------------------


def strained(seed: int, count: int, prefix: str) -> Crystals:
    """Rock salts and caesium chlorides, strained and rattled by up to what a matcher forgives."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        base = rock_salt(5.6) if rng.random() < 0.5 else caesium_chloride(3.5)
        strain = np.eye(3) + rng.normal(size=(3, 3)) * 0.09
        frac = base.frac_coords + rng.normal(size=base.frac_coords.shape) * 0.04
        made.append(
            crystal(base.lattices[0] @ strain, frac, base.atomic_numbers.tolist(), f"{prefix}-{number}")
        )
    return Crystals.concatenate(made)


def plain_first(structure: Structure, others: list[tuple[str, Structure]]) -> str | None:
    """The loop that anyone would write."""
    return next((i for i, other in others if StructureMatcher().fit(other, structure)), None)


def test_verdicts_are_those_of_a_plain_loop_crystal_by_crystal() -> None:
    crystals, known = strained(0, 30, "c"), strained(1, 12, "mp")
    kept: list[tuple[str, Structure]] = []
    expected = {}
    for id_, structure in zip(crystals.ids, crystals.to_structures(), strict=True):
        expected[id_] = plain_first(structure, kept)
        if expected[id_] is None:
            kept.append((id_, structure))
    assert unique(crystals).matches == expected
    assert 2 < len(kept) < 30, "some match and some do not"
    shelf = list(zip(known.ids, known.to_structures(), strict=True))
    wanted = {i: plain_first(s, shelf) for i, s in zip(crystals.ids, crystals.to_structures(), strict=True)}
    assert novel(crystals, known).matches == wanted
    assert None in wanted.values() and len(set(wanted.values())) > 2


def test_processes_and_a_saved_index_change_nothing(tmp_path: Path) -> None:
    crystals = Crystals.concatenate([strained(2, 8, "c"), rock_salt(5.6, anion=35, id_="b-1")])
    crystals = Crystals.concatenate([crystals, rock_salt(5.7, anion=35, id_="b-2")])
    known = Crystals.concatenate([strained(3, 5, "mp"), rock_salt(5.5, anion=35, id_="mp-9")])
    assert unique(crystals, processes=2) == unique(crystals)
    index = FormulaIndex(known)
    assert not index.restore(tmp_path / "index.parquet"), "there is none yet"
    found = novel(crystals, index)
    assert novel(crystals, known, processes=2) == found
    index.save(tmp_path / "index.parquet")
    again = FormulaIndex(known)
    assert again.restore(tmp_path / "index.parquet") and again.num_reduced == index.num_reduced > 0
    assert novel(crystals, again) == found
    for other in (FormulaIndex(known[::-1]), FormulaIndex(known, matcher=StructureMatcher(ltol=0.1))):
        assert not other.restore(tmp_path / "index.parquet"), "it belongs to other crystals or settings"
    (tmp_path / "index.parquet").write_bytes(b"torn")
    assert not FormulaIndex(known).restore(tmp_path / "index.parquet")


def test_an_index_can_be_reduced_whole(tmp_path: Path) -> None:
    broken = crystal(np.diag([np.nan, 1, 1]), [[0, 0, 0], [0.5, 0, 0]], [11, 17], "mp-0")
    known = Crystals.concatenate([broken, strained(3, 5, "mp")])
    index = FormulaIndex(known)
    index.reduce_all()
    assert index.num_reduced == len(known)
    index.save(tmp_path / "index.parquet")
    again = FormulaIndex(known)
    assert again.restore(tmp_path / "index.parquet")
    assert "mp-0 cannot be reduced" in str(again.reduced(0))


def test_a_reference_with_duplicate_ids_is_no_trouble() -> None:
    known = Crystals.concatenate([rock_salt(5.6, id_="mp-1"), caesium_chloride(3.5, id_="mp-1")])
    found = novel(Crystals.concatenate([rock_salt(5.7, id_="x"), caesium_chloride(3.4, id_="y")]), known)
    assert found.matches == {"x": "mp-1", "y": "mp-1"} and not found.failures


def test_sets_of_none_and_of_one() -> None:
    assert unique(Crystals.empty()).matches == {}
    assert unique(rock_salt(5.6, id_="x")).matches == {"x": None}


# -- by hash ---------------------------------------------------------------------------------


def test_hashes_know_a_crystal_in_any_description() -> None:
    salt = rock_salt(5.6, id_="c-10").to_structures()[0]
    large = salt.make_supercell([2, 1, 1], in_place=False)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = Structure(Lattice(salt.lattice.matrix @ turn), salt.species, salt.frac_coords + 0.3)
    crystals = Crystals.concatenate(
        [
            Crystals.from_structures([salt, large, turned], ["c-10", "c-2", "c-3"]),
            caesium_chloride(3.5, id_="c-1"),
            rock_salt(5.6, anion=35, id_="c-4"),
            crystal(np.eye(3), [[0, 0, 0], [0, 0, 0]], [11, 17], "c-5"),
        ]
    )
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]):
        found = unique_by_hash(crystals[order])
        assert found.matches == {"c-1": None, "c-2": None, "c-3": "c-2", "c-10": "c-2", "c-4": None}
        assert "symmetry" in found.failures["c-5"]
    assert novel_by_hash(crystals, rock_salt(6.0, id_="mp-1")).matches["c-3"] == "mp-1"
    assert novel_by_hash(crystals, HashIndex(rock_salt(6.0, id_="mp-1"))).matches["c-1"] is None
