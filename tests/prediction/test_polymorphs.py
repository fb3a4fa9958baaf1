"""The order of polymorphs, where energy and likelihood decide together."""

from __future__ import annotations

import numpy as np

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.prediction.polymorphs import (
    COST_WEIGHT,
    WITHOUT_PROTOTYPE,
    last_word,
    likely_ranks,
    swap_costs_of,
)


def polymorphs() -> CandidateTable:
    """A flow's, the lowest; a prototype's, 30 meV/atom above it; and one that became the flow's, dearer."""
    crystals = Crystals(
        np.tile([19, 9], 3),
        np.tile([[0.0, 0, 0], [0.5, 0.5, 0.5]], (3, 1)),
        np.stack([a * np.eye(3) for a in (3.2, 3.3, 3.4)]),
        np.full(3, 2),
        ("flow", "cheap", "dear"),
    )
    table = CandidateTable.from_crystals(crystals)
    energies = {"flow": -1.0, "cheap": -0.97, "dear": -0.99}
    table = table.with_column("formation_energy_per_atom", energies, "Float64")
    table = table.with_column("source", {"flow": "flow", "cheap": "prototype", "dear": "prototype"}, "string")
    return table.with_column("likelihood", {"flow": -20.0, "cheap": -1.0, "dear": -6.0}, "Float64")


def test_what_similar_compounds_have_comes_first_within_the_error():
    table = polymorphs().with_column("same_as", {}, "string")
    assert likely_ranks(table) == {"cheap": 1, "dear": 2, "flow": 3}
    assert swap_costs_of(table) == {"cheap": 1.0, "dear": 6.0}
    far = {"cheap": -1.0 + COST_WEIGHT * (WITHOUT_PROTOTYPE - 1) + 1e-6}
    assert likely_ranks(table.with_column("formation_energy_per_atom", far))["flow"] == 2


def test_a_polymorph_has_the_least_cost_of_what_became_it():
    table = polymorphs().decide("merge", {"dear": "relaxed to flow"}, Status.REJECTED)
    table = table.with_column("same_as", {"dear": "flow"}, "string")
    assert swap_costs_of(table) == {"cheap": 1.0, "flow": 6.0}
    assert likely_ranks(table) == {"cheap": 1, "flow": 2}


def test_what_was_rejected_lends_nothing():
    table = polymorphs().decide("static", {"dear": "place 99"}, Status.REJECTED)
    assert swap_costs_of(table.with_column("same_as", {}, "string")) == {"cheap": 1.0}


def test_the_last_judge_that_knows_all_has_the_last_word():
    table = polymorphs().with_column("same_as", {}, "string")
    theirs = {"flow": -5.0, "cheap": -5.1, "dear": -5.3}
    table = table.with_column("energy_per_atom_sevennet_l3i5", theirs, "Float64")
    table = table.with_column("energy_per_atom_mace", {"flow": -9.0}, "Float64")  # not of all
    assert last_word(table, ("sevennet-l3i5", "mace")) == theirs
    assert likely_ranks(table, ("sevennet-l3i5",)) == {"dear": 1, "cheap": 2, "flow": 3}
    assert last_word(table)["flow"] == -1.0
