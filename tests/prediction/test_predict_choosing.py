"""Which candidates go on to the next step."""

from __future__ import annotations

import numpy as np
import pytest

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.matching.structure_hash import crystal_hashes
from crysjepa.prediction.choosing import choose, choose_different, close_matcher, without_repeats


def cells(seed: int = 0) -> Crystals:
    """KF as twelve tetragonal rock salts of rising c/a, and as twelve of caesium chloride."""
    rng, found = np.random.default_rng(seed), []
    for k in range(12):
        stretch = np.diag([1, 1, 1 + 0.04 * k])
        salt = 5.4 / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]) @ stretch
        found += [salt, 3.2 * np.eye(3) @ stretch]
    order = rng.permutation(len(found))
    return Crystals(
        np.tile([19, 9], len(found)),
        np.tile([[0.0, 0, 0], [0.5, 0.5, 0.5]], (len(found), 1)),
        np.stack([found[i] for i in order]),
        np.full(len(found), 2),
        tuple(f"c-{i}" for i in range(len(found))),
    )


@pytest.fixture
def table() -> CandidateTable:
    found = CandidateTable.from_crystals(cells())
    sources = ["known", *["prototype"] * 11, *["flow"] * 12]
    found = found.with_column("source", dict(zip(found.ids, sources, strict=True)), "string")
    likely = np.random.default_rng(1).normal(size=24).tolist()
    return found.with_column("likelihood", dict(zip(found.ids, likely, strict=True)), "Float64")


@pytest.fixture
def energies(table) -> dict[str, float]:
    return dict(zip(table.ids, np.random.default_rng(2).normal(size=24).tolist(), strict=True))


def test_of_one_kind_only_a_few_go_on(table, energies):
    left = choose(table, "embed", energies, 10, 2, "energy").ok_ids
    hashes, _ = crystal_hashes(table.crystals(left))
    new = [i for i in left if i != "c-0"]
    assert len(new) <= 10 and "c-0" in left
    assert max(list(hashes.values()).count(h) for h in hashes.values()) <= 2
    assert len(set(hashes.values())) > 1


def test_the_lowest_and_the_likeliest_go_on(table, energies):
    likely = dict(zip(table.ids, table.column("likelihood"), strict=True))
    left = choose(table, "embed", energies, 4, 100, "energy").ok_ids
    assert len(left) == 5, "and the known one"
    lowest = sorted((i for i in table.ids if i != "c-0"), key=energies.get)
    prototypes = [i for i, s in zip(table.ids, table.column("source"), strict=True) if s == "prototype"]
    assert lowest[0] in left and max(prototypes, key=likely.get) in left
    worst = {**energies, max(prototypes, key=likely.get): 99.0}
    assert max(prototypes, key=likely.get) in choose(table, "embed", worst, 4, 100, "energy").ok_ids


def test_no_two_that_match_closely_go_on(table, energies):
    chosen = choose_different(table, "static", energies, 100, "energy")
    left, matcher = chosen.ok_ids, close_matcher()
    structures = dict(zip(table.ids, table.crystals().to_structures(), strict=True))
    assert "c-0" in left and 2 < len(left) < 24
    for place, one in enumerate(left):
        assert not any(matcher.fit(structures[one], structures[other]) for other in left[place + 1 :])
    for id_, reason in zip(chosen.ids, chosen.column("reason"), strict=True):
        if id_ not in left:
            assert matcher.fit(structures[id_], structures[reason.split(",")[0]])


def test_each_that_goes_says_why_and_none_is_lost(table, energies):
    chosen = choose(table, "embed", energies, 3, 100, "energy")
    assert chosen.ids == table.ids
    lowest = sorted(energies, key=energies.get)
    for id_, status, reason in zip(chosen.ids, chosen.column("status"), chosen.column("reason"), strict=True):
        if status != Status.OK:
            assert reason.startswith(f"place {lowest.index(id_) + 1} by its energy")


def test_the_same_energy_is_the_same_crystal(table, energies):
    same = {**energies, "c-5": energies["c-3"] + 1e-6, "c-7": energies["c-3"]}
    left = without_repeats(table, "embed", same)
    assert set(table.ids) - set(left.ok_ids) == {"c-5", "c-7"}
    assert "c-3" in left.column("reason", ["c-5"])[0]
