"""The benchmark of prediction: which compounds, and where a true structure was lost."""

from __future__ import annotations

import numpy as np
import pytest
from judging.prediction_stages import (
    FOUND,
    IN_RELAXATION,
    NOT_PROPOSED,
    OUT_BY_EMBEDDING,
    OUT_BY_STATIC,
    OUTRANKED,
    Places,
    lost_at,
    places_of,
)

from conftest import make_salts, rock_salt
from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.generators.base import load_generator
from prediction import LOOKED_AT, compounds, page


@pytest.mark.parametrize(
    ("places", "stage"),
    [
        (Places(0, 0, 0, 0, None, None), NOT_PROPOSED),
        (Places(0, 2, 0, 0, None, None), OUT_BY_EMBEDDING),
        (Places(1, 0, 1, 0, None, None), OUT_BY_STATIC),
        (Places(3, 3, 2, 1, None, None), IN_RELAXATION),
        (Places(3, 3, 2, 1, 6, "flow"), OUTRANKED),
        (Places(0, 0, 0, 0, 5, "flow"), FOUND),  # another candidate relaxed to it
    ],
)
def test_where_it_was_lost(places, stage):
    assert lost_at(places, 5) == stage


def candidates() -> tuple[CandidateTable, CandidateTable]:
    """KF as rock salt twice, as caesium chloride and stretched; as proposed and as ended."""
    cells = [rock_salt(19, 9, 5.3), rock_salt(19, 9, 5.5), ([19, 9], [[0.0] * 3, [0.5] * 3], 3.2 * np.eye(3))]
    cells.append(([19, 9], [[0.0] * 3, [0.5, 0.2, 0.1]], np.diag([2.5, 4, 7.0])))
    crystals = Crystals(
        np.concatenate([z for z, _, _ in cells]),
        np.concatenate([x for _, x, _ in cells]),
        np.stack([c for _, _, c in cells]),
        np.full(4, 2),
        ("a", "b", "c", "d"),
    )
    proposed = CandidateTable.from_crystals(crystals)
    ended = proposed.decide("embed", {"d": "too high"}, Status.REJECTED)
    ended = ended.decide("merge", {"b": "relaxed to a"}, Status.REJECTED)
    ended = ended.with_column("same_as", {"b": "a"}, "string")
    ended = ended.with_column("rank", {"c": 1, "a": 2}, "Int64")
    energies = {"c": -1.0, "a": -0.9, "b": -0.9}
    ended = ended.with_column("formation_energy_per_atom", energies, "Float64")
    ended = ended.with_column("likelihood", dict.fromkeys("abcd", -20.0), "Float64")
    return proposed, ended.with_column("source", dict.fromkeys("abcd", "flow"), "string")


def test_the_true_structure_is_looked_for_at_every_step():
    proposed, ended = candidates()
    salt = Crystals(*_one(*rock_salt(19, 9, 5.4)), ("true",))
    assert places_of(salt, proposed, ended) == Places(2, 2, 2, 2, 2, "flow", None, 2, 2)
    chloride = Crystals(*_one([19, 9], [[0.0] * 3, [0.5] * 3], 3.3 * np.eye(3)), ("true",))
    assert places_of(chloride, proposed, ended) == Places(1, 1, 1, 1, 1, "flow", None, 1, 1)
    lost = Crystals(*_one([19, 9], [[0.0] * 3, [0.5, 0.2, 0.1]], np.diag([2.5, 4, 7.0])), ("true",))
    assert places_of(lost, proposed, ended) == Places(1, 1, 0, 0, None, None)


def _one(numbers, coords, lattice):
    return np.array(numbers), np.array(coords), lattice[None], np.array([len(numbers)])


def test_compounds_are_of_the_test_part_and_none_was_trained_on(tiny, tmp_path):
    salts = make_salts()
    flow = load_generator(tiny.generator)  # trained on these very salts
    other = salts.with_ids([f"Rb-{i}" for i in salts.ids])
    rubidium = np.where(np.isin(other.atomic_numbers, [11, 12, 20]), 37, other.atomic_numbers)
    other = Crystals(rubidium, other.frac_coords, other.lattices, other.num_atoms, other.ids)
    for name, split in (("mp20_bt", "test"), ("mpts52", "train")):
        table = CandidateTable.from_crystals(Crystals.concatenate([salts, other]).with_ids(
            [f"{name}-{i}" for i in (*salts.ids, *other.ids)]
        ))  # fmt: skip
        energies = {i: -1.0 - 0.1 * k for k, i in enumerate(table.ids)}
        table = table.with_column("formation_energy_per_atom", energies, "Float64")
        table = table.with_column("split", dict.fromkeys(table.ids, split), "string")
        table.write(tmp_path / f"{name}.parquet")
    found = compounds(tmp_path, flow)
    assert sorted(c.reduced_formulas()[0] for c in found) == ["Rb2O2", "RbCl"]
    assert all(i.startswith("mp20_bt-Rb") for c in found for i in c.ids)
    oxide = next(c for c in found if len(c) == 2)
    assert oxide.ids == ("mp20_bt-Rb-CaO", "mp20_bt-Rb-MgO"), "the lowest first"
    assert [c.ids for c in compounds(tmp_path, flow, num=1)] == [found[0].ids]


def row(place: int, rank: int | None) -> dict[str, object]:
    return {
        "ranks": {"true": rank}, "num_elements": 3, "place": place, "true_above_lowest": 0.01,
        "places": {"prototype": 2, "likely_rank": rank, "rank": rank, "first_rank": 7}, "cpu_seconds": 40.0,
        "lost": {str(b): lost_at(Places(1, 1, 1, 1, rank, "flow"), b) for b in (1, 5, 20)},
    }  # fmt: skip


def test_the_page_counts():
    text = page([row(LOOKED_AT, rank) for rank in (1, 1, 4, None)] + [row(LOOKED_AT - 1, 1)])
    assert "| 1, by energy, of the last judge | 4 | 2, 50 % | 15–85 % |" in text
    assert "| 5, by energy and cost of swaps | 4 | 3, 75 % |" in text
    assert "| 5, by energy, of the force field that relaxed | 4 | 0, 0 % |" in text
    assert "| 5, by the cost of swaps alone | 4 | 4, 100 % |" in text
    assert f"| {OUTRANKED} | 1 | 0 | 0 |" in text and f"| {IN_RELAXATION} | 1 | 1 | 1 |" in text


def test_what_was_looked_at_is_no_test():
    assert "no compound" in page([row(LOOKED_AT - 1, 1)])
