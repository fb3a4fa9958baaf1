"""Uniqueness and novelty: known answers, pymatgen as the oracle, and bad crystals."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from crysjepa.crystals import Crystals
from crysjepa.screen.matching import FormulaIndex, natural_key, novel, unique


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
