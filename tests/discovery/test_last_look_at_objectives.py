"""After the hull was closed: what is new is measured, judges say theirs, merits are by the chances of now."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from crysjepa.core.candidates import CandidateTable, Status
from crysjepa.core.crystals import Crystals
from crysjepa.discovery.aimed import aimed_rates, by_judge, judged_again
from crysjepa.properties.aims import Aims
from crysjepa.properties.base import How
from crysjepa.ranking.base import chances_of

EMT = "ase.calculators.emt:EMT"


@pytest.fixture
def table() -> CandidateTable:
    """Four metals after their last look: Cu and Ag were looked into, Au was not; Pt is new, and Pd failed."""
    symbols = ["Cu", "Ag", "Au", "Pd", "Pt"]
    made = CandidateTable.from_crystals(Crystals.from_atoms([bulk(s) for s in symbols], symbols))
    for name, values in (
        ("e_above_hull", dict.fromkeys(symbols, 0.05)),
        ("p_stable", {"Cu": 0.9, "Ag": 0.2}),
    ):
        made = made.with_column(name, values, "Float64")
    made = made.with_column("stable", dict.fromkeys(symbols, True), "boolean")
    return made.decide("relax", {"Pd": "failed"}, Status.FAILED)


def aims_of(*texts: str) -> Aims:
    found = Aims.parse(texts, how=How(force_field="another", processes=1))
    assert found is not None
    return found


def measured(table: CandidateTable, aims: Aims) -> CandidateTable:
    """As the rounds left it."""
    return aims.judge(aims.measure(table, ["Cu", "Ag", "Au"]), dict.fromkeys(table.ids, 0.5))


def test_merits_are_by_the_chances_that_there_are_now(table: CandidateTable) -> None:
    aims = aims_of("density<=15")
    before = measured(table, aims)
    again = judged_again(before, aims, ())
    assert again.column("density")[:3] == before.column("density")[:3]
    assert again.column("density")[4] == pytest.approx(21.4, abs=0.5), "the new one is measured"
    assert again.column("density")[3] is None, "and what failed is not"
    unlooked = float(chances_of(np.array([0.05]))[0])
    expected = [0.9, 0.2, unlooked]
    worth = again.column("worth")
    assert again.column("merit")[:3] == pytest.approx([w * p for w, p in zip(worth, expected, strict=False)])
    assert again.column("meets_targets") == [True, True, False, None, False]
    rates = aimed_rates(again)
    assert rates is not None and rates["meets_targets"] == 2 / 5 == rates["vsun_and_meets"]


def test_what_could_not_be_measured_is_not_asked_for_again(table: CandidateTable) -> None:
    aims = aims_of("mass_fraction:Cu>=0.5")
    before = measured(table, aims)
    reasons = before.with_column("objective_reason", {"Pt": "none"}, "string")
    assert judged_again(reasons, aims, ()).column("mass_fraction_Cu")[4] is None


def test_judges_say_theirs_of_what_a_force_field_calculates(table: CandidateTable) -> None:
    """Of what was looked into, in columns of their own."""
    own = Aims.parse(["bulk_modulus>=100", "density<=15"], how=How(force_field=EMT, processes=1))
    assert own is not None
    before = measured(table, own)
    again = judged_again(before, own, (EMT,))
    theirs = again.column(by_judge("bulk_modulus", EMT))
    assert theirs[:2] == pytest.approx(again.column("bulk_modulus")[:2]) and theirs[2:] == [None] * 3
    assert by_judge("density", EMT) not in again


def test_without_a_property_by_a_force_field_no_judge_is_asked(table: CandidateTable) -> None:
    aims = aims_of("min:density")
    again = judged_again(measured(table, aims), aims, ("no such force field",))
    assert [n for n in again.frame.columns if "no such" in n] == []
